//! Plan → process.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::plan::{Plan, hint_of_memory};
use crate::cgroup;
use crate::sys::clone::{self, Birth};
use crate::sys::report::{self, ParentEnd, Said};
use crate::sys::spawner::{Places, Spawner};
use crate::sys::step::Step;

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
    pub report: Report,
}

/// What a process on its way says of it: a descriptor for a loop to wait on.
#[derive(Debug)]
pub struct Report(ParentEnd);

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is mounted, the root not pivoted: it waits for [`Report::go_on`].
    Created,
    /// It waits for the byte that starts it.
    Ready,
    /// It has become its program.
    Executed,
}

/// What has come of a process that [`spawn_by`] makes.
#[derive(Debug)]
pub enum News {
    /// It is there: its PID is where that was to be stored, and this is its pidfd.
    Born(OwnedFd),
    Further(Progress),
}

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("make the report channel: {0}")]
    Report(#[source] io::Error),
    #[error("clone the container's first process: {0}")]
    Clone(#[source] io::Error),
    #[error("find the cgroup of the container's first process")]
    Cgroup(#[source] Box<cgroup::Error>),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why the process ended before exec, or never was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("{step}: {errno:?}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Step { step: String, errno: nix::errno::Errno, hint: Option<Cow<'static, str>>, about: About },
    #[error("the container's process reports a failure of step {0}, which it has not")]
    UnknownStep(u32),
    #[error("read the report of the container's process: {0}")]
    Unreadable(io::ErrorKind),
    #[error("the container's process has ended before its first step was done")]
    Gone,
    #[error("make the container's first process: {errno:?}{}", hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
    NotBorn { errno: nix::errno::Errno, hint: Option<&'static str> },
}

/// Clones the plan's process, straight into `cgroup` if one is given (a descriptor of its directory). `pid_out`, in a shared
/// mapping, holds the PID before the process first runs.
///
/// Where the plan joins a user or PID namespace, this waits for the process that does so to be replaced by the one inside.
///
/// # Errors
/// When the kernel refuses the clone; what the process does afterwards is in [`Spawned::report`].
pub fn spawn(
    plan: &Plan,
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
    pid_out: Option<&AtomicU32>,
) -> Result<Spawned, SpawnError> {
    let (report, theirs) = report::pair().map_err(SpawnError::Report)?;
    let sibling = parent == Parent::CallersParent;
    let birth = Birth { cgroup, namespaces: plan.namespaces, sibling, pid_out };
    let (pid, pidfd) =
        clone::spawn(&plan.steps, plan.slots, report.child_end(&theirs), birth).map_err(SpawnError::Clone)?;
    // The child alone decides when the report ends.
    drop(theirs);
    let mut spawned = Spawned { pid, pidfd, report: Report(report) };
    if plan.is_followed() {
        spawned.follow(plan, parent)?;
    }
    Ok(spawned)
}

/// As [`spawn`] with [`Parent::CallersParent`], for a caller with much memory and many descriptors: the process is made by one of
/// the spawner's threads ([`Spawner::spawn`]), at a cost that does not depend on what the caller holds.
///
/// This does not wait for a process that a cgroup may hold up: [`Report::news`] says when it is there ([`News::Born`]), or why it
/// never was.
///
/// # Errors
/// When there can be no channel, or no thread.
pub fn spawn_by(
    spawner: &Spawner,
    plan: &Arc<Plan>,
    cgroup: BorrowedFd<'_>,
    places: Places,
) -> Result<Report, SpawnError> {
    let (report, theirs) = report::pair().map_err(SpawnError::Report)?;
    let steps = Arc::clone(plan);
    let made = spawner.spawn(steps, plan.namespaces, cgroup, report.child_end(&theirs), places);
    made.map_err(SpawnError::Clone)?;
    Ok(Report(report))
}

/// Where it lies that a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The program itself cannot be executed.
    Program,
    /// A volume has no such part as the container wants.
    SubPath,
    /// Anything else.
    Machine,
}

impl Plan {
    /// Whether its first process is replaced by another.
    fn is_followed(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Fork { .. }))
    }
}

impl Spawned {
    /// From the process that joins to the one that it leaves behind.
    fn follow(&mut self, plan: &Plan, parent: Parent) -> Result<(), StartError> {
        let said = self.report.0.hear(true);
        if parent == Parent::Caller {
            // It has nothing more to do, and nobody else would reap it.
            let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        match said {
            Ok(Some((Said::Forked { pid }, Some(pidfd)))) => {
                (self.pid, self.pidfd) = (pid, pidfd);
                Ok(())
            }
            Ok(Some((Said::Failed { step, errno }, _))) => Err(plan.explain(step, errno)),
            Ok(_) => Err(StartError::Gone),
            Err(error) => Err(StartError::Unreadable(error.kind())),
        }
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Report {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// The step that failed, as a sentence.
    pub fn next(&self, plan: &Plan) -> Result<Progress, StartError> {
        progress(plan, self.0.hear(true))
    }

    /// What has come of a process that [`spawn_by`] makes; `None` if nothing has. One that ends without a word looks like one that
    /// has executed, which is never the first news.
    ///
    /// # Errors
    /// The step that failed, as a sentence.
    pub fn news(&self, plan: &Plan) -> Result<Option<News>, StartError> {
        let said = match self.0.hear(false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            said => said,
        };
        match said {
            Ok(Some((Said::Born, Some(pidfd)))) => Ok(Some(News::Born(pidfd))),
            said => progress(plan, said).map(|progress| Some(News::Further(progress))),
        }
    }

    /// Lets a process that said [`Progress::Created`] go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn go_on(&self) -> io::Result<()> {
        self.0.go_on()
    }
}

fn progress(plan: &Plan, said: io::Result<Option<(Said, Option<OwnedFd>)>>) -> Result<Progress, StartError> {
    match said {
        Ok(None) => Ok(Progress::Executed),
        Ok(Some((Said::Created, _))) => Ok(Progress::Created),
        Ok(Some((Said::Ready, _))) => Ok(Progress::Ready),
        Ok(Some((Said::Failed { step, errno }, _))) => Err(plan.explain(step, errno)),
        Ok(Some((Said::NotBorn { errno }, _))) => {
            let errno = nix::errno::Errno::from_raw(errno);
            Err(StartError::NotBorn { errno, hint: hint_of_memory(errno) })
        }
        Ok(Some((Said::Forked { .. } | Said::Born, _))) => Err(StartError::Gone),
        Err(error) => Err(StartError::Unreadable(error.kind())),
    }
}
