//! What a container's mounts show on this node.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folders::{Folders, LAST_WORDS};
use super::name_files;
use super::pod_run::ContainerRun;
use super::user_ids;
use crate::container::{Bind, Environment, ImageVolume, SubPath, expanded_sub_path};
use crate::manifest::pod::{self, Access, Volume, VolumeKind, VolumeMount};
use crate::manifest::{Container, Pod};
use crate::volume;

/// The container's volumes, the files of names, and the file of its last words, where it wants them.
pub fn binds(
    pod: &Pod,
    container: &Container,
    sub_paths: &[SubPath],
    folders: &Folders,
    attempt: u32,
    layers_dir: &Path,
) -> Vec<Bind> {
    let bind = |mount: &VolumeMount| {
        let volume = volume_of(pod, mount)?;
        let part = sub_paths.iter().find(|part| part.destination == Path::new(&mount.mount_path));
        Some(Bind {
            source: match part {
                Some(part) => part.volume.join(&part.path),
                // Of an image the plan shows the layers: `image_volumes`.
                None => on_host(volume, pod, folders).unwrap_or_else(|| layers_dir.to_owned()),
            },
            access: match (mount.access, &volume.kind) {
                (Access::ReadWrite, VolumeKind::Image { .. } | VolumeKind::Files { .. }) => Access::ReadOnly,
                (access, _) => access,
            },
            propagation: mount.propagation,
            mapped: !pod.host_users && matches!(volume.kind, VolumeKind::HostPath { .. }),
            ..Bind::new(PathBuf::new(), &mount.mount_path)
        })
    };
    let last_words = folders.container_run(&pod.uid, &container.name, attempt).join(LAST_WORDS);
    let last_words = Bind::new(last_words, &container.termination_message.path);
    let mut binds: Vec<Bind> = container.mounts.iter().filter_map(bind).collect();
    binds.extend(name_files::binds(pod, container, folders, &binds));
    // Behind the others: over what one of them has at its place.
    binds.push(last_words);
    binds
}

/// The images that are mounted as volumes, as they were found for this start.
pub fn image_volumes(pod: &Pod, container: &Container, run: &ContainerRun) -> Result<Vec<ImageVolume>> {
    let mut volumes = Vec::new();
    for mount in &container.mounts {
        let Some(place) = pod.volumes.iter().position(|volume| volume.name == mount.volume) else { continue };
        if let VolumeKind::Image { reference, .. } = &pod.volumes[place].kind {
            let image = run.volumes.get(&place);
            let image =
                image.with_context(|| format!("volume {}: image {reference} is gone", mount.volume))?;
            volumes.push(ImageVolume {
                destination: mount.mount_path.clone().into(),
                lower: image.layers.clone(),
            });
        }
    }
    Ok(volumes)
}

/// Which mounts show a part of their volume, and what that is with these variables.
///
/// # Errors
/// When it cannot be told: a variable is missing, or leads out of the volume.
pub fn sub_paths(
    pod: &Pod,
    container: &Container,
    environment: &Environment,
    folders: &Folders,
) -> Result<Vec<SubPath>> {
    let mut sub_paths = Vec::new();
    for mount in &container.mounts {
        let (Some(written), Some(volume)) = (&mount.sub_path, volume_of(pod, mount)) else { continue };
        let path = expanded(mount, written, environment)?;
        if path.is_empty() {
            continue;
        }
        sub_paths.push(SubPath {
            destination: mount.mount_path.clone().into(),
            // Of an image, it is found in its layers.
            volume: on_host(volume, pod, folders).unwrap_or_else(|| "/".into()),
            path,
            owner: owner(volume, pod, folders)?,
        });
    }
    Ok(sub_paths)
}

/// What [`sub_paths`] would find wrong with these variables.
pub fn check_sub_paths(container: &Container, environment: &Environment) -> Result<()> {
    let mut written = container.mounts.iter().filter_map(|mount| Some((mount, mount.sub_path.as_ref()?)));
    written.try_for_each(|(mount, written)| expanded(mount, written, environment).map(drop))
}

fn expanded(mount: &VolumeMount, written: &pod::SubPath, environment: &Environment) -> Result<String> {
    expanded_sub_path(written, environment).with_context(|| format!("volumeMount {}", mount.mount_path))
}

/// Whose the folders are that are made in a volume: the Pod's root's in its own, the host's in the host's, which a user
/// namespace shows as the Pod's. Nothing is made in files that podkeep writes, nor in images.
fn owner(volume: &Volume, pod: &Pod, folders: &Folders) -> Result<Option<u32>> {
    Ok(match volume.kind {
        VolumeKind::EmptyDir { .. } => Some(user_ids::of(folders, pod)?.map_or(0, |ids| ids.first)),
        VolumeKind::HostPath { .. } => Some(0),
        VolumeKind::Files { .. } | VolumeKind::Image { .. } => None,
    })
}

fn volume_of<'p>(pod: &'p Pod, mount: &VolumeMount) -> Option<&'p Volume> {
    pod.volumes.iter().find(|volume| volume.name == mount.volume)
}

fn on_host(volume: &Volume, pod: &Pod, folders: &Folders) -> Option<PathBuf> {
    volume::host_source(volume, &folders.pod(&pod.uid), &folders.files_of(&pod.uid))
}
