//! Why an image cannot be read, unpacked or found.
//!
//! Each error says its own part; the sources below it say the rest, so the whole sentence is the chain
//! (`import web.tar: layer sha256:…: entry "etc/../../x": leaves the root`).

use std::io;
use std::path::{Path, PathBuf};

use super::digest::{Digest, InvalidDigest};
use super::reference::{InvalidReference, Reference};

/// What went wrong, with the path, digest or entry it concerns.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("{path} is neither an OCI layout nor an image archive: {reason}", path = path.display())]
    NotAnImage { path: PathBuf, reason: String },

    #[error("import {path}", path = path.display())]
    Import { path: PathBuf, source: Box<Error> },

    #[error("{member} is missing")]
    MissingMember { member: String },

    #[error("{member} is a symlink chain longer than {limit} links")]
    LinkedMember { member: String, limit: usize },

    #[error("{what} is {size} bytes long, at most {limit} are allowed")]
    TooLarge { what: String, size: u64, limit: u64 },

    #[error("read {what}")]
    Read { what: String, source: io::Error },

    #[error("{what} is not valid JSON of its kind")]
    Json { what: String, source: serde_json::Error },

    #[error("{what} has the digest {actual}, not {expected}")]
    WrongDigest { what: String, expected: Digest, actual: Digest },

    #[error("{what} is {actual} bytes long, not {expected}")]
    WrongSize { what: String, expected: u64, actual: u64 },

    #[error(transparent)]
    InvalidDigest(#[from] InvalidDigest),

    #[error(transparent)]
    InvalidReference(#[from] InvalidReference),

    #[error("{what} is for {found}, this machine runs {wanted}")]
    WrongPlatform { what: String, found: String, wanted: String },

    #[error("{what} has the media type {media_type}, which podkeep cannot read")]
    MediaType { what: String, media_type: String },

    #[error("{what} is an artifact: {reason}")]
    Artifact { what: String, reason: String },

    #[error("{what} is a manifest and an index at once: nobody can say which image is meant")]
    Ambiguous { what: String },

    #[error("the image has {count} layers, at most {limit} can be mounted")]
    TooManyLayers { count: usize, limit: usize },

    #[error("the manifest lists {layers} layers, the configuration {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },

    #[error(
        "{count} images have no name, so none can be called after the file: tag them when they are saved"
    )]
    Unnamed { count: usize },

    #[error("an index inside an index inside an index is not followed further than {limit} levels")]
    NestedIndex { limit: usize },

    #[error("layer {diff_id} was removed meanwhile by a clean-up of another process: try again")]
    LayerGone { diff_id: Digest },

    #[error("there is no image {reference} in the store")]
    NoImage { reference: Reference },

    #[error(
        "the blob of layer {diff_id} is not kept any more: load its image again, or pull it with --spare-copies"
    )]
    NoBlob { diff_id: Digest },

    #[error("{path} is damaged: load its image again, or pull it with --spare-copies", path = path.display())]
    BadBlob { path: PathBuf },

    #[error(
        "the manifest {digest} is not in the store any more: load its image again, or pull it with --spare-copies"
    )]
    NoManifest { digest: Digest },

    #[error("image {reference} is needed as {named}")]
    Named { reference: Box<Reference>, named: Box<Reference> },

    #[error("image {reference} is needed by the image folder: remove {path} first", path = path.display())]
    InFolder { reference: Box<Reference>, path: PathBuf },

    #[error("write the archive")]
    Write { source: io::Error },

    #[error("given up, since another layer of the image failed")]
    Cancelled,

    #[error("layer {diff_id}")]
    Layer { diff_id: Digest, source: Box<LayerError> },

    #[error("image {image} is damaged in the store: {path}: {reason}", path = path.display())]
    Damaged { image: Digest, path: PathBuf, reason: String },

    #[error("{path} is longer than {limit} bytes", path = path.display())]
    FileTooLarge { path: PathBuf, limit: usize },
}

/// Why a layer cannot be unpacked. Nothing outside the layer's folder was touched.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("read the archive")]
    Archive(#[source] io::Error),

    #[error("read the blob")]
    Blob(#[source] io::Error),

    #[error("keep the blob")]
    Keep(#[source] io::Error),

    #[error("entry {entry:?}")]
    Entry { entry: String, source: EntryError },

    #[error("it holds more than {limit} entries")]
    TooManyEntries { limit: u64 },

    #[error("it unpacks to more than {limit} bytes")]
    TooLarge { limit: u64 },

    #[error("it unpacks to more than {limit} bytes, and to more than {expansion} times its blob")]
    Bomb { limit: u64, expansion: u64 },

    #[error("the {what} has the digest {actual}, not {expected}")]
    WrongDigest { what: &'static str, expected: Digest, actual: Digest },

    #[error("the blob is {actual} bytes long, not {expected}")]
    WrongSize { expected: u64, actual: u64 },
}

/// What is wrong with one entry of a layer.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("leaves the root")]
    LeavesRoot,
    #[error("its parent is reached over a symlink that leads out of the root or to nowhere")]
    ParentLeavesRoot,
    #[error("its parent is not a folder")]
    ParentNotFolder,
    #[error("its path is longer than {limit} bytes or deeper than {depth} folders")]
    PathTooLong { limit: usize, depth: usize },
    #[error("its name contains a zero byte")]
    ZeroByte,
    #[error("the whiteout names no file")]
    InvalidWhiteout,
    #[error("the hardlink's target {target:?} leaves the root")]
    LinkLeavesRoot { target: String },
    #[error("the hardlink's target {target:?} is not in this layer")]
    LinkTargetMissing { target: String },
    #[error("the hardlink's target {target:?} is a folder")]
    LinkToFolder { target: String },
    #[error("the symlink's target is empty, has a zero byte or is too long")]
    InvalidLinkTarget,
    #[error("entries of type {kind:?} cannot be unpacked")]
    UnknownType { kind: char },
    #[error("a character device 0:0 is overlayfs' own mark and cannot be an entry")]
    WhiteoutDevice,
    #[error("the attribute {name:?} is overlayfs' own and cannot be set by an archive")]
    OverlayAttribute { name: String },
    #[error("its header's {field} is not valid")]
    InvalidHeader { field: &'static str },
    #[error("its size is {header} bytes by its header and {extended} by its extended header")]
    AmbiguousSize { header: u64, extended: u64 },
    #[error("its map of a sparse file is not valid, or of a version after 1.0")]
    InvalidSparse,
    #[error("read its content")]
    Content(#[source] io::Error),
    #[error("the archive ends after {read} of its {size} bytes")]
    Truncated { read: u64, size: u64 },
    #[error("{action}")]
    Io { action: &'static str, source: io::Error },
}

impl Error {
    /// Whether the store is not as it should be, which [`super::Store::mend`] may change.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. })
    }

    /// Whether a layer's bytes are wrong, as against a disk, a network or another layer that failed.
    pub(super) fn is_in_the_bytes(&self) -> bool {
        match self {
            Error::Layer { source, .. } => source.is_in_the_bytes(),
            _ => false,
        }
    }

    /// For `map_err`: says what was being done to which path.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source: source.into() }
    }
}

impl LayerError {
    /// Whether it would not have come to this with other bytes, so that a blob which is not the expected one explains it.
    pub(super) fn is_in_the_bytes(&self) -> bool {
        match self {
            LayerError::Blob(_) | LayerError::Keep(_) => false,
            LayerError::Entry { source, .. } => !matches!(source, EntryError::Io { .. }),
            _ => true,
        }
    }
}

impl EntryError {
    /// For `map_err`: says what was being done to the entry.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> EntryError {
        move |source| EntryError::Io { action, source: source.into() }
    }
}
