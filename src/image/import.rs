//! From a source to images in the store: everything is unpacked and synced before anything gets a name.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::layer::{Expected, unpack};
use super::limits::LIMITS;
use super::manifest::{Candidate, candidates};
use super::source::{LayerBlob, Source};
use super::store::{Named, Stamp};
use super::{Digest, Error, Imported, Store};

/// A layer that lies unpacked in `tmp`.
struct Unpacked {
    path: PathBuf,
    size: u64,
}

pub(super) fn import(store: &Store, path: &Path) -> Result<Vec<Imported>, Error> {
    let _lock = store.lock()?;
    store.empty_tmp()?;
    let imported = import_locked(store, path);
    let emptied = store.empty_tmp();
    let imported = imported?;
    emptied.map(|()| imported)
}

fn import_locked(store: &Store, path: &Path) -> Result<Vec<Imported>, Error> {
    // Taken first: a source that changes while it is read counts as changed afterwards.
    let stamp = Stamp::of(path).map_err(Error::io("examine", path))?;
    let source = Source::open(path, store.tmp_dir())?;
    let images = candidates(&source, path)?;
    let mut unpacked = HashMap::new();
    let mut counts = Vec::new();
    for image in &images {
        counts.push(unpack_missing(store, &source, image, &mut unpacked)?);
    }
    sync(store.tmp_dir())?;
    for (diff_id, layer) in &unpacked {
        store.add_layer(&layer.path, diff_id, layer.size)?;
    }
    let mut imported = Vec::new();
    for (image, new_layers) in images.into_iter().zip(counts) {
        imported.extend(name(store, image, new_layers)?);
    }
    store.remember(path, stamp, imported.iter().map(|one| one.reference.clone()).collect())?;
    Ok(imported)
}

/// Unpacks the layers that neither the store has nor an image before this one brought, and returns how many.
fn unpack_missing(
    store: &Store,
    source: &Source,
    image: &Candidate,
    unpacked: &mut HashMap<Digest, Unpacked>,
) -> Result<usize, Error> {
    let before = unpacked.len();
    for layer in &image.layers {
        if unpacked.contains_key(&layer.diff_id) || store.layer(&layer.diff_id)?.is_some() {
            continue;
        }
        let path = store.tmp_dir().join(unpacked.len().to_string());
        let size = unpack_layer(source, layer, &path)?;
        unpacked.insert(layer.diff_id.clone(), Unpacked { path, size });
    }
    Ok(unpacked.len() - before)
}

fn unpack_layer(source: &Source, layer: &LayerBlob, path: &Path) -> Result<u64, Error> {
    let blob = layer.open(source)?;
    let root = new_folder(path).map_err(Error::io("create", path))?;
    let expected = Expected { blob: layer.expected.as_ref(), diff_id: &layer.diff_id };
    unpack(blob, &expected, root, &LIMITS)
        .map_err(|source| Error::Layer { diff_id: layer.diff_id.clone(), source: Box::new(source) })
}

/// The root of an image is open to all its users unless the layer says otherwise, whatever this process's umask.
fn new_folder(path: &Path) -> std::io::Result<OwnedFd> {
    DirBuilder::new().mode(0o700).create(path)?;
    let folder = File::open(path)?;
    folder.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    Ok(folder.into())
}

/// Once for all layers: a sync for each of some ten thousand files would take minutes.
fn sync(tmp: &Path) -> Result<(), Error> {
    let folder = File::open(tmp).map_err(Error::io("open", tmp))?;
    rustix::fs::syncfs(&folder).map_err(Error::io("sync the file system of", tmp))
}

fn name(store: &Store, image: Candidate, new_layers: usize) -> Result<Vec<Imported>, Error> {
    store.add_config(&image.id, &image.config)?;
    let mut imported = Vec::new();
    for reference in image.references {
        let (id, manifests) = (image.id.clone(), image.manifests.clone());
        store.add_reference(Named { reference: reference.clone(), id: id.clone(), manifests })?;
        imported.push(Imported { reference, id, new_layers });
    }
    Ok(imported)
}
