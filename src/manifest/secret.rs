//! A checked Secret: what Pods of its namespace may use, kept in memory only.

use std::collections::BTreeMap;
use std::fmt;

/// `kubernetes.io/dockerconfigjson`: its key holds a `config.json` of Docker.
pub const DOCKER_CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
/// `kubernetes.io/dockercfg`: the same in Docker's older format.
pub const DOCKER_CFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

/// What names a document that Pods use (a Secret): unique for its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Secret of any type. Two are equal if they say the same, wherever they stand.
#[derive(Clone, Debug)]
pub struct Secret {
    pub id: ObjectId,
    /// `Opaque`, `kubernetes.io/dockerconfigjson`, …; it has the keys that Kubernetes wants of this type.
    pub type_: String,
    /// `data` decoded, and `stringData` over it.
    pub data: BTreeMap<String, Hidden>,
    /// Line and column, from 1, of the value that its type is about; of the Secret where there is none such.
    pub place: (usize, usize),
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        (&self.id, &self.type_, &self.data) == (&other.id, &other.type_, &other.data)
    }
}

impl Secret {
    /// The value of `key`, if the Secret is of that type.
    pub fn of_type(&self, (type_, key): (&str, &str)) -> Option<&[u8]> {
        (self.type_ == type_).then(|| self.data.get(key).map(Hidden::bytes))?
    }
}

/// What nobody may read in a log: not shown by `Debug`, and never written to disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Vec<u8>);

impl Hidden {
    pub fn new(bytes: Vec<u8>) -> Hidden {
        Hidden(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}
