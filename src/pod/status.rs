//! What a Pod's state looks like from outside, in the words of Kubernetes.

use serde::{Deserialize, Serialize};

use super::machine::Wall;
use super::{BootTime, Exit};
use crate::manifest::pod::Role;

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// A Pod as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct PodStatus {
    pub phase: Phase,
    /// Why the Pod as a whole has failed (`DeadlineExceeded`, `Evicted`).
    pub reason: Option<&'static str>,
    /// Why the Pod as a whole does not get on (`FailedMount`, a process that cannot be killed).
    pub message: Option<String>,
    /// The Pod is being ended.
    pub terminating: bool,
    pub conditions: Vec<Condition>,
    pub started_at: BootTime,
    /// All its times are of an earlier boot, in which the wall clock said this at zero.
    pub boot_wall: Option<Wall>,
    /// In the order of [`Pod::containers`](crate::manifest::Pod): init containers first.
    pub containers: Vec<ContainerStatus>,
}

/// One of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: &'static str,
    pub holds: bool,
    /// Since when it does, or does not.
    pub since: BootTime,
    /// Why it does not hold; `PodCompleted` where it holds or not because everything is done.
    pub reason: Option<&'static str>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStatus {
    pub name: String,
    pub role: Role,
    pub state: ContainerState,
    /// How the run before the current state ended.
    pub last: Option<Termination>,
    pub restart_count: u32,
    pub image_id: Option<String>,
    pub pid: Option<u32>,
    /// It runs, its postStart hook is done and its startup probe has passed.
    pub started: bool,
    /// It has started and its readiness probe passes; an init container: it has succeeded.
    pub ready: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    Waiting { reason: &'static str, message: Option<String> },
    Running { started_at: BootTime },
    Terminated(Termination),
}

/// The reason of a container that was killed, or waits, because all containers of its Pod start again.
pub const RESTARTING_ALL: &str = "RestartingAllContainers";

/// The end of one run of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    pub exit: Exit,
    pub oom_killed: bool,
    /// A liveness or startup probe failed, and it was ended for that.
    #[serde(default)]
    pub unhealthy: bool,
    /// It was killed because all containers of its Pod start again.
    #[serde(default)]
    pub for_restart: bool,
    /// Why exec never happened, where it did not.
    pub start_error: Option<String>,
    /// Why it was ended from outside of it, where that is known.
    #[serde(default)]
    pub cause: Option<String>,
    /// The container's own last words (`terminationMessagePath`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
    /// `None` where the process never existed, or nobody saw it start.
    pub started_at: Option<BootTime>,
    pub finished_at: BootTime,
}

impl Termination {
    /// The reason Kubernetes gives (reference §5).
    pub fn reason(&self) -> &'static str {
        match self.exit {
            _ if self.start_error.is_some() => "StartError",
            _ if self.oom_killed => "OOMKilled",
            _ if self.for_restart => RESTARTING_ALL,
            Exit::Unknown => "ContainerStatusUnknown",
            Exit::Code(0) => "Completed",
            Exit::Code(_) | Exit::Signal(_) => "Error",
        }
    }

    /// What is known of it beside the reason, the container's own words last.
    pub fn message(&self) -> Option<String> {
        let ours = self.start_error.as_ref().or(self.cause.as_ref());
        match (ours, &self.last_words) {
            (Some(ours), Some(words)) => Some(format!("{ours}: {words}")),
            (ours, words) => ours.or(words.as_ref()).cloned(),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}
