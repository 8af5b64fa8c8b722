//! Why a profile cannot be used.

use std::path::PathBuf;

/// Why a seccomp profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("the seccomp profile is not one of the OCI runtime specification: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the seccomp profile has `{0}`, which Docker resolves before it makes a container; \
         write out what it stands for"
    )]
    Unresolved(&'static str),
    #[error("the seccomp profile has {0}, which needs a process that listens, and podkeep has none")]
    Listener(&'static str),
    #[error("the seccomp profile has the listener {0}, but podkeep hands a filter's questions to no process")]
    ListenerPath(PathBuf),
    #[error("the seccomp profile's {rule} has errno {errno}, and its action takes none")]
    ErrnoUnused { rule: String, errno: u32 },
    #[error("the seccomp profile's {rule} has errno {errno}, the greatest is {max}")]
    ErrnoTooGreat { rule: String, errno: u32, max: u32 },
    #[error("the seccomp profile's {rule} asks for argument {index}, the last one of a system call is 5")]
    Argument { rule: String, index: usize },
    #[error("the seccomp profile's filter has {0} instructions, the kernel takes {max}", max = super::MAX_LENGTH)]
    TooLong(usize),
}
