//! The pause process of a Pod whose containers share their PID namespace: made before the first of them, ended after the last.
//!
//! Nothing is written down of it: it is the one process in a cgroup of its own below the Pod's, where every worker finds it.
//! When it ends, the kernel ends all that is in its namespace; so whether it is still there is asked when a container has
//! ended and when one starts, and nobody has to watch it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pod_run::{Key, PodNumber, PodRun, Watched};
use super::poller::Interest;
use super::start::lowest_oom_score_adj;
use super::worker::Worker;
use crate::cgroup::{self, Group, Settings};
use crate::container::{self, Parent};
use crate::pod::Event;
use crate::sys::process::{Stat, is_first_of_a_namespace};

/// Its cgroup, beside those of the containers: no container can be called so.
const GROUP: &str = "_pause";

/// As Kubernetes has it: killed for want of memory after everything else of its Pod.
const OOM_SCORE_ADJ: i32 = -998;

/// A pause process that runs.
pub struct Pause {
    pid: u32,
    pidfd: OwnedFd,
}

impl Pause {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// False from the moment on at which it begins to end: nobody can come into its namespace any more, though the
    /// kernel lets it go only when all others there are gone.
    fn is_there(&self) -> bool {
        let is_ending = is_ending(self.pid);
        // Asked afterwards: while it has not ended, the PID is its own.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !is_ending && matches!(poll(&mut ended, Some(&now)), Ok(0))
    }

    pub fn namespace(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/pid", self.pid);
        Ok(File::open(&path).with_context(|| format!("open {path}"))?.into())
    }
}

impl Worker {
    /// The PID namespace that the Pod's containers share, made if it is not there; `None` if each has its own.
    pub fn shared_pid_namespace(&mut self, number: PodNumber) -> Result<Option<OwnedFd>> {
        self.notice_end_of_pause(number);
        let run = self.pods.get_mut(&number).context("the Pod is gone")?;
        if !run.pod().share_process_namespace {
            return Ok(None);
        }
        let pause = match run.pause.take() {
            Some(pause) => pause,
            None => make(run, &self.options.folders.mount_point())
                .context("make the PID namespace that the Pod's containers share")?,
        };
        run.pause.insert(pause).namespace().map(Some)
    }

    /// Finds the pause process that an earlier worker made. One that has ended meanwhile ends the containers that run.
    pub fn find_pause(&mut self, number: PodNumber) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let Some(group) = group_of(run)? else { return Ok(()) };
        let pids = group.processes()?;
        run.pause = pids.iter().find_map(|pid| open(*pid, &group)).filter(Pause::is_there);
        if run.pause.is_none() {
            // One that was being made may be on its way from the process that joins namespaces to the one inside.
            group.kill()?;
            if run.containers.iter().any(|c| c.process.is_some()) {
                self.say_that_it_ended(number, &group);
            }
        }
        Ok(())
    }

    /// To be called before the end of a container is told: if that came of the end of its namespace, the machine hears so.
    pub fn notice_end_of_pause(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        if run.pause.as_ref().is_none_or(Pause::is_there) {
            return;
        }
        run.pause = None;
        match group_of(run) {
            Ok(Some(group)) => self.say_that_it_ended(number, &group),
            Ok(None) => {}
            Err(error) => log::error!("{:#}", anyhow::Error::from(error)),
        }
    }

    /// Whether this was the pause process of a Pod, which is then known to have ended.
    pub fn was_pause(&mut self, pid: u32) -> bool {
        let found = self.pods.iter().find(|(_, run)| run.pause.as_ref().is_some_and(|p| p.pid() == pid));
        let Some(number) = found.map(|(number, _)| *number) else { return false };
        self.notice_end_of_pause(number);
        true
    }

    fn say_that_it_ended(&mut self, number: PodNumber, group: &Group) {
        let Some(run) = self.pods.get(&number) else { return };
        let why = match group.oom_kills() {
            Ok(1..) => " for want of memory",
            _ => "",
        };
        let message = format!(
            "the pause process of the PID namespace that the Pod's containers share has ended{why}, \
             and the kernel has ended them with it"
        );
        log::warn!("{}: {message}", run.pod().id);
        self.tell(number, Event::PauseEnded { message });
    }

    /// Ends the pause process, if there is one; says whether none is left. If not, the release goes on when it has ended.
    pub fn end_pause(&mut self, number: PodNumber) -> Result<bool> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(true) };
        run.pause = None;
        let Some(group) = group_of(run)? else { return Ok(true) };
        if run.pause_ending.is_none() {
            // Watched before it is killed, so that the change cannot be missed.
            let events = group.events()?;
            let registration = self.poller.add(&events, Interest::Priority, Key::PauseEmptied(number))?;
            run.pause_ending = Some(Watched { inner: events, registration });
            group.kill()?;
        }
        if group.populated()? {
            return Ok(false);
        }
        self.forget_pause_ending(number);
        Ok(true)
    }

    /// The cgroup of a pause process that was ended may be empty now.
    pub fn pause_group_changed(&mut self, number: PodNumber) -> Result<()> {
        let Some(ending) = self.pods.get(&number).and_then(|run| run.pause_ending.as_ref()) else {
            return Ok(());
        };
        // Reading it also ends the alarm that brought us here.
        if cgroup::populated_in(ending.inner.as_fd()).unwrap_or(false) {
            return Ok(());
        }
        self.forget_pause_ending(number);
        self.release(number)
    }

    fn forget_pause_ending(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        if let Some(ending) = run.pause_ending.take() {
            self.poller.remove(&ending.inner, ending.registration);
        }
    }
}

/// The pause process' cgroup; `None` if none was ever made.
fn group_of(run: &PodRun) -> Result<Option<Group>, cgroup::Error> {
    run.group.as_ref().map_or(Ok(None), |group| group.existing_child(GROUP))
}

/// Makes a pause process, and waits until it is nothing but that.
fn make(run: &PodRun, root: &Path) -> Result<Pause> {
    let group = run.group.as_ref().context("the Pod has no cgroup")?.child(GROUP, &Settings::default())?;
    let namespaces = run.namespaces.try_clone().context("duplicate the Pod's namespaces")?;
    let score = OOM_SCORE_ADJ.max(lowest_oom_score_adj());
    let plan = container::pause_plan(&run.pod().id.to_string(), root, namespaces, score)?;
    let spawned = container::spawn(&plan, Some(group.dir()), Parent::CallersParent, None)?;
    spawned.report.next(&plan)?;
    log::info!("{}: its PID namespace is that of PID {}", run.pod().id, spawned.pid);
    Ok(Pause { pid: spawned.pid, pidfd: spawned.pidfd })
}

/// The process, if it is the first one of a PID namespace and in this cgroup.
fn open(pid: u32, group: &Group) -> Option<Pause> {
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    // Looked at after the pidfd was opened: if the PID is one of the cgroup's now, the pidfd is of that process.
    let is_of_group = || group.processes().is_ok_and(|pids| pids.contains(&pid));
    (is_first_of_a_namespace(pid) && is_of_group()).then_some(Pause { pid, pidfd })
}

/// Whether the process has begun to end, or is gone.
fn is_ending(pid: u32) -> bool {
    Stat::of(pid).is_none_or(|stat| stat.is_ending())
}
