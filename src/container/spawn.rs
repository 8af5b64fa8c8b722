//! Plan → process.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use super::plan::Plan;
use crate::sys::clone::{self, Birth};

/// Whose child the container becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The caller's own child, which the caller must reap.
    Caller,
    /// The caller's sibling (`CLONE_PARENT`): the worker makes the keeper's children.
    CallersParent,
}

/// A process on its way to exec.
#[derive(Debug)]
pub struct Spawned {
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// Read to its end, then give what came to [`Plan::explain`]. Non-blocking, for a loop to wait on.
    pub report: OwnedFd,
}

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("make the report pipe: {0}")]
    Pipe(#[source] std::io::Error),
    #[error("clone the container's first process: {0}")]
    Clone(#[source] std::io::Error),
}

/// Why the process ended before exec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("{step}: {errno:?}{}", hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Step { step: String, errno: nix::errno::Errno, hint: Option<&'static str> },
    #[error("the container's process sent an unreadable report of {0} bytes")]
    UnreadableReport(usize),
}

/// Clones the container's first process straight into `cgroup` (a descriptor of its directory) and into new
/// mount and PID namespaces. `pid_out`, in a shared mapping, holds the PID before the process first runs.
///
/// # Errors
/// When the kernel refuses the clone; what the process does afterwards is in [`Spawned::report`].
pub fn spawn(
    plan: &Plan,
    cgroup: BorrowedFd<'_>,
    parent: Parent,
    pid_out: Option<&AtomicU32>,
) -> Result<Spawned, SpawnError> {
    // The child's end is closed here when this returns, so that the child alone decides when the report ends.
    let (report, childs_end) = report_pipe().map_err(SpawnError::Pipe)?;
    let birth = Birth { cgroup, sibling: parent == Parent::CallersParent, pid_out };
    let (pid, pidfd) =
        clone::spawn(&plan.steps, plan.slots, childs_end.as_raw_fd(), birth).map_err(SpawnError::Clone)?;
    Ok(Spawned { pid, pidfd, report })
}

fn report_pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}
