//! All that the store's records say at one moment, for those who decide what stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

use oci_spec::image::ImageManifest;

use super::artifact::{self, Form};
use super::ingest::LayerSpec;
use super::record::{BlobRecord, LayerRecord, ReferenceRecord, SourceRecord, read_record, read_small};
use super::store::names_in;
use super::{Digest, Error, Reference, Store, inherit};
use crate::order;

/// What is in the store.
pub(super) struct Inventory {
    pub(super) references: Vec<ReferenceRecord>,
    /// By image, the diff IDs of its layers, the one of its own folders too; an image whose configuration cannot be read has none.
    pub(super) images: BTreeMap<Digest, Vec<Digest>>,
    pub(super) layers: HashMap<Digest, LayerRecord>,
    pub(super) sources: Vec<SourceRecord>,
    /// Whether every record could be read. If not, nothing may be removed because nothing leads to it.
    pub(super) is_whole: bool,
}

impl Inventory {
    pub(super) fn read(store: &Store) -> Result<Inventory, Error> {
        let folders = store.folders();
        let mut layers = HashMap::new();
        let mut is_whole = true;
        for digest in digests_in(&folders.diffs)? {
            let record = read_record::<LayerRecord>(&store.layer_record(&digest))?;
            is_whole &= record.is_some();
            layers.extend(record.map(|record| (digest, record)));
        }
        let mut images = BTreeMap::new();
        for id in digests_in(&folders.configs)? {
            let diff_ids = store.diff_ids(&id);
            is_whole &= diff_ids.is_ok();
            images.insert(id, diff_ids.unwrap_or_default());
        }
        for (id, diff_ids) in &mut images {
            let key = inherit::key(id);
            diff_ids.extend(layers.contains_key(&key).then_some(key));
        }
        let mut sources = Vec::new();
        for name in names_in(&folders.sources)? {
            sources.extend(read_record::<SourceRecord>(&folders.sources.join(name))?);
        }
        let references = store.references()?;
        is_whole &= references.len() == names_in(&folders.refs)?.len();
        Ok(Inventory { references, images, layers, sources, is_whole })
    }

    /// Images without a reference too: a container may still run from one.
    pub(super) fn references_of(&self, id: &Digest) -> Vec<Reference> {
        let mut references: Vec<Reference> = self
            .references
            .iter()
            .filter(|record| record.id == *id)
            .map(|record| record.reference.clone())
            .collect();
        order::sort(&mut references);
        references
    }

    /// The images of the image folder: those that files brought which have not gone.
    pub(super) fn pinned(&self) -> BTreeSet<&Reference> {
        order::set(self.folder_sources().flat_map(|source| &source.references))
    }

    /// The file of the image folder that a reference came from, if it has not gone.
    pub(super) fn file_in_folder(&self, reference: &Reference) -> Option<&Path> {
        let mut sources = self.folder_sources();
        let source = sources.find(|source| source.references.contains(reference))?;
        Some(&source.path)
    }

    fn folder_sources(&self) -> impl Iterator<Item = &SourceRecord> {
        self.sources.iter().filter(|source| source.pinned && !source.is_gone())
    }

    /// How many images have each layer.
    pub(super) fn users(&self) -> HashMap<&Digest, usize> {
        let mut users = HashMap::new();
        for layers in self.images.values() {
            for layer in layers.iter().collect::<HashSet<_>>() {
                *users.entry(layer).or_default() += 1;
            }
        }
        users
    }

    /// What is known of a layer, so that it can be made again from its blob.
    pub(super) fn layer_spec(&self, store: &Store, diff_id: &Digest) -> Result<Option<LayerSpec>, Error> {
        for record in &self.references {
            let has_it = self.images.get(&record.id).is_some_and(|layers| layers.contains(diff_id));
            let Some(manifest) = store.manifest(record)?.filter(|_| has_it) else { continue };
            let mut layers = manifest.layers().iter().filter_map(|layer| artifact::layer(layer).ok()?);
            if let Some(layer) = layers.find(|layer| layer.diff_id == *diff_id) {
                return Ok(Some(layer));
            }
        }
        let blob = self.blob_of(store, diff_id)?;
        Ok(blob.map(|blob| LayerSpec { diff_id: diff_id.clone(), blob: Some(blob), form: Form::Tar }))
    }

    /// Digest and size of a layer's blob, from its record or from a manifest.
    fn blob_of(&self, store: &Store, diff_id: &Digest) -> Result<Option<(Digest, u64)>, Error> {
        let is_there = |blob: &&BlobRecord| store.blob_file(&blob.digest).exists();
        if let Some(blob) = self.layers.get(diff_id).and_then(|record| record.blobs().find(is_there)) {
            return Ok(Some((blob.digest.clone(), blob.size)));
        }
        for record in &self.references {
            let place = self.images.get(&record.id).and_then(|ids| ids.iter().position(|id| id == diff_id));
            let (Some(place), Some(manifest)) = (place, store.manifest(record)?) else { continue };
            let descriptor = manifest.layers().get(place);
            let digest = descriptor.and_then(|layer| layer.digest().to_string().parse().ok());
            if let (Some(layer), Some(digest)) = (descriptor, digest) {
                return Ok(Some((digest, layer.size())));
            }
        }
        Ok(None)
    }
}

impl Store {
    /// The manifest of a reference's image, if it has one that is whole.
    pub(super) fn manifest(&self, record: &ReferenceRecord) -> Result<Option<ImageManifest>, Error> {
        let Some(digest) = record.manifests.last() else { return Ok(None) };
        Ok(self.manifest_bytes(digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// A manifest or an index as it came, if it is there and whole.
    pub(super) fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        Ok(read_small(&self.manifest_file(digest))?.filter(|bytes| Digest::of(bytes) == *digest))
    }
}

/// The digests that files of a folder are named by, with or without `.json`.
pub(super) fn digests_in(folder: &Path) -> Result<Vec<Digest>, Error> {
    let name = |name: &OsString| {
        let name = name.to_str()?;
        format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
    };
    Ok(names_in(folder)?.iter().filter_map(name).collect())
}
