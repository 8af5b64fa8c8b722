//! The store as it lies on the disk after a cut, before podkeep has seen it: whatever a name leads to is whole.
//!
//! This knows the store's layout (`src/image/store.rs`), so that podkeep's own eyes are not what is trusted.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::images::{self, MadeLayer};
use super::listing::{Listing, digest};
use super::notes::Notes;

/// Listings of the layers of the sample images, by diff ID.
pub const LISTINGS: &str = "/var/lib/powercut-listings";

pub struct StoreFolder(pub PathBuf);

impl StoreFolder {
    /// Keeps what every layer holds, for the boots to come.
    pub fn keep_listings(&self) {
        fs::create_dir_all(LISTINGS).unwrap();
        for (diff_id, folder) in self.layers().unwrap() {
            let listing = serde_json::to_vec(&Listing::of(&folder)).unwrap();
            fs::write(Path::new(LISTINGS).join(diff_id), listing).unwrap();
        }
    }

    /// What is damaged: files of layers that are not what they were made as, blobs and documents that are not what their names
    /// say, records that cannot be read, and names that lead to what is not there.
    ///
    /// Nobody promises that parts of downloads or times of uses are whole.
    pub fn damage(&self, notes: &Notes) -> Vec<String> {
        let sources = self.records("sources").map(|_| Vec::new());
        let found = [self.damaged_layers(notes), self.damaged_documents(), sources];
        found.into_iter().flat_map(|found| found.unwrap_or_else(|damage| vec![damage])).collect()
    }

    fn damaged_layers(&self, notes: &Notes) -> Result<Vec<String>, String> {
        let made = made_layers(notes);
        let mut damage = Vec::new();
        for (diff_id, folder) in self.layers()? {
            let found = Listing::of(&folder);
            match expected(&diff_id, &made) {
                Some(expected) => {
                    let differences = expected.differences(&found).into_iter();
                    damage.extend(differences.map(|line| format!("{}: {line}", folder.display())));
                }
                None => damage.push(format!("nobody has brought layer {diff_id}")),
            }
        }
        for (diff_id, record) in self.records("diffs")? {
            let blob = record["blob"]["digest"].as_str().map(|blob| format!("blobs/{}", hex(blob)));
            let needed = blob.into_iter().chain([format!("listings/{diff_id}")]);
            let missing = needed.filter(|name| !self.0.join(name).exists());
            damage.extend(missing.map(|name| format!("layer {diff_id} lacks {name}")));
        }
        Ok(damage)
    }

    /// Of blobs, manifests and configurations, and of references that do not lead to all of them.
    fn damaged_documents(&self) -> Result<Vec<String>, String> {
        let mut damage = Vec::new();
        for path in ["blobs", "manifests", "configs"].into_iter().flat_map(|kind| entries(&self.0.join(kind)))
        {
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            if digest(&bytes) != stem(&path) {
                damage.push(format!("{} ({} bytes) has another digest", path.display(), bytes.len()));
            }
        }
        let layers = self.layers()?;
        for (_, record) in self.records("refs")? {
            let config = self.0.join(format!("configs/{}.json", hex(&text(&record["id"]))));
            let diff_ids = whole_json(&config)?["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
            let lacks = |what: &str| format!("a reference lacks {what}: {record}");
            let missing = diff_ids.iter().map(text).filter(|diff_id| !layers.contains_key(hex(diff_id)));
            damage.extend(missing.map(|diff_id| lacks(&diff_id)));
            let manifest = record["manifests"].as_array().and_then(|manifests| manifests.last()).map(text);
            let manifest = manifest.map(|digest| format!("manifests/{}.json", hex(&digest)));
            damage.extend(manifest.filter(|name| !self.0.join(name).exists()).map(|name| lacks(&name)));
        }
        Ok(damage)
    }

    /// What a crash left behind and podkeep has to clear away.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let known: HashSet<PathBuf> = self.layers().unwrap().into_values().collect();
        let mut found = entries(&self.0.join("layers"));
        // What lies below every image is of none.
        found.retain(|path| !known.contains(path) && !path.ends_with("mount-points"));
        found.extend(entries(&self.0.join("tmp")));
        let records = self.records("diffs").unwrap();
        let is_blob = |name: &str| {
            let digest = |record: &Value| {
                record["blob"]["digest"].as_str().map(|digest| digest == format!("sha256:{name}"))
            };
            records.iter().any(|(_, record)| digest(record) == Some(true))
        };
        let is_layer = |name: &str| records.iter().any(|(diff_id, _)| diff_id == name);
        found.extend(entries(&self.0.join("blobs")).into_iter().filter(|path| !is_blob(&stem(path))));
        found.extend(entries(&self.0.join("listings")).into_iter().filter(|path| !is_layer(&stem(path))));
        found
    }

    /// The folder of every layer that has a record, by diff ID.
    fn layers(&self) -> Result<HashMap<String, PathBuf>, String> {
        let mut layers = HashMap::new();
        for (diff_id, record) in self.records("diffs")? {
            let folder = self.0.join("layers").join(record["dir"].as_str().unwrap_or_default());
            if !folder.is_dir() || record["dir"] == "" {
                return Err(format!("layer {diff_id} has no folder: {record}"));
            }
            layers.insert(diff_id, folder);
        }
        Ok(layers)
    }

    fn records(&self, kind: &str) -> Result<Vec<(String, Value)>, String> {
        entries(&self.0.join(kind)).iter().map(|path| Ok((stem(path), whole_json(path)?))).collect()
    }
}

/// Every layer of every image that somebody began to bring.
fn made_layers(notes: &Notes) -> HashMap<String, MadeLayer> {
    let layers = notes.begun.iter().flat_map(|number| images::make(*number).layers);
    layers.map(|layer| (layer.diff_id.clone(), layer)).collect()
}

fn expected(diff_id: &str, made: &HashMap<String, MadeLayer>) -> Option<Listing> {
    if let Some(layer) = made.get(diff_id) {
        return Some(layer.listing.clone());
    }
    let kept = fs::read(Path::new(LISTINGS).join(diff_id)).ok()?;
    Some(serde_json::from_slice(&kept).expect("synced long ago"))
}

/// A file that podkeep wrote to survive: whole, or else what is wrong with it.
pub fn whole_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} ({} bytes): {error}", path.display(), bytes.len()))
}

/// Nothing where there is no such folder.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Of a digest.
fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string, as podkeep writes it").to_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a file").to_string_lossy().into_owned()
}
