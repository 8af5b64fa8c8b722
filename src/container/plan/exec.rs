//! A process that comes later into a container that runs: a command, or a hook.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use oci_spec::runtime::{Hook, LinuxNamespaceType, Process, Spec};

use super::command::array;
use super::{Plan, PlanError, Stdio, identity, process, text};
use crate::container::seccomp::Program;
use crate::sys::step::{Slot, Step, Stream, StringArray};

/// The container that is joined.
#[derive(Debug)]
pub struct Target {
    pidfd: OwnedFd,
    /// Which of its namespaces are not the caller's own (`CLONE_NEW*`).
    namespaces: u64,
    seccomp: Option<Arc<Program>>,
}

impl Target {
    /// `spec` is the container's, `pidfd` its first process's.
    ///
    /// # Errors
    /// When its seccomp profile cannot be compiled.
    pub fn new(pidfd: OwnedFd, spec: &Spec) -> Result<Target, PlanError> {
        let linux = spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.namespaces().as_ref());
        let namespaces = listed.into_iter().flatten().fold(0, |flags, one| flags | one.typ() as u64);
        let seccomp = linux.map(super::program).transpose()?.flatten();
        Ok(Target { pidfd, namespaces, seccomp })
    }

    /// One whose program is compiled already, as [`Setting::seccomp`](super::Setting::seccomp).
    pub fn with_seccomp(self, program: Option<Arc<Program>>) -> Target {
        Target { seccomp: program.or(self.seccomp), ..self }
    }

    fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces & kind as u64 != 0
    }

    fn join(&self) -> Result<Step, PlanError> {
        let pidfd = super::duplicate(LinuxNamespaceType::Pid, &self.pidfd)?;
        Ok(Step::JoinProcess { pidfd, namespaces: self.namespaces })
    }
}

/// Beside the process and the container, all that a plan is made from.
#[derive(Debug)]
pub struct ExecSetting {
    pub stdio: Stdio,
    pub preserve_fds: u32,
    /// As [`Setting::keyring`](super::Setting::keyring): the container's.
    pub keyring: Option<String>,
    /// Whatever it leaves behind stays below it as long as it runs, so that it can be found and ended.
    pub adopt_orphans: bool,
}

/// Where the private procfs stands.
const PROC: Slot = Slot(0);

/// Steps of a process that joins a container: it ends up with what `process` says and nothing of the caller's.
///
/// # Errors
/// As [`plan()`](super::plan()).
pub fn exec_plan(process: &Process, target: &Target, setting: ExecSetting) -> Result<Plan, PlanError> {
    let ExecSetting { stdio, preserve_fds, keyring, adopt_orphans } = setting;
    let labels = process::labels(process, PROC)?;
    let candidates = super::command::candidates(process)?;
    let (redirections, from_dev) = process::streams(process, stdio, false)?;

    let mut steps = vec![Step::ResetSignals];
    steps.extend(process::limits(process)?);
    steps.push(Step::NewSession);
    steps.push(target.join()?);
    // A PID namespace that was joined is only for the children.
    steps.push(Step::Fork { namespaces: 0 });
    if target.has(LinuxNamespaceType::User) {
        steps.push(Step::BecomeRoot);
    }
    steps.extend(process::keyring(keyring)?);
    steps.push(Step::OpenRoot { at: c"/".to_owned() });
    steps.push(Step::NewSession);
    steps.extend(adopt_orphans.then_some(Step::AdoptOrphans));
    steps.extend(redirections);
    steps.push(Step::SetUmask(process.user().umask().unwrap_or(0o022)));
    steps.extend(from_dev);
    if !labels.is_empty() {
        steps.push(Step::OpenPrivateProc { slot: PROC });
        steps.extend(labels);
    }
    steps.push(Step::CloseDescriptors { keep: preserve_fds, later: None });
    let identity = identity::steps(process, target.seccomp.as_deref())?;
    steps.extend(identity.steps);
    steps.extend(identity.last);
    steps.push(super::command::step(process, candidates)?);
    Ok(Plan { steps, slots: 1, namespaces: 0, seccomp: target.seccomp.clone() })
}

/// Steps of a hook: it gets the container's state on its standard input and its errors go to `output`. With a container it
/// runs inside of that, as the root there.
///
/// # Errors
/// When a string holds a zero byte or the path is not absolute.
pub fn hook_plan(
    hook: &Hook,
    state: OwnedFd,
    output: BorrowedFd<'_>,
    inside: Option<&Target>,
) -> Result<Plan, PlanError> {
    let duplicate = |fd: BorrowedFd<'_>| {
        let kind = LinuxNamespaceType::Pid;
        fd.try_clone_to_owned().map_err(|cause| PlanError::Namespace { kind, cause })
    };
    let mut steps = vec![Step::ResetSignals, Step::NewSession];
    steps.push(Step::Redirect { from: state, to: Stream::Stdin });
    steps.push(Step::Redirect { from: duplicate(output)?, to: Stream::Stdout });
    steps.push(Step::Redirect { from: duplicate(output)?, to: Stream::Stderr });
    if let Some(target) = inside {
        steps.push(target.join()?);
        steps.push(Step::Fork { namespaces: 0 });
        if target.has(LinuxNamespaceType::User) {
            steps.push(Step::BecomeRoot);
        }
    }
    steps.push(Step::CloseDescriptors { keep: 0, later: None });
    let path = text::absolute("the path of a hook", hook.path())?;
    let arguments = match hook.args().as_deref() {
        None | Some([]) => StringArray::new(vec![path.clone()]),
        Some(arguments) => array("argument of a hook", arguments)?,
    };
    let environment = array("environment variable of a hook", hook.env().as_deref().unwrap_or_default())?;
    steps.push(Step::Execute { candidates: vec![path], arguments, environment });
    Ok(Plan { steps, slots: 0, namespaces: 0, seccomp: None })
}
