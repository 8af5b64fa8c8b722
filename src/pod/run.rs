//! One run of a container, from exec to its first process's end: its hooks, its probes and how it is ended.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::BootTime;
use super::event::{Command, Hook, Index, ProbeKind};
use super::probe::Probing;

/// How long after SIGKILL a process that is still there is worth a word.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(2);
/// How often the word is renewed while it lasts.
pub(super) const STUCK_AGAIN: Duration = Duration::from_secs(10);
/// The end of each grace period belongs to those that have not had their stop signal by then, because a preStop hook hangs or
/// others had to end first: they get it so long before SIGKILL. The kubelet gives them these two seconds on top
/// (`minimumGracePeriodInSeconds`), and to a grace period of zero too; here no grace period is ever exceeded. In a
/// short one it is its second half.
pub(super) const LAST_WORD: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub pid: u32,
    pub since: BootTime,
    /// Its postStart hook is under way.
    #[serde(default)]
    pub post_start: bool,
    #[serde(default)]
    pub probing: Probing,
    pub ending: Option<Ending>,
    /// Why we end it, where that is not the whole Pod's end.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// What a container is ended for while its Pod goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Fault {
    /// A liveness or startup probe has failed: it runs again, however it ends, unless that is never allowed.
    Unhealthy(ProbeKind, String),
    /// All containers of the Pod start again, for this reason.
    RestartAll(String),
    /// Its postStart hook has failed: what follows is said by how it ends.
    Other(String),
}

/// A running container on its way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ending {
    /// Not yet signalled: its preStop hook runs, or others have to end before it.
    Announced {
        hook: bool,
        signal_by: BootTime,
        kill_at: BootTime,
    },
    /// Its stop signal has been sent; SIGKILL follows then.
    Signalled {
        kill_at: BootTime,
    },
    Killed {
        diagnose_at: BootTime,
        stuck: Option<String>,
    },
}

impl Run {
    /// When time alone changes something.
    pub fn deadline(&self) -> Option<BootTime> {
        let of_ending = self.ending.as_ref().map(|ending| match ending {
            Ending::Announced { signal_by, .. } => *signal_by,
            Ending::Signalled { kill_at } => *kill_at,
            Ending::Killed { diagnose_at, .. } => *diagnose_at,
        });
        let of_probes = self.probing.deadline(self.ending.is_some());
        [of_ending, of_probes].into_iter().flatten().min()
    }

    /// It shall be over by `kill_at`. One that is ending already can only have less time from now on.
    pub fn end(
        &mut self,
        its: Place,
        pre_stop: bool,
        kill_at: BootTime,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let left = kill_at - now;
        let signal_by = now + (left - LAST_WORD.min(left / 2));
        match &mut self.ending {
            Some(Ending::Killed { .. }) => {}
            _ if kill_at <= now => self.kill(its.container, now, todo),
            None => {
                if pre_stop {
                    let Place { container, attempt } = its;
                    todo.push(Command::RunHook { container, attempt, hook: Hook::PreStop });
                }
                self.ending = Some(Ending::Announced { hook: pre_stop, signal_by, kill_at });
            }
            Some(Ending::Announced { signal_by: by, kill_at: at, .. }) => {
                (*by, *at) = ((*by).min(signal_by), (*at).min(kill_at));
            }
            Some(Ending::Signalled { kill_at: at }) => *at = (*at).min(kill_at),
        }
    }

    /// Goes on with its end; `is_its_turn`: nobody has to end before it.
    pub fn go_on_ending(
        &mut self,
        container: Index,
        is_its_turn: bool,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        match &mut self.ending {
            Some(Ending::Announced { kill_at, .. } | Ending::Signalled { kill_at }) if *kill_at <= now => {
                self.kill(container, now, todo);
            }
            Some(Ending::Announced { hook, signal_by, kill_at })
                if (is_its_turn && !*hook) || *signal_by <= now =>
            {
                self.ending = Some(Ending::Signalled { kill_at: *kill_at });
                todo.push(Command::Signal { container });
            }
            Some(Ending::Killed { diagnose_at, .. }) if *diagnose_at <= now => {
                *diagnose_at = now + STUCK_AGAIN;
                todo.push(Command::Diagnose { container });
            }
            _ => {}
        }
    }

    /// SIGKILL, once.
    pub fn kill(&mut self, container: Index, now: BootTime, todo: &mut Vec<Command>) {
        if matches!(self.ending, Some(Ending::Killed { .. })) {
            return;
        }
        self.ending = Some(Ending::Killed { diagnose_at: now + STUCK_AFTER, stuck: None });
        todo.push(Command::Kill { container });
    }

    /// The hook that is under way, if one is.
    pub fn hook(&self) -> Option<Hook> {
        match self.ending {
            Some(Ending::Announced { hook: true, .. }) => Some(Hook::PreStop),
            None if self.post_start => Some(Hook::PostStart),
            _ => None,
        }
    }
}

/// Which container, and which run of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub container: Index,
    pub attempt: u32,
}
