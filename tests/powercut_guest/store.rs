//! The store as it lies on the disk after a cut, before podkeep has seen it: whatever a name leads to is whole.
//!
//! This knows the store's layout (`src/image/store.rs`), so that podkeep's own eyes are not what is trusted.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::images::{self, MadeLayer};
use super::listing::Listing;
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

    /// What is damaged: records that cannot be read, and files of layers that are not what they were made as.
    pub fn damage(&self, notes: &Notes) -> Vec<String> {
        let layers = match self.layers() {
            Ok(layers) => layers,
            Err(damage) => return vec![damage],
        };
        let made = made_layers(notes);
        let mut damage = Vec::new();
        for (diff_id, folder) in layers {
            let found = Listing::of(&folder);
            match expected(&diff_id, &made) {
                Some(expected) => {
                    let differences = expected.differences(&found).into_iter();
                    damage.extend(differences.map(|line| format!("{}: {line}", folder.display())));
                }
                None => damage.push(format!("nobody has loaded layer {diff_id}")),
            }
        }
        for kind in ["refs", "sources"] {
            damage.extend(self.records(kind).err());
        }
        damage
    }

    /// What a crash left behind and podkeep has to clear away.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let known: HashSet<PathBuf> = self.layers().unwrap().into_values().collect();
        let mut found = entries(&self.0.join("layers"));
        found.retain(|path| !known.contains(path));
        found.extend(entries(&self.0.join("tmp")));
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

/// Every layer of every image that somebody began to load.
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

fn stem(path: &Path) -> String {
    path.file_stem().expect("a file").to_string_lossy().into_owned()
}
