//! A blob that is being downloaded: what has come so far lies under its digest, for whoever goes on with it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Digest, Error, Store};

/// A partial download that nobody else has taken. Dropped, it stays for the next one.
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Holds the `flock` that keeps others away.
    file: File,
    /// Bytes that have come.
    pub(super) length: u64,
}

impl Part {
    /// What there is of the blob; an empty one where there is nothing, or more than it can be. `None` if somebody else downloads it now.
    pub(super) fn take(store: &Store, digest: &Digest, size: u64) -> Result<Option<Part>, Error> {
        let path = store.part_file(digest);
        let file = loop {
            let file = open(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => other.map_err(Error::io("lock", &path))?,
            }
            // Whoever had it until now may have moved it to the blobs, where nothing may be added to it.
            if is_still_at(&file, &path) {
                break file;
            }
        };
        let mut length = file.metadata().map_err(Error::io("examine", &path))?.len();
        if length > size {
            file.set_len(0).map_err(Error::io("empty", &path))?;
            length = 0;
        }
        Ok(Some(Part { path, file, length }))
    }

    /// For reading what has come.
    pub(super) fn reader(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(Error::io("open", &self.path))
    }

    /// For writing what comes.
    pub(super) fn writer(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(Error::io("open", &self.path))
    }

    /// Removes what turned out to be wrong.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).mode(0o600).open(path);
    opened.map_err(Error::io("open", path))
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let inode = |meta: Metadata| (meta.dev(), meta.ino());
    file.metadata().map(inode).ok() == fs::symlink_metadata(path).map(inode).ok()
}
