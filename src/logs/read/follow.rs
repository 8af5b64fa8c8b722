//! Reading along: what is there, then what comes, over rotations and into the container's next runs.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::super::Error;
use super::{Entry, From, Lines};

/// What a [`Follower`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    Entry(Entry),
    /// The time given passed without news.
    Idle,
    /// The folder is gone; there will be no more.
    Gone,
}

/// Reads a run and, when it has seen everything, waits for more: over rotations and into the next runs.
///
/// The parts of an unfinished line are handed out when the line ends, another run begins or the folder goes.
pub struct Follower {
    lines: Lines,
    inotify: OwnedFd,
    dir: PathBuf,
    gone: bool,
}

impl Follower {
    /// # Errors
    /// [`Error::Path`] if the folder is missing or cannot be watched.
    pub fn open(dir: &Path, restart: u32, from: From) -> Result<Follower, Error> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(Error::path("watch log folder", dir))?;
        // Watched first: what is written from here on either is read or wakes us.
        let watch = |path: &Path, events| {
            inotify::add_watch(&inotify, path, events | WatchFlags::ONLYDIR)
                .map_err(Error::path("watch log folder", path))
        };
        watch(dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        // A folder does not report its own end while a file that was in it is open, as ours is: its parent does.
        let parent = dir.parent().unwrap_or(dir);
        watch(parent, WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVE_SELF)?;
        Ok(Follower { lines: Lines::open(dir, restart, from)?, inotify, dir: dir.to_owned(), gone: false })
    }

    /// The next line, waiting for it at most this long (`None`: for ever).
    ///
    /// # Errors
    /// [`Error::Path`] if a file cannot be read.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Followed, Error> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(entry) = self.lines.next()? {
                return Ok(Followed::Entry(entry));
            }
            if self.gone {
                self.lines.flush();
                return Ok(self.lines.next()?.map_or(Followed::Gone, Followed::Entry));
            }
            if !self.wait(until)? {
                return Ok(Followed::Idle);
            }
        }
    }

    /// False if the time has passed.
    fn wait(&mut self, until: Option<Instant>) -> Result<bool, Error> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::path("watch log folder", &self.dir)(error)),
        }
        self.take_events()?;
        self.gone = self.dir.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        Ok(true)
    }

    /// What happened does not matter, only that something did.
    fn take_events(&mut self) -> Result<(), Error> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Error::path("watch log folder", &self.dir)(error)),
            }
        }
    }
}
