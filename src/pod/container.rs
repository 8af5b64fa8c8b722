//! One container's part of a Pod's machine: from waiting for its turn to its last end.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::backoff::{BackOff, Pace};
use super::event::{Exit, ImageProblem, StartFailure};
use super::status::{ContainerState, Termination};
use super::{BootTime, Phase};
use crate::manifest::pod::RestartPolicy;

/// How long after SIGKILL a process that is still there is worth a word.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(2);
/// How often the word is renewed while it lasts.
pub(super) const STUCK_AGAIN: Duration = Duration::from_secs(10);
/// signal(7): the same on every machine.
const SIGKILL: u8 = 9;

/// Where a container stands. Each stage holds what only that stage knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Its turn has not come.
    Waiting,
    /// Its image is being looked for.
    Finding,
    /// Its image was not there.
    ImageBackOff {
        until: BootTime,
        failed_at: BootTime,
        problem: ImageProblem,
        message: String,
    },
    /// It could not even be created.
    CreateBackOff {
        until: BootTime,
        failed_at: BootTime,
        failure: StartFailure,
        message: String,
    },
    /// Its process is being made.
    Starting,
    Running {
        pid: u32,
        since: BootTime,
        ending: Option<Ending>,
    },
    /// Its first process has ended; the rest of its cgroup is being ended and cleared away.
    Clearing {
        end: Termination,
        diagnose_at: BootTime,
        stuck: Option<String>,
    },
    /// It ended, and will be started again.
    CrashBackOff {
        until: BootTime,
    },
    /// It will not run again.
    Ended,
}

/// A running container on its way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ending {
    /// Its stop signal has been sent; SIGKILL follows then.
    Signalled {
        kill_at: BootTime,
    },
    Killed {
        diagnose_at: BootTime,
        stuck: Option<String>,
    },
}

/// A container's stage and what is remembered over its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Container {
    pub stage: Stage,
    /// How often it has been started again: counted up as soon as its next run is decided.
    pub restarts: u32,
    /// The number of its latest run that began, on this boot or an earlier one; `None` if it never ran.
    pub latest_run: Option<u32>,
    /// The end of its latest run that ended.
    pub last: Option<Termination>,
    /// The end of the run before that one.
    pub before_last: Option<Termination>,
    pub image_id: Option<String>,
    /// Why the kernel is ending its current run, where something else than the run itself is the reason.
    #[serde(default)]
    doom: Option<String>,
    /// It has been tried at least once: containers behind it need not wait any more.
    pub tried: bool,
    crash: BackOff,
    image: BackOff,
    image_failures: u32,
    create: BackOff,
}

impl Container {
    /// A container whose latest run was this one, on an earlier boot of the machine; `None` if it never ran.
    pub fn new(latest_run: Option<u32>) -> Self {
        Self {
            stage: Stage::Waiting,
            restarts: latest_run.map_or(0, |run| run.saturating_add(1)),
            latest_run,
            last: None,
            before_last: None,
            image_id: None,
            doom: None,
            tried: false,
            crash: BackOff::default(),
            image: BackOff::default(),
            image_failures: 0,
            create: BackOff::default(),
        }
    }

    /// When time alone will change its stage.
    pub fn deadline(&self) -> Option<BootTime> {
        match &self.stage {
            Stage::ImageBackOff { until, .. }
            | Stage::CreateBackOff { until, .. }
            | Stage::CrashBackOff { until } => Some(*until),
            Stage::Running { ending: Some(Ending::Signalled { kill_at }), .. } => Some(*kill_at),
            Stage::Running { ending: Some(Ending::Killed { diagnose_at, .. }), .. }
            | Stage::Clearing { diagnose_at, .. } => Some(*diagnose_at),
            Stage::Waiting
            | Stage::Finding
            | Stage::Starting
            | Stage::Running { ending: None, .. }
            | Stage::Ended => None,
        }
    }

    pub fn image_ready(&mut self, image_id: String) {
        self.image_id = Some(image_id);
        self.image_failures = 0;
        self.image = BackOff::default();
        self.stage = Stage::Starting;
    }

    pub fn image_missing(&mut self, problem: ImageProblem, message: String, now: BootTime) {
        self.tried = true;
        self.image_failures = self.image_failures.saturating_add(1);
        // The kubelet's first retry of a pull waits as well: one step ahead of `due`.
        self.image.step(now, now, Pace::IMAGE);
        let until = self.image.due(now, Pace::IMAGE);
        self.stage = Stage::ImageBackOff { until, failed_at: now, problem, message };
    }

    /// The start failed before there was a process.
    pub fn create_failed(&mut self, failure: StartFailure, message: String, now: BootTime) {
        self.tried = true;
        self.create.step(now, now, Pace::CRASH_LOOP);
        let until = self.create.due(now, Pace::CRASH_LOOP);
        self.stage = Stage::CreateBackOff { until, failed_at: now, failure, message };
    }

    pub fn started(&mut self, pid: u32, now: BootTime) {
        self.tried = true;
        self.latest_run = Some(self.restarts);
        self.create = BackOff::default();
        self.stage = Stage::Running { pid, since: now, ending: None };
    }

    /// What runs now ends for this reason, as soon as the kernel gets to it. What is only being started may be a new run
    /// already, which that does not concern.
    pub fn will_end_for(&mut self, reason: &str) {
        if matches!(self.stage, Stage::Running { .. }) {
            self.doom = Some(reason.to_owned());
        }
    }

    /// Whether a process of this run is more than was known when the state was saved.
    pub fn missed(&self, attempt: u32) -> bool {
        match self.stage {
            Stage::Running { .. } | Stage::Clearing { .. } | Stage::CrashBackOff { .. } | Stage::Ended => {
                attempt > self.restarts
            }
            _ => attempt >= self.restarts,
        }
    }

    /// A run that was begun after the state was saved goes on: what was missed before it is made up for.
    pub fn adopted(&mut self, attempt: u32, pid: u32, now: BootTime, pace: Pace) {
        if attempt > self.restarts {
            self.end_unseen(now);
            if let Some(last) = &self.last {
                self.crash.step(last.finished_at, now, pace);
            }
            self.restarts = attempt;
        }
        self.started(pid, now);
    }

    /// The saved run must have begun and ended, for a later one exists; how is known only if it was being cleared.
    fn end_unseen(&mut self, now: BootTime) {
        let started_at = match &self.stage {
            Stage::Clearing { end, .. } => {
                self.before_last = self.last.replace(end.clone());
                return;
            }
            Stage::CrashBackOff { .. } | Stage::Ended => return,
            Stage::Running { since, .. } => Some(*since),
            _ => None,
        };
        let end = Termination {
            exit: Exit::Unknown,
            oom_killed: false,
            start_error: None,
            cause: self.doom.take(),
            started_at,
            finished_at: now,
        };
        self.before_last = self.last.replace(end);
    }

    /// Its run is over, but for what is left in its cgroup.
    pub fn ended(&mut self, exit: Exit, start_error: Option<String>, now: BootTime) {
        self.tried = true;
        self.latest_run = Some(self.restarts);
        let started_at = match self.stage {
            Stage::Running { since, .. } => Some(since),
            _ => None,
        };
        // It may have ended by itself just before.
        let cause = self.doom.take().filter(|_| matches!(exit, Exit::Signal(SIGKILL) | Exit::Unknown));
        let end = Termination { exit, oom_killed: false, start_error, cause, started_at, finished_at: now };
        self.stage = Stage::Clearing { end, diagnose_at: now + STUCK_AFTER, stuck: None };
    }

    /// Nothing is left of its run: on to the next one, or to the end.
    pub fn cleared(&mut self, mut end: Termination, oom_killed: bool, again: bool, pace: Pace) {
        end.oom_killed = oom_killed;
        let finished_at = end.finished_at;
        self.before_last = self.last.replace(end);
        self.stage = if again {
            Stage::CrashBackOff { until: self.crash.due(finished_at, pace) }
        } else {
            Stage::Ended
        };
    }

    /// The back-off after a run is over: its next run begins with a look at its image.
    pub fn restart(&mut self, now: BootTime, pace: Pace) {
        if let Some(last) = &self.last {
            self.crash.step(last.finished_at, now, pace);
        }
        self.restarts = self.restarts.saturating_add(1);
        self.stage = Stage::Finding;
    }

    /// Whether the policy asks for another run after this end.
    pub fn runs_again(policy: RestartPolicy, end: &Termination) -> bool {
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !end.succeeded(),
            RestartPolicy::Never => false,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        match self.stage {
            Stage::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Processes that SIGKILL has not ended, in words.
    pub fn stuck(&self) -> Option<&str> {
        match &self.stage {
            Stage::Running { ending: Some(Ending::Killed { stuck, .. }), .. }
            | Stage::Clearing { stuck, .. } => stuck.as_deref(),
            _ => None,
        }
    }

    /// How this container counts for the Pod's phase; `None` while it has neither run nor ended.
    pub fn phase(&self, policy: RestartPolicy) -> Option<Phase> {
        match &self.stage {
            Stage::Running { .. } => Some(Phase::Running),
            Stage::Clearing { end, .. } if Self::runs_again(policy, end) => Some(Phase::Running),
            Stage::Clearing { end, .. } => Some(Self::final_phase(end)),
            Stage::Ended => self.last.as_ref().map(Self::final_phase),
            _ => self.last.as_ref().map(|_| Phase::Running),
        }
    }

    fn final_phase(end: &Termination) -> Phase {
        if end.succeeded() { Phase::Succeeded } else { Phase::Failed }
    }

    /// The container's state in the words of Kubernetes (reference §5).
    pub fn state(&self, name: &str, pace: Pace) -> ContainerState {
        let waiting = |reason, message| ContainerState::Waiting { reason, message };
        match &self.stage {
            Stage::Waiting | Stage::Finding | Stage::Starting => waiting("ContainerCreating", None),
            Stage::ImageBackOff { problem, message, .. } => {
                waiting(self.image_reason(*problem), Some(message.clone()))
            }
            Stage::CreateBackOff { failure, message, .. } => {
                waiting(create_reason(*failure), Some(message.clone()))
            }
            Stage::Running { since, .. } => ContainerState::Running { started_at: *since },
            Stage::Clearing { end, .. } => ContainerState::Terminated(end.clone()),
            Stage::CrashBackOff { until } => match &self.last {
                Some(last) if *until > last.finished_at => {
                    waiting("CrashLoopBackOff", Some(self.crash_message(name, pace)))
                }
                _ => waiting("ContainerCreating", None),
            },
            Stage::Ended => match &self.last {
                Some(last) => ContainerState::Terminated(last.clone()),
                None => waiting("ContainerCreating", None),
            },
        }
    }

    /// What `lastState` shows beside [`Container::state`]: never the same end twice.
    pub fn last_state(&self) -> Option<&Termination> {
        match self.stage {
            Stage::Ended => self.before_last.as_ref(),
            _ => self.last.as_ref(),
        }
    }

    fn image_reason(&self, problem: ImageProblem) -> &'static str {
        match problem {
            ImageProblem::Missing if self.image_failures > 1 => "ImagePullBackOff",
            ImageProblem::Missing => "ErrImagePull",
            ImageProblem::NeverPull => "ErrImageNeverPull",
            ImageProblem::InvalidName => "InvalidImageName",
            ImageProblem::Unreadable => "ImageInspectError",
        }
    }

    fn crash_message(&self, name: &str, pace: Pace) -> String {
        let delay = match &self.last {
            Some(last) => self.crash.due(last.finished_at, pace) - last.finished_at,
            None => Duration::ZERO,
        };
        format!("back-off {}s restarting failed container={name}", delay.as_secs())
    }
}

fn create_reason(failure: StartFailure) -> &'static str {
    match failure {
        StartFailure::Config => "CreateContainerConfigError",
        StartFailure::Create | StartFailure::Exec => "CreateContainerError",
    }
}
