//! A checked Pod: every default applied, every name valid, every number within its range.
//!
//! What podkeep does not honour yet never gets this far: `manifest` refuses it by name.

mod downward;
mod environment;
mod files;
mod lifecycle;
mod mount;
mod names;
mod resources;
mod restart;
mod security;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

pub use downward::DownwardValue;
pub use environment::{
    Address, Allocatable, AmountRef, EnvFrom, EnvValue, EnvVar, FileKeyRef, KeyRef, ObjectRef, ResourceName,
};
pub use files::{DownwardFile, FileSource, KeyToPath, ObjectSource};
pub use lifecycle::{HookAction, HttpGet, Lifecycle, Probe, ProbeAction, Probes};
pub use mount::{Access, MountPropagation, SubPath, VolumeMount};
pub use names::{DnsPolicy, HostAlias, PodDns};
pub use resources::{Amounts, QosClass, Resources, at_once};
pub use restart::{Restart, RestartAction, RestartPolicy, RestartRule, Role};
pub use security::{
    AppArmorProfile, FsGroupChangePolicy, ProcMount, SeLinuxOptions, SeccompProfile, Security,
    SupplementalGroupsPolicy, Sysctl,
};

/// A Pod as it shall run on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub id: PodId,
    pub uid: Uid,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// In the order of their turns: init containers and sidecars first. At least one is [`Role::Main`]; names are unique.
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// Names of Secrets of its namespace, in the manifest's order.
    pub image_pull_secrets: Vec<String>,
    /// Of every container, all of them together. Whole seconds; zero means at once.
    pub termination_grace: Duration,
    /// Whole seconds since the Pod's start, after which it has failed.
    pub active_deadline: Option<Duration>,
    /// Instead of the node's [`max_container_restart_period`](crate::config::Config): 1 s to 300 s.
    pub max_restart_period: Option<Duration>,
    /// An edit replaces it the kubelet's way: the old version is stopped, whether or not this one can be prepared.
    pub recreate: bool,
    /// Its containers start again when a ConfigMap or Secret that it uses has changed.
    pub restart_on_change: bool,
    /// It starts when these are Ready, and ends before they do.
    pub after: Vec<PodId>,
    pub ingress: Ingress,
    /// Addresses that it wants of a CNI network (`podkeep.io/ips`), as plugins take them: with the length of a prefix or without.
    pub ips: Vec<String>,
    /// Bits per second that may come in, and that may go out, on a CNI network (`kubernetes.io/ingress-bandwidth`).
    pub bandwidth: [Option<u64>; 2],
    pub host_network: bool,
    /// The host's PID namespace; never together with `share_process_namespace`.
    pub host_pid: bool,
    /// The host's IPC namespace, and with it the host's `/dev/shm`.
    pub host_ipc: bool,
    /// One PID namespace for all containers; otherwise each has its own.
    pub share_process_namespace: bool,
    /// `false`: the Pod has a user namespace of its own, and then no namespace of the host.
    pub host_users: bool,
    /// Group of the Pod's volumes, and a supplementary group of every process. At most `i32::MAX`, as all groups here.
    pub fs_group: Option<u32>,
    pub fs_group_change_policy: FsGroupChangePolicy,
    pub supplemental_groups: Vec<u32>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// Names are unique. Which of them a node lets a Pod set: [`forbidden_sysctls`](super::forbidden_sysctls).
    pub sysctls: Vec<Sysctl>,
    /// What all containers share, where the manifest says so (`spec.resources`); at least one amount is set.
    pub resources: Option<Resources>,
    pub priority_class_name: Option<String>,
    /// Zero where neither a number nor one of the system's classes is written.
    pub priority: i32,
    /// What the Pod is called: `spec.hostnameOverride` (at most 64 bytes), `spec.hostname` or the Pod's name (at most 63).
    /// `None` where the Pod is on the host's network and so has the host's name.
    pub hostname: Option<String>,
    /// A DNS label, part of the name that the Pod would have in a cluster.
    pub subdomain: Option<String>,
    /// `setHostnameAsFQDN`: the kernel's host name is that whole name.
    pub hostname_is_fqdn: bool,
    pub host_aliases: Vec<HostAlias>,
    pub dns: PodDns,
    /// The node's name, part of the Pod's.
    pub node_name: String,
    /// The decoded manifest document with Kubernetes' defaults, as `v1` `Pod` JSON: what is shown, never what is decided on.
    pub object: serde_json::Value,
    /// The decoded document as it was written (no defaults, no node name, no server-set metadata): decoding it again
    /// on the same node gives this Pod again, same uid. This is what is saved.
    pub source: serde_json::Value,
}

impl Pod {
    /// A Pod of which nothing else is said: no volumes and no wishes, the host's name, Kubernetes' 30 seconds.
    pub fn plain(id: PodId, uid: Uid, containers: Vec<Container>) -> Pod {
        Pod {
            id,
            uid,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers,
            volumes: Vec::new(),
            image_pull_secrets: Vec::new(),
            termination_grace: Duration::from_secs(30),
            active_deadline: None,
            max_restart_period: None,
            recreate: false,
            restart_on_change: false,
            after: Vec::new(),
            ingress: Ingress::All,
            ips: Vec::new(),
            bandwidth: [None; 2],
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            host_users: true,
            fs_group: None,
            fs_group_change_policy: FsGroupChangePolicy::default(),
            supplemental_groups: Vec::new(),
            supplemental_groups_policy: SupplementalGroupsPolicy::default(),
            sysctls: Vec::new(),
            resources: None,
            priority_class_name: None,
            priority: 0,
            hostname: None,
            subdomain: None,
            hostname_is_fqdn: false,
            host_aliases: Vec::new(),
            dns: PodDns::default(),
            node_name: String::new(),
            object: serde_json::Value::Null,
            source: serde_json::Value::Null,
        }
    }
}

impl Pod {
    /// Every image that the Pod names, by its containers and volumes.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().filter_map(|volume| match &volume.kind {
            VolumeKind::Image { reference, .. } => Some(reference.as_str()),
            _ => None,
        });
        self.containers.iter().map(|container| container.image.as_str()).chain(volumes)
    }
}

impl Container {
    /// A container of which nothing else is said: one of `spec.containers`, restarted `Always`.
    pub fn plain(name: &str, image: &str) -> Container {
        Container {
            name: name.to_owned(),
            role: Role::Main,
            restart: Restart::by(RestartPolicy::Always),
            lifecycle: Lifecycle::default(),
            probes: Probes::default(),
            image: image.to_owned(),
            pull_policy: PullPolicy::IfNotPresent,
            command: Vec::new(),
            args: Vec::new(),
            env_from: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            ports: Vec::new(),
            resources: Resources::default(),
            security: Security::default(),
            mounts: Vec::new(),
            termination_message: TerminationMessage::default(),
        }
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
    pub role: Role,
    pub restart: Restart,
    pub lifecycle: Lifecycle,
    pub probes: Probes,
    /// As written in the manifest.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// `command`: replaces the image's entrypoint when not empty. `$(VAR)` is not expanded yet.
    pub command: Vec<String>,
    /// `args`: replaces the image's cmd when not empty. `$(VAR)` is not expanded yet.
    pub args: Vec<String>,
    /// In the manifest's order; a variable of `env` counts more.
    pub env_from: Vec<EnvFrom>,
    /// In the manifest's order, of which the later counts.
    pub env: Vec<EnvVar>,
    pub working_dir: Option<String>,
    pub ports: Vec<Port>,
    pub resources: Resources,
    pub security: Security,
    pub mounts: Vec<VolumeMount>,
    pub termination_message: TerminationMessage,
}

/// Where the last words of a container's run are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationMessage {
    /// `terminationMessagePath`: absolute, without `..` and `:`.
    pub path: String,
    /// `terminationMessagePolicy: FallbackToLogsOnError`: where a run that failed left nothing there, the end of its log.
    pub or_logs: bool,
}

impl TerminationMessage {
    /// Where none is written.
    pub const PATH: &str = "/dev/termination-log";
}

impl Default for TerminationMessage {
    fn default() -> TerminationMessage {
        TerminationMessage { path: TerminationMessage::PATH.to_owned(), or_logs: false }
    }
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

/// Who may reach a Pod, by `podkeep.io/ingress`. Answers to what the Pod has begun itself always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ingress {
    /// Nobody.
    None,
    /// Whoever comes by one of its host ports, wherever from; not by the Pod's own address.
    HostPort,
    /// Other Pods of this node, by its address and by its host ports; neither the host nor the world.
    Pods,
    #[default]
    All,
}

impl Ingress {
    /// As the annotation says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ingress::None => "none",
            Ingress::HostPort => "hostport",
            Ingress::Pods => "pods",
            Ingress::All => "all",
        }
    }
}

/// A declared port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Option<String>,
    pub container_port: u16,
    /// At which port of the host it is reached too; its own on the host's network.
    pub host_port: Option<u16>,
    /// At this address of the host only.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
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
        /// Bytes, not zero. In memory the file system's size, on a disk measured
        /// ([`pod::storage`](crate::pod::storage)).
        size_limit: Option<u64>,
    },
    HostPath {
        /// Absolute, without `..`.
        path: String,
        kind: HostPathKind,
    },
    /// The files of an image or an artifact, read-only and without programs.
    Image {
        /// As written in the manifest.
        reference: String,
        pull_policy: PullPolicy,
    },
    /// `configMap`, `secret`, `downwardAPI` or `projected`: files that podkeep writes and containers may only read.
    Files {
        /// Of all but `projected` one.
        sources: Vec<FileSource>,
        /// 0 to 0777.
        default_mode: u32,
        /// Whether the kubelet makes them in a tmpfs, whose own folder is another one: all but `configMap`.
        in_memory: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Memory,
    /// Of pages of so many bytes.
    HugePages(u64),
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
