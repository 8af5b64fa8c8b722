//! Probes and hooks that are commands: what they say, how they end, and hooks that outlive the worker.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Errand, ErrandNumber, Place, Purpose, Running, offspring};
use crate::manifest::Uid;
use crate::node::clock;
use crate::node::exec::{ExecError, ExecStreams};
use crate::node::pod_run::{Key, PodNumber, Watched};
use crate::node::poller::Interest;
use crate::node::state::SavedHook;
use crate::node::take_over::Held;
use crate::node::worker::Worker;
use crate::pod::Command;
use crate::pod::event::{Hook, Index};
use crate::probe::Outcome;
use crate::sys::process;

/// Bytes of a command's output that are kept (reference §4).
const MAX_OUTPUT: usize = 10 << 10;

impl Worker {
    /// Runs a command in the container and listens to what it says; without a time limit, for as long as the container runs.
    pub(super) fn run_command(
        &mut self,
        place: Place,
        purpose: Purpose,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) {
        let number = self.errands.next_number();
        let (output, streams) = match self.output_of(number, place, purpose) {
            Ok(both) => both,
            Err(error) => return self.conclude(place, purpose, Outcome::NotAsked(format!("{error:#}"))),
        };
        let words = format!("{command:?}");
        let way = Running::Command { words, output: Some(output), said: Vec::new(), pid: None };
        let due = timeout.map(|timeout| clock::now() + timeout);
        self.errands.insert(number, Errand { place, purpose, due, way });
        if let Err(error) = self.exec_errand(place.pod, place.container, command, streams, number) {
            self.command_failed(number, &error);
        }
    }

    /// One pipe for both streams. The keeper holds that of a hook, which may outlive this worker.
    fn output_of(
        &mut self,
        number: ErrandNumber,
        place: Place,
        purpose: Purpose,
    ) -> Result<(Watched<OwnedFd>, ExecStreams)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        rustix::io::ioctl_fionbio(&read, true).context("make a pipe")?;
        if let (Purpose::Hook(hook), Some(run)) = (purpose, self.pods.get(&place.pod)) {
            self.link
                .hold(&hook_key(run.uid(), place.container, hook), read.as_fd())
                .context("hand over a pipe")?;
        }
        let registration =
            self.poller.add(&read, Interest::Readable, Key::Errand(number)).context("watch a pipe")?;
        let stderr = write.try_clone().context("duplicate a pipe")?;
        let streams = ExecStreams::Pipes { stdin: None, stdout: write, stderr };
        Ok((Watched { inner: read, registration }, streams))
    }

    /// A command runs; says whether anybody still waits for it.
    pub fn command_begun(&mut self, number: ErrandNumber, begun: u32) -> bool {
        let Some(errand) = self.errands.all.get_mut(&number) else {
            offspring::kill(begun, None);
            return false;
        };
        if let Running::Command { pid, .. } = &mut errand.way {
            *pid = Some(begun);
        }
        let (place, purpose) = (errand.place, errand.purpose);
        if let (Purpose::Hook(hook), Some(run)) = (purpose, self.pods.get_mut(&place.pod)) {
            let (keeper, start_time) = (self.reign.keeper, process::start_time(begun));
            let Place { container, attempt, .. } = place;
            run.hooks.push(SavedHook { container, attempt, hook, pid: begun, start_time, keeper });
            self.unsaved.insert(place.pod);
        }
        true
    }

    /// There is no such program, or the container takes no command: nothing is known of how it is.
    pub fn command_failed(&mut self, number: ErrandNumber, error: &ExecError) {
        self.finish(number, Outcome::NotAsked(error.to_string()));
    }

    /// A command has ended. What it has written is there by now, unless a child of it goes on writing.
    pub fn command_ended(&mut self, number: ErrandNumber, code: Option<u8>) {
        let Some(errand) = self.errands.all.get_mut(&number) else { return };
        let (place, purpose) = (errand.place, errand.purpose);
        let Running::Command { words, output, said, pid } = &mut errand.way else { return };
        *pid = None;
        if let Some(pipe) = output {
            drain(&pipe.inner, said);
        }
        let said = String::from_utf8_lossy(said).trim_end().to_owned();
        let outcome = match (code, purpose) {
            // Of a process that was not our child nobody knows the code.
            (Some(0) | None, _) => Outcome::Success,
            (Some(_), Purpose::Probe(_)) => Outcome::Failure(said),
            (Some(code), Purpose::Hook(_)) => {
                Outcome::Failure(format!("command {words} exited with {code}: {said}"))
            }
        };
        if let Purpose::Hook(hook) = purpose
            && self.is_asked_for_later(place, hook)
        {
            self.errands.ended.push((place, hook));
        }
        self.finish(number, outcome);
    }

    fn is_asked_for_later(&self, place: Place, hook: Hook) -> bool {
        let Place { pod, container, attempt } = place;
        self.begun.iter().any(|begun| *begun == (pod, Command::RunHook { container, attempt, hook }))
    }

    /// Hooks that an earlier worker began, as its state has them.
    pub fn adopt_hooks(&mut self, pod: PodNumber, held: &mut Held) -> Result<()> {
        let Some(run) = self.pods.get_mut(&pod) else { return Ok(()) };
        for hook in std::mem::take(&mut run.hooks) {
            let Some(run) = self.pods.get_mut(&pod) else { return Ok(()) };
            let place = Place { pod, container: hook.container, attempt: hook.attempt };
            let pipe = held.remove(&hook_key(run.uid(), hook.container, hook.hook));
            let pidfd =
                Pid::from_raw(hook.pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            let pidfd = pidfd.filter(|_| process::start_time(hook.pid) == hook.start_time);
            let is_child = hook.keeper == self.reign.keeper;
            if pidfd.is_none() && !is_child {
                // It ended unseen, and so well or not at all: it runs again.
                continue;
            }
            let number = self.errands.next_number();
            let watch = |pipe: OwnedFd| {
                let registration = self.poller.add(&pipe, Interest::Readable, Key::Errand(number))?;
                std::io::Result::Ok(Watched { inner: pipe, registration })
            };
            let output = pipe.map(watch).transpose().context("watch a pipe")?;
            let words = "of an earlier podkeep".to_owned();
            let way = Running::Command { words, output, said: Vec::new(), pid: Some(hook.pid) };
            run.hooks.push(hook.clone());
            self.errands.insert(number, Errand { place, purpose: Purpose::Hook(hook.hook), due: None, way });
            self.adopt_exec(hook.pid, pidfd, number, is_child)?;
        }
        Ok(())
    }

    pub(super) fn forget_hook(&mut self, place: Place, purpose: Purpose) {
        let (Purpose::Hook(hook), Some(run)) = (purpose, self.pods.get_mut(&place.pod)) else { return };
        let is_it = |saved: &SavedHook| (saved.container, saved.hook) == (place.container, hook);
        run.hooks.retain(|saved| !is_it(saved));
        let key = hook_key(run.uid(), place.container, hook);
        self.unsaved.insert(place.pod);
        if let Err(error) = self.link.drop_held(&key) {
            log::error!("give up a hook's pipe: {error}");
        }
    }
}

/// The keeper's key of what a hook says.
fn hook_key(uid: &Uid, container: Index, hook: Hook) -> String {
    let name = match hook {
        Hook::PostStart => "post-start",
        Hook::PreStop => "pre-stop",
    };
    format!("{uid}/{container}/{name}")
}

/// Reads what is there, and keeps the beginning of it; says whether there may be more.
pub(super) fn drain(pipe: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut part = [0; 4096];
    loop {
        match rustix::io::read(pipe, &mut part) {
            Ok(0) => return false,
            Ok(length) => {
                let room = MAX_OUTPUT.saturating_sub(said.len());
                said.extend_from_slice(&part[..length.min(room)]);
            }
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
