//! What can go wrong with a cgroup: always the path of the group or file, and the kernel's answer.

use std::io;
use std::path::PathBuf;

/// Paths are those below the cgroup2 mount as `/proc/PID/cgroup` shows them, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file outside the cgroup file system, such as `/proc/self/mountinfo`.
    #[error("read {}", path.display())]
    Host { path: PathBuf, source: io::Error },
    #[error("no cgroup2 file system is mounted (looked in /proc/self/mountinfo)")]
    NoMount,
    #[error("open the cgroup2 mount {}", path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("{} is not a cgroup2 file system, though /proc/self/mountinfo says so", .0.display())]
    Shadowed(PathBuf),
    #[error("cgroup root {0:?}: a path of plain names without `.` and `..` is needed, such as /podkeep")]
    BadRoot(String),
    #[error("cgroup {}: a path below the cgroup2 mount without `..` is needed", .0.display())]
    BadPath(PathBuf),
    #[error("make cgroup {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Content { path: PathBuf, expected: &'static str, found: String },
    #[error("write {value:?} to {}", path.display())]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("{} cannot be set to {value:?}: this kernel has no such file there", path.display())]
    NoFile { path: PathBuf, value: String },
    #[error("cgroup {} has not become {} in 10 seconds", path.display(), if *frozen { "frozen: a process of it is in an uninterruptible sleep" } else { "thawed: a group above it is frozen" })]
    Unsettled { path: PathBuf, frozen: bool },
    #[error("cgroup root {}: another podkeep works there, and each would remove the other's Pods: stop it, or give this \
             one its own cgroupRoot in its --config", .0.display())]
    Locked(PathBuf),
    #[error("lock the cgroup root {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    /// A container's group from an earlier start still has processes: they must be killed first.
    #[error("cgroup {} still has processes", .0.display())]
    Populated(PathBuf),
    /// EBUSY of rmdir: a process is in the group, or has come into it meanwhile.
    #[error("remove cgroup {}: it is in use", .0.display())]
    Busy(PathBuf),
    #[error("remove cgroup {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}
