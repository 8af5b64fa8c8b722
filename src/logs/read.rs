//! Reading back: lines of a container's run over its rotated files, the last few, and what comes.

use std::path::Path;
use std::time::Duration;

use super::{Error, Stream};

/// A line of a container, its parts joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// RFC 3339, of the line's first part.
    pub time: String,
    pub stream: Stream,
    /// Which run of the container wrote it.
    pub restart: u32,
    /// Without the newline.
    pub bytes: Vec<u8>,
    /// False for a line that its writer never ended, and for all but the last piece of a line over 1 MiB.
    pub terminated: bool,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start,
    /// The last so many lines.
    Tail(usize),
}

/// The numbers of the runs whose logs are there, oldest first.
///
/// # Errors
/// [`Error::Path`] if the folder cannot be listed.
pub fn restarts(dir: &Path) -> Result<Vec<u32>, Error> {
    let mut restarts: Vec<u32> =
        super::layout::log_files(dir)?.into_iter().map(|file| file.restart).collect();
    restarts.dedup();
    Ok(restarts)
}

/// Reads one run up to where its log ended when reading began: an iterator of entries.
pub struct Reader;

impl Reader {
    /// # Errors
    /// [`Error::Path`] if a file cannot be opened or read.
    pub fn open(dir: &Path, restart: u32, from: From) -> Result<Reader, Error> {
        let _ = (dir, restart, from);
        Ok(Reader)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

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
pub struct Follower;

impl Follower {
    /// # Errors
    /// [`Error::Path`] if the folder is missing or cannot be watched.
    pub fn open(dir: &Path, restart: u32, from: From) -> Result<Follower, Error> {
        let _ = (dir, restart, from);
        Ok(Follower)
    }

    /// The next line, waiting for it at most this long (`None`: for ever).
    ///
    /// # Errors
    /// [`Error::Path`] if a file cannot be read.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Followed, Error> {
        let _ = timeout;
        Ok(Followed::Gone)
    }
}
