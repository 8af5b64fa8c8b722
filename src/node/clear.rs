//! After a container's first process: the rest of its cgroup is ended, then everything of the run is cleared away.

use std::fs;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use super::pod_run::{Key, PodNumber, Watched};
use super::poller::Interest;
use super::prepare;
use super::state::SavedRun;
use super::worker::Worker;
use crate::keeper::protocol::Exit as KeeperExit;
use crate::logs::Stream;
use crate::pod::event::Index;
use crate::pod::{Event, Exit};
use crate::sys::pidfd;
use crate::sys::process::Stat;
use crate::sys::wait::Ended;

impl Worker {
    /// A child of the keeper has ended: the first process of a container, or something that nobody waits for.
    pub fn process_ended(&mut self, exit: KeeperExit) -> Result<()> {
        self.unacknowledged = Some(exit.seq);
        let known = self.processes.get(&exit.pid).copied();
        let Some((number, container)) = known.or_else(|| self.on_its_way(exit.pid)) else {
            if !self.was_pause(exit.pid) {
                self.exec_ended(exit);
            }
            return Ok(());
        };
        // What it reported before it ended comes first: perhaps that it was there.
        if known.is_none() {
            self.read_report(number, container)?;
        }
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        let process = run.containers.get(container).and_then(|c| c.process.as_ref());
        if process.map_or(known.is_some(), |process| !is_end_of(&exit, &process.run)) {
            // Another process that had this PID before.
            return Ok(());
        }
        self.processes.remove(&exit.pid);
        self.read_report(number, container)?;
        self.notice_end_of_pause(number);
        self.tell(number, Event::Exited { container, exit: exit_of(exit.how) });
        Ok(())
    }

    /// The first process of a container that an earlier keeper started has ended: its exit code went to whoever
    /// inherited it, unless the kernel tells it to the holder of a pidfd.
    pub fn adopted_process_ended(&mut self, number: PodNumber, container: Index) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        let Some(process) = run.containers.get_mut(container).and_then(|c| c.process.as_mut()) else {
            return;
        };
        let Some(watch) = process.watch.take() else { return };
        let Some(fd) = &process.pidfd else { return };
        self.poller.remove(fd, watch);
        let ended = status_of_zombie(process.run.pid, process.run.start_time)
            .or_else(|| pidfd::exit_status(fd.as_fd()));
        let exit = ended.map_or(Exit::Unknown, exit_of);
        self.notice_end_of_pause(number);
        self.tell(number, Event::Exited { container, exit });
    }

    /// Ends what is left in the container's cgroup; [`Event::Cleared`] follows when it is empty.
    pub fn clear(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let name = run.name_of(container);
        let Some(group) = run.containers.get(container).and_then(|c| c.group.as_ref()) else {
            return self.cleared(number, container);
        };
        // The rule: its first process was the only one, and nothing can come into an empty cgroup but a command.
        if !self.execs.is_starting(number, container) && group.populated().is_ok_and(|populated| !populated) {
            return self.cleared(number, container);
        }
        // Watched before it is killed, so that the change cannot be missed.
        let events = match group.events() {
            Ok(events) => events,
            Err(error) => {
                log::error!("{name}: {:#}", anyhow::Error::from(error));
                return self.cleared(number, container);
            }
        };
        let key = Key::Emptied(number, container);
        let registration = self.poller.add(&events, Interest::Priority, key).context("watch a cgroup")?;
        if let Err(error) = group.kill() {
            log::error!("{name}: {:#}", anyhow::Error::from(error));
        }
        run.containers[container].emptying = Some(Watched { inner: events, registration });
        self.cgroup_changed(number, container)
    }

    /// The cgroup of a container that is being cleared may be empty now.
    pub fn cgroup_changed(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let Some(c) = run.containers.get_mut(container) else { return Ok(()) };
        let (Some(group), Some(emptying)) = (&c.group, &c.emptying) else { return Ok(()) };
        // One that is just being cloned into it may be there in a moment; `exec_begun` comes back.
        if self.execs.is_starting(number, container) {
            return Ok(());
        }
        // Reading it also ends the alarm that brought us here.
        if crate::cgroup::populated_in(emptying.inner.as_fd()).unwrap_or(false)
            || group.populated().unwrap_or(false)
        {
            return Ok(());
        }
        if let Some(emptying) = c.emptying.take() {
            self.poller.remove(&emptying.inner, emptying.registration);
        }
        self.cleared(number, container)
    }

    /// Nothing runs any more: counters are read, the last output is written, and the run's traces go.
    fn cleared(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let oom_killed = self.remove_group(number, container);
        self.finish_output(number, container)?;
        let message = self.last_words(number, container);
        self.give_up_run(number, container)?;
        self.tell(number, Event::Cleared { container, oom_killed, message });
        Ok(())
    }

    /// Says whether the kernel had to kill for want of memory: known only as long as the cgroup is there.
    fn remove_group(&mut self, number: PodNumber, container: Index) -> bool {
        let Some(run) = self.pods.get_mut(&number) else { return false };
        let name = run.name_of(container);
        let Some(group) = run.containers.get_mut(container).and_then(|c| c.group.take()) else {
            return false;
        };
        let kills = group.oom_kills().unwrap_or_else(|error| {
            log::warn!("{name}: {:#}", anyhow::Error::from(error));
            0
        });
        if let Err(error) = group.remove() {
            log::error!("{name}: {:#}", anyhow::Error::from(error));
        }
        kills > 0
    }

    /// Removes what this run has left behind: its process' traces here, its pipes, its writable layer.
    pub fn give_up_run(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let (uid, attempt) = (run.uid().clone(), run.machine.attempt(container));
        let name = run.pod().containers.get(container).map(|c| c.name.clone()).unwrap_or_default();
        let Some(c) = run.containers.get_mut(container) else { return Ok(()) };
        if let Some(starting) = c.starting.take() {
            self.leave_starting(starting);
        }
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let Some(c) = run.containers.get_mut(container) else { return Ok(()) };
        c.environment = None;
        if let Some(process) = c.process.take() {
            // Since it was reaped, its PID may have become that of another container.
            if self.processes.get(&process.run.pid) == Some(&(number, container)) {
                self.processes.remove(&process.run.pid);
            }
            if let (Some(watch), Some(pidfd)) = (process.watch, &process.pidfd) {
                self.poller.remove(pidfd, watch);
            }
        }
        if let Some(output) = c.output.take() {
            for (stream, fifo) in [(Stream::Stdout, output.stdout), (Stream::Stderr, output.stderr)] {
                self.poller.remove(&fifo.inner, fifo.registration);
                let key = super::output::fifo_key(&uid, container, stream);
                self.link.drop_held(&key).context("give up a log pipe")?;
                // Gone already is as good.
                let _ = fs::remove_file(fifo.inner.path());
            }
        }
        let folders = &self.options.folders;
        // A disk that takes no more must not end the worker. The next run has a folder of its own.
        if let Err(error) =
            prepare::throw_away(&folders.container_run(&uid, &name, attempt), &folders.trash())
        {
            log::error!("{uid}/{name}: {error:#}");
        }
        self.empty_trash();
        Ok(())
    }

    /// Finds out which processes SIGKILL has not ended, and what they wait for.
    pub fn diagnose(&mut self, number: PodNumber, container: Index) {
        let Some(run) = self.pods.get(&number) else { return };
        let Some(group) = run.containers.get(container).and_then(|c| c.group.as_ref()) else { return };
        let pids = group.processes().unwrap_or_default();
        if pids.is_empty() {
            return;
        }
        let processes = pids.iter().map(|pid| describe_process(*pid)).collect::<Vec<_>>().join(", ");
        let processes = format!("SIGKILL has not ended {processes}");
        log::warn!("{}: {processes}", run.name_of(container));
        self.tell(number, Event::Stuck { container, processes });
    }
}

/// Whether it is the end of this run's process: a PID may have been another's before.
pub fn is_end_of(exit: &KeeperExit, run: &SavedRun) -> bool {
    let known = exit.start_time != 0 && run.start_time != 0;
    exit.pid == run.pid && (!known || exit.start_time == run.start_time)
}

pub fn exit_of(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal(signal) => Exit::Signal(signal),
    }
}

/// How a process ended whose parent has not reaped it yet, from `/proc/PID/stat`.
fn status_of_zombie(pid: u32, start_time: u64) -> Option<Ended> {
    let stat = Stat::of(pid)?;
    let is_it = stat.has_ended() && (start_time == 0 || stat.start_time == start_time);
    is_it.then(|| stat.end())
}

/// `PID 4711 (dd) in state D, waiting in nfs_wait_bit_killable`.
fn describe_process(pid: u32) -> String {
    let Some(stat) = Stat::of(pid) else { return format!("PID {pid}") };
    let channel = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    match channel.as_str() {
        "" | "0" => format!("PID {pid} ({}) in state {}", stat.command, stat.state),
        channel => format!("PID {pid} ({}) in state {}, waiting in {channel}", stat.command, stat.state),
    }
}
