//! Hooks of a `Spec`: programs that somebody else wants to be run at certain moments of a container's life.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::plan::{PlanError, Target, hook_plan};
use super::spawn::{Parent, SpawnError, Spawned, StartError, spawn};

/// Why a hook did not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("{moment} hook {}: {problem}", path.display())]
pub struct HookError {
    /// As the `Spec` calls the list that it stands in.
    pub moment: &'static str,
    pub path: PathBuf,
    #[source]
    pub problem: HookProblem,
}

#[derive(Debug, thiserror::Error)]
pub enum HookProblem {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("its timeout of {0} seconds is not above zero")]
    NoTime(i64),
    #[error("has not ended within {seconds} seconds, and was killed{}", said(output))]
    Timeout { seconds: u64, output: String },
    #[error("exited with {code}{}", said(output))]
    Exit { code: i32, output: String },
    #[error("was killed by signal {signal}{}", said(output))]
    Signal { signal: i32, output: String },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

/// How much of what a hook prints is kept for the message, bytes. It may print more, which is thrown away.
const KEPT_OUTPUT: usize = 4096;

/// Runs hooks one after the other, each with the container's state on its standard input. `moment` is the name of their list;
/// with `inside`, they run in that container.
///
/// # Errors
/// The first that fails or takes too long; those after it are not run then.
pub fn run_hooks(
    moment: &'static str,
    hooks: &[Hook],
    state: &[u8],
    inside: Option<&Target>,
) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| {
        run(hook, state, inside).map_err(|problem| HookError { moment, path: hook.path().clone(), problem })
    })
}

fn run(hook: &Hook, state: &[u8], inside: Option<&Target>) -> Result<(), HookProblem> {
    let within = timeout(hook)?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    fcntl_setfl(&ours, OFlags::NONBLOCK).map_err(io::Error::from)?;
    let plan = hook_plan(hook, state_file(state)?, theirs.as_fd(), inside)?;
    let begin = Instant::now();
    let spawned = spawn(&plan, None, Parent::Caller, None)?;
    let mut output = Output { pipe: ours, kept: Vec::new() };
    if let Err(error) = spawned.report.next(&plan) {
        wait(&spawned)?;
        return Err(error.into());
    }
    // Its copies of the other end would keep the pipe open.
    drop((plan, theirs));
    let deadline = within.map(|within| begin + within);
    if !output.collect_until_end(spawned.pidfd.as_fd(), deadline)? {
        // It may just have ended; the message is the same.
        let _ = pidfd_send_signal(&spawned.pidfd, Signal::KILL);
        wait(&spawned)?;
        return Err(HookProblem::Timeout {
            seconds: within.unwrap_or_default().as_secs(),
            output: output.text(),
        });
    }
    match wait(&spawned)? {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(HookProblem::Exit { code, output: output.text() }),
        (None, signal) => {
            Err(HookProblem::Signal { signal: signal.unwrap_or_default(), output: output.text() })
        }
    }
}

fn timeout(hook: &Hook) -> Result<Option<Duration>, HookProblem> {
    match hook.timeout() {
        None => Ok(None),
        Some(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(seconds) => Err(HookProblem::NoTime(seconds)),
    }
}

/// A file of its own for each hook: none can wait for a reader, and none sees where another has read up to.
fn state_file(state: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"state", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    file.rewind()?;
    Ok(file.into())
}

/// The exit code, or the signal.
fn wait(spawned: &Spawned) -> io::Result<(Option<i32>, Option<i32>)> {
    loop {
        match waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) | Ok(None) => {}
            Err(errno) => return Err(errno.into()),
            Ok(Some(status)) => return Ok((status.exit_status(), status.terminating_signal())),
        }
    }
}

struct Output {
    pipe: OwnedFd,
    kept: Vec<u8>,
}

impl Output {
    /// Reads until the process has ended: what it leaves behind may keep the pipe open for ever. `false` if the time is over.
    fn collect_until_end(&mut self, pidfd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
        let mut open = true;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            let left = left.map(|left| Timespec::try_from(left).map_err(io::Error::other)).transpose()?;
            let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&self.pipe, PollFlags::IN));
            }
            match poll(&mut fds, left.as_ref()) {
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            let ended = !fds[0].revents().is_empty();
            open = self.read()?;
            if ended {
                return Ok(true);
            }
        }
    }

    /// All that is there now. `false` at the end.
    fn read(&mut self) -> io::Result<bool> {
        let mut space = [0u8; 1024];
        loop {
            match rustix::io::read(&self.pipe, &mut space[..]) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    let room = KEPT_OUTPUT - self.kept.len();
                    self.kept.extend_from_slice(&space[..length.min(room)]);
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into());
        hook.set_args(Some(["sh", "-c", script].map(str::to_owned).into()));
        hook.set_env(Some(vec!["PATH=/usr/bin:/bin".to_owned()]));
        hook.set_timeout(timeout);
        hook
    }

    fn failure(hooks: &[Hook]) -> String {
        run_hooks("prestart", hooks, b"the state", None).unwrap_err().to_string()
    }

    #[test]
    fn each_gets_the_state_and_comes_after_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let scripts = ["cat >> ", "printf ' and ' >> ", "cat >> "];
        let hooks = scripts.map(|script| hook(&format!("{script}{}", file.display()), None));
        run_hooks("poststop", &hooks, b"the state", None).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "the state and the state");
    }

    #[test]
    fn the_first_that_fails_is_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let hooks = [hook("echo sorry >&2; exit 3", None), hook(&format!("> {}", file.display()), None)];
        assert_eq!(failure(&hooks), "prestart hook /bin/sh: exited with 3: sorry");
        assert!(!file.exists());
        assert_eq!(failure(&[hook("kill -9 $$", None)]), "prestart hook /bin/sh: was killed by signal 9");
        assert!(failure(&[hook("", Some(0))]).contains("not above zero"));
        let mut nowhere = hook("", None);
        nowhere.set_path("/no/such/hook".into());
        assert!(failure(&[nowhere]).contains("ENOENT"));
    }

    #[test]
    fn what_a_hook_leaves_behind_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        run_hooks(
            "poststart",
            &[hook(&format!("sleep 1000 & echo $! > {}", pid.display()), None)],
            b"",
            None,
        )
        .unwrap();
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let message = failure(&[hook("echo waiting; exec sleep 1000", Some(1))]);
        assert_eq!(message, "prestart hook /bin/sh: has not ended within 1 seconds, and was killed: waiting");
    }

    #[test]
    fn much_output_is_cut_not_waited_for() {
        let message = failure(&[hook("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", None)]);
        assert!(message.len() < 2 * KEPT_OUTPUT, "{}", message.len());
    }
}
