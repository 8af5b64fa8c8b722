//! A container's output as the host sees it: a FIFO in the run folder.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fchown, fstat, mkfifoat, open};
use rustix::process::{Gid, Uid};

use super::Error;

/// A FIFO, open for reading and writing: as long as the keeper or the container has one like it, what is in the pipe
/// stays there, and no writer gets SIGPIPE.
///
/// Register it edge-triggered for `EPOLLIN`: the kernel reports every write (5.14 and later; between 5.5 and 5.13 a
/// pipe that was not emptied could stay silent), and an unfinished line left in the pipe wakes nobody.
#[derive(Debug)]
pub struct Fifo {
    fd: OwnedFd,
    path: PathBuf,
}

impl Fifo {
    /// Makes the FIFO, mode 0600 and owned by the container's user (host ids), so that a program without privileges
    /// can open `/dev/stdout` again.
    ///
    /// # Errors
    /// [`Error::Path`] if it is there already or cannot be made.
    pub fn create(path: &Path, uid: u32, gid: u32) -> Result<Fifo, Error> {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).map_err(Error::path("make log FIFO", path))?;
        Self::open(path)
            .and_then(|fifo| {
                fchown(&fifo.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(Error::path("give to its user the log FIFO", path))?;
                fchmod(&fifo.fd, Mode::RUSR | Mode::WUSR).map_err(Error::path("set the mode of", path))?;
                Ok(fifo)
            })
            .inspect_err(|_| {
                // The error that is returned says more than one of this unlink would.
                let _ = fs::remove_file(path);
            })
    }

    /// Opens a FIFO that was made before, to take its container over.
    ///
    /// # Errors
    /// [`Error::Path`] if it cannot be opened, [`Error::Replaced`] if it is no FIFO.
    pub fn open(path: &Path) -> Result<Fifo, Error> {
        let fd = open_end(path, OFlags::NONBLOCK)?;
        Self::adopt(fd, path)
    }

    /// The FIFO behind a descriptor that the keeper handed over (open for reading and writing); `path` is where it
    /// was made.
    ///
    /// # Errors
    /// [`Error::Replaced`] if the descriptor is not one of a pipe.
    pub fn adopt(fd: OwnedFd, path: &Path) -> Result<Fifo, Error> {
        let stat = fstat(&fd).map_err(Error::path("look at log FIFO", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Err(Error::Replaced { path: path.to_owned() });
        }
        Ok(Fifo { fd, path: path.to_owned() })
    }

    /// What the container gets as its stdout or stderr: an open file description of its own, blocking (`O_NONBLOCK`
    /// is shared by all who hold a description), readable too, so that writing never fails while podkeep is away.
    ///
    /// # Errors
    /// [`Error::Path`] if the path cannot be opened, [`Error::Replaced`] if something else is there by now.
    pub fn container_end(&self) -> Result<OwnedFd, Error> {
        let end = open_end(&self.path, OFlags::empty())?;
        let look = |fd: &OwnedFd| fstat(fd).map_err(Error::path("look at log FIFO", &self.path));
        let (ours, theirs) = (look(&self.fd)?, look(&end)?);
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) {
            return Err(Error::Replaced { path: self.path.clone() });
        }
        Ok(end)
    }

    /// Where it was made.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `O_RDWR` on a FIFO never waits for the other end (Linux, fifo(7)).
fn open_end(path: &Path, extra: OFlags) -> Result<OwnedFd, Error> {
    open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | extra, Mode::empty())
        .map_err(Error::path("open log FIFO", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::fcntl_getfl;

    use super::*;

    fn ids() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn the_container_gets_a_blocking_description_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (uid, gid) = ids();
        let fifo = Fifo::create(&dir.path().join("out"), uid, gid).expect("make");
        let end = fifo.container_end().expect("open");
        let flags = fcntl_getfl(&end).expect("flags");
        assert!(!flags.contains(OFlags::NONBLOCK) && flags.contains(OFlags::RDWR), "{flags:?}");
        assert!(fcntl_getfl(&fifo).expect("flags").contains(OFlags::NONBLOCK));
        assert_eq!(fs::metadata(fifo.path()).expect("stat").mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_is_no_fifo_or_another_one_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("out");
        let (uid, gid) = ids();
        let first = Fifo::create(&path, uid, gid).expect("make");
        assert!(matches!(Fifo::create(&path, uid, gid), Err(Error::Path { .. })));
        fs::rename(&path, dir.path().join("away")).expect("rename");
        let _second = Fifo::create(&path, uid, gid).expect("make");
        assert!(matches!(first.container_end(), Err(Error::Replaced { .. })));
        let file = dir.path().join("file");
        fs::write(&file, "").expect("write");
        assert!(matches!(Fifo::open(&file), Err(Error::Replaced { .. })));
    }
}
