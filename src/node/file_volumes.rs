//! Volumes made of files: written when their Pod is prepared, and again when an object changes that they are made from.
//!
//! In the loop: the files are small and lie in memory, and so none is written after its Pod was given back.

use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::folders::Folders;
use super::pod_run::PodNumber;
use super::user_ids;
use super::worker::Worker;
use crate::container::IdRange;
use crate::events::{Kind, Note};
use crate::manifest::pod::{ObjectRef, Volume, VolumeKind};
use crate::manifest::{ObjectId, Pod, Uid};
use crate::pod::Event;
use crate::sys::remove_tree::remove_tree;
use crate::volume::{self, Files, Owner};

impl Worker {
    /// The files of a Pod's volumes, as they would be now.
    ///
    /// # Errors
    /// What they lack, in a sentence.
    fn files_of<'a>(&'a self, pod: &'a Pod) -> Result<Vec<(&'a Volume, Files<'a>)>, String> {
        let objects = |named: &ObjectRef| {
            let object = self.set.objects().get(&named.id_in(&pod.id.namespace))?;
            Some(&**object)
        };
        let node = || self.allocatable();
        let mut all = Vec::new();
        for volume in &pod.volumes {
            if let VolumeKind::Files { sources, default_mode, .. } = &volume.kind {
                let files = volume::contents(pod, sources, *default_mode, &objects, &node);
                all.push((volume, files.map_err(|why| format!("volume {}: {why}", volume.name))?));
            }
        }
        Ok(all)
    }

    /// Whether everything is there that the files of a Pod's volumes are made from.
    ///
    /// # Errors
    /// What is not, in a sentence.
    pub fn check_files(&self, pod: &Pod) -> Result<(), String> {
        self.files_of(pod).map(drop)
    }

    /// Writes what has changed of the files of a Pod's volumes.
    ///
    /// # Errors
    /// Why it could not, in a sentence.
    pub fn write_files(&self, pod: &Pod) -> Result<(), String> {
        let all = self.files_of(pod)?;
        if all.is_empty() {
            return Ok(());
        }
        let folders = &self.options.folders;
        let write = || {
            let ids = user_ids::of(folders, pod)?;
            volume::make_place_of_files(&folders.files())?;
            let folder = folders.files_of(&pod.uid);
            for (volume, files) in all {
                volume::write_files(volume, &folder, &files, owner(pod, ids))?;
            }
            Ok(())
        };
        write().map_err(|error: anyhow::Error| format!("{error:#}"))
    }

    /// Lets the Pods have it that use this object: those that wait for it, and those that show it already.
    pub fn tell_volumes_of(&mut self, id: &ObjectId) {
        for (number, run) in &self.pods {
            let pod = run.pod();
            let mut objects = pod.volumes.iter().flat_map(Volume::objects);
            if !objects.any(|object| object.id_in(&pod.id.namespace) == *id) {
                continue;
            }
            if run.machine.waits_to_be_prepared() {
                self.events.push_back((*number, Event::PrepareAgain));
            }
            if run.group.is_some() {
                self.stale_files.insert(*number);
            }
        }
    }

    /// Writes the files of one Pod anew: a thousand that use one object do not hold up the loop.
    pub fn renew_files(&mut self) {
        if let Some(number) = self.stale_files.first().copied() {
            self.renew_files_of(number);
        }
    }

    /// Writes the files of a Pod anew if something has changed that they are made from.
    pub fn renew_files_of(&mut self, number: PodNumber) {
        if !self.stale_files.remove(&number) {
            return;
        }
        // Without a cgroup it has been given back meanwhile.
        let Some(run) = self.pods.get(&number).filter(|run| run.group.is_some()) else { return };
        let pod = Arc::clone(run.pod());
        if let Err(message) = self.write_files(&pod) {
            log::warn!("{}: its files stay as they were: {message}", pod.id);
            self.record(number, vec![Note::new(Kind::Warning, "FailedMount", message)]);
        }
    }
}

/// Whose a Pod's volumes are, by the ids of its user namespace, if it has one.
pub fn owner(pod: &Pod, ids: Option<IdRange>) -> Owner {
    let first = ids.map_or(0, |ids| ids.first);
    // One that the namespace does not have keeps the Pod's containers from being started, and is said there.
    let fs_group = pod.fs_group.filter(|group| ids.is_none_or(|ids| *group < ids.size));
    Owner { user: first, fs_group: fs_group.map(|group| first + group) }
}

/// Removes the files of a Pod. No error if there are none.
pub fn remove_files(folders: &Folders, uid: &Uid) -> Result<()> {
    let place = match fs::File::open(folders.files()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        place => place.with_context(|| format!("open {}", folders.files().display()))?,
    };
    let name = uid.as_str().as_ref();
    remove_tree(place.as_fd(), name).with_context(|| format!("remove {}", folders.files_of(uid).display()))
}
