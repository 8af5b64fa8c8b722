//! Why there is no plan.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType};

use crate::container::seccomp::SeccompError;

/// Why a `Spec` cannot be turned into a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the spec has no {0}")]
    Missing(&'static str),
    #[error("the spec asks for `{0}`, which podkeep does not support")]
    NotSupported(&'static str),
    #[error("{what} `{value}` holds a zero byte")]
    ZeroByte { what: &'static str, value: String },
    #[error("{what} {path} is not absolute")]
    Relative { what: &'static str, path: PathBuf },
    #[error("a mount cannot take the place of the container's root")]
    MountOnRoot,
    #[error("the mount on {at} asks for `{option}`, which is not supported")]
    MountOption { at: PathBuf, option: String },
    #[error("the mount on {at} maps owners, which only a bind mount can")]
    MappedFileSystem { at: PathBuf },
    #[error("the mount on {at} maps owners by the container's user namespace, but it has none")]
    MappedByNone { at: PathBuf },
    #[error(
        "`{0}` is no way for mounts to spread: private, slave, shared or unbindable, each perhaps with r before"
    )]
    Propagation(String),
    #[error("device {path}: {problem}")]
    Device { path: PathBuf, problem: &'static str },
    #[error("the image has no layers")]
    NoLayers,
    #[error(
        "the path {0} holds a comma, a colon or a backslash, which an overlay cannot have in its options"
    )]
    OverlayPath(String),
    #[error("{layers} layers need {bytes} bytes of mount options, the kernel takes {max}", max = super::root::MAX_OPTIONS)]
    TooManyLayers { layers: usize, bytes: usize },
    #[error("duplicate the descriptor of the {kind} namespace: {cause}")]
    Namespace { kind: LinuxNamespaceType, cause: std::io::Error },
    #[error("the spec asks for a new user namespace, and none has been made")]
    UserNamespace,
    #[error("sysctl `{name}`: {problem}")]
    Sysctl { name: String, problem: &'static str },
    #[error("time offset `{0}`: only `monotonic` and `boottime` have one")]
    TimeOffset(String),
    #[error("process.rlimits has two limits of {0}")]
    TwoLimits(PosixRlimitType),
    #[error("{0} is out of range")]
    Range(&'static str),
    #[error("make the program of the pause process: {0}")]
    Pause(#[source] std::io::Error),
    #[error("the seccomp profile: {0}")]
    Seccomp(#[from] SeccompError),
}
