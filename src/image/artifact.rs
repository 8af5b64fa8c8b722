//! Artifacts: what a registry keeps in an image's shape that is no image (OCI image-spec 1.1, "Guidelines for Artifact Usage").
//!
//! An artifact is stored as an image whose layers are its files, one in each. It has no configuration that says so: one is written for it.

use std::collections::HashSet;
use std::io;
use std::path::{Component, Path};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use serde_json::json;

use super::ingest::{ImageSpec, LayerSpec};
use super::limits::MAX_LAYERS;
use super::manifest::{Candidate, digest_of};
use super::source::blob_name;
use super::{Digest, Error, Reference};

/// The name of a layer's file.
const TITLE: &str = "org.opencontainers.image.title";
/// Stands where there has to be something and is nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The operating system that only configurations written here name: an image for it is refused on any machine.
const OS: &str = "artifact";

/// What a layer's blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A tar, as it is or compressed, whose digest is known.
    Tar,
    /// The same, of which only the blob's digest is known.
    ArtifactTar,
    /// The content of a file with this path.
    File(String),
}

impl Form {
    /// What stands before a file's content, and behind it, so that a layer comes of it: folders above it, a header, and the end.
    pub(super) fn wrapping(&self, size: u64) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Form::File(path) = self else { return Ok(None) };
        let mut tar = tar::Builder::new(Vec::new());
        let mut folders: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        folders.retain(|folder| !folder.as_os_str().is_empty());
        for folder in folders.into_iter().rev() {
            let mut header = header(tar::EntryType::Directory, 0o755, 0);
            tar.append_data(&mut header, folder, io::empty())?;
        }
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        tar.append_data(&mut header, path, io::empty())?;
        let padding = size.next_multiple_of(512) - size;
        Ok(Some((std::mem::take(tar.get_mut()), vec![0; padding as usize + 1024])))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Whether this configuration was written here.
pub(super) fn is_artifact(configuration: &ImageConfiguration) -> bool {
    configuration.os().to_string() == OS
}

/// The artifact of a manifest; nothing but that is needed to know all of it. Where it was found is added by whoever knows.
pub(super) fn candidate(reference: Reference, manifest: &ImageManifest) -> Result<Candidate, Error> {
    let what = reference.to_string();
    let refuse = |reason: String| Error::Artifact { what: what.clone(), reason };
    let mut layers = Vec::new();
    let mut paths = HashSet::new();
    for descriptor in manifest.layers() {
        let Some(layer) = layer(descriptor).map_err(refuse)? else { continue };
        if let Form::File(path) = &layer.form
            && !paths.insert(path.clone())
        {
            return Err(refuse(format!("two of its files are called {path:?}")));
        }
        layers.push(layer);
    }
    if layers.is_empty() {
        return Err(refuse("it holds no file".to_owned()));
    }
    if layers.len() > MAX_LAYERS {
        return Err(Error::TooManyLayers { count: layers.len(), limit: MAX_LAYERS });
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = json!({"architecture": "any", "os": OS, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let members = layers.iter().filter_map(|layer| layer.blob.as_ref()).map(|(blob, _)| blob_name(blob));
    let members = members.collect();
    let id = Digest::of(&config);
    let (references, manifests, documents) = (vec![reference], Vec::new(), Vec::new());
    let image = ImageSpec { references, manifests, documents, id, config, layers };
    Ok(Candidate { image, members })
}

/// One layer of an artifact, under a digest that no image's layer has: it covers name and content. `None` for one that is nothing.
///
/// # Errors
/// In words why its file cannot have its name.
pub(super) fn layer(descriptor: &Descriptor) -> Result<Option<LayerSpec>, String> {
    if is_nothing(descriptor) {
        return Ok(None);
    }
    let media_type = descriptor.media_type().to_string();
    let digest = digest_of(descriptor).map_err(|error| error.to_string())?;
    let form = if is_tar(&media_type) {
        Form::ArtifactTar
    } else {
        let title = descriptor.annotations().as_ref().and_then(|all| all.get(TITLE));
        Form::File(title.map_or_else(|| Ok(digest.hex().to_owned()), |title| plain(title))?)
    };
    let key = match &form {
        Form::File(path) => format!("artifact file {path}\0{digest}"),
        Form::Tar | Form::ArtifactTar => format!("artifact tar {digest}"),
    };
    let diff_id = Digest::of(key.as_bytes());
    Ok(Some(LayerSpec { diff_id, blob: Some((digest, descriptor.size())), form }))
}

/// Whether it only stands where there has to be a layer.
pub(super) fn is_nothing(descriptor: &Descriptor) -> bool {
    descriptor.media_type().to_string() == EMPTY
}

fn is_tar(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
}

/// A path that stays inside, and that means nothing else in a layer.
fn plain(title: &str) -> Result<String, String> {
    let is_plain = |component| match component {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b".wh."),
        _ => false,
    };
    let fits = !title.is_empty()
        && !title.contains('\0')
        && !title.ends_with('/')
        && Path::new(title).components().all(is_plain);
    if fits { Ok(title.to_owned()) } else { Err(format!("{title:?} cannot be the name of a file in it")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_stays_inside_and_is_no_whiteout() {
        for good in ["a", "a/b.txt", ".hidden", "..a", "a b"] {
            assert_eq!(plain(good).unwrap(), good);
        }
        for bad in ["", "/a", "../a", "a/../b", "..", ".", "a/", ".wh.a", "a/.wh..wh..opq", "a\0b"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }
}
