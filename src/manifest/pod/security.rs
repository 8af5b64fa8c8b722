//! What `securityContext` says, of a Pod and of a container.

/// What `securityContext` of Pod and container say together (the container's word wins).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// At most `i32::MAX`, as everywhere in Kubernetes (CVE-2024-40635 is what happens beyond).
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    /// Not started as root, nor as a user of whom that cannot be said.
    pub run_as_non_root: bool,
    pub privileged: bool,
    pub read_only_root: bool,
    /// `Some(false)`: `no_new_privs` is set.
    pub allow_privilege_escalation: Option<bool>,
    pub proc_mount: ProcMount,
    /// `None` where neither Pod nor container says anything: [`seccomp_profile`](Self::seccomp_profile).
    pub seccomp: Option<SeccompProfile>,
    pub apparmor: Option<AppArmorProfile>,
    pub selinux: Option<SeLinuxOptions>,
    /// Names as the kernel writes them, with `CAP_`; `ALL` stands for itself.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
}

impl Security {
    /// The profile that the container is to have; `seccomp_default` is the node's `seccompDefault`. A privileged one has
    /// none, as with containerd.
    pub fn seccomp_profile(&self, seccomp_default: bool) -> &SeccompProfile {
        match &self.seccomp {
            _ if self.privileged => &SeccompProfile::Unconfined,
            Some(profile) => profile,
            None if seccomp_default => &SeccompProfile::RuntimeDefault,
            None => &SeccompProfile::Unconfined,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcMount {
    #[default]
    Default,
    /// Nothing of `/proc` is masked or read-only. Only in a Pod with its own user namespace.
    Unmasked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeccompProfile {
    RuntimeDefault,
    Unconfined,
    /// A file below the node's folder of profiles: a relative path without `..`.
    Localhost(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppArmorProfile {
    RuntimeDefault,
    Unconfined,
    /// The name of a profile that is loaded on the host.
    Localhost(String),
}

/// What is absent is left to the host's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeLinuxOptions {
    pub user: Option<String>,
    pub role: Option<String>,
    pub kind: Option<String>,
    pub level: Option<String>,
}

/// When the owner of a volume's files is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsGroupChangePolicy {
    #[default]
    Always,
    /// Only where the volume's root is not as it should be.
    OnRootMismatch,
}

/// What becomes of the groups that the image's `/etc/group` gives the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SupplementalGroupsPolicy {
    /// They are kept.
    #[default]
    Merge,
    /// They are left out.
    Strict,
}

/// A kernel parameter of one of the Pod's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Parts joined by dots; a `/` in it is a dot of the file's name (`net.ipv4.conf.eth0/1.forwarding`).
    pub name: String,
    pub value: String,
}
