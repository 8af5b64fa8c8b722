//! Volumes made of files that podkeep writes: `configMap`, `secret`, `downwardAPI` and `projected`.

use super::DownwardValue;

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

/// A ConfigMap or Secret of the Pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub kind: ObjectKind,
    pub name: String,
    /// Without it, or a key of it, there is nothing of it; otherwise the Pod waits.
    pub optional: bool,
}

/// Which kind of document is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    /// As a manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectKind::ConfigMap => "ConfigMap",
            ObjectKind::Secret => "Secret",
        }
    }
}
