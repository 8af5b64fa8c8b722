//! The journal: one page of shared memory that says which batch is on its way into which log file.
//!
//! A worker killed at any instruction leaves the page as its last store left it: stores of one thread reach memory
//! that is shared in the order of the program (release ordering keeps the compiler from changing it).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nix::errno::Errno;

use crate::sys::shared_map::{SharedMap, WORDS};

use super::{Lost, Stream};

/// Changes with the layout of the page: what another version wrote is not read as ours.
const MAGIC: u64 = u64::from_be_bytes(*b"PKLOG\0\0\x01");

const CLEAR: u64 = 0;
const INTENT: u64 = 1;
const COMMITTED: u64 = 2;

// Where each value lies, in words.
const AT_MAGIC: usize = 0;
const AT_STATE: usize = 1;
const AT_OFFSET: usize = 2;
const AT_INODE: usize = 3;
const AT_STREAM: usize = 4;
const AT_LOST_LINES: usize = 5;
const AT_LOST_CAUSE: usize = 6;
const AT_PATH_LENGTH: usize = 7;
const AT_PATH: usize = 8;

/// The longest path of a log file that fits, in bytes.
pub(super) const MAX_PATH: usize = (WORDS - AT_PATH) * 8;

/// Where a batch goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// At most [`MAX_PATH`] bytes.
    pub path: PathBuf,
    pub inode: u64,
    /// The file's length before the batch.
    pub offset: u64,
    pub stream: Stream,
    /// Lines lost before this batch that it reports.
    pub lost: Option<Lost>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Clear,
    /// What is in the holding pipe may stand in the file in part, wholly or not at all.
    Intent(Target),
    /// What is in the holding pipe is dealt with.
    Committed,
}

pub(super) struct Journal {
    page: SharedMap,
}

impl Journal {
    pub fn open(path: &Path) -> io::Result<Journal> {
        let journal = Journal { page: SharedMap::open(path, 1)? };
        if journal.get(AT_MAGIC) != MAGIC {
            journal.clear();
            journal.set(AT_MAGIC, MAGIC);
        }
        Ok(journal)
    }

    pub fn begin(&self, target: &Target) {
        self.set(AT_OFFSET, target.offset);
        self.set(AT_INODE, target.inode);
        self.set(AT_STREAM, u64::from(target.stream == Stream::Stderr));
        self.set(AT_LOST_LINES, target.lost.map_or(0, |lost| lost.lines));
        self.set(AT_LOST_CAUSE, target.lost.map_or(0, |lost| (lost.cause as i32).unsigned_abs().into()));
        let path = target.path.as_os_str().as_bytes();
        self.set(AT_PATH_LENGTH, path.len() as u64);
        for (i, chunk) in path.chunks(8).take(WORDS - AT_PATH).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.set(AT_PATH + i, u64::from_ne_bytes(word));
        }
        self.set_state(INTENT);
    }

    pub fn commit(&self) {
        self.set_state(COMMITTED);
    }

    pub fn clear(&self) {
        self.set_state(CLEAR);
    }

    pub fn state(&self) -> State {
        match self.page.words()[AT_STATE].load(Acquire) {
            INTENT => self.target().map_or(State::Clear, State::Intent),
            COMMITTED => State::Committed,
            _ => State::Clear,
        }
    }

    /// `None` if the page holds what [`Journal::begin`] cannot have written.
    fn target(&self) -> Option<Target> {
        let length = usize::try_from(self.get(AT_PATH_LENGTH)).ok().filter(|&length| length <= MAX_PATH)?;
        let mut path: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|i| self.get(AT_PATH + i).to_ne_bytes()).collect();
        path.truncate(length);
        let cause = i32::try_from(self.get(AT_LOST_CAUSE)).ok()?;
        let lines = self.get(AT_LOST_LINES);
        Some(Target {
            path: OsStr::from_bytes(&path).into(),
            inode: self.get(AT_INODE),
            offset: self.get(AT_OFFSET),
            stream: if self.get(AT_STREAM) == 0 { Stream::Stdout } else { Stream::Stderr },
            lost: (lines > 0).then(|| Lost { lines, cause: Errno::from_raw(cause) }),
        })
    }

    fn get(&self, word: usize) -> u64 {
        self.page.words()[word].load(Relaxed)
    }

    fn set(&self, word: usize, value: u64) {
        self.page.words()[word].store(value, Relaxed);
    }

    fn set_state(&self, state: u64) {
        self.page.words()[AT_STATE].store(state, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_worker_reads_what_was_written() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("journal");
        for length in [1, 7, 8, 9, MAX_PATH] {
            let target = Target {
                path: PathBuf::from("x".repeat(length)),
                inode: 5,
                offset: u64::MAX,
                stream: Stream::Stderr,
                lost: Some(Lost { lines: 3, cause: Errno::ENOSPC }),
            };
            Journal::open(&path).expect("open").begin(&target);
            let journal = Journal::open(&path).expect("open again");
            assert_eq!(journal.state(), State::Intent(target));
            journal.commit();
            assert_eq!(Journal::open(&path).expect("open again").state(), State::Committed);
            journal.clear();
            assert_eq!(Journal::open(&path).expect("open again").state(), State::Clear);
        }
    }

    #[test]
    fn bytes_of_another_layout_are_not_believed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("journal");
        std::fs::write(&path, [1; 4096]).expect("write");
        assert_eq!(Journal::open(&path).expect("open").state(), State::Clear);
    }
}
