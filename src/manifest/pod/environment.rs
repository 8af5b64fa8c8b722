//! Where a container's variables come from.

use super::{Amounts, Container, Pod, Resources, Volume};
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
    File(FileKeyRef),
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

/// What a node lets Pods have: all that one may use which has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    pub ephemeral_storage: u64,
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

/// `fileKeyRef`: a variable of an env file (KEP-3721), as it is when the container starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKeyRef {
    /// The name of an emptyDir of the Pod. The container need not mount it.
    pub volume: String,
    /// Below the volume; without `..`.
    pub path: String,
    pub key: String,
    /// Without the file, or the key, there is no variable; otherwise the container waits for it.
    pub optional: bool,
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

    /// Whether variables may have other values by the time of its next start.
    pub fn has_variables_that_change(&self) -> bool {
        let of_file = |variable: &EnvVar| matches!(variable.value, EnvValue::File(_));
        self.objects().next().is_some() || self.env.iter().any(of_file)
    }
}

impl Pod {
    /// The ConfigMaps and Secrets that its containers and volumes use, as often as they are named.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.containers
            .iter()
            .flat_map(Container::objects)
            .chain(self.volumes.iter().flat_map(Volume::objects))
    }
}

impl AmountRef {
    /// Rounded up. Without a limit of its own the container has its Pod's, else what the node has, which is asked for only then.
    pub fn of(&self, pod: &Pod, node: &dyn Fn() -> Allocatable) -> u64 {
        let named = pod.containers.iter().find(|container| container.name == self.container);
        let own = |list: fn(&Resources) -> &Amounts| self.set_in(list(&named?.resources));
        let found = match self.is_limit {
            true => {
                let of_pod = || self.set_in(&pod.resources.as_ref()?.limits);
                own(|resources| &resources.limits).or_else(of_pod).unwrap_or_else(|| self.in_node(node()))
            }
            false => own(|resources| &resources.requests).unwrap_or(0),
        };
        found.div_ceil(self.divisor)
    }

    /// Zero counts as not set.
    fn set_in(&self, amounts: &Amounts) -> Option<u64> {
        let amount = match &self.resource {
            ResourceName::Cpu => amounts.cpu_milli,
            ResourceName::Memory => amounts.memory,
            ResourceName::EphemeralStorage => amounts.ephemeral_storage,
            ResourceName::HugePages(size) => amounts.hugepages.get(size).copied(),
        };
        amount.filter(|amount| *amount != 0)
    }

    fn in_node(&self, node: Allocatable) -> u64 {
        match self.resource {
            ResourceName::Cpu => node.cpu_milli,
            ResourceName::Memory => node.memory,
            ResourceName::EphemeralStorage => node.ephemeral_storage,
            ResourceName::HugePages(_) => 0,
        }
    }
}
