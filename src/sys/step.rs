//! The steps that a process can take between clone and exec.
//!
//! A step holds all that it needs, ready for the kernel: [`child`](super::child) takes it without allocating.

mod sentence;
mod strings;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

pub use strings::StringArray;

/// The place of a descriptor that an early step opens and a later one uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

/// One step. Paths of the container are absolute and resolved inside its root, links included.
#[derive(Debug)]
pub enum Step {
    /// All signals to their default, none blocked: what the node ignores or handles is no business of a container.
    ResetSignals,
    /// The kernel reaps children that end, instead of the process: SIGCHLD is ignored, over exec too.
    IgnoreChildren,
    /// What its children leave behind when they end becomes its own, over exec too, and not the container's first process's.
    AdoptOrphans,
    LimitResource(ResourceLimit),
    /// `/proc/self/oom_score_adj`: to lower it needs CAP_SYS_RESOURCE in the host's user namespace.
    AdjustOomScore {
        value: CString,
    },
    /// `ioprio_set(2)`: class and priority in one number.
    SetIoPriority(i32),
    SetScheduler(Box<SchedulerAttributes>),
    NewSession,
    /// The session keyring of that name, made unless it is there: not the caller's (keyctl(2)).
    JoinKeyring {
        name: CString,
    },
    /// `kind` is for the sentence only.
    JoinNamespace {
        kind: &'static str,
        namespace: OwnedFd,
    },
    /// The namespaces (`CLONE_NEW*`) of a process, all at once.
    JoinProcess {
        pidfd: OwnedFd,
        namespaces: u64,
    },
    /// In the child, because `clone3` would take the cloner's cgroup as the root of the new namespace.
    NewCgroupNamespace,
    /// Before a [`Step::Fork`]: where a root is mounted that the new user namespace may not mount itself.
    NewMountNamespace,
    /// For those forked from here on; `offsets` as `/proc/self/timens_offsets` takes them.
    NewTimeNamespace {
        offsets: CString,
    },
    /// The following steps are taken by a new process in these new namespaces (`CLONE_NEW*`), a sibling of this one, which
    /// ends: a user, PID or time namespace that was joined is only its children's, or needs them.
    Fork {
        namespaces: u64,
    },
    /// User and group 0 of the user namespace that was joined: until then the process is nobody there.
    BecomeRoot,
    SetHostName {
        name: CString,
    },
    SetDomainName {
        name: CString,
    },
    /// In a new network namespace, loopback is down.
    RaiseLoopback,
    Redirect {
        from: OwnedFd,
        to: Stream,
    },
    SetUmask(u32),
    /// Of all mounts of the host that this process sees: what is mounted from here on is not seen by the host.
    SetHostPropagation(Propagation),
    /// Copies what is mounted at a path of the host, or below it, into a slot, with owners mapped by a user namespace if one is given.
    OpenSource {
        source: CString,
        below: Option<Below>,
        recursive: bool,
        slot: Slot,
        map: Option<Mapping>,
    },
    /// Puts a copy of the layers' directory, its owners mapped, in its own place.
    MapLayers {
        layers_dir: CString,
        map: Mapping,
    },
    /// Layers in `options` are named relative to `layers_dir`.
    MountRoot {
        layers_dir: CString,
        options: CString,
        at: CString,
    },
    /// An overlay of such layers into a slot, attached nowhere: read-only, without devices, and no program runs from it.
    OpenImage {
        layers_dir: CString,
        options: CString,
        /// Where it is mounted for a moment.
        at: CString,
        below: Option<Below>,
        slot: Slot,
    },
    EnterHostDirectory {
        path: CString,
    },
    /// Attaches what an earlier [`Step::OpenSource`] copied: it is the root to be, as with [`Step::OpenRoot`].
    AttachRoot {
        slot: Slot,
        at: CString,
    },
    /// The root to be: the paths of all steps from here on are below it.
    OpenRoot {
        at: CString,
    },
    /// From here on the host's files are gone.
    PivotRoot,
    /// Where the host's root cannot be pivoted: the root to be is moved over it, which a process with CAP_SYS_CHROOT
    /// could leave (runc's `--no-pivot`).
    MoveRoot,
    /// Of the container's root mount.
    SetRootPropagation(Propagation),
    /// A new file system. No link is followed on the way to `at`. Its descriptor stays in `slot`, if given.
    Mount {
        kind: CString,
        options: Vec<MountOption>,
        change: MountChange,
        at: CString,
        slot: Option<Slot>,
        inherit: Inherit,
    },
    /// Attaches what an earlier [`Step::OpenSource`] copied; the target is made if it is missing.
    Bind {
        slot: Slot,
        source: CString,
        at: CString,
        change: MountChange,
    },
    /// A file system mounted anew by an option only (`remount`).
    Remount {
        at: CString,
        change: MountChange,
    },
    /// The container's `/dev`, whatever it is, into a slot.
    OpenDirectory {
        at: CString,
        slot: Slot,
    },
    /// A directory, with its parents, below the file system in the slot.
    MakeDirectory {
        below: Slot,
        path: CString,
    },
    MakeNode {
        below: Slot,
        path: CString,
        node: Node,
    },
    /// Where nodes cannot be made (in a user namespace): the host's own in its place.
    BindNode {
        below: Slot,
        path: CString,
        node: Slot,
    },
    /// Left alone where something is already.
    MakeLink {
        below: Slot,
        path: CString,
        to: CString,
    },
    /// Standard input from the container's own `/dev/null`: one of the host would be a way out.
    NullInput,
    /// A terminal of the container's own `/dev/pts` as its standard streams, on its `/dev/console` if asked; the other
    /// end is sent over the socket.
    OpenTerminal {
        socket: OwnedFd,
        size: Option<TerminalSize>,
        owner: u32,
        console: bool,
    },
    /// Tells that everything but the pivot is done, and waits for the word to go on: hooks run meanwhile.
    AwaitHooks,
    /// A procfs that nobody else sees, into a slot: what is written there cannot be redirected by what lies at the
    /// container's `/proc` (CVE-2019-19921, CVE-2025-52881).
    OpenPrivateProc {
        slot: Slot,
    },
    /// A kernel parameter or a label of the process, `path` below the private procfs.
    WriteProc {
        proc: Slot,
        path: CString,
        value: CString,
    },
    /// The working directory, where the image lacks it.
    EnsureDirectory {
        path: CString,
    },
    /// Hides a file behind `/dev/null` and a directory behind an empty one; nothing if it does not exist.
    Mask {
        path: CString,
        /// The mount options of the empty directory, an SELinux context for instance.
        options: Vec<MountOption>,
    },
    /// Nothing if it does not exist.
    MakeReadOnly {
        path: CString,
    },
    MakeRootReadOnly,
    /// All but the standard streams, the report, and as many as `keep` says from 3 on; `later` is the number of the one
    /// that a later [`Step::AwaitStart`] or [`Step::ExecuteFile`] needs.
    CloseDescriptors {
        keep: u32,
        later: Option<RawFd>,
    },
    SetPersonality(u32),
    /// Drops all capabilities from the bounding set but these (bit n is capability n).
    BoundCapabilities(u64),
    SetGroups(Vec<u32>),
    SetGid(u32),
    /// Capabilities that shall become ambient are `kept` over it.
    SetUid {
        uid: u32,
        keep_capabilities: bool,
    },
    SetCapabilities(CapabilitySets),
    ForbidNewPrivileges,
    InstallSeccomp(Arc<Filter>),
    /// Before the user changes, a refusal is forgiven: the new user may be allowed (a root-squashed NFS).
    EnterDirectory {
        path: CString,
        forgive: bool,
    },
    /// The working directory is inside the root (CVE-2024-21626).
    VerifyDirectory,
    /// One of the candidates can be executed, as far as can be told before the start.
    FindProgram {
        candidates: Vec<CString>,
    },
    /// Tells that the container is made, and waits for a byte on the descriptor.
    AwaitStart {
        from: OwnedFd,
    },
    /// Tries each candidate until one can be executed.
    Execute {
        candidates: Vec<CString>,
        arguments: StringArray,
        environment: StringArray,
    },
    /// A program that no path of the container leads to.
    ExecuteFile {
        program: OwnedFd,
        arguments: StringArray,
    },
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
}

/// `setrlimit(2)`; [`u64::MAX`] is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// `struct sched_attr` of linux/sched/types.h (SCHED_ATTR_SIZE_VER0).
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Whether mounts are seen across mount namespaces (`MS_SHARED` and its kin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    pub kind: PropagationKind,
    pub recursive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropagationKind {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// What is changed of a mount once it is made (`mount_setattr(2)`): bits are `MOUNT_ATTR_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountChange {
    pub set: u64,
    pub clear: u64,
    /// For what is mounted below too.
    pub recursive_set: u64,
    pub recursive_clear: u64,
    pub propagation: Vec<Propagation>,
}

/// What a new file system takes over from the directory that it hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inherit {
    #[default]
    Nothing,
    /// Permissions and owner.
    Mode,
    /// What lies in it too (`tmpcopyup`).
    Content,
}

/// A place below what is opened, which no link on the way may lead out of.
#[derive(Debug)]
pub struct Below {
    /// The folders on the way and, last, the place itself: relative, without `.` and `..`.
    pub prefixes: Vec<CString>,
    /// Whose the folders are that are made where they are missing, with the mode of what is opened; `None`: none are made.
    pub owner: Option<u32>,
}

impl Below {
    pub fn path(&self) -> &CStr {
        self.prefixes.last().map_or(c".", CString::as_c_str)
    }
}

/// A user namespace whose maps a mount takes.
#[derive(Debug)]
pub struct Mapping {
    pub user_namespace: OwnedFd,
    pub recursive: bool,
}

/// An option of a new file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountOption {
    Flag(CString),
    Value(CString, CString),
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
}

/// In characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// What a process may do, as far as it may at all. Inheritable are those that become ambient and no others
/// (CVE-2022-29162).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    pub permitted: u64,
    pub effective: u64,
    pub ambient: u64,
}

/// A program of classic BPF that judges system calls, and the `SECCOMP_FILTER_FLAG_*` it is installed with.
pub struct Filter {
    pub instructions: Vec<libc::sock_filter>,
    pub flags: u32,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions, flags {:#x})", self.instructions.len(), self.flags)
    }
}

impl Step {
    /// The descriptor that the step uses of those that were open before the clone.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        let fd = match self {
            Step::JoinNamespace { namespace, .. } => namespace,
            Step::JoinProcess { pidfd, .. } => pidfd,
            Step::Redirect { from, .. } | Step::AwaitStart { from } => from,
            Step::OpenSource { map: Some(map), .. } | Step::MapLayers { map, .. } => &map.user_namespace,
            Step::OpenTerminal { socket, .. } => socket,
            Step::ExecuteFile { program, .. } => program,
            _ => return None,
        };
        Some(fd.as_raw_fd())
    }
}
