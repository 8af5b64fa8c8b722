//! The images on disk: whole or absent, whatever dies in between.
//!
//! | below the store's folder | what |
//! |---|---|
//! | `layers/<short>/` | one unpacked layer; a base-36 number as name, so that 120 fit into one mount option |
//! | `layers/mount-points/` | what lies below every image: where things are mounted into a container |
//! | `diffs/<hex>.json` | which folder holds the layer with this diff ID, how many bytes its files have, and which blob it was |
//! | `listings/<hex>` | what that layer's folder holds, to be verified against |
//! | `blobs/<hex>` | a layer's blob as it came: a spare copy, from which the layer can be made again |
//! | `parts/<hex>` | what has come of a blob that is being downloaded, held by `flock` while somebody does |
//! | `configs/<hex>.json` | an image's configuration, byte for byte; its digest is the image's ID |
//! | `manifests/<hex>.json` | an image's manifest, or an index that it was chosen from, byte for byte |
//! | `refs/<hash>.json` | one reference and the image it names; written last |
//! | `sources/<hash>.json` | which file or layout was imported, so that it is not read again |
//! | `uses.json` | when each image was used last |
//! | `tmp/<writer>/` | what is being written; held by the writer's `flock` |
//! | `lock` | held by `flock` while something gets its place or loses it |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::import::Reason;
use super::inventory::digests_in;
use super::mount_points::{self, MOUNT_POINTS};
use super::record::{Batch, LayerRecord, ReferenceRecord, SourceRecord, read_record, read_small};
use super::stamp::Stamp;
use super::writer_folder::WriterFolder;
use super::{
    Config, Digest, Error, Image, ImageSummary, Imported, Reference, Tell, artifact, import, inherit, lookup,
};
use crate::order;

/// The images of a node. Cheap to clone; several threads and processes may use one folder at a time.
#[derive(Clone, Debug)]
pub struct Store {
    folders: Arc<Folders>,
    keeps_blobs: bool,
}

#[derive(Debug)]
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) layers: PathBuf,
    pub(super) diffs: PathBuf,
    pub(super) configs: PathBuf,
    pub(super) listings: PathBuf,
    pub(super) blobs: PathBuf,
    pub(super) parts: PathBuf,
    pub(super) manifests: PathBuf,
    pub(super) refs: PathBuf,
    pub(super) sources: PathBuf,
    pub(super) tmp: PathBuf,
    uses: PathBuf,
}

/// Held while something gets its place in the store or loses it. Ends when it is dropped.
pub(super) struct Lock {
    _file: File,
}

#[cfg(test)]
impl Lock {
    /// Of no store.
    pub(super) fn for_tests() -> Lock {
        Lock { _file: tempfile::tempfile().unwrap() }
    }
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
            listings: below("listings"),
            blobs: below("blobs"),
            parts: below("parts"),
            manifests: below("manifests"),
            refs: below("refs"),
            sources: below("sources"),
            tmp: below("tmp"),
            uses: below("uses.json"),
        };
        for folder in folders.all() {
            // Closed to others: layers hold set-user-ID programs of any age, which no user of the host may run.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(Error::io("create", folder))?;
        }
        let store = Store { folders: Arc::new(folders), keeps_blobs: true };
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Whether layers' blobs are kept: for `podkeep save` with the same digests, and to mend a layer without a network. They are by default.
    pub fn keep_blobs(self, keeps_blobs: bool) -> Store {
        Store { keeps_blobs, ..self }
    }

    /// Brings the images of an OCI layout (a folder), an OCI archive or a docker-archive into the store.
    ///
    /// Archives may be compressed with gzip or zstd. Every image of the source is imported for this machine's platform, or none is.
    /// Blocks for as long as reading, unpacking and syncing take; waits while another process imports.
    pub fn import(&self, source: &Path) -> Result<Vec<Imported>, Error> {
        self.import_and_tell(source, &|_| ())
    }

    /// The same, and says how far it is.
    pub fn import_and_tell(&self, source: &Path, progress: &Tell<'_>) -> Result<Vec<Imported>, Error> {
        self.import_for(source, Reason::Asked, progress)
    }

    /// The same for a source in the image folder: its images are never cleaned away while it lies there.
    pub fn import_from_folder(&self, source: &Path) -> Result<Vec<Imported>, Error> {
        self.import_for(source, Reason::InFolder, &|_| ())
    }

    /// Brings the images of an archive that can be read only once, and says how far it is when it has been read. None of them may be
    /// without a name.
    pub fn import_stream(&self, stream: impl io::Read, progress: &Tell<'_>) -> Result<Vec<Imported>, Error> {
        import::import_stream(self, stream, progress)
            .map_err(|cause| Error::Import { path: "standard input".into(), source: Box::new(cause) })
    }

    fn import_for(
        &self,
        source: &Path,
        reason: Reason<'_>,
        progress: &Tell<'_>,
    ) -> Result<Vec<Imported>, Error> {
        import::import(self, source, reason, progress)
            .map_err(|cause| Error::Import { path: source.to_owned(), source: Box::new(cause) })
    }

    /// Whether `source` was imported from the image folder as it is now, and what it brought is still whole. Reads a few small files.
    pub fn is_imported_from_folder(&self, source: &Path) -> Result<bool, Error> {
        self.is_imported_as(source, &Stamp::of(source).map_err(Error::io("examine", source))?)
    }

    /// The same for a source that has this stamp now.
    pub(super) fn is_imported_as(&self, source: &Path, stamp: &Stamp) -> Result<bool, Error> {
        let Some(record) = read_record::<SourceRecord>(&self.source_record(source))? else {
            return Ok(false);
        };
        let is_whole = |reference| matches!(self.find(reference), Ok(Some(_)));
        Ok(record.pinned && record.stamp == *stamp && record.references.iter().all(is_whole))
    }

    /// Whether the image that `reference` names came from the image folder and lies there still.
    pub fn is_of_folder(&self, reference: &Reference) -> Result<bool, Error> {
        let Some(image) = self.record_of(reference)? else { return Ok(false) };
        for name in names_in(&self.folders.sources)? {
            let source = read_record::<SourceRecord>(&self.folders.sources.join(name))?;
            let has_it =
                |source: &SourceRecord| source.pinned && source.references.contains(&image.reference);
            if source.is_some_and(|source| has_it(&source) && !source.is_gone()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The image that `reference` names, or `None` where the store does not have it.
    ///
    /// A reference with a digest finds an image of the same repository whose manifest (or index) has that digest, whatever its tag.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        self.id_of(reference)?.map(|id| self.load(reference.clone(), &id)).transpose()
    }

    pub(super) fn id_of(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        Ok(self.record_of(reference)?.map(|record| record.id))
    }

    pub(super) fn record_of(&self, reference: &Reference) -> Result<Option<ReferenceRecord>, Error> {
        match reference.digest() {
            None => read_record(&self.reference_record(reference)),
            Some(_) => Ok(self.references()?.into_iter().find(|record| record.is_named_by(reference))),
        }
    }

    /// The digests that `reference` stood for when its image was taken in: those of the indexes from the top, its manifest's last.
    pub(super) fn manifests_of(&self, reference: &Reference) -> Result<Vec<Digest>, Error> {
        let record: Option<ReferenceRecord> = read_record(&self.reference_record(reference))?;
        Ok(record.map(|record| record.manifests).unwrap_or_default())
    }

    /// Every image of the store, by its first reference.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        let mut references = BTreeMap::<Digest, Vec<Reference>>::new();
        for record in self.references()? {
            references.entry(record.id).or_default().push(record.reference);
        }
        let mut users = HashMap::<Digest, usize>::new();
        for id in references.keys() {
            let layers: HashSet<Digest> = self.diff_ids(id).unwrap_or_default().into_iter().collect();
            layers.into_iter().for_each(|diff_id| *users.entry(diff_id).or_default() += 1);
        }
        let is_shared = |diff_id: &Digest| users.get(diff_id).is_some_and(|users| *users > 1);
        let mut images = Vec::new();
        for (id, mut references) in references {
            order::sort(&mut references);
            images.push(match self.summary(&id, &references, is_shared) {
                Err(error) if error.is_damage() => ImageSummary::damaged(id, references, &error),
                other => other?,
            });
        }
        order::sort_by(&mut images, |a, b| a.references.cmp(&b.references));
        Ok(images)
    }

    /// Whether the folders of an image's layers are there, and the one below them: one look each, none at what is in them.
    pub fn has_layers(&self, image: &Image) -> bool {
        let lowest = iter::once(MOUNT_POINTS);
        lowest
            .chain(image.layers.iter().map(String::as_str))
            .all(|layer| self.layers_dir().join(layer).is_dir())
    }

    /// Makes the layer below every image, [`MOUNT_POINTS`], or what is missing of it.
    pub fn make_mount_points(&self) -> Result<(), Error> {
        mount_points::make(&self.folders.layers)
    }

    /// The folder that [`Image::layers`] are names in.
    pub fn layers_dir(&self) -> &Path {
        &self.folders.layers
    }

    /// The folder of the layers' records: one that is made again has another record.
    pub fn records_dir(&self) -> &Path {
        &self.folders.diffs
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

    /// Waits until nobody else gives places or takes them.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let file = self.open_lock()?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(Error::io("lock", &self.folders.root))?;
        Ok(Lock { _file: file })
    }

    pub(super) fn keeps_blobs(&self) -> bool {
        self.keeps_blobs
    }

    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    pub(super) fn uses_file(&self) -> &Path {
        &self.folders.uses
    }

    pub(super) fn tmp_dir(&self) -> &Path {
        &self.folders.tmp
    }

    /// The layer with this diff ID, if it is there and its folder too, and was not found damaged.
    pub(super) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, Error> {
        Ok(self.placed_layer(diff_id)?.filter(|record| !record.is_damaged))
    }

    /// The same for one that may be damaged.
    pub(super) fn placed_layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, Error> {
        let record: Option<LayerRecord> = read_record(&self.layer_record(diff_id))?;
        Ok(record
            .filter(|record| is_short_name(&record.dir) && self.folders.layers.join(&record.dir).is_dir()))
    }

    /// Moves an unpacked layer and its listing to places that nobody knows before a record names them. Returns the folder's name.
    pub(super) fn place_layer(
        &self,
        _: &Lock,
        diff_id: &Digest,
        tree: &Path,
        listing: &Path,
    ) -> Result<String, Error> {
        let dir = self.next_short_name()?;
        let moved = [(tree, self.folders.layers.join(&dir)), (listing, self.listing_file(diff_id))];
        for (from, to) in moved {
            fs::rename(from, &to).map_err(Error::io("move a layer to", &to))?;
        }
        Ok(dir)
    }

    /// Writes another record of a layer that has its place.
    pub(super) fn put_layer_record(
        &self,
        lock: &Lock,
        diff_id: &Digest,
        record: &LayerRecord,
    ) -> Result<(), Error> {
        let folder = WriterFolder::new(self, lock)?;
        let mut batch = Batch::new(&folder.path);
        batch.put_record(self.layer_record(diff_id), record)?;
        batch.commit()
    }

    /// The image of this id, whatever its reference names by now.
    ///
    /// # Errors
    /// When it is not there any more, or cannot be read.
    pub fn load(&self, reference: Reference, id: &Digest) -> Result<Image, Error> {
        let configuration = self.configuration(id)?;
        let mut layers = Vec::new();
        let mut records = Vec::new();
        for diff_id in diff_ids_in(&configuration)? {
            records.push(self.stored_layer(id, &diff_id)?);
        }
        if records.iter().any(|record| record.inherits) {
            records.push(self.stored_layer(id, &inherit::key(id))?);
        }
        for LayerRecord { dir, .. } in records {
            // Overlayfs refuses a folder that is given twice (ELOOP). The upper one hides the lower one wholly.
            layers.retain(|lower| *lower != dir);
            // Nor does it look at the mark on a layer's own root.
            if lookup::is_opaque_layer(&self.folders.layers.join(&dir)) {
                layers.clear();
            }
            layers.push(dir);
        }
        let (config, is_artifact) = (Config::from_oci(&configuration), artifact::is_artifact(&configuration));
        Ok(Image { reference, id: id.clone(), config, is_artifact, layers })
    }

    fn summary(
        &self,
        id: &Digest,
        references: &[Reference],
        is_shared: impl Fn(&Digest) -> bool,
    ) -> Result<ImageSummary, Error> {
        let configuration = self.configuration(id)?;
        let created = configuration.created().as_deref().and_then(|text| text.parse().ok());
        let (mut size, mut shared) = (0, 0);
        let diff_ids = diff_ids_in(&configuration)?;
        for diff_id in &diff_ids {
            let bytes = self.stored_layer(id, diff_id)?.size;
            size += bytes;
            shared += if is_shared(diff_id) { bytes } else { 0 };
        }
        let (references, layers) = (references.to_vec(), diff_ids.len());
        Ok(ImageSummary { references, id: id.clone(), created, size, shared, layers, damage: None })
    }

    /// The diff IDs of an image's layers, the bottom one first.
    pub(super) fn diff_ids(&self, id: &Digest) -> Result<Vec<Digest>, Error> {
        diff_ids_in(&self.configuration(id)?)
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

    pub(super) fn references(&self) -> Result<Vec<ReferenceRecord>, Error> {
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
        let mut highest = 0;
        for name in self.layer_names()? {
            let number = name.to_str().and_then(|name| u32::from_str_radix(name, 36).ok());
            highest = highest.max(number.unwrap_or(0));
        }
        Ok(base36(highest.saturating_add(1)))
    }

    /// Removes what dead writers left in `tmp`, and layers that no record names: a crash came before the record.
    fn remove_leftovers(&self) -> Result<(), Error> {
        let file = self.open_lock()?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let lock = Lock { _file: file };
        let mut leftovers = Vec::new();
        for name in names_in(&self.folders.tmp)? {
            leftovers.extend(WriterFolder::of_the_dead(self, &lock, &name)?);
        }
        leftovers.extend(self.move_orphans(&lock)?);
        self.clear_unnamed(&lock)?;
        // Removing takes its time, and nobody has to wait for it.
        drop(lock);
        drop(leftovers);
        Ok(())
    }

    /// Moves layers that no record names into a folder that is removed when it is dropped.
    pub(super) fn move_orphans(&self, lock: &Lock) -> Result<Option<WriterFolder>, Error> {
        // It may be its folder, and a container may run on it.
        let Some(records) = self.layer_records()? else { return Ok(None) };
        let folders =
            records.into_values().flat_map(|record| record.replaced.into_iter().chain([record.dir]));
        let known: HashSet<OsString> = folders.map(OsString::from).collect();
        let mut orphans = self.layer_names()?;
        orphans.retain(|name| !known.contains(name));
        if orphans.is_empty() {
            return Ok(None);
        }
        let aside = WriterFolder::new(self, lock)?;
        for name in orphans {
            let orphan = self.folders.layers.join(&name);
            fs::rename(&orphan, aside.path.join(&name)).map_err(Error::io("move away", &orphan))?;
        }
        Ok(Some(aside))
    }

    /// Listings and blobs that got their places before a crash, and whose layer's record did not. Such a blob has come, and nobody need fetch it
    /// again: it is a download once more.
    fn clear_unnamed(&self, _: &Lock) -> Result<(), Error> {
        let Some(records) = self.layer_records()? else { return Ok(()) };
        let blobs: HashSet<&Digest> =
            records.values().flat_map(LayerRecord::blobs).map(|blob| &blob.digest).collect();
        for diff_id in
            digests_in(&self.folders.listings)?.iter().filter(|diff_id| !records.contains_key(*diff_id))
        {
            let listing = self.listing_file(diff_id);
            fs::remove_file(&listing).map_err(Error::io("remove", &listing))?;
        }
        for digest in digests_in(&self.folders.blobs)?.iter().filter(|digest| !blobs.contains(*digest)) {
            let (blob, part) = (self.blob_file(digest), self.part_file(digest));
            match rustix::fs::renameat_with(CWD, &blob, CWD, &part, RenameFlags::NOREPLACE) {
                // Somebody is fetching it.
                Err(Errno::EXIST) => fs::remove_file(&blob).map_err(Error::io("remove", &blob))?,
                other => other.map_err(Error::io("move away", &blob))?,
            }
        }
        Ok(())
    }

    /// Those of all folders that hold a layer of an image.
    pub(super) fn layer_names(&self) -> Result<Vec<OsString>, Error> {
        let mut names = names_in(&self.folders.layers)?;
        names.retain(|name| name != MOUNT_POINTS);
        Ok(names)
    }

    /// `None` if one cannot be read: it may name whatever seems to have no name.
    fn layer_records(&self) -> Result<Option<HashMap<Digest, LayerRecord>>, Error> {
        let record = |diff_id: Digest| {
            let record = read_record::<LayerRecord>(&self.layer_record(&diff_id))?;
            Ok(record.map(|record| (diff_id, record)))
        };
        digests_in(&self.folders.diffs)?.into_iter().map(record).collect()
    }

    fn open_lock(&self) -> Result<File, Error> {
        let path = self.folders.root.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(&path).map_err(Error::io("open", &path))
    }

    pub(super) fn layer_record(&self, diff_id: &Digest) -> PathBuf {
        self.folders.diffs.join(format!("{}.json", diff_id.hex()))
    }

    pub(super) fn config_file(&self, id: &Digest) -> PathBuf {
        self.folders.configs.join(format!("{}.json", id.hex()))
    }

    pub(super) fn listing_file(&self, diff_id: &Digest) -> PathBuf {
        self.folders.listings.join(diff_id.hex())
    }

    pub(super) fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.folders.blobs.join(digest.hex())
    }

    pub(super) fn part_file(&self, digest: &Digest) -> PathBuf {
        self.folders.parts.join(digest.hex())
    }

    pub(super) fn manifest_file(&self, digest: &Digest) -> PathBuf {
        self.folders.manifests.join(format!("{}.json", digest.hex()))
    }

    /// Named by a hash, since a reference may be longer than a file name.
    pub(super) fn reference_record(&self, reference: &Reference) -> PathBuf {
        self.folders.refs.join(format!("{}.json", Digest::of(reference.canonical().as_bytes()).hex()))
    }

    pub(super) fn source_record(&self, source: &Path) -> PathBuf {
        let path = source.canonicalize().unwrap_or_else(|_| source.to_owned());
        self.folders.sources.join(format!("{}.json", Digest::of(path.as_os_str().as_bytes()).hex()))
    }
}

impl Folders {
    fn all(&self) -> [&Path; 11] {
        let Folders {
            root,
            layers,
            diffs,
            configs,
            listings,
            blobs,
            parts,
            manifests,
            refs,
            sources,
            tmp,
            uses: _,
        } = self;
        [root, layers, diffs, configs, listings, blobs, parts, manifests, refs, sources, tmp]
            .map(PathBuf::as_path)
    }
}

impl ImageSummary {
    fn damaged(id: Digest, references: Vec<Reference>, error: &Error) -> ImageSummary {
        let damage = Some(error.to_string());
        ImageSummary { references, id, created: None, size: 0, shared: 0, layers: 0, damage }
    }
}

fn diff_ids_in(configuration: &ImageConfiguration) -> Result<Vec<Digest>, Error> {
    configuration.rootfs().diff_ids().iter().map(|diff_id| Ok(diff_id.parse()?)).collect()
}

pub(super) fn names_in(folder: &Path) -> Result<Vec<OsString>, Error> {
    let names = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    names.map(|entry| Ok(entry.map_err(Error::io("list", folder))?.file_name())).collect()
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
    use std::os::unix::fs::MetadataExt;

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
    fn opening_removes_what_dead_writers_left_and_not_under_a_living_one() {
        let (dir, store) = store();
        let leftover = store.tmp_dir().join("1-0/layer");
        fs::create_dir_all(leftover.join("deep/er")).unwrap();
        let living = store.begin().unwrap();
        fs::create_dir(living.folder().join("layer")).unwrap();
        Store::open(&dir.path().join("store")).unwrap();
        assert!(living.folder().join("layer").exists());
        assert_eq!(fs::read_dir(store.tmp_dir()).unwrap().count(), 1);
        drop(living);
        assert_eq!(fs::read_dir(store.tmp_dir()).unwrap().count(), 0);
    }

    #[test]
    fn a_layer_without_a_record_is_removed_and_one_with_it_stays() {
        let (home, store) = store();
        let id = Digest::of(b"layer");
        let [tree, listing] = ["tree", "listing"].map(|name| store.tmp_dir().join(name));
        fs::create_dir(&tree).unwrap();
        fs::write(&listing, "").unwrap();
        let dir = store.place_layer(&store.lock().unwrap(), &id, &tree, &listing).unwrap();
        let record = LayerRecord { size: 1, ..LayerRecord::of_folders(dir, Vec::new()) };
        let mut batch = Batch::new(store.tmp_dir());
        batch.put_record(store.layer_record(&id), &record).unwrap();
        batch.commit().unwrap();
        fs::create_dir(store.layers_dir().join("orphan")).unwrap();
        Store::open(&home.path().join("store")).unwrap();
        assert_eq!(store.layer(&id).unwrap(), Some(record));
        assert_eq!(store.layer_names().unwrap().len(), 1);
    }

    /// A cut came between the layers' places and their records.
    #[test]
    fn a_listing_without_a_record_is_removed_and_a_blob_is_a_download_again() {
        let (home, store) = store();
        let [listed, fetched] = [b"listed", b"blob.."].map(|bytes| Digest::of(bytes));
        fs::write(store.listing_file(&listed), "").unwrap();
        fs::write(store.blob_file(&fetched), "blob..").unwrap();
        Store::open(&home.path().join("store")).unwrap();
        assert!(!store.listing_file(&listed).exists() && !store.blob_file(&fetched).exists());
        assert_eq!(fs::read(store.part_file(&fetched)).unwrap(), b"blob..");
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
        fs::write(store.config_file(&id), "what it is").unwrap();
        let record = ReferenceRecord { reference: reference.clone(), id, manifests: Vec::new() };
        fs::write(store.reference_record(&reference), serde_json::to_vec(&record).unwrap()).unwrap();
        assert!(matches!(store.find(&reference), Err(Error::Damaged { .. })));
        assert_eq!(store.find(&"other".parse().unwrap()).unwrap(), None);
    }
}
