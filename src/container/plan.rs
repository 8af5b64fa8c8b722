//! `Spec` → the steps that a process takes between clone and exec.

mod command;
mod dev;
mod error;
mod exec;
mod identity;
mod mount_options;
mod mounts;
mod pause;
mod process;
mod refused;
mod report;
mod root;
mod setting;
mod sysctls;
mod text;
mod unshare;

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

pub use error::PlanError;
pub use exec::{ExecSetting, Target, exec_plan, hook_plan};
pub use pause::pause_plan;
pub(super) use report::hint_of_memory;
pub use root::{ImageVolume, Overlay, Root};
pub use setting::{Setting, Stdio};
pub use sysctls::path as sysctl_path;

use self::mounts::Parts;
use super::seccomp::{self, Program};
use crate::image::Digest;
use crate::sys::spawner::Steps;
use crate::sys::step::{Propagation, PropagationKind, Slot, Step};

/// The steps of the child, ready to be taken. Printed, it is one step a line.
#[derive(Debug)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
    /// How many descriptors are open between two steps.
    pub(super) slots: usize,
    /// The namespaces that the first process is born in (`CLONE_NEW*`).
    pub(super) namespaces: u64,
    seccomp: Option<Arc<Program>>,
}

/// Turns the description into steps.
///
/// The plan owns the descriptors, so it can be kept until the child's report is there.
///
/// # Errors
/// When the spec lacks something, or holds what cannot be done.
pub fn plan(spec: &Spec, setting: Setting) -> Result<Plan, PlanError> {
    refused::check(spec)?;
    let process = spec.process().as_ref().ok_or(PlanError::Missing("process"))?;
    let linux = spec.linux().as_ref().ok_or(PlanError::Missing("linux"))?;
    let Setting { root, namespaces, stdio, sub_paths, seccomp, preserve_fds, start, hooks, pivot, keyring } =
        setting;
    let seccomp = seccomp.map_or_else(|| program(linux), |program| Ok(Some(program)))?;
    let entrance = unshare::entrance(linux, &namespaces)?;
    let in_user_namespace = namespaces.user.is_some();
    let parts = Parts { images: root.volumes(), sub_paths: &sub_paths };
    let mounts = mounts::steps(spec, &namespaces, in_user_namespace, parts)?;
    let proc = Slot(mounts.slots);
    let labels = process::labels(process, proc)?;
    let sysctls = sysctls::steps(spec, proc)?;
    let candidates = command::candidates(process)?;
    let start_number = start.as_ref().map(AsRawFd::as_raw_fd);

    let mut steps = vec![Step::ResetSignals];
    steps.extend(process::limits(process)?);
    let root = root::steps(&root, spec, &namespaces, Slot(mounts.slots + 1), mounts.images)?;
    let forks = entrance.forks;
    let outside = root.outside.into_iter().chain(mounts.outside).collect();
    steps.extend(unshare::steps(entrance, namespaces, outside, mounts.wants_slave));
    // By the process that stays, if another one went before it: only a session's leader may have a terminal.
    steps.push(Step::NewSession);
    steps.extend(unshare::names(spec, &forks)?);
    steps.extend(process::keyring(keyring)?);
    if unshare::is_new(linux, LinuxNamespaceType::Cgroup) {
        steps.push(Step::NewCgroupNamespace);
    }
    let (redirections, from_dev) = process::streams(process, stdio, true)?;
    steps.extend(redirections);
    steps.push(Step::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.extend(mounts.shared_sources);
    steps.push(Step::SetHostPropagation(host_propagation(linux.rootfs_propagation(), mounts.wants_slave)?));
    steps.extend(mounts.sources);
    steps.extend(root.inside);
    steps.extend(mounts.inside);
    steps.extend(from_dev);
    if hooks {
        steps.push(Step::AwaitHooks);
    }
    if !(labels.is_empty() && sysctls.is_empty()) {
        steps.push(Step::OpenPrivateProc { slot: proc });
    }
    steps.push(if pivot { Step::PivotRoot } else { Step::MoveRoot });
    steps.extend(root_propagation(linux.rootfs_propagation())?);
    steps.extend(sysctls);
    steps.extend(root::restrictions(spec)?);
    steps.extend(process::personality(linux));
    steps.extend(labels);
    if start.is_some() {
        steps.push(Step::FindProgram { candidates: candidates.clone() });
    }
    steps.push(Step::CloseDescriptors { keep: preserve_fds, later: start_number });
    let identity = identity::steps(process, seccomp.as_deref())?;
    steps.extend(identity.steps);
    steps.extend(start.map(|from| Step::AwaitStart { from }));
    steps.extend(identity.last);
    steps.push(command::step(process, candidates)?);
    Ok(Plan { steps, slots: mounts.slots + 2, namespaces: forks.birth, seccomp })
}

/// The program of the spec's profile, compiled once for all that have the same.
fn program(linux: &Linux) -> Result<Option<Arc<Program>>, PlanError> {
    Ok(linux.seccomp().as_ref().map(seccomp::program).transpose()?)
}

/// Nothing that is mounted inside is ever seen by the host, but for what `Bidirectional` volumes have opened before; what
/// the host mounts is seen inside if somebody asks for it.
fn host_propagation(root: &Option<String>, wants_slave: bool) -> Result<Propagation, PlanError> {
    let kind = match root.as_deref().map(propagation).transpose()? {
        Some(PropagationKind::Slave | PropagationKind::Shared) => PropagationKind::Slave,
        _ if wants_slave => PropagationKind::Slave,
        _ => PropagationKind::Private,
    };
    Ok(Propagation { kind, recursive: true })
}

/// `linux.rootfsPropagation`: private is what a root is anyway.
fn root_propagation(asked: &Option<String>) -> Result<Option<Step>, PlanError> {
    let Some(asked) = asked.as_deref().filter(|asked| !asked.is_empty()) else { return Ok(None) };
    let recursive = asked.starts_with('r');
    Ok(match propagation(asked)? {
        PropagationKind::Private => None,
        kind => Some(Step::SetRootPropagation(Propagation { kind, recursive })),
    })
}

fn propagation(name: &str) -> Result<PropagationKind, PlanError> {
    match name {
        "" | "private" | "rprivate" => Ok(PropagationKind::Private),
        "slave" | "rslave" => Ok(PropagationKind::Slave),
        "shared" | "rshared" => Ok(PropagationKind::Shared),
        "unbindable" | "runbindable" => Ok(PropagationKind::Unbindable),
        _ => Err(PlanError::Propagation(name.to_owned())),
    }
}

/// Duplicates, so that what the caller holds stays open.
fn duplicate(kind: LinuxNamespaceType, fd: &OwnedFd) -> Result<OwnedFd, PlanError> {
    fd.try_clone().map_err(|cause| PlanError::Namespace { kind, cause })
}

impl Plan {
    /// Which seccomp program the process is confined by.
    pub fn seccomp(&self) -> Option<&Digest> {
        self.seccomp.as_ref().map(|program| program.digest())
    }
}

impl Steps for Plan {
    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn slots(&self) -> usize {
        self.slots
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests;
