//! The manifests that ConfigMaps and Secrets were last read from, as they were: if one is broken, or cannot be read, when a new worker
//! comes, that has what it held.
//!
//! They lie in the tmpfs of files, for no disk may ever hold a Secret. So a reboot forgets them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::good_manifests::{forget, place};
use super::objects;
use super::state::{self, Durability};
use super::worker::Worker;
use crate::pod::set::{Origin, SetEvent, SourceId};
use crate::volume;

#[derive(Serialize, Deserialize)]
struct Saved {
    source: SourceId,
    file: PathBuf,
    text: String,
}

impl Worker {
    /// Keeps a manifest that holds objects, for the next worker.
    pub fn keep_objects(&self, origin: &Origin, manifest: &[u8]) {
        let folder = self.options.folders.files();
        let keep = || -> Result<()> {
            volume::make_place_of_files(&folder)?;
            let Origin { source, file } = origin.clone();
            let saved = Saved { source, file, text: str::from_utf8(manifest)?.to_owned() };
            Ok(state::save(&place(&folder, &origin.file), &saved, Durability::Memory)?)
        };
        if let Err(error) = keep() {
            let file = origin.file.display();
            log::warn!(
                "{file}: if it is broken later, a new worker will not have its ConfigMaps and Secrets: {error:#}"
            );
        }
    }

    /// There is no such manifest any more, or it holds none.
    pub fn forget_objects(&self, origin: &Origin) {
        if let Err(error) = forget(&self.options.folders.files(), &origin.file) {
            log::warn!("{error}");
        }
    }

    /// Forgets what is kept of files that went while nobody saw it; `event` lists those that are there.
    pub fn forget_objects_of_no_file(&self, event: &SetEvent) {
        let SetEvent::Listed { source: listed, files } = event else { return };
        for Saved { source, file, .. } in self.kept_objects() {
            if source == *listed && !files.contains(&file) {
                self.forget_objects(&Origin { source, file });
            }
        }
    }

    /// Where a file cannot be read, lets the set have what it held when the last worker read it.
    pub fn restore_objects(&mut self, event: &SetEvent) {
        if !matches!(event, SetEvent::FileBroken { .. } | SetEvent::Unlistable { .. }) {
            return;
        }
        for Saved { source, file, text } in self.kept_objects() {
            let origin = Origin { source, file };
            let is_lost = match event {
                SetEvent::FileBroken { origin: broken, .. } => *broken == origin,
                SetEvent::Unlistable { source } => *source == origin.source,
                _ => false,
            };
            if !is_lost || self.set.objects().has_any_of(&origin) {
                continue;
            }
            match objects::decode(&origin.file, text.as_bytes(), &self.options.node_name) {
                Ok(mut manifest) => {
                    objects::open_sealed(&mut manifest.objects, &self.options.folders.seal_key());
                    let objects = manifest.objects.into_iter().map(Arc::new).collect();
                    self.tell_set(SetEvent::ObjectsRestored { origin, objects });
                }
                // An older podkeep took it.
                Err(_) => log::warn!("{}: what it held last cannot be read either", origin.file.display()),
            }
        }
    }

    fn kept_objects(&self) -> Vec<Saved> {
        let Ok(entries) = fs::read_dir(self.options.folders.files()) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.filter_map(|path| state::load(&path).ok()).collect()
    }
}
