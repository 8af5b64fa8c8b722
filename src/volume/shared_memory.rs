//! `/dev/shm` of a Pod: its containers share it, as they share their IPC namespace, and it outlives each of them.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::Error;
use super::in_memory::{self, Kind};
use crate::manifest::Pod;

/// How errors call it.
const NAME: &str = "/dev/shm";

/// As with containerd.
const BYTES: u64 = 64 << 20;
const MODE: u32 = 0o1777;

/// A container that is alone has one of its own, and the host's is there already: neither needs a mount on the host.
pub(super) fn prepare(pod: &Pod, folder: &Path) -> Result<(), Error> {
    if pod.host_ipc || pod.containers.len() < 2 {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    in_memory::mount(NAME, &path(folder), flags, MODE, Kind::Tmpfs, Some(BYTES))
}

pub(super) fn release(folder: &Path) -> Result<(), Error> {
    in_memory::unmount(NAME, &path(folder))
}

pub(super) fn source(folder: &Path) -> Option<PathBuf> {
    let path = path(folder);
    in_memory::is_mount_point(&path).unwrap_or(false).then_some(path)
}

fn path(folder: &Path) -> PathBuf {
    folder.join("shm")
}
