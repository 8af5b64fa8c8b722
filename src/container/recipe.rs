//! All that the node knows when it starts a container.

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use super::environment::Environment;
use super::lsm::Lsm;
use super::user::ResolvedUser;
use crate::manifest::pod::{Access, MountPropagation};
use crate::manifest::{Container, Pod};

/// What [`spec()`](super::spec()) turns into an OCI `Spec`.
#[derive(Clone)]
pub struct Recipe<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// The container's variables, without those of its image.
    pub environment: &'a Environment,
    pub image: &'a ImageConfig,
    pub user: &'a ResolvedUser,
    /// What the kernel calls the machine that the container sees: the Pod's name, with its domain if that was asked for, or the
    /// host's where the Pod is on the host's network.
    pub hostname: &'a str,
    /// Volumes, and files such as `/etc/hosts`, in any order.
    pub binds: Vec<Bind>,
    /// The soft limit of open files; `None` for the node's own.
    pub open_files: Option<u64>,
    /// The container's cgroup below the cgroup v2 mount, as `/proc/PID/cgroup` shows it. Only shown:
    /// the process is put there by the descriptor given to [`spawn()`](super::spawn()).
    pub cgroup: PathBuf,
    /// Limits as the `Spec` shows them; [`spec()`](super::spec()) adds the rules for devices.
    pub resources: LinuxResources,
    /// `None`: the node's own.
    pub oom_score_adj: Option<i32>,
    /// The ids of the Pod's own user namespace; must be there where `pod.host_users` is false, and is not looked at
    /// otherwise.
    pub ids: Option<IdRange>,
    /// The Pod's `/dev/shm` on the host; `None`: the container has one of its own. On the host's IPC it has the host's.
    pub shm: Option<PathBuf>,
    pub lsm: Lsm,
}

/// The ids of the host that 0 … `size` − 1 of a user namespace stand for, users and groups alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    pub first: u32,
    pub size: u32,
}

/// A file or directory of the host that appears in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute, on the host; of a part of a volume its name only: a [`SubPath`](super::SubPath) goes with it. Whether it is a file or a directory is found out when it is opened.
    pub source: PathBuf,
    /// Absolute, in the container.
    pub destination: String,
    pub access: Access,
    pub propagation: MountPropagation,
    /// Owners are shown as the Pod's user namespace has them: root's files are its root's.
    pub mapped: bool,
}

impl Bind {
    /// One that may be written to, and of which nothing else is said.
    pub fn new(source: impl Into<PathBuf>, destination: &str) -> Bind {
        Bind {
            source: source.into(),
            destination: destination.to_owned(),
            access: Access::ReadWrite,
            propagation: MountPropagation::None,
            mapped: false,
        }
    }
}

/// The part of an OCI image's configuration that a process is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `NAME=value` each.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `None` or empty means `/`.
    pub working_dir: Option<String>,
}
