//! Each step as a sentence: what is being done, so that `: EPERM` can follow.

use std::ffi::CStr;
use std::fmt;

use super::{PropagationKind, Step, Stream};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ResetSignals => f.write_str("reset signals"),
            Step::IgnoreChildren => f.write_str("ignore SIGCHLD"),
            Step::AdoptOrphans => f.write_str("become a subreaper"),
            Step::LimitResource(limit) => {
                write!(f, "limit {} to {}", resource(limit.resource), limit.soft)
            }
            Step::AdjustOomScore { value } => write!(f, "set oom_score_adj to {}", text(value)),
            Step::SetIoPriority(_) => f.write_str("set the I/O priority"),
            Step::SetScheduler(_) => f.write_str("set the scheduling policy"),
            Step::NewSession => f.write_str("start a session"),
            Step::JoinKeyring { name } => write!(f, "join the session keyring {}", text(name)),
            Step::JoinNamespace { kind, .. } => write!(f, "join the {kind} namespace"),
            Step::JoinProcess { .. } => f.write_str("join the container's namespaces"),
            Step::NewCgroupNamespace => f.write_str("make a cgroup namespace"),
            Step::NewMountNamespace => f.write_str("make a mount namespace"),
            Step::NewTimeNamespace { .. } => f.write_str("make a time namespace"),
            Step::Fork { .. } => f.write_str("clone the process inside the namespaces"),
            Step::BecomeRoot => f.write_str("become root of the user namespace"),
            Step::SetHostName { name } => write!(f, "set the host name {}", text(name)),
            Step::SetDomainName { name } => write!(f, "set the domain name {}", text(name)),
            Step::RaiseLoopback => f.write_str("bring up the loopback interface"),
            Step::Redirect { to, .. } => write!(f, "redirect {}", stream(*to)),
            Step::SetUmask(mask) => write!(f, "set umask {mask:04o}"),
            Step::SetHostPropagation(to) => write!(f, "make all mounts {}", propagation(to.kind)),
            Step::OpenSource { source, below: Some(below), .. } => {
                write!(f, "open {} in the volume {}", text(below.path()), text(source))
            }
            Step::OpenSource { source, .. } => write!(f, "open {}", text(source)),
            Step::MapLayers { layers_dir, .. } => write!(f, "map the owners of {}", text(layers_dir)),
            Step::MountRoot { at, .. } => write!(f, "mount overlay on {}", text(at)),
            Step::OpenImage { options, below: Some(below), .. } => {
                write!(f, "open {} in the image volume {}", text(below.path()), text(options))
            }
            Step::OpenImage { options, .. } => write!(f, "open the image volume {}", text(options)),
            Step::EnterHostDirectory { path } => write!(f, "enter {}", text(path)),
            Step::AttachRoot { at, .. } => write!(f, "mount the root on {}", text(at)),
            Step::OpenRoot { at } => write!(f, "open the root {}", text(at)),
            Step::PivotRoot => f.write_str("pivot root"),
            Step::MoveRoot => f.write_str("move the root"),
            Step::SetRootPropagation(to) => write!(f, "make the root {}", propagation(to.kind)),
            Step::Mount { kind, at, .. } => write!(f, "mount {} on {}", text(kind), text(at)),
            Step::Bind { source, at, .. } => write!(f, "bind {} to {}", text(source), text(at)),
            Step::Remount { at, .. } => write!(f, "remount {}", text(at)),
            Step::OpenDirectory { at, .. } => write!(f, "open {} in the container", text(at)),
            Step::MakeDirectory { path, .. } => write!(f, "make directory /dev/{}", text(path)),
            Step::MakeNode { path, .. } => write!(f, "make device {}", text(path)),
            Step::BindNode { path, .. } => write!(f, "bind device {}", text(path)),
            Step::MakeLink { path, to, .. } => write!(f, "link /dev/{} to {}", text(path), text(to)),
            Step::NullInput => f.write_str("open /dev/null as stdin"),
            Step::OpenTerminal { .. } => f.write_str("open a terminal"),
            Step::AwaitHooks => f.write_str("wait for the hooks"),
            Step::OpenPrivateProc { .. } => f.write_str("open a private procfs"),
            Step::WriteProc { path, value, .. } => write!(f, "write {} to {}", text(value), text(path)),
            Step::EnsureDirectory { path } => write!(f, "make working directory {}", text(path)),
            Step::Mask { path, .. } => write!(f, "mask {}", text(path)),
            Step::MakeReadOnly { path } => write!(f, "make {} read-only", text(path)),
            Step::MakeRootReadOnly => f.write_str("make the root read-only"),
            Step::CloseDescriptors { .. } => f.write_str("close all other descriptors"),
            Step::SetPersonality(number) => write!(f, "set personality {number:#x}"),
            Step::BoundCapabilities(set) => write!(f, "bound capabilities to {set:#x}"),
            Step::SetGroups(groups) => write!(f, "set groups {groups:?}"),
            Step::SetGid(gid) => write!(f, "set gid {gid}"),
            Step::SetUid { uid, .. } => write!(f, "set uid {uid}"),
            Step::SetCapabilities(sets) if sets.ambient == 0 => {
                write!(f, "set capabilities {:#x}", sets.permitted)
            }
            Step::SetCapabilities(sets) => {
                write!(f, "set capabilities {:#x}, ambient {:#x}", sets.permitted, sets.ambient)
            }
            Step::ForbidNewPrivileges => f.write_str("forbid new privileges"),
            Step::InstallSeccomp(_) => f.write_str("install the seccomp filter"),
            Step::EnterDirectory { path, .. } => write!(f, "enter working directory {}", text(path)),
            Step::VerifyDirectory => f.write_str("verify that the working directory is inside the root"),
            Step::FindProgram { candidates } => {
                write!(f, "find {}", candidates.first().map_or_else(String::new, |name| text(name)))
            }
            Step::AwaitStart { .. } => f.write_str("wait for the start"),
            Step::Execute { candidates, arguments, .. } => {
                let first = arguments.strings().first().or(candidates.first());
                write!(f, "execute {}", first.map_or_else(String::new, |name| text(name)))
            }
            Step::ExecuteFile { arguments, .. } => {
                write!(
                    f,
                    "execute {}",
                    arguments.strings().first().map_or_else(String::new, |name| text(name))
                )
            }
        }
    }
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdin => "stdin",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn propagation(kind: PropagationKind) -> &'static str {
    match kind {
        PropagationKind::Private => "private",
        PropagationKind::Slave => "slave",
        PropagationKind::Shared => "shared",
        PropagationKind::Unbindable => "unbindable",
    }
}

fn resource(number: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "cpu time",
        "file size",
        "data",
        "stack",
        "core size",
        "resident memory",
        "processes",
        "open files",
        "locked memory",
        "address space",
        "file locks",
        "pending signals",
        "message queues",
        "nice",
        "realtime priority",
        "realtime time",
    ];
    NAMES.get(number as usize).copied().unwrap_or("a resource")
}

/// Control characters are escaped: a manifest's string must not write on somebody's terminal.
fn text(string: &CStr) -> String {
    let lossy = string.to_string_lossy();
    lossy.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
