//! A checked Pod: every default applied, every name valid, every number within its range.
//!
//! What podkeep does not honour yet never gets this far: `manifest` refuses it by name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A Pod as it shall run on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub id: PodId,
    pub uid: Uid,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// At least one; names are unique.
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub restart_policy: RestartPolicy,
    /// Whole seconds; zero means at once.
    pub termination_grace: Duration,
    pub host_network: bool,
    /// The UTS host name of the Pod: `spec.hostname` or the Pod's name, at most 63 bytes.
    /// `None` where the Pod is on the host's network and so has the host's name.
    pub hostname: Option<String>,
    /// The node's name, part of the Pod's.
    pub node_name: String,
    /// The decoded manifest document with Kubernetes' defaults, as `v1` `Pod` JSON: what is shown, never what is decided on.
    pub object: serde_json::Value,
    /// The decoded document as it was written (no defaults, no node name, no server-set metadata): decoding it again
    /// on the same node gives this Pod again, same uid. This is what is saved.
    pub source: serde_json::Value,
}

impl Pod {
    /// As Kubernetes computes it (`pkg/apis/core/v1/helper/qos`): from cpu and memory alone.
    pub fn qos_class(&self) -> QosClass {
        let nothing = |resources: &Resources| resources.requests.is_zero() && resources.limits.is_zero();
        if self.containers.iter().all(|container| nothing(&container.resources)) {
            QosClass::BestEffort
        } else if self.containers.iter().all(|container| container.resources.is_guaranteed()) {
            QosClass::Guaranteed
        } else {
            QosClass::Burstable
        }
    }
}

impl Resources {
    /// cpu and memory both limited, and requested as much.
    fn is_guaranteed(&self) -> bool {
        let limited = |amount: Option<u64>| amount.is_some_and(|amount| amount > 0);
        limited(self.limits.cpu_milli) && limited(self.limits.memory) && self.requests == self.limits
    }
}

impl Amounts {
    /// Nothing is set, or zero, which Kubernetes counts as not set.
    fn is_zero(&self) -> bool {
        self.cpu_milli.unwrap_or(0) == 0 && self.memory.unwrap_or(0) == 0
    }
}

/// What names a Pod on a node: no two Pods with one id run at the same time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PodId {
    pub namespace: String,
    /// With the node's name appended (`web-edge7`), as the kubelet does.
    pub name: String,
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A versioned hash of the manifest's decoded content (and the node's name): 32 lower-case hex digits.
/// A changed comment, file name, default or program version does not change it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Uid(pub(in crate::manifest) String);

impl Uid {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a uid back from a folder's name; `None` unless it is 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Uid> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(hex)).then(|| Uid(text.to_owned()))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// `imagePullPolicy`, defaulted by the tag as Kubernetes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// One container of a Pod, security settings of Pod and container merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// A DNS label.
    pub name: String,
    /// As written in the manifest.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// `command`: replaces the image's entrypoint when not empty. `$(VAR)` is not expanded yet.
    pub command: Vec<String>,
    /// `args`: replaces the image's cmd when not empty. `$(VAR)` is not expanded yet.
    pub args: Vec<String>,
    /// In the manifest's order; `$(VAR)` is not expanded yet.
    pub env: Vec<EnvVar>,
    pub working_dir: Option<String>,
    pub ports: Vec<Port>,
    pub resources: Resources,
    pub security: Security,
    pub mounts: Vec<VolumeMount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

/// A declared port: shown, not yet acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Option<String>,
    pub container_port: u16,
    pub host_port: Option<u16>,
    pub protocol: Protocol,
}

/// Requests are defaulted to limits, as Kubernetes does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// What `securityContext` of Pod and container say together (the container's word wins).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// At most `i32::MAX`, as everywhere in Kubernetes (CVE-2024-40635 is what happens beyond).
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub privileged: bool,
    pub read_only_root: bool,
    /// Names as the kernel writes them, with `CAP_`; `ALL` stands for itself.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub kind: VolumeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    EmptyDir {
        medium: Medium,
        /// Bytes. Enforced for [`Medium::Memory`] as the tmpfs size; refused for a disk until it can be enforced.
        size_limit: Option<u64>,
    },
    HostPath {
        /// Absolute, without `..`.
        path: String,
        kind: HostPathKind,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Memory,
}

/// `hostPath.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathKind {
    Unchecked,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Names one of the Pod's volumes.
    pub volume: String,
    /// Absolute, without `..` and `:`; unique in the container.
    pub mount_path: String,
    pub read_only: bool,
}

/// The quality of service class, from requests and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}
