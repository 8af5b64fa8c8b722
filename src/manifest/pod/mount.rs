//! Where a container mounts a volume, how much of it, and what may be done there.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Names one of the Pod's volumes.
    pub volume: String,
    /// Absolute, without `..` and `:`; unique in the container.
    pub mount_path: String,
    /// `None`: all of the volume.
    pub sub_path: Option<SubPath>,
    pub access: Access,
    pub propagation: MountPropagation,
}

/// The part of a volume that is mounted: relative, without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubPath {
    Plain(String),
    /// With `$(VAR)` in it, which is not expanded yet.
    Expression(String),
}

/// What is allowed through a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    /// What is mounted below it is as it was.
    ReadOnly,
    /// So is all that is mounted below it, now.
    RecursiveReadOnly,
}

/// Which later mounts below a volume are seen on both of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPropagation {
    None,
    /// The host's, in the container.
    HostToContainer,
    /// Those of a privileged container on the host, too.
    Bidirectional,
}
