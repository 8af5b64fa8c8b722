//! Volumes made of files that podkeep writes: `configMap`, `secret`, `downwardAPI` and `projected`.

use super::{DownwardValue, ObjectRef, Volume, VolumeKind};

/// What the files of a volume are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    Object(ObjectSource),
    Downward(Vec<DownwardFile>),
}

/// Files of the values of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSource {
    pub object: ObjectRef,
    /// Which keys become which files; empty: every key the file of its name.
    pub items: Vec<KeyToPath>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyToPath {
    pub key: String,
    /// Relative, without `..`.
    pub path: String,
    /// 0 to 0777; `None` for that of the volume.
    pub mode: Option<u32>,
}

/// A file that says something of the Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownwardFile {
    /// As in [`KeyToPath`].
    pub path: String,
    pub mode: Option<u32>,
    pub value: DownwardValue,
}

impl Volume {
    /// The ConfigMaps and Secrets that its files come from.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let sources = match &self.kind {
            VolumeKind::Files { sources, .. } => sources.as_slice(),
            _ => &[],
        };
        sources.iter().filter_map(|source| match source {
            FileSource::Object(source) => Some(&source.object),
            FileSource::Downward(_) => None,
        })
    }
}
