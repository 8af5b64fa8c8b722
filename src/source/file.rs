//! One look at one file of the folder: is it there, is it whole, and what is in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::{FileError, MAX_FILE_BYTES};
use crate::sys::lease::{Writers, writers};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: (u32, u32),
    inode: u64,
    bytes: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Stamp {
    pub(super) fn same_inode(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// What stands behind a name.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    File(Stamp),
    /// Something that cannot be read.
    Not(FileError),
}

/// What came of reading.
#[derive(Debug)]
pub(super) enum Outcome {
    Whole {
        bytes: Vec<u8>,
        stamp: Stamp,
    },
    /// Somebody has it open for writing, or changed it while it was being read.
    BeingWritten(Stamp),
    /// Nobody can say whether it is whole: it is read when this stamp has rested.
    Unsettled(Stamp),
    Missing,
    Failed(FileError),
}

/// Looks at `folder`'s `name` without opening it. Symbolic links are followed; one that leads nowhere is not missing
/// but unreadable: only removing the link removes the manifest.
pub(super) fn find(folder: BorrowedFd<'_>, name: &OsStr, path: impl Fn() -> PathBuf) -> Found {
    match stat(folder, name, AtFlags::empty()) {
        Ok((kind, stamp)) => match special(kind) {
            None => Found::File(stamp),
            Some(kind) => Found::Not(FileError::NotRegular { file: path(), kind }),
        },
        Err(Errno::NOENT) if stat(folder, name, AtFlags::SYMLINK_NOFOLLOW) == Err(Errno::NOENT) => {
            Found::Missing
        }
        Err(error) => Found::Not(FileError::Io { file: path(), source: error.into() }),
    }
}

/// Reads `folder`'s `name` if it is whole. `rested`: the stamp that has not changed for as long as a file must rest
/// that nobody can say more about.
pub(super) fn read(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    rested: Option<Stamp>,
    path: impl Fn() -> PathBuf,
) -> Outcome {
    match try_read(folder, name, rested) {
        Ok(outcome) => outcome,
        Err(Refusal::Kind(kind)) => Outcome::Failed(FileError::NotRegular { file: path(), kind }),
        Err(Refusal::TooLarge) => Outcome::Failed(FileError::TooLarge { file: path() }),
        Err(Refusal::Io(source)) => match find(folder, name, &path) {
            Found::Missing => Outcome::Missing,
            _ => Outcome::Failed(FileError::Io { file: path(), source }),
        },
    }
}

enum Refusal {
    Kind(&'static str),
    TooLarge,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Refusal {
        Refusal::Io(error.into())
    }
}

fn try_read(folder: BorrowedFd<'_>, name: &OsStr, rested: Option<Stamp>) -> Result<Outcome, Refusal> {
    // Not blocking, because the name may have become a FIFO since it was looked at.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let (kind, before) = stat(file.as_fd(), OsStr::new(""), AtFlags::EMPTY_PATH)?;
    if let Some(kind) = special(kind) {
        return Err(Refusal::Kind(kind));
    }
    match writers(&file) {
        Writers::Some => return Ok(Outcome::BeingWritten(before)),
        Writers::Unknown if rested != Some(before) => return Ok(Outcome::Unsettled(before)),
        // A file that was created a moment ago is empty and counts as unopened for an instant, until the kernel has
        // finished the open(2) that created it.
        Writers::None if before.bytes == 0 && rested != Some(before) => {
            return Ok(Outcome::Unsettled(before));
        }
        Writers::None | Writers::Unknown => {}
    }
    if before.bytes > MAX_FILE_BYTES {
        return Err(Refusal::TooLarge);
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let (_, after) = stat(file.as_fd(), OsStr::new(""), AtFlags::EMPTY_PATH)?;
    if after != before || bytes.len() as u64 != before.bytes || writers(&file) == Writers::Some {
        return Ok(Outcome::BeingWritten(after));
    }
    Ok(Outcome::Whole { bytes, stamp: after })
}

fn stat(at: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Result<(FileType, Stamp), Errno> {
    let stat = rustix::fs::statx(at, name, flags, StatxFlags::BASIC_STATS)?;
    let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
    let stamp = Stamp {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        bytes: stat.stx_size,
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
    };
    Ok((FileType::from_raw_mode(stat.stx_mode.into()), stamp))
}

/// What to call something that is not a regular file.
fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("directory"),
        FileType::Fifo => Some("FIFO"),
        FileType::Socket => Some("socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("device"),
        FileType::Symlink | FileType::Unknown => Some("special file"),
    }
}
