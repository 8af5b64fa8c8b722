//! A checked ConfigMap or Secret: what Pods of its namespace may use, kept in memory only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// `kubernetes.io/dockerconfigjson`: its key holds a `config.json` of Docker.
pub const DOCKER_CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
/// `kubernetes.io/dockercfg`: the same in Docker's older format.
pub const DOCKER_CFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What names a document that Pods use: `Secret team/db`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    pub kind: ObjectKind,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A ConfigMap, or a Secret of any type. Two are equal if they say the same, wherever they stand.
#[derive(Clone, Debug)]
pub struct Object {
    pub id: ObjectId,
    /// Of a Secret: `Opaque`, `kubernetes.io/dockerconfigjson`, …; it has the keys that Kubernetes wants of this type.
    /// A ConfigMap has none: empty.
    pub type_: String,
    /// A Secret's `data` decoded, and `stringData` over it; a ConfigMap's `data`, and `binaryData` decoded.
    pub data: BTreeMap<String, Hidden>,
    /// Keys of `binaryData`: files only, no variable is made of them.
    pub binary: BTreeSet<String>,
    /// Of a sealed Secret, in the order of their keys: what is not in `data`, because nobody has decrypted it yet, or could.
    pub sealed: Vec<Sealed>,
    /// Line and column, from 1, of the value that its type is about; of the document where there is none such.
    pub place: (usize, usize),
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        (&self.id, &self.type_, &self.data, &self.binary, &self.sealed)
            == (&other.id, &other.type_, &other.data, &other.binary, &other.sealed)
    }
}

impl Object {
    /// The value of `key`, if it is a Secret of that type.
    pub fn of_type(&self, (type_, key): (&str, &str)) -> Option<&[u8]> {
        (self.type_ == type_).then(|| self.data.get(key).map(Hidden::bytes))?
    }

    /// The value of `key`, if it is one that variables are made of.
    pub fn variable(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).filter(|_| self.is_variable(key)).map(Hidden::bytes)
    }

    /// All keys, also of what is sealed.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let sealed = self.sealed.iter().map(|sealed| &sealed.key);
        self.data.keys().chain(sealed).map(String::as_str)
    }

    /// The keys that variables are made of.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.keys().filter(|key| self.is_variable(key))
    }

    /// Why nobody can have the value of `key`, if it is sealed.
    pub fn closed(&self, key: &str) -> Option<String> {
        let sealed = self.sealed.iter().find(|sealed| sealed.key == key)?;
        Some(format!("the key {key} of {} cannot be decrypted: {}", self.id, sealed.why))
    }

    /// Decrypts what is sealed. What `open` refuses stays sealed, with its reason.
    pub fn open(&mut self, open: Opener<'_>) {
        self.sealed.retain_mut(|sealed| match open(sealed.file.bytes()) {
            Ok(plain) => {
                self.data.insert(std::mem::take(&mut sealed.key), Hidden::new(plain));
                false
            }
            Err(why) => {
                sealed.why = why;
                true
            }
        });
    }

    fn is_variable(&self, key: &str) -> bool {
        !self.binary.contains(key)
    }
}

/// What an age file holds, or why that stays closed.
pub type Opener<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, String>;

/// A value of a sealed Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub key: String,
    /// An age file that is well-formed, not in armor.
    pub file: Hidden,
    /// Why it could not be decrypted; empty before that was tried.
    pub why: String,
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
