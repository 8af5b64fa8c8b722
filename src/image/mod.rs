//! Images: references, OCI layouts and archives, blobs, unpacking, the store on disk.
//!
//! An import goes one way: a [`source`] opens a layout or an archive, [`manifest`] chooses the image for this machine, [`import`]
//! brings layers and configuration into the [`Store`], and the reference is written last. What the store lists is therefore whole.
//! [`pull()`] goes the same way from a [`registry`].
#![forbid(unsafe_code)]

mod artifact;
mod clean;
mod compression;
mod config;
mod digest;
mod entry;
mod error;
mod folder;
mod frames;
mod import;
mod ingest;
mod inherit;
mod inventory;
mod layer;
mod limits;
mod listing;
mod lookup;
mod manifest;
mod mount_points;
mod part;
mod pax;
mod platform;
mod progress;
mod pull;
mod read_ahead;
mod record;
mod reference;
mod registry;
mod save;
mod source;
mod spare;
mod sparse;
mod stamp;
mod store;
mod tap;
mod tree;
mod uses;
mod verify;
mod walk;
mod writer_folder;
mod written_ahead;

pub use clean::{Cleaned, CleanedImage, Keep, Policy};
pub use config::Config;
pub use digest::{Digest, InvalidDigest};
pub use error::{EntryError, Error, LayerError};
pub use folder::{Folder, NewSource, Sightings};
pub use mount_points::MOUNT_POINTS;
pub use progress::{Progress, Tell};
pub use pull::{PullError, PullOptions, is_current, pull};
pub use reference::{InvalidReference, Reference};
pub use registry::{Credential, Credentials, Failure, Hosts, InvalidCredentials, InvalidHosts, Lie, Wait};
pub use stamp::{Rest, SETTLE_TIME, Stamp};
pub use store::Store;
pub use verify::Damage;

/// An image that is whole in the store, under one of its references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub reference: Reference,
    /// The digest of the configuration, which covers the content of every layer: Docker's and Kubernetes' image ID.
    pub id: Digest,
    pub config: Config,
    /// It has files and nothing to run: it can be a volume only.
    pub is_artifact: bool,
    /// Names of folders in [`Store::layers_dir`], the bottom layer first; at most six characters each.
    pub layers: Vec<String>,
}

/// What `podkeep images` shows of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Sorted, at least one.
    pub references: Vec<Reference>,
    /// The digest of the configuration.
    pub id: Digest,
    /// When the image says it was made.
    pub created: Option<jiff::Timestamp>,
    /// Bytes of the unpacked layers' files; layers that other images share are counted in each.
    pub size: u64,
    /// Bytes of `size` in layers that other images share.
    pub shared: u64,
    /// How many layers the image has.
    pub layers: usize,
    /// What is wrong with it, as far as can be seen without reading all of it; the sizes are 0 then.
    pub damage: Option<String>,
}

/// One reference that an import brought into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub reference: Reference,
    /// The digest of the configuration.
    pub id: Digest,
    /// How many layers were unpacked now; the others were there already.
    pub new_layers: usize,
}
