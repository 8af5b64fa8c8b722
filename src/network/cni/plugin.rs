//! One run of a plugin: a program that reads a configuration, and answers with a result or with an error.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;

use crate::sys::program;

/// A plugin may wait for a DHCP server, or for others that change the firewall. The kubelet gives up on the whole Pod after as long.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of an answer, and of what is said beside it. A plugin may print more, which is thrown away.
const MAX_ANSWER: usize = 1 << 20;
const MAX_WORDS: usize = 4096;

/// Where plugins lie.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// Folders, looked through in this order.
    pub dirs: Vec<PathBuf>,
}

/// Why a command of a network came to nothing. As libcni says it, so that it is found by who looks for it.
#[derive(Debug, thiserror::Error)]
#[error("CNI network {network:?}: plugin type={plugin:?} failed ({command}): {problem}")]
pub struct Error {
    pub network: String,
    pub plugin: String,
    pub command: &'static str,
    pub problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no such program in {0} (cniBinDirs)")]
    NotThere(String),
    #[error("run {program}: {cause}")]
    Run { program: PathBuf, cause: io::Error },
    #[error("has not ended within {} seconds, and was killed{}", TIMEOUT.as_secs(), said(.0))]
    Hangs(String),
    #[error("{0}")]
    Said(String),
    #[error("{how}{}", said(words))]
    Ended { how: ExitStatus, words: String },
    #[error("{0}")]
    Nonsense(String),
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

impl Plugins {
    /// Runs one with this on its standard input, and returns what it has answered.
    pub(super) fn run(
        &self,
        plugin: &str,
        environment: &[(&str, &str)],
        input: &Value,
    ) -> Result<Vec<u8>, Problem> {
        let program = self.find(plugin)?;
        let failed = |cause| Problem::Run { program: program.clone(), cause };
        let mut command = Command::new(&program);
        command.envs(environment.iter().copied()).env("CNI_PATH", self.path());
        command.stdin(file(input).map_err(failed)?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program::ending_with_caller(&mut command).spawn().map_err(failed)?;
        let mut said = Said::of(&mut child);
        let outcome = said.listen(&child, Instant::now() + TIMEOUT);
        if !matches!(outcome, Ok(true)) {
            kill_all(&child);
        }
        let how = child.wait().map_err(failed)?;
        match outcome.map_err(failed)? {
            false => Err(Problem::Hangs(said.words())),
            true if how.success() => Ok(said.answer),
            true => Err(said.error(how)),
        }
    }

    fn find(&self, plugin: &str) -> Result<PathBuf, Problem> {
        let mut all = self.dirs.iter().map(|dir| dir.join(plugin));
        all.find(|path| path.is_file()).ok_or_else(|| Problem::NotThere(self.path()))
    }

    /// As `PATH` is written.
    fn path(&self) -> String {
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        dirs.join(":")
    }
}

/// A file, because a plugin that does not read its input must keep nobody waiting.
fn file(input: &Value) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"cni", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(input)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// With those that it has started, as plugins start others for addresses.
fn kill_all(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may just have ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// What a plugin has printed.
struct Said {
    pipes: Vec<Pipe>,
    answer: Vec<u8>,
    words: Vec<u8>,
}

struct Pipe {
    end: Box<dyn Source>,
    is_answer: bool,
}

trait Source: Read + AsFd {}
impl<T: Read + AsFd> Source for T {}

impl Said {
    fn of(child: &mut Child) -> Said {
        let answer = child.stdout.take().map(|end| Pipe { end: Box::new(end), is_answer: true });
        let words = child.stderr.take().map(|end| Pipe { end: Box::new(end), is_answer: false });
        Said { pipes: answer.into_iter().chain(words).collect(), answer: Vec::new(), words: Vec::new() }
    }

    /// Reads until the program has ended: what it leaves behind may keep its pipes open for ever. `false` if the time is over.
    fn listen(&mut self, child: &Child, until: Instant) -> io::Result<bool> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        for pipe in &self.pipes {
            rustix::io::ioctl_fionbio(pipe.end.as_fd(), true)?;
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut all = vec![PollFd::new(&pidfd, PollFlags::IN)];
            all.extend(
                self.pipes.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.end.as_fd(), PollFlags::IN)),
            );
            match poll(&mut all, Some(&left)) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let has_ended = !all[0].revents().is_empty();
            drop(all);
            self.read()?;
            if has_ended {
                return Ok(true);
            }
        }
    }

    /// All that is there now. A pipe that is at its end goes.
    fn read(&mut self) -> io::Result<()> {
        let mut space = [0; 4096];
        let mut at = 0;
        while let Some(pipe) = self.pipes.get_mut(at) {
            let (kept, most) = match pipe.is_answer {
                true => (&mut self.answer, MAX_ANSWER),
                false => (&mut self.words, MAX_WORDS),
            };
            match pipe.end.read(&mut space) {
                Ok(0) => drop(self.pipes.swap_remove(at)),
                Ok(length) => kept.extend_from_slice(&space[..length.min(most - kept.len())]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => at += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        String::from_utf8_lossy(&self.words).trim().to_owned()
    }

    /// An error of the specification, if that is what it has answered; otherwise whatever it has printed.
    fn error(&self, how: ExitStatus) -> Problem {
        let error: Value = serde_json::from_slice(&self.answer).unwrap_or_default();
        let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
        if let Some(message) = text("msg") {
            let details = text("details").map_or_else(String::new, |details| format!("; {details}"));
            return Problem::Said(format!("{message}{details}"));
        }
        let mut words = self.words();
        if words.is_empty() {
            let begin = &self.answer[..self.answer.len().min(MAX_WORDS)];
            String::from_utf8_lossy(begin).trim().clone_into(&mut words);
        }
        match how.signal() {
            Some(_) => Problem::Ended { how, words },
            None if words.is_empty() => Problem::Ended { how, words },
            None => Problem::Said(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Folder;

    #[test]
    fn a_plugin_reads_its_input_and_answers() {
        let folder = Folder::new();
        folder.plugin("echo", "cat; echo heard >&2");
        let answer = folder.plugins().run("echo", &[], &json!({"a": 1})).unwrap();
        assert_eq!(answer, br#"{"a":1}"#);
        folder.plugin("says", r#"printf '%s %s' "$CNI_COMMAND" "$CNI_PATH""#);
        let answer = folder.plugins().run("says", &[("CNI_COMMAND", "ADD")], &json!({})).unwrap();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            format!("ADD /no/such/folder:{}", folder.path().display())
        );
    }

    #[test]
    fn an_input_and_an_answer_that_no_pipe_holds_pass() {
        let folder = Folder::new();
        folder.plugin("echo", "sleep 0.1; cat");
        let long = json!("x".repeat(300_000));
        assert_eq!(folder.plugins().run("echo", &[], &long).unwrap().len(), 300_002);
        folder.plugin("deaf", "exec head -c 3000000 /dev/zero");
        assert_eq!(folder.plugins().run("deaf", &[], &long).unwrap().len(), super::MAX_ANSWER);
    }

    #[test]
    fn whatever_goes_wrong_is_said() {
        let folder = Folder::new();
        let said = |script: &str| {
            folder.plugin("fails", script);
            folder.plugins().run("fails", &[], &json!({})).unwrap_err().to_string()
        };
        assert_eq!(
            said(r#"echo '{"code": 7, "msg": "no bridge", "details": "br0"}'; echo why >&2; exit 1"#),
            "no bridge; br0"
        );
        assert_eq!(said(r#"echo '{"code": 7, "msg": "no bridge"}'; exit 1"#), "no bridge");
        assert_eq!(said("echo sorry >&2; exit 3"), "sorry");
        assert_eq!(said("echo sorry; exit 3"), "sorry");
        assert_eq!(said("exit 3"), "exit status: 3");
        assert_eq!(said("echo oh >&2; kill -9 $$"), "signal: 9 (SIGKILL): oh");
        let nowhere = folder.plugins().run("none", &[], &json!({})).unwrap_err().to_string();
        assert!(nowhere.starts_with("there is no such program in /"), "{nowhere}");
    }

    #[test]
    fn what_a_plugin_leaves_behind_is_not_waited_for() {
        let folder = Folder::new();
        let pid = folder.path().join("pid");
        folder.plugin("daemon", &format!("sleep 1000 & echo $! > {}; echo '{{}}'", pid.display()));
        assert_eq!(folder.plugins().run("daemon", &[], &json!({})).unwrap(), b"{}\n");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
}
