//! Where a process that joins a container is born: in the container's cgroup.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::plan::Plan;
use super::spawn::{Parent, SpawnError, Spawned, spawn};
use crate::cgroup::{self, Group};

/// A container's cgroup, and its first process.
#[derive(Debug)]
pub struct Beside {
    dir: OwnedFd,
    path: PathBuf,
    first: u32,
}

impl Beside {
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(group: &Group, first: u32) -> io::Result<Beside> {
        Ok(Beside { dir: group.dir().try_clone_to_owned()?, path: group.path().to_owned(), first })
    }

    /// As [`spawn`]. If the cgroup hands its controllers on to groups below, which whoever is inside may ask for, the kernel lets no
    /// process into it any more (EBUSY): then it is born where the first process is.
    ///
    /// # Errors
    /// As [`spawn`]; and when the first process is nowhere in the container's cgroup.
    pub fn spawn(&self, plan: &Plan, parent: Parent) -> Result<Spawned, SpawnError> {
        match spawn(plan, Some(self.dir.as_fd()), parent, None) {
            Err(SpawnError::Clone(error)) if error.raw_os_error() == Some(libc::EBUSY) => {
                let group = cgroup::open_of_process(self.first, &self.path);
                let group = group.map_err(|cause| SpawnError::Cgroup(Box::new(cause)))?;
                spawn(plan, Some(group.dir()), parent, None)
            }
            spawned => spawned,
        }
    }
}
