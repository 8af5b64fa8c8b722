//! Reading and writing a group's interface files, by the descriptor of its directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use super::Error;

/// A directory of the tree: its descriptor, and its path for what is said about it.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) path: &'a Path,
}

impl Directory<'_> {
    pub(super) fn open(&self, file: &str) -> Result<OwnedFd, Error> {
        openat(self.fd, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::Open { path: self.path.join(file), source: e.into() })
    }

    pub(super) fn read(&self, file: &str) -> Result<String, Error> {
        let mut text = String::new();
        File::from(self.open(file)?)
            .read_to_string(&mut text)
            .map_err(|source| Error::Read { path: self.path.join(file), source })?;
        Ok(text)
    }

    /// As [`Directory::read`]; `None` if the file, or the group itself, is not there (any more).
    pub(super) fn read_if_there(&self, file: &str) -> Result<Option<String>, Error> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            // ENODEV: the group was removed between open and read (kernfs).
            Err(Error::Open { source, .. } | Error::Read { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// In one write(2): the kernel takes each write as a whole value.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        self.try_write(file, value).map_err(|source| Error::Write {
            path: self.path.join(file),
            value: value.to_owned(),
            source,
        })
    }

    pub(super) fn try_write(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = openat(self.fd, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(fd.as_fd(), value.as_bytes())?;
        Ok(())
    }

    /// The number after `key` in a file of lines `key number`; `None` if there is no such line or file.
    pub(super) fn read_keyed(&self, file: &str, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.read_if_there(file)?.and_then(|text| keyed(&text, key)))
    }
}

pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    each_keyed(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The lines `key number` of a file.
pub(super) fn each_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(key, value)| Some((key, value.trim().parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_as_a_whole() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(events, "oom"), Some(3));
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "kill"), None);
        assert_eq!(keyed("populated", "populated"), None);
        assert_eq!(keyed("populated x", "populated"), None);
    }
}
