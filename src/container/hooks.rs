//! Hooks of a `Spec`: programs that others want run at certain moments of a container's life.

use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use super::plan::{PlanError, Target, hook_plan};
use super::spawn::{Parent, Progress, SpawnError, Spawned, StartError, spawn};

/// How much of a hook's output its error tells, bytes.
const TOLD: usize = 4096;

/// Why a hook has failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("hook {path}: {cause}")]
    Spawn { path: PathBuf, cause: SpawnError },
    #[error("hook {path}: {cause}")]
    Start { path: PathBuf, cause: StartError },
    #[error("hook {path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error("hook {path} has not ended within {} s", timeout.as_secs())]
    Timeout { path: PathBuf, timeout: Duration },
    #[error("hook {path} {how}{}", if output.is_empty() { String::new() } else { format!(": {output}") })]
    Failed { path: PathBuf, how: String, output: String },
}

/// Runs one hook after the other; the first that fails ends it. Each gets `state` on its standard input, and `inside`
/// says in whose namespaces it runs.
///
/// # Errors
/// When a hook cannot be run, ends in another way than with 0, or does not end within its timeout: then it is killed.
pub fn run_hooks(hooks: &[Hook], state: &[u8], inside: Option<&Target>) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| run(hook, state, inside))
}

fn run(hook: &Hook, state: &[u8], inside: Option<&Target>) -> Result<(), HookError> {
    let path = || hook.path().clone();
    let io = |cause: io::Error| HookError::Io { path: path(), cause };
    let mut output = file(c"hook-output", &[]).map_err(io)?;
    let input = file(c"hook-state", state).map_err(io)?;
    let plan = hook_plan(hook, input.into(), output.as_fd(), inside)?;
    let spawned = spawn(&plan, None, Parent::Caller, None);
    let process = spawned.map_err(|cause| HookError::Spawn { path: path(), cause })?;
    match process.report.next(&plan) {
        Ok(Progress::Executed) => {}
        result => {
            end(&process).map_err(io)?;
            let cause = result.err().unwrap_or(StartError::Gone);
            return Err(HookError::Start { path: path(), cause });
        }
    }
    let timeout = hook.timeout().map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    if !wait(&process.pidfd, timeout).map_err(io)? {
        end(&process).map_err(io)?;
        return Err(HookError::Timeout { path: path(), timeout: timeout.unwrap_or_default() });
    }
    match reap(&process).map_err(io)? {
        Some(status) if status.exit_status() == Some(0) => Ok(()),
        status => {
            let output = told(&mut output).map_err(io)?;
            Err(HookError::Failed { path: path(), how: how(status.as_ref()), output })
        }
    }
}

/// In memory: a pipe could fill up and hold the hook.
fn file(name: &std::ffi::CStr, content: &[u8]) -> io::Result<std::fs::File> {
    let mut file = std::fs::File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

fn told(output: &mut std::fs::File) -> io::Result<String> {
    let mut text = Vec::new();
    output.rewind()?;
    output.take(TOLD as u64).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Whether it ended in time.
fn wait(pidfd: &OwnedFd, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return Ok(ended? > 0),
        }
    }
}

fn end(process: &Spawned) -> io::Result<()> {
    // It may have ended by itself meanwhile.
    let _ = pidfd_send_signal(&process.pidfd, Signal::KILL);
    reap(process).map(drop)
}

fn reap(process: &Spawned) -> io::Result<Option<WaitIdStatus>> {
    Ok(waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED)?)
}

fn how(status: Option<&WaitIdStatus>) -> String {
    match status {
        Some(status) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("ended with {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "has ended".to_owned(),
        },
        None => "has ended".to_owned(),
    }
}
