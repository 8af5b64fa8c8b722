//! How the process comes into its namespaces: born in them, or, where it joins a user, PID or time namespace, by way of a
//! process that joins and clones it from within.

use std::ffi::CString;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::{PlanError, text};
use crate::container::namespaces::Namespaces;
use crate::sys::step::{Propagation, PropagationKind, Step};

/// Made by `clone3`; a cgroup namespace is made later by the process itself, and a time namespace before.
const BORN_IN: [LinuxNamespaceType; 5] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
];

/// Joined before the user namespace, while the process may still do anything. A mount namespace never is: see `refused.rs`.
const JOINED: [LinuxNamespaceType; 6] = [
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::Pid,
];

/// The way in.
pub(super) struct Entrance {
    pub forks: Forks,
    time_offsets: Option<CString>,
}

/// Which namespaces each clone makes (`CLONE_NEW*`).
#[derive(Clone, Copy)]
pub(super) struct Forks {
    pub birth: u64,
    /// The second clone, if there is one.
    pub inside: Option<u64>,
}

/// Whether the container gets a namespace of its own: listed without a path.
pub(super) fn is_new(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    listed(linux).any(|(listed, new)| listed == kind && new)
}

fn listed(linux: &Linux) -> impl Iterator<Item = (LinuxNamespaceType, bool)> + '_ {
    linux.namespaces().iter().flatten().map(|namespace| (namespace.typ(), namespace.path().is_none()))
}

pub(super) fn entrance(linux: &Linux, namespaces: &Namespaces) -> Result<Entrance, PlanError> {
    let own = |kind| is_new(linux, kind) && namespaces.get(kind).is_none();
    if own(LinuxNamespaceType::User) {
        return Err(PlanError::UserNamespace);
    }
    if !listed(linux).any(|(kind, _)| kind == LinuxNamespaceType::Mount) {
        return Err(PlanError::Missing("mount namespace: podkeep mounts nothing in the host's"));
    }
    let made = BORN_IN.into_iter().filter(|kind| own(*kind)).fold(0, |flags, kind| flags | kind as u64);
    let time_offsets = own(LinuxNamespaceType::Time).then(|| offsets(linux)).transpose()?;
    let two = namespaces.user.is_some()
        || namespaces.pid.is_some()
        || namespaces.time.is_some()
        || time_offsets.is_some();
    let forks =
        if two { Forks { birth: 0, inside: Some(made) } } else { Forks { birth: made, inside: None } };
    Ok(Entrance { forks, time_offsets })
}

/// For a process that is the first one of a new PID namespace, which belongs to the user namespace that it joins.
pub(super) fn first_of_its_pid_namespace(namespaces: &Namespaces) -> Entrance {
    let made = LinuxNamespaceType::Pid as u64;
    let forks = match namespaces.user {
        Some(_) => Forks { birth: 0, inside: Some(made) },
        None => Forks { birth: made, inside: None },
    };
    Entrance { forks, time_offsets: None }
}

/// As `/proc/self/timens_offsets` takes them (time_namespaces(7)).
fn offsets(linux: &Linux) -> Result<CString, PlanError> {
    let mut lines = String::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(PlanError::TimeOffset(clock.clone()));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        lines.push_str(&format!("{clock} {seconds} {nanoseconds}\n"));
    }
    text::c_string("time offset", &lines)
}

/// `outside` is taken as the host's root, before the user namespace is joined; where it `sees_host`, in what it opens the
/// host's later mounts are seen.
pub(super) fn steps(
    entrance: Entrance,
    mut namespaces: Namespaces,
    outside: Vec<Step>,
    sees_host: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for kind in JOINED {
        let namespace = namespaces.take(kind);
        steps.extend(namespace.map(|namespace| Step::JoinNamespace { kind: name(kind), namespace }));
    }
    if !outside.is_empty() {
        // In a mount namespace of its own, which the container's is then a copy of.
        let kind = if sees_host { PropagationKind::Slave } else { PropagationKind::Private };
        let propagation = Propagation { kind, recursive: true };
        steps.extend([Step::NewMountNamespace, Step::SetHostPropagation(propagation)]);
        steps.extend(outside);
    }
    let has_user = namespaces.user.is_some();
    steps.extend(namespaces.user.map(|namespace| Step::JoinNamespace { kind: "user", namespace }));
    steps.extend(entrance.time_offsets.map(|offsets| Step::NewTimeNamespace { offsets }));
    steps.extend(entrance.forks.inside.map(|namespaces| Step::Fork { namespaces }));
    if has_user {
        steps.push(Step::BecomeRoot);
    }
    steps
}

/// What a new uts or network namespace begins with.
pub(super) fn names(spec: &Spec, forks: &Forks) -> Result<Vec<Step>, PlanError> {
    let made = forks.birth | forks.inside.unwrap_or(0);
    let mut steps = Vec::new();
    if made & LinuxNamespaceType::Uts as u64 != 0 {
        if let Some(name) = spec.hostname() {
            steps.push(Step::SetHostName { name: text::c_string("host name", name)? });
        }
        if let Some(name) = spec.domainname() {
            steps.push(Step::SetDomainName { name: text::c_string("domain name", name)? });
        }
    }
    if made & LinuxNamespaceType::Network as u64 != 0 {
        steps.push(Step::RaiseLoopback);
    }
    Ok(steps)
}

pub(super) fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Time => "time",
    }
}
