//! Checking everything in the store against what it was when it came, and mending what is damaged.
//!
//! A layer is made again from its blob or, where that is gone, from the file it came from. What only a registry could bring again is reported, and
//! missing from then on, so that the next pull brings it.

use std::collections::HashSet;
use std::fs::{self, File};

use super::artifact::Form;
use super::import::{Reason, import};
use super::ingest::{ImageSpec, LayerSpec};
use super::inventory::{Inventory, digests_in};
use super::listing;
use super::record::{LayerRecord, ReferenceRecord, read_small};
use super::store::names_in;
use super::{Digest, Error, Reference, Store, inherit};

/// Something that is not as it was when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The image or the file in the store.
    pub what: String,
    pub why: String,
    /// Whether it is whole again, or was a spare copy that is gone now.
    pub mended: bool,
}

/// More of one layer than anybody reads.
const MAX_DIFFERENCES: usize = 10;

impl Store {
    /// Reads everything in the store, and mends what it can. What is being brought meanwhile is not looked at.
    pub fn verify(&self) -> Result<Vec<Damage>, Error> {
        let mut damages = Vec::new();
        self.verify_records(&mut damages)?;
        self.verify_blobs(&mut damages)?;
        let inventory = Inventory::read(self)?;
        for (id, diff_ids) in &inventory.images {
            self.verify_image(&inventory, id, diff_ids, &mut damages)?;
        }
        self.verify_manifests(&inventory, &mut damages)?;
        for (diff_id, record) in &inventory.layers {
            let Some(mut why) = self.verify_layer(diff_id, record)? else {
                // What could not be read once can be read now.
                self.mark_damaged(diff_id, record, false)?;
                continue;
            };
            let mended = self.mend_layer(&inventory, diff_id).unwrap_or_else(|error| {
                why = format!("{why}; it could not be mended: {error}");
                false
            });
            if !mended {
                self.mark_damaged(diff_id, record, true)?;
            }
            damages.push(Damage { what: format!("layer {diff_id}"), why, mended });
        }
        Ok(damages)
    }

    /// Makes again what an image lacks. Returns whether it is whole now; what it was is not compared, see [`Store::verify`] for that.
    ///
    /// # Errors
    /// When there was something to make it from, and that did not work.
    pub fn mend(&self, reference: &Reference) -> Result<bool, Error> {
        let inventory = Inventory::read(self)?;
        let Some(id) = self.id_of(reference)? else { return Ok(false) };
        let diff_ids = self.diff_ids(&id).unwrap_or_default();
        for diff_id in &diff_ids {
            if self.layer(diff_id)?.is_none() {
                self.mend_layer(&inventory, diff_id)?;
            }
        }
        if self.load(reference.clone(), &id).is_err() {
            let specs = inventory.references.iter().filter(|record| record.id == id);
            for record in specs {
                self.import_again(&inventory, &record.reference, &HashSet::new())?;
            }
        }
        let layers = diff_ids.iter().map(|diff_id| self.layer(diff_id)).collect::<Result<Vec<_>, _>>()?;
        if self.load(reference.clone(), &id).is_err() && layers.iter().all(Option::is_some) {
            self.mend_folders(&inventory, &id)?;
        }
        Ok(self.load(reference.clone(), &id).is_ok())
    }

    /// Records that cannot be read name nothing: they are removed, and what they named is missing.
    fn verify_records(&self, damages: &mut Vec<Damage>) -> Result<(), Error> {
        let _lock = self.lock()?;
        let folders = self.folders();
        for folder in [&folders.refs, &folders.diffs, &folders.sources] {
            for name in names_in(folder)? {
                let path = folder.join(name);
                let bytes = read_small(&path)?.unwrap_or_default();
                if serde_json::from_slice::<serde_json::Value>(&bytes).is_err() {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                    let why = "the record cannot be read and was removed".to_owned();
                    damages.push(Damage { what: path.display().to_string(), why, mended: false });
                }
            }
        }
        Ok(())
    }

    /// A blob that is damaged is no spare copy any more.
    fn verify_blobs(&self, damages: &mut Vec<Damage>) -> Result<(), Error> {
        for digest in digests_in(&self.folders().blobs)? {
            let path = self.blob_file(&digest);
            let why = match self.has_blob(&digest) {
                Ok(true) => continue,
                // A clean-up was faster.
                Ok(false) if !path.exists() => continue,
                Ok(false) => "its content has another digest".to_owned(),
                Err(error) => format!("it cannot be read: {error}"),
            };
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            damages.push(Damage { what: format!("the spare copy {}", path.display()), why, mended: true });
        }
        Ok(())
    }

    /// What `podkeep save` gives out again.
    fn verify_manifests(&self, inventory: &Inventory, damages: &mut Vec<Damage>) -> Result<(), Error> {
        for record in &inventory.references {
            for digest in &record.manifests {
                if self.manifest_bytes(digest)?.is_some() {
                    continue;
                }
                let what = format!("{} ({})", record.reference, self.manifest_file(digest).display());
                let why = "it is missing or has another digest".to_owned();
                let mended = self.import_again(inventory, &record.reference, &HashSet::new())?
                    && self.manifest_bytes(digest)?.is_some();
                damages.push(Damage { what, why, mended });
            }
        }
        Ok(())
    }

    /// Its indexes and its manifest, as far as they are there.
    fn documents_of(&self, record: &ReferenceRecord) -> Result<Vec<Vec<u8>>, Error> {
        record.manifests.iter().filter_map(|digest| self.manifest_bytes(digest).transpose()).collect()
    }

    fn verify_image(
        &self,
        inventory: &Inventory,
        id: &Digest,
        diff_ids: &[Digest],
        damages: &mut Vec<Damage>,
    ) -> Result<(), Error> {
        let references = inventory.references_of(id);
        let what =
            references.first().map_or_else(|| id.to_string(), |reference| format!("{reference} ({id})"));
        if let Err(error) = self.diff_ids(id) {
            let mended = self.mend_references(&references)?;
            damages.push(Damage { what, why: error.to_string(), mended });
            return Ok(());
        }
        // Those that have a record are read later.
        for diff_id in diff_ids.iter().filter(|diff_id| !inventory.layers.contains_key(*diff_id)) {
            let mended = self.mend_layer(inventory, diff_id)?;
            damages.push(Damage { what: what.clone(), why: format!("layer {diff_id} is missing"), mended });
        }
        Ok(())
    }

    fn mend_references(&self, references: &[Reference]) -> Result<bool, Error> {
        for reference in references {
            if self.mend(reference)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// In words what is wrong with a layer.
    fn verify_layer(&self, diff_id: &Digest, record: &LayerRecord) -> Result<Option<String>, Error> {
        let (tree, lines) = (self.layers_dir().join(&record.dir), self.listing_file(diff_id));
        let Ok(root) = File::open(&tree) else { return Ok(Some(format!("{} is missing", tree.display()))) };
        let Ok(lines) = File::open(&lines) else { return Ok(Some("its listing is missing".to_owned())) };
        let differences = match listing::compare(&root.into(), &lines) {
            Ok(differences) if differences.is_empty() => return Ok(None),
            Ok(differences) => differences,
            Err((path, error)) => return Ok(Some(format!("{}: {error}", tree.join(path).display()))),
        };
        let shown = differences.iter().take(MAX_DIFFERENCES);
        let mut words: Vec<String> =
            shown.map(|one| format!("{} {}", one.path.display(), one.what)).collect();
        if differences.len() > MAX_DIFFERENCES {
            words.push(format!("and {} more", differences.len() - MAX_DIFFERENCES));
        }
        Ok(Some(words.join(", ")))
    }

    /// A damaged layer that nothing here can mend counts as missing: whoever brings the image next brings it too. Its folder stays, since a
    /// container may run on it.
    fn mark_damaged(&self, diff_id: &Digest, record: &LayerRecord, is_damaged: bool) -> Result<(), Error> {
        if record.is_damaged == is_damaged {
            return Ok(());
        }
        let lock = self.lock()?;
        match self.placed_layer(diff_id)? {
            Some(current) if current == *record => {
                self.put_layer_record(&lock, diff_id, &LayerRecord { is_damaged, ..current })
            }
            // Somebody has brought it meanwhile.
            _ => Ok(()),
        }
    }

    /// Makes a layer again. A container that runs on the old one keeps it.
    fn mend_layer(&self, inventory: &Inventory, diff_id: &Digest) -> Result<bool, Error> {
        let folders_of = inventory.images.keys().find(|id| inherit::key(id) == *diff_id);
        if let Some(id) = folders_of {
            return self.mend_folders(inventory, id);
        }
        if let Some(layer) = inventory.layer_spec(self, diff_id)?
            && let Some((blob, _)) = &layer.blob
            && let Ok(file) = File::open(self.blob_file(blob))
        {
            let writing = self.begin()?.replacing([diff_id.clone()]);
            writing.layer(&layer, file)?;
            writing.finish(Vec::new(), None)?;
            return Ok(true);
        }
        let users = inventory.images.iter().filter(|(_, layers)| layers.contains(diff_id));
        for reference in users.flat_map(|(id, _)| inventory.references_of(id)) {
            if self.import_again(inventory, &reference, &HashSet::from([diff_id.clone()]))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The uppermost layer is made from those below it.
    fn mend_folders(&self, inventory: &Inventory, id: &Digest) -> Result<bool, Error> {
        let records = inventory.references.iter().filter(|record| record.id == *id).collect::<Vec<_>>();
        let Some(image) = self.spec_of(&records)? else { return Ok(false) };
        let writing = self.begin()?.replacing([inherit::key(id)]);
        writing.finish(vec![image], None)?;
        Ok(true)
    }

    /// An image of the store as if it were taken in again.
    fn spec_of(&self, records: &[&ReferenceRecord]) -> Result<Option<ImageSpec>, Error> {
        let Some(first) = records.first() else { return Ok(None) };
        let Some(config) = read_small(&self.config_file(&first.id))? else { return Ok(None) };
        let layers = self.diff_ids(&first.id)?.into_iter();
        let layers = layers.map(|diff_id| LayerSpec { diff_id, blob: None, form: Form::Tar });
        Ok(Some(ImageSpec {
            references: records.iter().map(|record| record.reference.clone()).collect(),
            manifests: first.manifests.clone(),
            documents: self.documents_of(first)?,
            id: first.id.clone(),
            config,
            layers: layers.collect(),
        }))
    }

    /// Reads the file again that a reference came from, if that is still there.
    fn import_again(
        &self,
        inventory: &Inventory,
        reference: &Reference,
        replacing: &HashSet<Digest>,
    ) -> Result<bool, Error> {
        let mut sources = inventory.sources.iter().filter(|source| source.references.contains(reference));
        let Some(source) = sources.find(|source| source.path.exists()) else { return Ok(false) };
        import(self, &source.path, Reason::Mending { pinned: source.pinned, replacing }, &|_| ())?;
        Ok(true)
    }
}
