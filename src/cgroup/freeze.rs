//! Stopping every process of a group, and letting them go on.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::events::frozen_in;
use super::{Error, Group};

/// How long the kernel may take. A process in an uninterruptible sleep (a dead NFS server) freezes only after it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Group {
    /// Freezes every process of this group and of those below, or thaws them, and waits until the kernel says so.
    /// A frozen process can still be killed.
    ///
    /// # Errors
    /// [`Error::Unsettled`] after 10 seconds: a process that cannot be stopped, or, when thawing, a frozen group
    /// above. What could not be frozen as a whole is thawed again.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let events = self.events()?;
        self.ask_to_freeze(frozen)?;
        let settled = self.await_frozen(&events, frozen);
        if settled.is_err() && frozen {
            // Half a container that goes on is no state that anybody has asked for; the first error tells more.
            let _ = self.ask_to_freeze(false);
        }
        settled
    }

    /// Whether all processes are frozen by now; false for a group that is gone.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        Ok(self.directory().read_keyed("cgroup.events", "frozen")? == Some(1))
    }

    fn ask_to_freeze(&self, frozen: bool) -> Result<(), Error> {
        self.directory().write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    fn await_frozen(&self, events: &OwnedFd, wanted: bool) -> Result<(), Error> {
        let failed = |e: Errno| Error::Read { path: self.path().join("cgroup.events"), source: e.into() };
        let deadline = Instant::now() + PATIENCE;
        // Reading first and then waiting misses nothing: the kernel remembers which change was read last.
        while frozen_in(events.as_fd()).map_err(failed)? != wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Unsettled { path: self.path().to_owned(), frozen: wanted });
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }
}
