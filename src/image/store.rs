//! The images on disk: whole or absent, whatever dies in between.
//!
//! | below the store's folder | what |
//! |---|---|
//! | `layers/<short>/` | one unpacked layer; a base-36 number as name, so that 120 fit into one mount option |
//! | `diffs/<hex>.json` | which folder holds the layer with this diff ID, and how many bytes its files have |
//! | `configs/<hex>.json` | an image's configuration, byte for byte; its digest is the image's ID |
//! | `refs/<hash>.json` | one reference and the image it names; written last |
//! | `sources/<hash>.json` | which file or layout was imported, so that it is not read again |
//! | `tmp/` | what is being written; emptied when nobody writes |
//! | `lock` | held by `flock` while something is written |

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::limits::MAX_JSON;
use super::{Config, Digest, Error, Image, ImageSummary, Imported, Reference, import, lookup};
use crate::sys::remove_tree::remove_tree;

/// The images of a node. Cheap to clone; several threads and processes may use one folder at a time.
#[derive(Clone, Debug)]
pub struct Store {
    folders: Arc<Folders>,
}

#[derive(Debug)]
struct Folders {
    root: PathBuf,
    layers: PathBuf,
    diffs: PathBuf,
    configs: PathBuf,
    refs: PathBuf,
    sources: PathBuf,
    tmp: PathBuf,
}

/// `refs/<hash>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct ReferenceRecord {
    reference: Reference,
    /// The digest of the configuration.
    id: Digest,
    /// The digests under which a reference may ask for this image: its manifest's and those of the indexes above it.
    #[serde(default)]
    manifests: Vec<Digest>,
}

/// `diffs/<hex>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// The folder in `layers`.
    pub(super) dir: String,
    /// Bytes of its files.
    pub(super) size: u64,
}

/// `sources/<hash>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct SourceRecord {
    stamp: Stamp,
    references: Vec<Reference>,
}

/// What changes when a file is written again or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of the content.
    modified: (i64, i64),
}

impl Stamp {
    /// Of the archive itself, or of a layout's `index.json`, which every tool replaces when it adds an image.
    pub(super) fn of(source: &Path) -> io::Result<Stamp> {
        let file = if source.is_dir() { source.join("index.json") } else { source.to_owned() };
        let meta = fs::metadata(file)?;
        Ok(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// An image whose layers and configuration are in the store, about to get its reference.
pub(super) struct Named {
    pub(super) reference: Reference,
    pub(super) id: Digest,
    pub(super) manifests: Vec<Digest>,
}

impl Store {
    /// Opens the store in `dir`, makes what is missing of it, and removes what a crash left behind.
    pub fn open(dir: &Path) -> Result<Store, Error> {
        let below = |name: &str| dir.join(name);
        let folders = Folders {
            root: dir.to_owned(),
            layers: below("layers"),
            diffs: below("diffs"),
            configs: below("configs"),
            refs: below("refs"),
            sources: below("sources"),
            tmp: below("tmp"),
        };
        for folder in folders.all() {
            // Closed to others: layers hold set-user-ID programs of any age, which no user of the host may run.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(Error::io("create", folder))?;
        }
        let store = Store { folders: Arc::new(folders) };
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Brings the images of an OCI layout (a folder), an OCI archive or a docker-archive into the store.
    ///
    /// Archives may be compressed with gzip or zstd. Every image of the source is imported for this machine's platform, or none is.
    /// Blocks for as long as reading, unpacking and syncing take; waits while another process imports.
    pub fn import(&self, source: &Path) -> Result<Vec<Imported>, Error> {
        import::import(self, source)
            .map_err(|cause| Error::Import { path: source.to_owned(), source: Box::new(cause) })
    }

    /// Whether `source` was imported as it is now and what it brought is still there. Reads no more than two small files.
    pub fn is_imported(&self, source: &Path) -> Result<bool, Error> {
        let stamp = Stamp::of(source).map_err(Error::io("examine", source))?;
        let Some(record) = read_record::<SourceRecord>(&self.source_record(source))? else {
            return Ok(false);
        };
        let all_there = record.references.iter().all(|reference| self.reference_record(reference).exists());
        Ok(record.stamp == stamp && all_there)
    }

    /// The image that `reference` names, or `None` where the store does not have it.
    ///
    /// A reference with a digest finds an image of the same repository whose manifest (or index) has that digest, whatever its tag.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        let record = match reference.digest() {
            None => read_record(&self.reference_record(reference))?,
            Some(digest) => self.records()?.into_iter().find(|record| {
                record.reference.repository() == reference.repository() && record.manifests.contains(digest)
            }),
        };
        record.map(|record| self.load(reference.clone(), &record.id)).transpose()
    }

    /// Every image of the store, by its first reference.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        let mut references = BTreeMap::<Digest, Vec<Reference>>::new();
        for record in self.records()? {
            references.entry(record.id).or_default().push(record.reference);
        }
        let mut images = Vec::new();
        for (id, mut references) in references {
            references.sort();
            images.push(self.summary(id, references)?);
        }
        images.sort_by(|a, b| a.references.cmp(&b.references));
        Ok(images)
    }

    /// The folder that [`Image::layers`] are names in.
    pub fn layers_dir(&self) -> &Path {
        &self.folders.layers
    }

    /// The folder that a completed import ends in, with one rename for each reference.
    pub fn refs_dir(&self) -> &Path {
        &self.folders.refs
    }

    /// The content of a file of the image, looked up through its layers as the kernel's overlay would, symlinks resolved inside the image.
    ///
    /// `None` where there is no regular file of that name. A file longer than `limit` bytes is an error.
    pub fn read_file(&self, image: &Image, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        lookup::read_file(&self.folders.layers, &image.layers, Path::new(path), limit)
    }

    /// Waits until nobody else writes to the store; writing ends when the file is dropped.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let file = self.open_lock()?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(Error::io("lock", &self.folders.root))?;
        Ok(file)
    }

    pub(super) fn tmp_dir(&self) -> &Path {
        &self.folders.tmp
    }

    /// The layer with this diff ID, if it is there and its folder too.
    pub(super) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, Error> {
        let record: Option<LayerRecord> = read_record(&self.layer_record(diff_id))?;
        Ok(record
            .filter(|record| is_short_name(&record.dir) && self.folders.layers.join(&record.dir).is_dir()))
    }

    /// Moves an unpacked and synced layer from `tmp` to its place. The caller holds the lock.
    pub(super) fn add_layer(&self, unpacked: &Path, diff_id: &Digest, size: u64) -> Result<(), Error> {
        let dir = self.next_short_name()?;
        let place = self.folders.layers.join(&dir);
        fs::rename(unpacked, &place).map_err(Error::io("move a layer to", &place))?;
        sync_dir(&self.folders.layers)?;
        self.write_record(&self.layer_record(diff_id), &LayerRecord { dir, size })
    }

    /// Keeps an image's configuration. The caller holds the lock.
    pub(super) fn add_config(&self, id: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.write(&self.config_file(id), bytes)
    }

    /// Gives an image that is whole in the store its reference. The caller holds the lock.
    pub(super) fn add_reference(&self, named: Named) -> Result<(), Error> {
        let Named { reference, id, manifests } = named;
        self.write_record(&self.reference_record(&reference), &ReferenceRecord { reference, id, manifests })
    }

    /// Remembers that `source` was imported when it had this `stamp`. The caller holds the lock.
    pub(super) fn remember(
        &self,
        source: &Path,
        stamp: Stamp,
        references: Vec<Reference>,
    ) -> Result<(), Error> {
        self.write_record(&self.source_record(source), &SourceRecord { stamp, references })
    }

    /// The image of this id, whatever its reference names by now.
    ///
    /// # Errors
    /// When it is not there any more, or cannot be read.
    pub fn load(&self, reference: Reference, id: &Digest) -> Result<Image, Error> {
        let configuration = self.configuration(id)?;
        let mut layers = Vec::new();
        for diff_id in configuration.rootfs().diff_ids() {
            let dir = self.stored_layer(id, &diff_id.parse()?)?.dir;
            // Overlayfs refuses a folder that is given twice (ELOOP). The upper one hides the lower one wholly.
            layers.retain(|lower| *lower != dir);
            // Nor does it look at the mark on a layer's own root.
            if lookup::is_opaque_layer(&self.folders.layers.join(&dir)) {
                layers.clear();
            }
            layers.push(dir);
        }
        Ok(Image { reference, id: id.clone(), config: Config::from_oci(&configuration), layers })
    }

    fn summary(&self, id: Digest, references: Vec<Reference>) -> Result<ImageSummary, Error> {
        let configuration = self.configuration(&id)?;
        let created = configuration.created().as_deref().and_then(|text| text.parse().ok());
        let mut size = 0;
        for diff_id in configuration.rootfs().diff_ids() {
            size += self.stored_layer(&id, &diff_id.parse()?)?.size;
        }
        Ok(ImageSummary { references, id, created, size, layers: configuration.rootfs().diff_ids().len() })
    }

    /// Checked again on every reading: it is small, and what it says is run as root.
    fn configuration(&self, id: &Digest) -> Result<ImageConfiguration, Error> {
        let path = self.config_file(id);
        let damaged = |reason: String| Error::Damaged { image: id.clone(), path: path.clone(), reason };
        let bytes = read_small(&path)?.ok_or_else(|| damaged("it is missing".into()))?;
        if Digest::of(&bytes) != *id {
            return Err(damaged("its digest is another".into()));
        }
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
    }

    fn stored_layer(&self, image: &Digest, diff_id: &Digest) -> Result<LayerRecord, Error> {
        self.layer(diff_id)?.ok_or_else(|| Error::Damaged {
            image: image.clone(),
            path: self.layer_record(diff_id),
            reason: "the layer is missing".into(),
        })
    }

    fn records(&self) -> Result<Vec<ReferenceRecord>, Error> {
        let refs = &self.folders.refs;
        let mut records = Vec::new();
        for entry in fs::read_dir(refs).map_err(Error::io("list", refs))? {
            let path = entry.map_err(Error::io("list", refs))?.path();
            // `None` if it was removed since it was listed.
            records.extend(read_record(&path)?);
        }
        Ok(records)
    }

    /// One more than the highest number in use: a name that was in use a moment ago may still be in somebody's list.
    fn next_short_name(&self) -> Result<String, Error> {
        let layers = &self.folders.layers;
        let mut highest = 0;
        for entry in fs::read_dir(layers).map_err(Error::io("list", layers))? {
            let name = entry.map_err(Error::io("list", layers))?.file_name();
            let number = name.to_str().and_then(|name| u32::from_str_radix(name, 36).ok());
            highest = highest.max(number.unwrap_or(0));
        }
        Ok(base36(highest.saturating_add(1)))
    }

    /// Empties `tmp`, unless somebody is writing there now.
    fn remove_leftovers(&self) -> Result<(), Error> {
        let lock = self.open_lock()?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        self.empty_tmp()?;
        self.move_orphans()?;
        self.empty_tmp()
    }

    /// A crash between the two steps of [`Store::add_layer`] leaves a folder that no record names, so no image either.
    fn move_orphans(&self) -> Result<(), Error> {
        let Folders { layers, diffs, tmp, .. } = &*self.folders;
        let mut known = HashSet::new();
        for entry in fs::read_dir(diffs).map_err(Error::io("list", diffs))? {
            let path = entry.map_err(Error::io("list", diffs))?.path();
            known.extend(read_record::<LayerRecord>(&path)?.map(|record| OsString::from(record.dir)));
        }
        for entry in fs::read_dir(layers).map_err(Error::io("list", layers))? {
            let name = entry.map_err(Error::io("list", layers))?.file_name();
            if !known.contains(&name) {
                let (orphan, aside) = (layers.join(&name), tmp.join(&name));
                fs::rename(&orphan, &aside).map_err(Error::io("move away", &orphan))?;
            }
        }
        Ok(())
    }

    /// The caller holds the lock: what lies in `tmp` is nobody else's.
    pub(super) fn empty_tmp(&self) -> Result<(), Error> {
        let tmp = &self.folders.tmp;
        let dir = File::open(tmp).map_err(Error::io("open", tmp))?;
        for entry in fs::read_dir(tmp).map_err(Error::io("list", tmp))? {
            let name = entry.map_err(Error::io("list", tmp))?.file_name();
            remove_tree(dir.as_fd(), &name).map_err(Error::io("remove leftovers from", tmp))?;
        }
        Ok(())
    }

    fn open_lock(&self) -> Result<File, Error> {
        let path = self.folders.root.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(&path).map_err(Error::io("open", &path))
    }

    fn write_record(&self, path: &Path, record: &impl Serialize) -> Result<(), Error> {
        let json = |source| Error::Json { what: path.display().to_string(), source };
        self.write(path, &serde_json::to_vec_pretty(record).map_err(json)?)
    }

    /// Writes aside, syncs, renames. The lock makes the name in `tmp` ours.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let aside = self.folders.tmp.join("record");
        let mut file = File::create(&aside).map_err(Error::io("create", &aside))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &aside))?;
        fs::rename(&aside, path).map_err(Error::io("rename to", path))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    fn layer_record(&self, diff_id: &Digest) -> PathBuf {
        self.folders.diffs.join(format!("{}.json", diff_id.hex()))
    }

    fn config_file(&self, id: &Digest) -> PathBuf {
        self.folders.configs.join(format!("{}.json", id.hex()))
    }

    /// Named by a hash, since a reference may be longer than a file name.
    fn reference_record(&self, reference: &Reference) -> PathBuf {
        self.folders.refs.join(format!("{}.json", Digest::of(reference.canonical().as_bytes()).hex()))
    }

    fn source_record(&self, source: &Path) -> PathBuf {
        let path = source.canonicalize().unwrap_or_else(|_| source.to_owned());
        self.folders.sources.join(format!("{}.json", Digest::of(path.as_os_str().as_bytes()).hex()))
    }
}

impl Folders {
    fn all(&self) -> [&Path; 7] {
        [&self.root, &self.layers, &self.diffs, &self.configs, &self.refs, &self.sources, &self.tmp]
    }
}

/// Renames in a folder last only once the folder is synced.
fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read_small(path)? else { return Ok(None) };
    let json = |source| Error::Json { what: path.display().to_string(), source };
    serde_json::from_slice(&bytes).map(Some).map_err(json)
}

/// `None` where there is no such file.
fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(Some(bytes))
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
    }
    digits.iter().rev().collect()
}

/// A record's folder name becomes a path and a mount option: nothing but what [`base36`] writes.
fn is_short_name(name: &str) -> bool {
    (1..=7).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, store)
    }

    #[test]
    fn short_names_count_up_in_base_36() {
        assert_eq!(
            ["0", "z", "10", "zz"],
            [0, 35, 36, 36 * 36 - 1].map(base36).each_ref().map(String::as_str)
        );
        let (_dir, store) = store();
        fs::create_dir(store.layers_dir().join("z")).unwrap();
        assert_eq!(store.next_short_name().unwrap(), "10");
    }

    #[test]
    fn opening_removes_leftovers_but_not_under_a_writer() {
        let (dir, store) = store();
        let leftover = store.tmp_dir().join("layer");
        fs::create_dir_all(leftover.join("deep/er")).unwrap();
        let lock = store.lock().unwrap();
        Store::open(&dir.path().join("store")).unwrap();
        assert!(leftover.exists());
        drop(lock);
        Store::open(&dir.path().join("store")).unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_layer_without_a_record_is_removed_and_one_with_it_stays() {
        let (dir, store) = store();
        let id = Digest::of(b"layer");
        fs::create_dir(store.tmp_dir().join("0")).unwrap();
        store.add_layer(&store.tmp_dir().join("0"), &id, 1).unwrap();
        fs::create_dir(store.layers_dir().join("orphan")).unwrap();
        Store::open(&dir.path().join("store")).unwrap();
        assert!(store.layer(&id).unwrap().is_some());
        assert_eq!(fs::read_dir(store.layers_dir()).unwrap().count(), 1);
    }

    #[test]
    fn the_folders_are_closed_to_other_users() {
        let (_dir, store) = store();
        for folder in store.folders.all() {
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o7777, 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn a_changed_configuration_is_noticed() {
        let (_dir, store) = store();
        let reference: Reference = "web".parse().unwrap();
        let id = Digest::of(b"what it should be");
        store.add_config(&id, b"what it is").unwrap();
        store.add_reference(Named { reference: reference.clone(), id, manifests: Vec::new() }).unwrap();
        assert!(matches!(store.find(&reference), Err(Error::Damaged { .. })));
        assert_eq!(store.find(&"other".parse().unwrap()).unwrap(), None);
    }
}
