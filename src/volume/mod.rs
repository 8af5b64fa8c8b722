//! A Pod's volumes on the host: made before its containers, gone after them.
//!
//! On the host podkeep mounts nothing but tmpfs: of an emptyDir with `medium: Memory`, and of the `/dev/shm` that several
//! containers share.
#![forbid(unsafe_code)]

mod empty_dir;
mod host_path;
mod shared_memory;
mod tmpfs;

use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::Pod;
use crate::manifest::pod::{Volume, VolumeKind};

/// Why a volume could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("volume {volume}: {doing} {path}: {cause}")]
    Io { volume: String, doing: &'static str, path: PathBuf, cause: io::Error },
    #[error("volume {volume}: hostPath {path} is {found}, and its type asks for {wanted}")]
    WrongType { volume: String, path: PathBuf, found: &'static str, wanted: &'static str },
}

/// Makes or checks all volumes of a Pod. Doing it twice is the same as doing it once.
///
/// `folder` is the Pod's own; emptyDirs lie in it and belong to `owner`, user and group: the Pod's root as the host has it.
pub fn prepare(pod: &Pod, folder: &Path, owner: u32) -> Result<(), Error> {
    shared_memory::prepare(pod, folder)?;
    for volume in &pod.volumes {
        match &volume.kind {
            VolumeKind::EmptyDir { medium, size_limit } => {
                empty_dir::prepare(volume, *medium, *size_limit, &empty_dir_of(volume, folder), owner)?;
            }
            VolumeKind::HostPath { path, kind } => host_path::prepare(volume, Path::new(path), *kind)?,
            // Shown by each container's own steps.
            VolumeKind::Image { .. } => {}
        }
    }
    Ok(())
}

/// Whether [`prepare`] would find what it needs, as far as that can be told without making anything.
pub fn check(pod: &Pod) -> Result<(), Error> {
    for volume in &pod.volumes {
        if let VolumeKind::HostPath { path, kind } = &volume.kind {
            host_path::check(volume, Path::new(path), *kind)?;
        }
    }
    Ok(())
}

/// Unmounts what [`prepare`] mounted. Deletes nothing: the Pod's folder goes as a whole.
pub fn release(pod: &Pod, folder: &Path) -> Result<(), Error> {
    for volume in &pod.volumes {
        if let VolumeKind::EmptyDir { .. } = volume.kind {
            tmpfs::unmount(&volume.name, &empty_dir_of(volume, folder))?;
        }
    }
    shared_memory::release(folder)
}

/// Where the `/dev/shm` lies that the Pod's containers share; `None` where each has its own (or [`prepare`] was that of an
/// older podkeep, which made none).
pub fn shared_memory(folder: &Path) -> Option<PathBuf> {
    shared_memory::source(folder)
}

/// Where a volume lies on the host; `None` for an image, which lies there in layers.
pub fn host_source(volume: &Volume, folder: &Path) -> Option<PathBuf> {
    match &volume.kind {
        VolumeKind::EmptyDir { .. } => Some(empty_dir_of(volume, folder)),
        VolumeKind::HostPath { path, .. } => Some(PathBuf::from(path)),
        VolumeKind::Image { .. } => None,
    }
}

fn empty_dir_of(volume: &Volume, folder: &Path) -> PathBuf {
    folder.join("volumes").join("kubernetes.io~empty-dir").join(&volume.name)
}
