//! One node for a cgroup root: two would take each other's Pods for strays and remove them.

use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Error, Group};

/// A process that the last worker had cloned has a copy of its descriptors, and so of its lock, until it reaches exec.
/// Nothing tells when that is.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

impl Group {
    /// Locks the directory for as long as the group is open here. The lock ends with the process, whatever ends it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it and keeps it.
    pub(super) fn lock(&self) -> Result<(), Error> {
        for _ in 1..TRIES {
            match flock(self.dir(), FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(PAUSE),
                Err(e) => return Err(Error::Lock { path: self.path().to_owned(), source: e.into() }),
                Ok(()) => return Ok(()),
            }
        }
        Err(Error::Locked(self.path().to_owned()))
    }
}
