//! A new worker goes on where the last one was: Pods, processes, pipes and namespaces are picked up as they are.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::clear::{exit_of, is_end_of};
use super::clock;
use super::output::fifo_key;
use super::pause::Pause;
use super::pod_run::{Key, Output, PodNumber, PodRun, Process, Watched};
use super::poller::Interest;
use super::prepare::{namespace_key, own_namespaces};
use super::start_journal::Entry;
use super::state::{self, Found, SavedRun};
use super::worker::Worker;
use crate::cgroup::{Group, PodCgroupName};
use crate::container::Namespaces;
use crate::keeper::protocol::Exit as KeeperExit;
use crate::logs::{Fifo, Stream, container_log_dir, pod_log_dir};
use crate::manifest::{self, Uid};
use crate::network::Lease;
use crate::pod::event::Index;
use crate::pod::set::SetEvent;
use crate::pod::{Command, Event, Exit, Machine};
use crate::sys::process;

/// File descriptors that the keeper has held.
pub type Held = BTreeMap<String, OwnedFd>;

impl Worker {
    /// Picks up every Pod that an earlier worker was keeping.
    pub fn take_over(&mut self, mut held: Held, exits: &[KeeperExit]) -> Result<()> {
        let entries = self.start_journal.entries();
        for found in state::found(&self.options.folders)? {
            match found.map_err(anyhow::Error::from).and_then(|found| self.resume(found)) {
                Ok(number) => {
                    self.adopt_unwritten(number, &entries, exits);
                    // What only the journal knew.
                    self.unsaved.insert(number);
                    self.renew_survival(number);
                    self.reopen(number, &mut held)?;
                    self.announce(number);
                }
                Err(error) => log::error!("cannot take over a Pod, it starts anew: {error:#}"),
            }
        }
        for key in held.into_keys() {
            self.link.drop_held(&key).context("give up what no Pod needs")?;
        }
        Ok(())
    }

    /// Decodes the Pod again and gives its machine back its state.
    fn resume(&mut self, found: Found) -> Result<PodNumber> {
        let decoded = manifest::from_source(&found.pod.source, &found.pod.node_name);
        let pod = decoded.map_err(|errors| {
            let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}: {}", found.uid, words.join("; "))
        })?;
        anyhow::ensure!(pod.uid == found.uid, "{}: its content now has uid {}", found.uid, pod.uid);
        let id = pod.id.clone();
        let machine = Machine::resume(Arc::new(pod), found.state.machine, self.settings, clock::now())
            .with_context(|| format!("{id}: its saved state does not fit"))?;
        let mut run = PodRun::new(machine);
        for (container, saved) in run.containers.iter_mut().zip(found.state.runs) {
            container.process = saved.map(open_process);
        }
        run.hooks = found.state.hooks;
        let is_v4_only = found.state.is_v4_only;
        run.lease = found.state.slot.map(|slot| Lease { slot, is_v4_only });
        log::info!("{id}: taken over");
        Ok(self.add_run(run))
    }

    /// Opens what belongs to a Pod: cgroups, namespaces, pipes.
    fn reopen(&mut self, number: PodNumber, held: &mut Held) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let pod = Arc::clone(run.pod());
        let name = PodCgroupName::new(&pod.id, &pod.uid);
        run.group = self.cgroups.existing_pod(pod.qos_class(), &name)?;
        run.holds_ports = run.group.is_some() || run.lease.is_some();
        // Before any end of a container is told, which may come of its end.
        self.find_pause(number)?;
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        run.namespaces = namespaces(&pod.uid, held, run);
        self.hold_namespaces(number)?;
        self.resume_link(number);
        for container in 0..pod.containers.len() {
            self.reopen_container(number, container, held)?;
        }
        self.adopt_hooks(number, held)?;
        self.watch_processes(number)
    }

    fn reopen_container(&mut self, number: PodNumber, container: Index, held: &mut Held) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let pod = Arc::clone(run.pod());
        let name = &pod.containers[container].name;
        let attempt = run.machine.attempt(container);
        run.containers[container].group = match &run.group {
            Some(group) => group.existing_child(name)?,
            None => None,
        };
        let folders = &self.options.folders;
        let mut open = |stream: Stream| -> Result<Option<Watched<Fifo>>> {
            let key = fifo_key(&pod.uid, container, stream);
            let path = folders.fifo(&pod.uid, name, stream.as_str());
            let fifo = match held.remove(&key) {
                Some(fd) => Fifo::adopt(fd, &path)?,
                None if path.exists() => {
                    let fifo = Fifo::open(&path)?;
                    use std::os::fd::AsFd;
                    self.link.hold(&key, fifo.as_fd()).context("hand over a log pipe")?;
                    fifo
                }
                None => return Ok(None),
            };
            let registration =
                self.poller.add(&fifo, Interest::NewData, Key::Output(number, container, stream))?;
            Ok(Some(Watched { inner: fifo, registration }))
        };
        if let (Some(stdout), Some(stderr)) = (open(Stream::Stdout)?, open(Stream::Stderr)?) {
            let dir = pod_log_dir(&folders.logs, &pod.id.namespace, &pod.id.name, &pod.uid);
            let log = self.pump.open_log(&container_log_dir(&dir, name), attempt, self.policy)?;
            run.containers[container].output =
                Some(Output { stdout, stderr, log, lost: 0, lost_said_at: None });
            // What was written while no worker was there told nobody.
            self.chatty.insert((number, container, false));
            self.chatty.insert((number, container, true));
        }
        Ok(())
    }

    /// Sees to it that the end of every process will be known, and tells of those that ended unseen.
    fn watch_processes(&mut self, number: PodNumber) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        for (container, c) in run.containers.iter_mut().enumerate() {
            let Some(process) = &mut c.process else { continue };
            match &process.pidfd {
                // The keeper has its end already, or will have it: nobody else reaps its children.
                _ if process.run.keeper == self.reign.keeper => {
                    self.processes.insert(process.run.pid, (number, container));
                }
                Some(pidfd) => {
                    let key = Key::Adopted(number, container);
                    process.watch = Some(self.poller.add(pidfd, Interest::Readable, key)?);
                }
                None => self.events.push_back((number, Event::Exited { container, exit: Exit::Unknown })),
            }
        }
        // Running without a process on record: the record was lost.
        let alive: Vec<_> = run.machine.alive().filter(|(_, pid)| pid.is_some()).collect();
        for (container, _) in alive {
            if run.containers[container].process.is_none() {
                self.events.push_back((number, Event::Exited { container, exit: Exit::Unknown }));
            }
        }
        Ok(())
    }

    /// Takes note of processes that were cloned in the last worker's last instants: their machine does not know of
    /// them, or does not know how their start ended.
    fn adopt_unwritten(&mut self, number: PodNumber, entries: &[Entry], exits: &[KeeperExit]) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        let (mut todo, now) = (Vec::new(), clock::now());
        let pod = Arc::clone(run.pod());
        let mut adopted = Vec::new();
        for entry in entries.iter().filter(|entry| entry.uid == pod.uid) {
            let Some((container, before)) = unwritten(run, entry) else { continue };
            adopted.push(container);
            if let Some(exit) =
                exits.iter().find(|exit| before.as_ref().is_some_and(|run| is_end_of(exit, run)))
            {
                // The end of the run before, which the last worker had taken in but not written down.
                let exit = exit_of(exit.how);
                todo.extend(run.machine.step(Event::Exited { container, exit }, now));
            }
        }
        for (container, c) in run.containers.iter().enumerate() {
            if let Some(process) = &c.process {
                let SavedRun { attempt, pid, .. } = process.run;
                todo.extend(run.machine.step(Event::Adopted { container, attempt, pid }, now));
            }
        }
        // What has a process needs no new one; and of a run that the saved state did not know, what it asked for is over.
        let is_over = |command: &Command| match *command {
            Command::Start { container, .. } | Command::FindImage { container } => {
                run.containers.get(container).is_some_and(|c| c.process.is_some())
            }
            Command::Clear { container }
            | Command::Kill { container }
            | Command::RunHook { container, .. } => adopted.contains(&container),
            _ => false,
        };
        self.begun.retain(|(begun, command)| *begun != number || !is_over(command));
        todo.retain(|command| !is_over(command));
        todo.extend(run.machine.step(Event::Tick, now));
        self.deadlines.set(number, run.machine.deadline());
        self.begun.extend(todo.into_iter().map(|command| (number, command)));
    }

    fn announce(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get(&number) else { return };
        let (pod, machine) = (Arc::clone(run.pod()), &run.machine);
        let (stopping, ready, ran) = (machine.is_terminating(), machine.is_ready(), machine.has_run());
        let commands = self.set.step(SetEvent::Adopted { pod, stopping, ready, ran });
        self.heed_set(commands);
    }

    /// Ends and removes what lies in our part of the machine and belongs to no Pod.
    pub fn remove_strays(&mut self) -> Result<()> {
        let known: Vec<String> = self
            .pods
            .values()
            .map(|run| PodCgroupName::new(&run.pod().id, run.uid()).as_str().to_owned())
            .collect();
        for existing in self.cgroups.existing_pods()? {
            if !known.iter().any(|name| name == existing.name.as_str()) {
                log::warn!("ending what runs in {}: it belongs to no Pod", existing.group.path().display());
                end_group(&existing.group)?;
            }
        }
        for uid in state::uids_in(&self.options.folders.run_pods())? {
            if !self.numbers.contains_key(&uid) {
                super::prepare::remove_flat(&self.options.folders.run_pod(&uid))?;
            }
        }
        for uid in state::uids_in(&self.options.folders.files())? {
            if !self.numbers.contains_key(&uid) {
                super::file_volumes::remove_files(&self.options.folders, &uid)?;
            }
        }
        Ok(())
    }

    /// Throws away the folders of Pods that nobody wants any more: known once the manifests have been listed.
    pub fn remove_unwanted_folders(&mut self) -> Result<()> {
        self.remove_unwanted(state::uids_in(&self.options.folders.pods())?)
    }

    /// Of these Pods, throws away the folders of those that are neither there nor wanted: one that waits for its turn has its
    /// volumes and restart counts of an earlier boot.
    pub fn remove_unwanted(&mut self, uids: Vec<Uid>) -> Result<()> {
        let (folders, wanted) = (&self.options.folders, self.set.uids());
        for uid in uids {
            let is_wanted = self.numbers.contains_key(&uid) || wanted.contains(&uid);
            if !is_wanted && !is_mounted_on(&folders.pod(&uid)) {
                super::prepare::throw_away_pod(folders, &uid)?;
            }
        }
        self.empty_trash();
        Ok(())
    }
}

/// Gives a Pod the process of the journal's entry, unless it or a later one was written down; says which container's it is, and
/// which run was on record before.
fn unwritten(run: &mut PodRun, entry: &Entry) -> Option<(Index, Option<SavedRun>)> {
    if entry.attempt < run.machine.attempt(entry.container) {
        return None;
    }
    let c = run.containers.get_mut(entry.container)?;
    let is_written = |process: &Process| (process.run.pid, process.run.attempt) == (entry.pid, entry.attempt);
    if c.process.as_ref().is_some_and(is_written) {
        return None;
    }
    let start_time = process::start_time(entry.pid);
    let Entry { attempt, pid, keeper, .. } = *entry;
    let saved = SavedRun {
        attempt,
        pid,
        start_time,
        stop_signal: None,
        seccomp: None,
        volume_images: Vec::new(),
        keeper,
    };
    let before = c.process.replace(open_process(saved));
    Some((entry.container, before.map(|process| process.run)))
}

/// The process of a run: with a pidfd if it is still there and still the same one.
fn open_process(run: SavedRun) -> Process {
    let open = || {
        let pid = Pid::from_raw(i32::try_from(run.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the pidfd was opened: if it is the same one now, the pidfd is of it.
        let start_time = process::start_time(run.pid);
        (start_time != 0 && (run.start_time == 0 || run.start_time == start_time)).then_some(pidfd)
    };
    let pidfd = open();
    Process { run, pidfd, watch: None }
}

/// The Pod's namespaces: as the keeper held them, else those that a process of the Pod is in.
fn namespaces(uid: &Uid, held: &mut Held, run: &PodRun) -> Namespaces {
    let alive = |process: &&Process| process.pidfd.is_some();
    let mut processes = run.containers.iter().filter_map(|c| c.process.as_ref());
    let pause = run.pause.as_ref().map(Pause::pid);
    let pid = processes.find(alive).map(|process| process.run.pid).or(pause);
    let mut namespaces = Namespaces::default();
    for (kind, name) in own_namespaces(run.pod()) {
        let from_process = || fs::File::open(format!("/proc/{}/ns/{name}", pid?)).ok().map(OwnedFd::from);
        *namespaces.slot(kind) = held.remove(&namespace_key(uid, name)).or_else(from_process);
    }
    namespaces
}

/// SIGKILLs all of it and removes it; what does not end within two seconds stays and is said.
fn end_group(group: &Group) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let events = group.events()?;
    group.kill()?;
    for _ in 0..20 {
        if !crate::cgroup::populated_in(std::os::fd::AsFd::as_fd(&events))? {
            break;
        }
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }))?;
    }
    if let Err(error) = group.remove() {
        log::error!("{error}");
    }
    Ok(())
}

/// Whether something is mounted on or below this folder: then it is not thrown away.
fn is_mounted_on(folder: &std::path::Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| std::path::Path::new(point).starts_with(folder))
}
