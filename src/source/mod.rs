//! Where manifests come from: a folder or a single file, watched with inotify, and a URL that is asked again and again.
//!
//! A source hands out bytes and facts, in order; it does not parse. It has no thread, reads no clock and never sleeps:
//! the node's loop puts [`Source::fd`] into its epoll set and calls [`Source::step`] when that is readable or when
//! [`Source::deadline`] has come. What a [`UrlSource`] asks, the node asks on a thread, and brings it the answer. Every
//! `now` is time since boot (`CLOCK_BOOTTIME`).
#![forbid(unsafe_code)]

mod file;
mod folder;
mod known;
mod url;
mod watch;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use folder::{Source, is_manifest};
pub use url::{ANSWER_WITHIN, Answer, Due, Question, Target, UrlError, UrlSource, Validators};

/// The largest manifest that is read, in bytes, as in the kubelet.
pub const MAX_FILE_BYTES: u64 = 10 << 20;

/// How long a removed file may be away before it counts as removed: editors and `mv` replace files in two steps.
pub const REMOVAL_DELAY: Duration = Duration::from_millis(100);

/// How long a file's size and times must have rested where the kernel cannot say whether somebody is writing it.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);

/// What the source learned, in order. `file` is the folder's path joined with the file's name, or the URL as it may be
/// shown.
#[derive(Debug)]
pub enum Change {
    /// A file's whole content. Sent when it differs from what was sent for this file before, and also, unchanged,
    /// when an [`Change::Unreadable`] was sent in between: the trouble is over.
    Read { file: PathBuf, bytes: Vec<u8> },
    /// The file was removed, and no replacement came within 100 ms. When a file is renamed, its new name's `Read`
    /// comes before its old name's `Gone`.
    Gone { file: PathBuf },
    /// The file is there and cannot be read. It removes nothing: what was read last stays true.
    Unreadable { file: PathBuf, error: FileError },
    /// The folder is missing, or cannot be listed or watched. It removes nothing. Sent once for each new reason.
    FolderUnreadable { error: FolderError },
    /// The folder can be listed again; what changed meanwhile follows.
    FolderBack,
    /// Sent once, after the first complete listing: every manifest that is there, the unreadable ones and those still
    /// being written too. A saved last good version of any other file of this source has lost its file.
    Listed { files: Vec<PathBuf> },
}

/// Why a file that is there, or a URL, was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("read {file}: {source}")]
    Io { file: PathBuf, source: io::Error },
    #[error("read {file}: it is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge { file: PathBuf },
    #[error("read {file}: it is a {kind}, not a regular file")]
    NotRegular { file: PathBuf, kind: &'static str },
    #[error("read {file}: somebody has it open for writing; it is read when they close it")]
    OpenForWriting { file: PathBuf },
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// Why a folder's list of files is not known.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("list {folder}: {source}")]
    Io { folder: PathBuf, source: io::Error },
    /// The files are read all the same, but changes are noticed only by the rescan.
    #[error("watch {folder}: {source}")]
    Unwatched { folder: PathBuf, source: io::Error },
    #[error("list {folder}: its file system was unmounted and what lies beneath is empty")]
    Unmounted { folder: PathBuf },
}

/// Why a source could not be opened at all. A missing folder is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("watch {path}: start inotify: {source}")]
    Inotify { path: PathBuf, source: io::Error },
    #[error("watch {path}: {source}")]
    Path { path: PathBuf, source: io::Error },
}
