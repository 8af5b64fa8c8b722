//! What can go wrong with logs: what was being done, to which path, and the kernel's answer.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this module. A log that cannot be *written* is none: its lines are dropped and counted, see
/// [`Pumped`](super::Pumped).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{action} {}: {source}", path.display())]
    Path { action: &'static str, path: PathBuf, source: io::Error },
    /// A pipe: a container's FIFO, or one of the worker's own two.
    #[error("{action}: {source}")]
    Pipe { action: &'static str, source: io::Error },
    /// A path that the journal's page has no room for.
    #[error("path of {length} bytes is too long for the log journal (at most {limit}): {}", path.display())]
    PathTooLong { path: PathBuf, length: usize, limit: usize },
    /// A FIFO's path that names something else by now.
    #[error("{} is not the log FIFO that was made there", path.display())]
    Replaced { path: PathBuf },
}

impl Error {
    /// For `map_err`: `action` is a verb phrase that the path follows.
    pub(super) fn path<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_owned();
        move |source| Error::Path { action, path, source: source.into() }
    }

    /// For `map_err`: `action` is a whole phrase.
    pub(super) fn pipe(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
        move |source| Error::Pipe { action, source: source.into() }
    }

    /// The kernel's answer alone.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Error::Path { source, .. } | Error::Pipe { source, .. } => source,
            other => io::Error::other(other),
        }
    }
}
