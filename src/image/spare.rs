//! Spare copies that are gone or damaged, brought back when a person asks for their image: afterwards `podkeep save` can write it.
//!
//! A layer that is there is not unpacked again for that: its blob is checked and kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::sync::PoisonError;

use super::artifact;
use super::digest::HashingReader;
use super::ingest::{Blob, LayerSpec, Writing};
use super::manifest::digest_of;
use super::record::{BlobRecord, LayerRecord};
use super::{Digest, Error, Reference, Store};

/// The blob of a layer that the store has, before it gets its place.
pub(super) struct Spare {
    pub(super) diff_id: Digest,
    pub(super) blob: Blob,
    pub(super) record: BlobRecord,
}

impl Store {
    /// Whether the blob is there and what its name says. Reads all of it.
    pub(super) fn has_blob(&self, digest: &Digest) -> io::Result<bool> {
        let file = match File::open(self.blob_file(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let (actual, _) = HashingReader::new(BufReader::with_capacity(1 << 17, file)).finish()?;
        Ok(actual == *digest)
    }

    /// Whether everything is there and whole that `reference`'s image came with: manifests and blobs. Reads all of it.
    pub(super) fn has_all_spares(&self, reference: &Reference) -> Result<bool, Error> {
        let Some(record) = self.record_of(reference)? else { return Ok(false) };
        for digest in &record.manifests {
            if self.manifest_bytes(digest)?.is_none() {
                return Ok(false);
            }
        }
        let Some(manifest) = self.manifest(&record)? else { return Ok(false) };
        for layer in manifest.layers().iter().filter(|layer| !artifact::is_nothing(layer)) {
            // One that cannot be read is none.
            if !self.has_blob(&digest_of(layer)?).unwrap_or(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a blob to make the layer from again: the one that is named, or any where none is.
    fn has_spare(&self, layer: &LayerSpec) -> Result<bool, Error> {
        let is_whole = |digest: &Digest| self.has_blob(digest).unwrap_or(false);
        if let Some((digest, _)) = &layer.blob {
            return Ok(is_whole(digest));
        }
        let record = self.layer(&layer.diff_id)?;
        Ok(record.is_some_and(|record| record.blobs().any(|blob| is_whole(&blob.digest))))
    }
}

impl Writing {
    /// Which of an image's blobs have to be brought although their layers are there or among `coming`. Nothing, where they are not wanted.
    pub(super) fn missing_spares(
        &self,
        layers: &[LayerSpec],
        coming: &[LayerSpec],
    ) -> Result<Vec<LayerSpec>, Error> {
        let mut missing: Vec<LayerSpec> = Vec::new();
        for layer in layers.iter().filter(|_| self.brings_spares) {
            let is_its_blob = |other: &LayerSpec| {
                other.diff_id == layer.diff_id && (layer.blob.is_none() || other.blob == layer.blob)
            };
            if !coming.iter().chain(&missing).any(is_its_blob) && !self.store.has_spare(layer)? {
                missing.push(layer.clone());
            }
        }
        Ok(missing)
    }

    pub(super) fn add_spare(&self, spare: Spare) {
        // Whoever panicked had changed all of it or nothing.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
    }

    /// Gives spare copies their places and names them in the records of their layers; returns those of layers that were there before.
    pub(super) fn place_spares(
        &self,
        brought: &mut HashMap<Digest, LayerRecord>,
    ) -> Result<HashMap<Digest, LayerRecord>, Error> {
        let mut changed: HashMap<Digest, LayerRecord> = HashMap::new();
        for Spare { diff_id, blob, record: spare } in
            self.spares.lock().unwrap_or_else(PoisonError::into_inner).drain(..)
        {
            if let Some(record) = brought.get_mut(&diff_id).or(changed.get_mut(&diff_id)) {
                record.add_blob(spare.clone());
            } else if let Some(mut record) = self.store.placed_layer(&diff_id)? {
                record.add_blob(spare.clone());
                changed.insert(diff_id, record);
            } else {
                // The layer went meanwhile.
                blob.throw_away()?;
                continue;
            }
            self.place_blob(blob, &spare.digest)?;
        }
        Ok(changed)
    }
}
