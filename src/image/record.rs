//! The store's records: small JSON files, written together so that a power cut leaves all of what they name whole, or none.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::limits::MAX_JSON;
use super::stamp::Stamp;
use super::store::names_in;
use super::{Digest, Error, Reference};

/// `refs/<hash>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReferenceRecord {
    pub(super) reference: Reference,
    /// The digest of the configuration.
    pub(super) id: Digest,
    /// The digests under which a reference may ask for this image: those of the indexes it was chosen from, its manifest's last.
    #[serde(default)]
    pub(super) manifests: Vec<Digest>,
}

impl ReferenceRecord {
    /// Whether a reference that a manifest or a person writes means this one: by its tag, or by a digest in the same repository.
    pub(super) fn is_named_by(&self, reference: &Reference) -> bool {
        match reference.digest() {
            None => self.reference == *reference,
            Some(digest) => {
                self.reference.repository() == reference.repository() && self.manifests.contains(digest)
            }
        }
    }
}

/// `diffs/<hex>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// The folder in `layers`.
    pub(super) dir: String,
    /// Bytes of its files.
    pub(super) size: u64,
    /// The blob it came as, whether or not that is kept.
    #[serde(default)]
    pub(super) blob: Option<BlobRecord>,
    /// What it is in other images, which have it compressed in another way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) other_blobs: Vec<BlobRecord>,
    /// Whether it and the layers around it do not agree by themselves on a folder's attributes ([`super::inherit`]).
    #[serde(default)]
    pub(super) inherits: bool,
    /// Found damaged, with nothing there to mend it from: as good as missing, but for a container that runs on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_damaged: bool,
    /// Folders that it had before it was mended, and that containers may still have mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaced: Vec<String>,
}

impl LayerRecord {
    /// Of a layer that came from nowhere and has no files.
    pub(super) fn of_folders(dir: String, replaced: Vec<String>) -> LayerRecord {
        let other_blobs = Vec::new();
        LayerRecord { dir, size: 0, blob: None, other_blobs, inherits: false, is_damaged: false, replaced }
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = &BlobRecord> {
        self.blob.iter().chain(&self.other_blobs)
    }

    pub(super) fn add_blob(&mut self, blob: BlobRecord) {
        if self.blobs().all(|known| *known != blob) {
            self.other_blobs.push(blob);
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A layer's blob: as a rule a compressed tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRecord {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// `sources/<hash>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SourceRecord {
    pub(super) path: PathBuf,
    /// Whether it lies in the image folder: its images stay until it is seen that it does not.
    pub(super) pinned: bool,
    pub(super) stamp: Stamp,
    pub(super) references: Vec<Reference>,
}

impl SourceRecord {
    /// Whether its folder can be listed, and it is not in it. One that is not mounted, or whose disk fails, says nothing.
    pub(super) fn is_gone(&self) -> bool {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return false };
        names_in(folder).is_ok_and(|names| !names.iter().any(|other| other == name))
    }
}

/// Files that get their names together. Nothing has changed before [`Batch::commit`].
pub(super) struct Batch<'a> {
    /// On the store's file system, and nobody else's.
    aside: &'a Path,
    written: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(aside: &'a Path) -> Batch<'a> {
        Batch { aside, written: Vec::new() }
    }

    /// Writes a file that is to get the name `place`.
    pub(super) fn put(&mut self, place: PathBuf, bytes: &[u8]) -> Result<(), Error> {
        let aside = self.aside.join(format!("record-{}", self.written.len()));
        fs::write(&aside, bytes).map_err(Error::io("write", &aside))?;
        self.written.push((aside, place));
        Ok(())
    }

    pub(super) fn put_record(&mut self, place: PathBuf, record: &impl Serialize) -> Result<(), Error> {
        let json = |source| Error::Json { what: place.display().to_string(), source };
        let bytes = serde_json::to_vec_pretty(record).map_err(json)?;
        self.put(place, &bytes)
    }

    /// Syncs the file system once, then gives the names in order: what lies in one folder is named, for good, before the next folder's is.
    pub(super) fn commit(self) -> Result<(), Error> {
        sync_file_system(self.aside)?;
        let mut folder: Option<&Path> = None;
        for (aside, place) in &self.written {
            let parent = place.parent();
            if let Some(done) = folder.filter(|folder| Some(*folder) != parent) {
                sync_dir(done)?;
            }
            fs::rename(aside, place).map_err(Error::io("rename to", place))?;
            folder = parent;
        }
        folder.map_or(Ok(()), sync_dir)
    }
}

/// Once for thousands of files: a sync for each would take minutes.
pub(super) fn sync_file_system(of: &Path) -> Result<(), Error> {
    let folder = File::open(of).map_err(Error::io("open", of))?;
    rustix::fs::syncfs(&folder).map_err(Error::io("sync the file system of", of))
}

/// Renames in a folder last only once the folder is synced.
pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

/// `None` where there is no such record, and where it cannot be read: what it named is taken in again then.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    Ok(read_small(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// `None` where there is no such file.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(Some(bytes))
}
