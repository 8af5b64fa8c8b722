//! A Pod's volumes on the host: made before its containers, gone after them.
//!
//! On the host podkeep mounts nothing but what lies in memory: emptyDirs with such a medium, the `/dev/shm` that several
//! containers share, and a tmpfs in which all [`files`] of all Pods lie.
#![forbid(unsafe_code)]

mod contents;
mod empty_dir;
mod files;
mod host_path;
mod in_memory;
mod ownership;
mod propagation;
mod quota;
mod shared_memory;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

pub use contents::{Objects, contents};
pub use files::Files;
pub use ownership::Owner;

use crate::manifest::pod::{Medium, Volume, VolumeKind};
use crate::manifest::{Pod, Uid};

/// Where the emptyDirs lie in their Pod's folder, each under its own name.
const EMPTY_DIRS: &str = "volumes/kubernetes.io~empty-dir";

/// Why a volume could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("volume {volume}: {doing} {path}: {cause}")]
    Io { volume: String, doing: &'static str, path: PathBuf, cause: io::Error },
    #[error("volume {volume}: hostPath {path} is {found}, and its type asks for {wanted}")]
    WrongType { volume: String, path: PathBuf, found: &'static str, wanted: &'static str },
    #[error(
        "volume {volume}: its mountPropagation needs a shared mount, and {path} is on {mount}, which is none: \
         `mount --make-shared {mount}` makes it one"
    )]
    NotShared { volume: String, path: PathBuf, mount: PathBuf },
}

/// Makes or checks all volumes of a Pod. Doing it twice is the same as doing it once.
///
/// `folder` is the Pod's own; emptyDirs lie in it and belong to `owner`. What is made of files is made by [`write_files`].
pub fn prepare(pod: &Pod, folder: &Path, owner: Owner) -> Result<(), Error> {
    shared_memory::prepare(pod, folder)?;
    for volume in &pod.volumes {
        match &volume.kind {
            VolumeKind::EmptyDir { medium, size_limit } => {
                let path = empty_dir_of(volume, folder);
                let size = empty_dir::size(*medium, *size_limit, pod);
                empty_dir::prepare(volume, *medium, size, &path, owner)?;
                if let (Medium::Disk, Some(limit)) = (medium, size_limit) {
                    let limited = quota::limit(&pod.uid, &volume.name, &path, *limit);
                    say_if_measured(limited, pod, &path);
                }
                if let Some(group) = owner.fs_group {
                    ownership::give_to_group(&path, group, pod.fs_group_change_policy).map_err(error(
                        volume,
                        "give to fsGroup",
                        &path,
                    ))?;
                }
            }
            VolumeKind::HostPath { path, kind } => host_path::prepare(volume, Path::new(path), *kind)?,
            // The one is shown by each container's own steps, the other needs more than the Pod.
            VolumeKind::Image { .. } | VolumeKind::Files { .. } => {}
        }
    }
    propagation::check(pod, &|volume| match &volume.kind {
        VolumeKind::EmptyDir { .. } => Some(empty_dir_of(volume, folder)),
        _ => host_path_of(volume),
    })
}

/// A quota that cannot be had keeps no Pod from running.
fn say_if_measured(limited: rustix::io::Result<()>, pod: &Pod, volume: &Path) {
    if let Err(errno) = limited {
        log::warn!("{}: {} has no project quota, and is measured: {errno}", pod.id, volume.display());
    }
}

/// Whether [`prepare`] would find what it needs, as far as that can be told without making anything.
pub fn check(pod: &Pod) -> Result<(), Error> {
    for volume in &pod.volumes {
        if let VolumeKind::HostPath { path, kind } = &volume.kind {
            host_path::check(volume, Path::new(path), *kind)?;
        }
    }
    propagation::check(pod, &|volume| host_path_of(volume).filter(|path| path.exists()))
}

/// Unmounts what [`prepare`] mounted, and what containers have left mounted in an emptyDir. Deletes nothing: the Pod's folder goes as a whole.
pub fn release(pod: &Pod, folder: &Path) -> Result<(), Error> {
    for volume in &pod.volumes {
        if let VolumeKind::EmptyDir { .. } = volume.kind {
            if propagation::may_hold_mounts(pod, volume) {
                let path = empty_dir_of(volume, folder);
                propagation::unmount_below(&path).map_err(error(volume, "unmount what is in", &path))?;
            }
            in_memory::unmount(&volume.name, &empty_dir_of(volume, folder))?;
        }
    }
    shared_memory::release(folder)
}

/// Takes away what the file system limits of the volumes of this Pod, whose own folder is about to go.
pub fn give_back_quotas(uid: &Uid, folder: &Path) {
    if let Err(errno) = quota::give_back(uid, folder) {
        log::warn!("take away the limits of the volumes in {}: {errno}", folder.display());
    }
}

/// Bytes of the disk that the file system says an emptyDir takes; `None` where it does not count them by itself. `folder`: where it lies.
pub fn counted_by_quota(uid: &Uid, folder: &Path) -> Option<u64> {
    quota::counted(uid, folder.file_name()?.to_str()?, folder)
}

/// Where the `/dev/shm` lies that the Pod's containers share; `None` where each has its own (or [`prepare`] was that of an
/// older podkeep, which made none).
pub fn shared_memory(folder: &Path) -> Option<PathBuf> {
    shared_memory::source(folder)
}

/// Mounts the tmpfs in which all volumes made of files lie, unless it is there. Nobody but root comes into it.
pub fn make_place_of_files(path: &Path) -> Result<(), Error> {
    in_memory::mount_files("of files", path)
}

/// Unmounts it, with all that is in it.
pub fn remove_place_of_files(path: &Path) -> Result<(), Error> {
    in_memory::unmount("of files", path)
}

/// Makes `files` what is in a volume of the Pod whose volumes made of files lie in `folder`.
pub fn write_files(volume: &Volume, folder: &Path, files: &Files<'_>, owner: Owner) -> Result<(), Error> {
    let path = folder.join(&volume.name);
    // An emptyDir, with the kubelet. No one of the host comes as far as this.
    let mode = match volume.kind {
        VolumeKind::Files { in_memory: true, .. } => empty_dir::TMPFS_MODE,
        _ => empty_dir::MODE,
    };
    let made =
        files::make_folder(&path, mode, owner).and_then(|place| files::write(place.as_fd(), files, owner));
    made.map_err(error(volume, "write the files of", &path))
}

/// Where a volume lies on the host; `None` for an image, which lies there in layers. `files`: as in [`write_files`].
pub fn host_source(volume: &Volume, folder: &Path, files: &Path) -> Option<PathBuf> {
    match &volume.kind {
        VolumeKind::EmptyDir { .. } => Some(empty_dir_of(volume, folder)),
        VolumeKind::HostPath { path, .. } => Some(PathBuf::from(path)),
        VolumeKind::Files { .. } => Some(files.join(&volume.name)),
        VolumeKind::Image { .. } => None,
    }
}

fn error<'a>(
    volume: &'a Volume,
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> Error + 'a {
    move |cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause }
}

fn host_path_of(volume: &Volume) -> Option<PathBuf> {
    match &volume.kind {
        VolumeKind::HostPath { path, .. } => Some(PathBuf::from(path)),
        _ => None,
    }
}

fn empty_dir_of(volume: &Volume, folder: &Path) -> PathBuf {
    folder.join(EMPTY_DIRS).join(&volume.name)
}
