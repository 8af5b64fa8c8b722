//! Making namespaces that no container is in yet. This thread makes them and comes back out; where they shall belong to a new
//! user namespace, which one thread of several cannot make, a process is cloned into them, held until they are opened, and let go.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::{Mappings, Namespaces, mapping};
use crate::sys::clone::{self, Birth};
use crate::sys::namespace;
use crate::sys::report::{self, ParentEnd, Said};
use crate::sys::step::Step;

/// Which step of making namespaces failed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("make a report channel: {0}")]
    Report(#[source] io::Error),
    #[error("clone a process into new namespaces: {0}")]
    Clone(#[source] io::Error),
    #[error("make new namespaces: {0}")]
    Make(#[source] io::Error),
    #[error("{step}: {cause}")]
    Step { step: String, cause: io::Error },
    #[error("the process that holds the new namespaces has gone")]
    Gone,
    #[error("open {path}: {cause}")]
    Open { path: String, cause: io::Error },
    #[error("the host name `{0}` holds a zero byte")]
    HostName(String),
    #[error(transparent)]
    User(Box<mapping::MappingError>),
}

/// What the namespaces of a Pod shall be.
#[derive(Clone, Debug, Default)]
pub struct PodNamespaces<'a> {
    /// A uts namespace of its own, with this name; the host's if none is given.
    pub hostname: Option<&'a str>,
    pub host_network: bool,
    pub host_ipc: bool,
    /// A user namespace that the others belong to.
    pub mappings: Option<Mappings>,
}

impl Namespaces {
    /// Makes the namespaces of one Pod; loopback is up in a new network namespace.
    ///
    /// # Errors
    /// Names the step that failed; nothing is left behind.
    pub fn create(wanted: &PodNamespaces<'_>) -> Result<Namespaces, NamespaceError> {
        let mut flags = 0;
        let mut add = |wanted: bool, flag: libc::c_int| flags |= if wanted { flag as u64 } else { 0 };
        add(wanted.mappings.is_some(), libc::CLONE_NEWUSER);
        add(wanted.hostname.is_some(), libc::CLONE_NEWUTS);
        add(!wanted.host_network, libc::CLONE_NEWNET);
        add(!wanted.host_ipc, libc::CLONE_NEWIPC);
        if flags == 0 {
            return Ok(Namespaces::default());
        }

        let steps = steps(wanted)?;
        let Some(mappings) = &wanted.mappings else { return make_here(flags, &steps) };
        let held = Held::start(flags, steps)?;
        mappings.write(held.pid()).map_err(|cause| NamespaceError::User(Box::new(cause)))?;
        held.finish()?;
        let open = |is_own: bool, name| is_own.then(|| held.open(name)).transpose();
        Ok(Namespaces {
            user: Some(held.open("user")?),
            net: open(!wanted.host_network, "net")?,
            ipc: open(!wanted.host_ipc, "ipc")?,
            uts: open(wanted.hostname.is_some(), "uts")?,
            ..Namespaces::default()
        })
    }
}

/// Without a user namespace of their own: by this thread.
fn make_here(flags: u64, steps: &[Step]) -> Result<Namespaces, NamespaceError> {
    let made = namespace::make(flags, steps).map_err(|failed| match failed {
        namespace::MakeError::Step { index, errno } => NamespaceError::Step {
            step: steps.get(index).map_or_else(String::new, Step::to_string),
            cause: errno.into(),
        },
        namespace::MakeError::Make(errno) => NamespaceError::Make(errno.into()),
    })?;
    Ok(Namespaces { net: made.net, ipc: made.ipc, uts: made.uts, ..Namespaces::default() })
}

/// What is done inside, once the user namespace has its maps.
fn steps(wanted: &PodNamespaces<'_>) -> Result<Vec<Step>, NamespaceError> {
    let mut steps = Vec::new();
    if let Some(name) = wanted.hostname {
        let name = CString::new(name).map_err(|_| NamespaceError::HostName(name.to_owned()))?;
        steps.push(Step::SetHostName { name });
    }
    if !wanted.host_network {
        steps.push(Step::RaiseLoopback);
    }
    Ok(steps)
}

/// A process in new namespaces that waits; it ends when this is dropped.
pub(super) struct Held {
    pid: u32,
    report: ParentEnd,
    /// For the sentence of a step that fails.
    steps: Vec<Step>,
    pidfd: OwnedFd,
}

impl Held {
    /// Clones it: it waits for [`Held::finish`], takes `steps`, and waits again.
    pub(super) fn start(namespaces: u64, steps: Vec<Step>) -> Result<Held, NamespaceError> {
        let steps: Vec<Step> =
            std::iter::once(Step::AwaitHooks).chain(steps).chain([Step::AwaitHooks]).collect();
        let (report, theirs) = report::pair().map_err(NamespaceError::Report)?;
        let birth = Birth { cgroup: None, namespaces, sibling: false, pid_out: None };
        let (pid, pidfd) =
            clone::spawn(&steps, 0, report.child_end(&theirs), birth).map_err(NamespaceError::Clone)?;
        drop(theirs);
        let held = Held { pid, report, steps, pidfd };
        held.hear()?;
        Ok(held)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it take its steps.
    fn finish(&self) -> Result<(), NamespaceError> {
        self.report.go_on().map_err(|_| NamespaceError::Gone)?;
        self.hear()
    }

    fn hear(&self) -> Result<(), NamespaceError> {
        match self.report.hear(true).map_err(NamespaceError::Report)? {
            Some((Said::Created, _)) => Ok(()),
            Some((Said::Failed { step, errno }, _)) => {
                let step = self.steps.get(step as usize).map_or_else(String::new, Step::to_string);
                Err(NamespaceError::Step { step, cause: io::Error::from_raw_os_error(errno) })
            }
            _ => Err(NamespaceError::Gone),
        }
    }

    /// One of its namespaces, by its name in `/proc/PID/ns`.
    pub(super) fn open(&self, name: &str) -> Result<OwnedFd, NamespaceError> {
        let path = format!("/proc/{}/ns/{name}", self.pid);
        File::open(&path).map(OwnedFd::from).map_err(|cause| NamespaceError::Open { path, cause })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It waits for a word: the channel that closes with `report` would end it too, but it must be reaped here, where
        // nobody else knows of it.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}
