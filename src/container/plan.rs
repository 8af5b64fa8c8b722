//! `Spec` → the steps that the child takes between clone and exec.

mod command;
mod dev;
mod mounts;
mod root;
mod text;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, PosixRlimitType, Process, Spec};

pub use root::Root;

use super::namespaces::Namespaces;
use super::spawn::StartError;
use super::spec::capability_mask;
use crate::sys::child::REPORT_LENGTH;
use crate::sys::step::{Step, Stream};

/// Where output goes; input is the container's `/dev/null`.
#[derive(Debug)]
pub struct Stdio {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// The steps of the child, ready to be taken. Printed, it is one step a line.
#[derive(Debug)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
    /// How many descriptors are open between two steps.
    pub(super) slots: usize,
}

/// Why a `Spec` cannot be turned into a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the spec has no {0}")]
    Missing(&'static str),
    #[error("{what} `{value}` holds a zero byte")]
    ZeroByte { what: &'static str, value: String },
    #[error("{what} {path} is not absolute")]
    Relative { what: &'static str, path: PathBuf },
    #[error("a mount cannot take the place of the container's root")]
    MountOnRoot,
    #[error("the mount on {at} asks for `{option}`, which is not supported")]
    MountOption { at: PathBuf, option: String },
    #[error("device {path}: {problem}")]
    Device { path: PathBuf, problem: &'static str },
    #[error("the image has no layers")]
    NoLayers,
    #[error(
        "the path {0} holds a comma, a colon or a backslash, which an overlay cannot have in its options"
    )]
    OverlayPath(String),
    #[error("{layers} layers need {bytes} bytes of mount options, the kernel takes {max}", max = root::MAX_OPTIONS)]
    TooManyLayers { layers: usize, bytes: usize },
    #[error("duplicate the descriptor of the Pod's {kind} namespace: {cause}")]
    Namespace { kind: &'static str, cause: std::io::Error },
    #[error("duplicate the descriptor of {stream:?}: {cause}")]
    Stdio { stream: Stream, cause: std::io::Error },
}

/// Turns the description into steps. `seccomp` is the program of the container's profile, if it has one.
///
/// The plan owns duplicates of the descriptors, so it can be kept until the child's report is there.
///
/// # Errors
/// When the spec lacks something, or holds what cannot be done.
pub fn plan(
    spec: &Spec,
    root: &Root,
    namespaces: &Namespaces,
    stdio: Stdio,
    seccomp: Option<Vec<libc::sock_filter>>,
) -> Result<Plan, PlanError> {
    let process = spec.process().as_ref().ok_or(PlanError::Missing("process"))?;
    let mounts = mounts::steps(spec)?;
    let slots = mounts.slots;

    let mut steps = vec![Step::ResetSignals];
    steps.extend(open_files(process).map(Step::LimitOpenFiles));
    steps.push(Step::NewSession);
    steps.extend(joins(namespaces)?);
    steps.push(Step::NewCgroupNamespace);
    steps.extend(redirections(&stdio)?);
    steps.push(Step::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.push(Step::MakeMountsPrivate);
    steps.extend(mounts.sources);
    steps.extend(root::steps(root)?);
    steps.extend(mounts.inside);
    steps.push(Step::NullInput);
    steps.extend(restrictions(spec, process)?);
    steps.extend(identity(process, seccomp)?);
    steps.push(command::step(process)?);
    Ok(Plan { steps, slots })
}

/// The program of the default profile for the capabilities of this spec: what [`plan()`] takes as `seccomp` for
/// a container that is not privileged.
pub fn default_filter(spec: &Spec) -> Vec<libc::sock_filter> {
    let sets = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let permitted = sets.and_then(|sets| sets.permitted().as_ref()).map_or(0, capability_mask);
    super::seccomp::default_program(permitted).instructions().to_vec()
}

/// The only resource limit that a Pod's container is given; the soft one.
fn open_files(process: &Process) -> Option<u64> {
    let limits = process.rlimits().as_ref()?;
    limits.iter().find(|limit| limit.typ() == PosixRlimitType::RlimitNofile).map(|limit| limit.soft())
}

fn joins(namespaces: &Namespaces) -> Result<Vec<Step>, PlanError> {
    [("ipc", &namespaces.ipc), ("uts", &namespaces.uts), ("net", &namespaces.net)]
        .into_iter()
        .filter_map(|(kind, namespace)| Some((kind, namespace.as_ref()?)))
        .map(|(kind, namespace)| {
            let namespace = namespace.try_clone().map_err(|cause| PlanError::Namespace { kind, cause })?;
            Ok(Step::JoinNamespace { kind, namespace })
        })
        .collect()
}

/// Duplicates are never below 3, so one redirection cannot close the source of the next.
fn redirections(stdio: &Stdio) -> Result<[Step; 2], PlanError> {
    let redirect = |from: &OwnedFd, to| match from.try_clone() {
        Ok(from) => Ok(Step::Redirect { from, to }),
        Err(cause) => Err(PlanError::Stdio { stream: to, cause }),
    };
    Ok([redirect(&stdio.stdout, Stream::Stdout)?, redirect(&stdio.stderr, Stream::Stderr)?])
}

/// What is hidden or made read-only once everything is in its place, the root last of all.
fn restrictions(spec: &Spec, process: &Process) -> Result<Vec<Step>, PlanError> {
    let mut steps = vec![Step::EnsureDirectory { path: text::absolute("working directory", process.cwd())? }];
    let linux = spec.linux().as_ref();
    for path in linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten() {
        steps.push(Step::MakeReadOnly { path: text::absolute("read-only path", path.as_ref())? });
    }
    for path in linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten() {
        steps.push(Step::Mask { path: text::absolute("masked path", path.as_ref())? });
    }
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        steps.push(Step::MakeRootReadOnly);
    }
    Ok(steps)
}

/// From all-powerful to what the container is.
///
/// A filter without `no_new_privs` needs CAP_SYS_ADMIN, so it is installed while the child still has that;
/// with it, the filter comes last and judges nothing but exec.
fn identity(process: &Process, seccomp: Option<Vec<libc::sock_filter>>) -> Result<Vec<Step>, PlanError> {
    let user = process.user();
    let cwd = text::absolute("working directory", process.cwd())?;
    let set = |choose: fn(&oci_spec::runtime::LinuxCapabilities) -> &Option<Capabilities>| {
        let chosen = process.capabilities().as_ref().and_then(|sets| choose(sets).as_ref());
        chosen.map_or(0, capability_mask)
    };
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let filter = seccomp.map(Step::InstallSeccomp);
    let (early, late) = if no_new_privileges { (None, filter) } else { (filter, None) };

    let mut steps = vec![Step::CloseDescriptors, Step::EnterDirectory { path: cwd.clone(), forgive: true }];
    steps.extend(early);
    steps.push(Step::BoundCapabilities(set(|sets| sets.bounding())));
    steps.push(Step::SetGroups(user.additional_gids().clone().unwrap_or_default()));
    steps.push(Step::SetGid(user.gid()));
    steps.push(Step::SetUid(user.uid()));
    steps.push(Step::SetCapabilities(set(|sets| sets.permitted())));
    if no_new_privileges {
        steps.push(Step::ForbidNewPrivileges);
    }
    steps.push(Step::EnterDirectory { path: cwd, forgive: false });
    steps.push(Step::VerifyDirectory);
    steps.extend(late);
    Ok(steps)
}

impl Plan {
    /// What the child's report says: empty means that exec happened.
    ///
    /// # Errors
    /// The step that failed, as a sentence.
    pub fn explain(&self, report: &[u8]) -> Result<(), StartError> {
        if report.is_empty() {
            return Ok(());
        }
        let unreadable = || StartError::UnreadableReport(report.len());
        let record: [u8; REPORT_LENGTH] = report.try_into().map_err(|_| unreadable())?;
        let [a, b, c, d, e, f, g, h] = record;
        let index = u32::from_le_bytes([a, b, c, d]) as usize;
        let errno = nix::errno::Errno::from_raw(i32::from_le_bytes([e, f, g, h]));
        let step = self.steps.get(index).ok_or_else(unreadable)?;
        Err(StartError::Step { step: step.to_string(), errno, hint: hint(step, errno) })
    }
}

/// What a person can do about it, where that is known.
fn hint(step: &Step, errno: nix::errno::Errno) -> Option<&'static str> {
    use nix::errno::Errno;
    match (step, errno) {
        (Step::PivotRoot { .. }, Errno::EINVAL) => {
            Some("is the host's root an initramfs? it cannot be pivoted: switch to a disk or a tmpfs first")
        }
        (Step::MountRoot { .. }, Errno::EINVAL) => Some("the kernel's log says why"),
        (Step::MountRoot { .. }, Errno::ENODEV) => Some("the kernel has no overlay file system"),
        (Step::Mount { .. }, Errno::ELOOP) => Some("the image has a symbolic link there"),
        (Step::Execute { .. }, Errno::ENOENT) => {
            Some("neither in the image's root nor in its PATH, or its interpreter or loader is missing")
        }
        (Step::Execute { .. }, Errno::ENOEXEC) => Some("built for another machine, or a script without #!"),
        _ => None,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests;
