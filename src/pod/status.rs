//! What a Pod's state looks like from outside, in the words of Kubernetes.

use serde::{Deserialize, Serialize};

use super::{BootTime, Exit};

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
    /// The Pod is being ended.
    pub terminating: bool,
    /// Why the Pod as a whole does not get on (`FailedMount`, a process that cannot be killed).
    pub message: Option<String>,
    pub started_at: BootTime,
    /// In the manifest's order.
    pub containers: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStatus {
    pub name: String,
    pub state: ContainerState,
    /// How the run before the current state ended.
    pub last: Option<Termination>,
    pub restart_count: u32,
    pub image_id: Option<String>,
    pub pid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    Waiting { reason: &'static str, message: Option<String> },
    Running { started_at: BootTime },
    Terminated(Termination),
}

/// The end of one run of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    pub exit: Exit,
    pub oom_killed: bool,
    /// Why exec never happened, where it did not.
    pub start_error: Option<String>,
    /// Why it was ended from outside of it, where that is known.
    #[serde(default)]
    pub cause: Option<String>,
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
            Exit::Unknown => "ContainerStatusUnknown",
            Exit::Code(0) => "Completed",
            Exit::Code(_) | Exit::Signal(_) => "Error",
        }
    }

    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}
