//! Taking images in: layers are unpacked aside, by any number of threads at once, and get their places together.
//!
//! A writer has a folder of its own in `tmp`, which it holds by `flock` for as long as it lives, so that what the dead left is told from what
//! the living write. The store's lock is held only while places and names are given. Of two writers that bring one layer, the first
//! to finish wins; the other throws its copy away.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::artifact::Form;
use super::inherit;
use super::layer::{Expected, Keep, Target, Unpacked, keep_blob, unpack};
use super::limits::LIMITS;
use super::part::Part;
use super::record::{
    Batch, BlobRecord, LayerRecord, ReferenceRecord, SourceRecord, read_record, sync_file_system,
};
use super::spare::Spare;
use super::stamp::Stamp;
use super::store::Lock;
use super::writer_folder::WriterFolder;
use super::{Digest, Error, Imported, Reference, Store};

/// What is known of a layer before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerSpec {
    /// Digest of the decompressed tar; for what is none, a digest that stands for it.
    pub(super) diff_id: Digest,
    /// Digest and size of the blob; `None` in a docker-archive, whose layers are known by their diff IDs only.
    pub(super) blob: Option<(Digest, u64)>,
    pub(super) form: Form,
}

/// An image whose layers are in the store or have been brought by the same [`Writing`].
#[derive(Clone, Debug)]
pub(super) struct ImageSpec {
    pub(super) references: Vec<Reference>,
    /// Digests of the indexes it was chosen from, from the top, and of its manifest, which stands last.
    pub(super) manifests: Vec<Digest>,
    /// The bytes of those, which `podkeep save` gives out again; a docker-archive has none.
    pub(super) documents: Vec<Vec<u8>>,
    /// The digest of the configuration, and its bytes.
    pub(super) id: Digest,
    pub(super) config: Vec<u8>,
    /// The bottom layer first.
    pub(super) layers: Vec<LayerSpec>,
}

/// The file or layout that images came from, so that it is not read again.
pub(super) struct Origin<'a> {
    pub(super) path: &'a Path,
    pub(super) stamp: Stamp,
    /// Whether it lies in the image folder.
    pub(super) pinned: bool,
}

/// Images that are being taken in. Dropped before it is finished, nothing has happened.
pub(super) struct Writing {
    pub(super) store: Store,
    folder: WriterFolder,
    layers: Mutex<HashMap<Digest, State>>,
    count: AtomicUsize,
    /// Layers that are brought although the store has them: they are damaged.
    replacing: HashSet<Digest>,
    /// Whether blobs are brought although the store has their layers.
    pub(super) brings_spares: bool,
    pub(super) spares: Mutex<Vec<Spare>>,
    /// Set when a layer has failed: the others are for nothing then.
    failed: AtomicBool,
}

enum State {
    InStore,
    Coming,
    Here(Blob, Aside),
}

/// A layer that is unpacked, in the writer's folder.
struct Aside {
    tree: PathBuf,
    listing: PathBuf,
    unpacked: Unpacked,
}

/// What was made of a blob.
enum Made {
    Layer(Aside),
    /// Nothing, since the layer was there already.
    Spare(BlobRecord),
}

/// A layer's blob as it came.
pub(super) enum Blob {
    NotKept,
    /// In the writer's folder.
    File(PathBuf),
    /// Still a download, though all of it has come: if the other layers do not come, the next pull finds it.
    Part(Part),
}

impl Store {
    /// Begins to take images in.
    pub(super) fn begin(&self) -> Result<Writing, Error> {
        let folder = WriterFolder::new(self, &self.lock()?)?;
        Ok(Writing {
            store: self.clone(),
            folder,
            layers: Mutex::default(),
            count: AtomicUsize::new(0),
            replacing: HashSet::new(),
            brings_spares: false,
            spares: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }
}

impl Writing {
    /// Brings these layers even if the store has them, and puts them in the others' place.
    pub(super) fn replacing(self, layers: impl IntoIterator<Item = Digest>) -> Writing {
        Writing { replacing: layers.into_iter().collect(), ..self }
    }

    /// Brings blobs too, if the store keeps any, whose layers the store has.
    pub(super) fn with_spares(self, brings_spares: bool) -> Writing {
        let brings_spares = brings_spares && self.store.keeps_blobs();
        Writing { brings_spares, ..self }
    }

    /// A folder on the store's file system for what is needed while this writing lives.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Which of an image's layers have to be brought: each once, and none that the store has. Those it has stay in it until this writing ends.
    pub(super) fn missing(&self, layers: &[LayerSpec]) -> Result<Vec<LayerSpec>, Error> {
        let _lock = self.store.lock()?;
        let mut missing: Vec<LayerSpec> = Vec::new();
        for layer in layers {
            if !self.replacing.contains(&layer.diff_id) && self.store.layer(&layer.diff_id)?.is_some() {
                self.folder.pin(&layer.diff_id)?;
                self.state().entry(layer.diff_id.clone()).or_insert(State::InStore);
            } else if !self.state().contains_key(&layer.diff_id)
                && missing.iter().all(|known| known.diff_id != layer.diff_id)
            {
                missing.push(layer.clone());
            }
        }
        Ok(missing)
    }

    /// Unpacks one layer from its blob, checks every digest that is known, and keeps the blob beside it; of a layer that is there already
    /// only the blob is kept, if spare copies are wanted.
    ///
    /// May be called by several threads at once. Once one layer has failed, the others end with [`Error::Cancelled`].
    ///
    /// # Errors
    /// What the reader says comes back as the cause, as it was.
    pub(super) fn layer(&self, layer: &LayerSpec, blob: impl Read + Send) -> Result<(), Error> {
        self.bring(layer, |number, is_here| {
            let blob_file = self.store.keeps_blobs().then(|| self.path_of("blob", number));
            let keep = blob_file.as_deref().map(new_file).transpose()?.map(Keep::new);
            let made = self.take(layer, number, is_here, blob, keep)?;
            Ok((blob_file.map_or(Blob::NotKept, Blob::File), made))
        })
    }

    /// The same for a blob that comes from far away: `fetch` is asked for the bytes from an offset on, because what an earlier attempt
    /// left is not asked for again. What comes is kept if it breaks off, and thrown away if it is wrong.
    pub(super) fn download<R: Read + Send>(
        &self,
        layer: &LayerSpec,
        fetch: impl FnOnce(u64) -> R,
    ) -> Result<(), Error> {
        let taken = layer.blob.as_ref().map(|(digest, size)| Part::take(&self.store, digest, *size));
        let Some(part) = taken.transpose()?.flatten() else {
            // Somebody else is downloading it as well.
            return self.bring(layer, |number, is_here| {
                let path = self.path_of("blob", number);
                let keep = Keep::of_download(new_file(&path)?, 0, open(&path)?);
                let made = self.take(layer, number, is_here, fetch(0), Some(keep))?;
                Ok((Blob::File(path), made))
            });
        };
        self.bring(layer, |number, is_here| {
            let keep = Keep::of_download(part.writer()?, part.length, part.reader()?);
            let blob = part.reader()?.take(part.length).chain(fetch(part.length));
            match self.take(layer, number, is_here, blob, Some(keep)) {
                Ok(made) => Ok((Blob::Part(part), made)),
                Err(error) => {
                    if error.is_in_the_bytes() {
                        // Left there, it would only be found wrong once more.
                        let _ = part.remove();
                    }
                    Err(error)
                }
            }
        })
    }

    fn bring(
        &self,
        layer: &LayerSpec,
        take: impl FnOnce(usize, bool) -> Result<(Blob, Made), Error>,
    ) -> Result<(), Error> {
        let is_here = match self.state().entry(layer.diff_id.clone()) {
            Entry::Occupied(_) if !self.brings_spares => return Ok(()),
            Entry::Occupied(_) => true,
            Entry::Vacant(vacant) => {
                vacant.insert(State::Coming);
                false
            }
        };
        match take(self.count.fetch_add(1, Ordering::Relaxed), is_here) {
            Ok((blob, Made::Layer(aside))) => {
                self.state().insert(layer.diff_id.clone(), State::Here(blob, aside));
                Ok(())
            }
            Ok((blob, Made::Spare(record))) => {
                self.add_spare(Spare { diff_id: layer.diff_id.clone(), blob, record });
                Ok(())
            }
            Err(_) if self.failed.swap(true, Ordering::Relaxed) => Err(Error::Cancelled),
            Err(error) => Err(error),
        }
    }

    fn take(
        &self,
        layer: &LayerSpec,
        number: usize,
        is_here: bool,
        blob: impl Read + Send,
        keep: Option<Keep>,
    ) -> Result<Made, Error> {
        let expected = Expected { blob: layer.blob.as_ref(), diff_id: &layer.diff_id, form: &layer.form };
        let mut blob = Cancellable { inner: blob, failed: &self.failed };
        let of_layer = |source| Error::Layer { diff_id: layer.diff_id.clone(), source: Box::new(source) };
        if is_here {
            let (digest, size) = keep_blob(&mut blob, keep, &expected, &LIMITS).map_err(of_layer)?;
            return Ok(Made::Spare(BlobRecord { digest, size }));
        }
        let (tree, listing) = (self.path_of("layer", number), self.path_of("listing", number));
        let root = new_folder(&tree).map_err(Error::io("create", &tree))?;
        let target = Target { root, listing: &new_file(&listing)? };
        let unpacked = unpack(&mut blob, keep, &expected, target, &LIMITS).map_err(of_layer)?;
        Ok(Made::Layer(Aside { tree, listing, unpacked }))
    }

    fn path_of(&self, what: &str, number: usize) -> PathBuf {
        self.folder.path.join(format!("{what}-{number}"))
    }

    /// Syncs what was unpacked, gives it its places, and names the images last.
    ///
    /// Each image has its references afterwards, or none has.
    pub(super) fn finish(
        self,
        images: Vec<ImageSpec>,
        origin: Option<Origin<'_>>,
    ) -> Result<Vec<Imported>, Error> {
        // The great part is synced before anybody has to wait for the lock.
        sync_file_system(&self.folder.path)?;
        let lock = self.store.lock()?;
        let mut batch = Batch::new(&self.folder.path);
        let mut brought = self.place_layers(&lock)?;
        let changed = self.place_spares(&mut brought)?;
        for (diff_id, record) in brought.iter().chain(&changed) {
            batch.put_record(self.store.layer_record(diff_id), record)?;
        }
        let mut imported = Vec::new();
        let mut counted = HashSet::new();
        for image in &images {
            let records = self.layers_of(image, &brought)?;
            self.add_inherited(&lock, image, &records, &mut batch)?;
            let new = |layer: &&LayerSpec| brought.contains_key(&layer.diff_id);
            let new_layers =
                image.layers.iter().filter(new).filter(|layer| counted.insert(&layer.diff_id)).count();
            batch.put(self.store.config_file(&image.id), &image.config)?;
            imported.extend(image.references.iter().map(|reference| Imported {
                reference: reference.clone(),
                id: image.id.clone(),
                new_layers,
            }));
        }
        self.put_manifests(&images, &mut batch)?;
        self.put_references(&images, &mut batch)?;
        if let Some(Origin { path, stamp, pinned }) = origin {
            let references = imported.iter().map(|one| one.reference.clone()).collect();
            let place = self.store.source_record(path);
            // What was taken from the image folder stays so when a person loads it too.
            let known: Option<SourceRecord> = read_record(&place)?;
            let pinned = pinned || known.is_some_and(|known| known.pinned);
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            batch.put_record(place, &SourceRecord { path, pinned, stamp, references })?;
        }
        batch.commit()?;
        Ok(imported)
    }

    /// Moves the layers to their places, where nothing names them yet, and returns the records of those that are new.
    fn place_layers(&self, lock: &Lock) -> Result<HashMap<Digest, LayerRecord>, Error> {
        let mut brought = HashMap::new();
        for (diff_id, state) in self.state().drain() {
            let State::Here(blob, aside) = state else { continue };
            let Some(replaced) = self.replaced(&diff_id)? else {
                blob.throw_away()?;
                continue;
            };
            let before: Option<LayerRecord> = read_record(&self.store.layer_record(&diff_id))?;
            let dir = self.store.place_layer(lock, &diff_id, &aside.tree, &aside.listing)?;
            let (digest, size) = aside.unpacked.blob;
            self.place_blob(blob, &digest)?;
            let mut record = LayerRecord {
                dir,
                size: aside.unpacked.size,
                blob: Some(BlobRecord { digest, size }),
                other_blobs: Vec::new(),
                inherits: aside.unpacked.inherits,
                is_damaged: false,
                replaced,
            };
            before.iter().flat_map(LayerRecord::blobs).for_each(|blob| record.add_blob(blob.clone()));
            brought.insert(diff_id, record);
        }
        Ok(brought)
    }

    pub(super) fn place_blob(&self, blob: Blob, digest: &Digest) -> Result<(), Error> {
        let from = match &blob {
            _ if !self.store.keeps_blobs() => return blob.throw_away(),
            Blob::NotKept => return Ok(()),
            Blob::File(path) => path,
            Blob::Part(part) => &part.path,
        };
        let place = self.store.blob_file(digest);
        fs::rename(from, &place).map_err(Error::io("move a blob to", &place))
    }

    /// The folders that a layer takes the place of; `None` if the store has the layer, and is to keep it.
    fn replaced(&self, diff_id: &Digest) -> Result<Option<Vec<String>>, Error> {
        let Some(record) = self.store.placed_layer(diff_id)? else { return Ok(Some(Vec::new())) };
        let goes = record.is_damaged || self.replacing.contains(diff_id);
        Ok(goes.then(|| record.replaced.into_iter().chain([record.dir]).collect()))
    }

    /// The image's layers, all of which are there.
    fn layers_of(
        &self,
        image: &ImageSpec,
        brought: &HashMap<Digest, LayerRecord>,
    ) -> Result<Vec<LayerRecord>, Error> {
        let record = |layer: &LayerSpec| match brought.get(&layer.diff_id) {
            Some(record) => Ok(record.clone()),
            None => {
                let gone = || Error::LayerGone { diff_id: layer.diff_id.clone() };
                self.store.layer(&layer.diff_id)?.ok_or_else(gone)
            }
        };
        image.layers.iter().map(record).collect()
    }

    /// Adds the image's uppermost layer, if it needs one and does not have it.
    fn add_inherited(
        &self,
        lock: &Lock,
        image: &ImageSpec,
        records: &[LayerRecord],
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let key = inherit::key(&image.id);
        if records.iter().all(|record| !record.inherits) {
            return Ok(());
        }
        let Some(replaced) = self.replaced(&key)? else { return Ok(()) };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (tree, listing) = (self.path_of("layer", number), self.path_of("listing", number));
        let layers = image.layers.iter().zip(records).map(|(layer, record)| {
            let tree = self.store.layers_dir().join(&record.dir);
            inherit::Layer::open(&tree, &self.store.listing_file(&layer.diff_id))
        });
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let root = new_folder(&tree).map_err(Error::io("create", &tree))?;
        inherit::build(&layers, &root, &new_file(&listing)?).map_err(Error::io("make folders in", &tree))?;
        let dir = self.store.place_layer(lock, &key, &tree, &listing)?;
        let record = LayerRecord::of_folders(dir, replaced);
        batch.put_record(self.store.layer_record(&key), &record)
    }

    fn put_manifests(&self, images: &[ImageSpec], batch: &mut Batch<'_>) -> Result<(), Error> {
        for image in images {
            for document in &image.documents {
                batch.put(self.store.manifest_file(&Digest::of(document)), document)?;
            }
        }
        Ok(())
    }

    fn put_references(&self, images: &[ImageSpec], batch: &mut Batch<'_>) -> Result<(), Error> {
        for image in images {
            for reference in &image.references {
                let record = ReferenceRecord {
                    reference: reference.clone(),
                    id: image.id.clone(),
                    manifests: image.manifests.clone(),
                };
                batch.put_record(self.store.reference_record(reference), &record)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, HashMap<Digest, State>> {
        // Whoever panicked had changed all of it or nothing.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blob {
    /// What lies in the writer's folder goes with that.
    pub(super) fn throw_away(self) -> Result<(), Error> {
        let Blob::Part(part) = self else { return Ok(()) };
        let path = part.path.clone();
        part.remove().map_err(Error::io("remove", &path))
    }
}

/// A blob that ends when another layer has failed.
struct Cancellable<'a, R> {
    inner: R,
    failed: &'a AtomicBool,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer has failed"));
        }
        self.inner.read(buffer)
    }
}

/// The root of an image is open to all its users unless the layer says otherwise, whatever this process's umask.
fn new_folder(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().mode(0o700).create(path)?;
    let folder = File::open(path)?;
    folder.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(folder.into())
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::io("open", path))
}

fn new_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::image::LayerError;

    /// A layer of one file, which no compression makes shorter.
    fn layer(content: &[u8]) -> (Vec<u8>, LayerSpec) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, "file", content).unwrap();
        let bytes = tar.into_inner().unwrap();
        let digest = Digest::of(&bytes);
        let spec =
            LayerSpec { diff_id: digest.clone(), blob: Some((digest, bytes.len() as u64)), form: Form::Tar };
        (bytes, spec)
    }

    fn image(layers: Vec<LayerSpec>) -> ImageSpec {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = serde_json::to_vec(&serde_json::json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}}))
        .unwrap();
        ImageSpec {
            references: vec!["web:1".parse().unwrap()],
            manifests: Vec::new(),
            documents: Vec::new(),
            id: Digest::of(&config),
            config,
            layers,
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    /// Gives its bytes, then an error.
    struct Breaking<'a>(&'a [u8]);

    impl Read for Breaking<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the line is dead")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn a_download_goes_on_where_it_broke_off() {
        let (_dir, store) = store();
        let (bytes, spec) = layer(&[7; 300_000]);
        let writing = store.begin().unwrap();
        let error = writing.download(&spec, |from| Breaking(&bytes[from as usize..200_000])).unwrap_err();
        let Error::Layer { source, .. } = &error else { panic!("{error}") };
        assert!(matches!(&**source, LayerError::Blob(cause) if cause.to_string() == "the line is dead"));
        drop(writing);

        let writing = store.begin().unwrap();
        let mut asked = 0;
        writing
            .download(&spec, |from| {
                asked = from;
                &bytes[from as usize..]
            })
            .unwrap();
        assert_eq!(asked, 200_000);
        writing.finish(vec![image(vec![spec.clone()])], None).unwrap();
        assert_eq!(fs::read(store.blob_file(&spec.diff_id)).unwrap(), bytes);
        assert!(!store.part_file(&spec.diff_id).exists());
        assert!(store.find(&"web:1".parse().unwrap()).unwrap().is_some());
    }

    #[test]
    fn what_came_wrong_is_thrown_away() {
        let (_dir, store) = store();
        let (mut bytes, spec) = layer(b"content");
        bytes[512] ^= 1;
        let writing = store.begin().unwrap();
        let error = writing.download(&spec, |_| &*bytes).unwrap_err();
        assert!(error.is_in_the_bytes(), "{error}");
        assert!(!store.part_file(&spec.diff_id).exists());
    }

    #[test]
    fn two_writers_of_one_layer_do_not_wait_and_leave_one() {
        let (_dir, store) = store();
        let (bytes, spec) = layer(b"content");
        let (one, other) = (store.begin().unwrap(), store.begin().unwrap());
        for writing in [&one, &other] {
            assert_eq!(writing.missing(&[spec.clone(), spec.clone()]).unwrap(), from_ref(&spec));
            writing.layer(&spec, &*bytes).unwrap();
            assert_eq!(writing.missing(from_ref(&spec)).unwrap(), [], "it is here already");
        }
        assert_eq!(one.finish(vec![image(vec![spec.clone()])], None).unwrap()[0].new_layers, 1);
        assert_eq!(other.finish(vec![image(vec![spec.clone()])], None).unwrap()[0].new_layers, 0);
        assert_eq!(store.layer_names().unwrap().len(), 1);
        assert_eq!(fs::read_dir(store.tmp_dir()).unwrap().count(), 0);
    }

    #[test]
    fn an_image_without_one_of_its_layers_gets_no_name() {
        let (_dir, store) = store();
        let (_, spec) = layer(b"content");
        let error = store.begin().unwrap().finish(vec![image(vec![spec])], None).unwrap_err();
        assert!(matches!(error, Error::LayerGone { .. }));
        assert_eq!(fs::read_dir(store.refs_dir()).unwrap().count(), 0);
    }
}
