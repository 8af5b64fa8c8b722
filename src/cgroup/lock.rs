//! One node for a cgroup root: two would take each other's Pods for strays and remove them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, openat};
use rustix::io::Errno;

use super::{Error, Group};

/// A file of every group but the topmost that nothing else of podkeep opens: the first close of any descriptor of a file
/// gives up the process's lock on it (fcntl_locking(2)).
const FILE: &str = "cgroup.max.descendants";

impl Group {
    /// Locks the group for as long as what is returned is open, and this process lives. `None` for the topmost group.
    ///
    /// A lock of the process, not of the open file: a container's process that hangs between clone and exec has a copy of the
    /// descriptor, and must not keep the next worker out.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it.
    pub(super) fn lock(&self) -> Result<Option<OwnedFd>, Error> {
        let failed = |source: io::Error| Error::Lock { path: self.path().to_owned(), source };
        let file = match openat(self.dir(), FILE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(|e| failed(e.into()))?,
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::Locked(self.path().to_owned())),
            Err(e) => Err(failed(e.into())),
        }
    }
}
