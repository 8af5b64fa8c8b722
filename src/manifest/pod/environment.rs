//! Where a container's variables come from.

use super::{Container, Pod};
use crate::manifest::object::{ObjectId, ObjectKind};

/// One of `env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// As it is written: `$(VAR)` is not expanded yet.
    Text(String),
    /// A field of the Pod that its manifest alone says; nothing in it is expanded.
    Field(String),
    /// The Pod's uid.
    Uid,
    Address(Address),
    Amount(AmountRef),
    Key(KeyRef),
}

/// What the network says of the Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    HostIp,
    HostIps,
    PodIp,
    PodIps,
}

/// `resourceFieldRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmountRef {
    /// The name of one of the Pod's.
    pub container: String,
    pub is_limit: bool,
    pub resource: ResourceName,
    /// In the resource's own unit: thousandths of a core, bytes. Not 0.
    pub divisor: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceName {
    Cpu,
    Memory,
    EphemeralStorage,
    /// The size of a page, as [`Amounts::hugepages`](super::Amounts::hugepages) has it.
    HugePages(String),
}

/// A ConfigMap or Secret of the Pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub kind: ObjectKind,
    pub name: String,
    /// Without it, or the key, there is no variable; otherwise the container waits for it.
    pub optional: bool,
}

/// `configMapKeyRef`, `secretKeyRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    pub object: ObjectRef,
    pub key: String,
}

/// One of `envFrom`: a variable for each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Stands before each key; may be empty.
    pub prefix: String,
    pub object: ObjectRef,
}

impl ObjectRef {
    /// Which one it is to a Pod of this namespace.
    pub fn id_in(&self, namespace: &str) -> ObjectId {
        ObjectId { kind: self.kind, namespace: namespace.to_owned(), name: self.name.clone() }
    }
}

impl EnvVar {
    /// One that is written out.
    pub fn text(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.to_owned(), value: EnvValue::Text(value.to_owned()) }
    }
}

impl Container {
    /// The ConfigMaps and Secrets that its variables come from, as often as they are named.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let of_keys = self.env.iter().filter_map(|variable| match &variable.value {
            EnvValue::Key(key) => Some(&key.object),
            _ => None,
        });
        self.env_from.iter().map(|from| &from.object).chain(of_keys)
    }
}

impl Pod {
    /// The ConfigMaps and Secrets that its containers use, as often as they are named.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.containers.iter().flat_map(Container::objects)
    }
}
