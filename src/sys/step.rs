//! The steps that a container's first process can take before exec, and each as a sentence.
//!
//! A step holds all that it needs, ready for the kernel: [`child`](super::child) takes it without allocating.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::os::fd::OwnedFd;

/// The place of a descriptor that an early step opens and a later one uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

/// One step. Paths of the container are absolute and resolved inside its root, links included.
#[derive(Debug)]
pub enum Step {
    /// All signals to their default, none blocked: what the node ignores or handles is no business of a container.
    ResetSignals,
    /// The soft limit: the node's own is raised, and some programs go through every number up to it.
    LimitOpenFiles(u64),
    NewSession,
    /// `kind` is for the sentence only.
    JoinNamespace {
        kind: &'static str,
        namespace: OwnedFd,
    },
    /// In the child, because `clone3` would take the cloner's cgroup as the root of the new namespace.
    NewCgroupNamespace,
    Redirect {
        from: OwnedFd,
        to: Stream,
    },
    SetUmask(u32),
    /// No mount made from here on is seen by the host.
    MakeMountsPrivate,
    /// Copies what is mounted at a path of the host into a slot.
    OpenSource {
        source: CString,
        recursive: bool,
        slot: Slot,
    },
    /// Layers in `options` are named relative to `layers_dir`.
    MountRoot {
        layers_dir: CString,
        options: CString,
        at: CString,
    },
    /// From here on the host's files are gone.
    PivotRoot {
        at: CString,
    },
    /// A new file system. No link is followed on the way to `at`. Its descriptor stays in `slot`, if given.
    Mount {
        kind: CString,
        options: Vec<MountOption>,
        attributes: u64,
        at: CString,
        slot: Option<Slot>,
    },
    /// Attaches what an earlier [`Step::OpenSource`] copied; the target is made if it is missing.
    Bind {
        slot: Slot,
        source: CString,
        at: CString,
        attributes: u64,
        recursive: bool,
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
    MakeLink {
        below: Slot,
        path: CString,
        to: CString,
    },
    /// Standard input from the container's own `/dev/null`: one of the host would be a way out.
    NullInput,
    /// The working directory, where the image lacks it.
    EnsureDirectory {
        path: CString,
    },
    /// Hides a file behind `/dev/null` and a directory behind an empty one; nothing if it does not exist.
    Mask {
        path: CString,
    },
    /// Nothing if it does not exist.
    MakeReadOnly {
        path: CString,
    },
    MakeRootReadOnly,
    /// All but the standard streams and the report.
    CloseDescriptors,
    /// Drops all capabilities from the bounding set but these (bit n is capability n).
    BoundCapabilities(u64),
    SetGroups(Vec<u32>),
    SetGid(u32),
    SetUid(u32),
    /// Permitted and effective, as far as the process has them at all; inheritable, and so ambient, empty
    /// (CVE-2022-29162).
    SetCapabilities(u64),
    ForbidNewPrivileges,
    InstallSeccomp(Vec<libc::sock_filter>),
    /// Before the user changes, a refusal is forgiven: the new user may be allowed (a root-squashed NFS).
    EnterDirectory {
        path: CString,
        forgive: bool,
    },
    /// The working directory is inside the root (CVE-2024-21626).
    VerifyDirectory,
    /// Tries each candidate until one can be executed.
    Execute {
        candidates: Vec<CString>,
        arguments: StringArray,
        environment: StringArray,
    },
}

/// A standard stream that output goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout = 1,
    Stderr = 2,
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

/// Strings with the array of pointers, null at its end, that `execve` wants.
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into the heap blocks of `strings`, which move with the value and are never changed.
unsafe impl Send for StringArray {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for StringArray {}

impl StringArray {
    pub fn new(strings: Vec<CString>) -> StringArray {
        let end = std::iter::once(std::ptr::null());
        let pointers = strings.iter().map(|string| string.as_ptr()).chain(end).collect();
        StringArray { strings, pointers }
    }

    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// Valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.strings).finish()
    }
}

/// What is being done, so that `: EPERM` can follow.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ResetSignals => f.write_str("reset signals"),
            Step::LimitOpenFiles(soft) => write!(f, "limit open files to {soft}"),
            Step::NewSession => f.write_str("start a session"),
            Step::JoinNamespace { kind, .. } => write!(f, "join the Pod's {kind} namespace"),
            Step::NewCgroupNamespace => f.write_str("make a cgroup namespace"),
            Step::Redirect { to, .. } => write!(f, "redirect {}", stream(*to)),
            Step::SetUmask(mask) => write!(f, "set umask {mask:04o}"),
            Step::MakeMountsPrivate => f.write_str("make all mounts private"),
            Step::OpenSource { source, .. } => write!(f, "open {}", text(source)),
            Step::MountRoot { at, .. } => write!(f, "mount overlay on {}", text(at)),
            Step::PivotRoot { at } => write!(f, "pivot root to {}", text(at)),
            Step::Mount { kind, at, .. } => write!(f, "mount {} on {}", text(kind), text(at)),
            Step::Bind { source, at, .. } => write!(f, "bind {} to {}", text(source), text(at)),
            Step::MakeDirectory { path, .. } => write!(f, "make directory /dev/{}", text(path)),
            Step::MakeNode { path, .. } => write!(f, "make device /dev/{}", text(path)),
            Step::MakeLink { path, to, .. } => write!(f, "link /dev/{} to {}", text(path), text(to)),
            Step::NullInput => f.write_str("open /dev/null as stdin"),
            Step::EnsureDirectory { path } => write!(f, "make working directory {}", text(path)),
            Step::Mask { path } => write!(f, "mask {}", text(path)),
            Step::MakeReadOnly { path } => write!(f, "make {} read-only", text(path)),
            Step::MakeRootReadOnly => f.write_str("make the root read-only"),
            Step::CloseDescriptors => f.write_str("close all other descriptors"),
            Step::BoundCapabilities(set) => write!(f, "bound capabilities to {set:#x}"),
            Step::SetGroups(groups) => write!(f, "set groups {groups:?}"),
            Step::SetGid(gid) => write!(f, "set gid {gid}"),
            Step::SetUid(uid) => write!(f, "set uid {uid}"),
            Step::SetCapabilities(set) => write!(f, "set capabilities {set:#x}"),
            Step::ForbidNewPrivileges => f.write_str("forbid new privileges"),
            Step::InstallSeccomp(_) => f.write_str("install the seccomp filter"),
            Step::EnterDirectory { path, .. } => write!(f, "enter working directory {}", text(path)),
            Step::VerifyDirectory => f.write_str("verify that the working directory is inside the root"),
            Step::Execute { candidates, arguments, .. } => {
                let first = arguments.strings().first().or(candidates.first());
                write!(f, "execute {}", first.map_or_else(String::new, |name| text(name)))
            }
        }
    }
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// Control characters are escaped: a manifest's string must not write on somebody's terminal.
fn text(string: &CStr) -> String {
    let lossy = string.to_string_lossy();
    lossy.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
