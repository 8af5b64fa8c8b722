//! Probes and hooks of containers on their way: each one's connection, command or pause, until it has come to something.
//!
//! What they lead to is the machine's to decide (`pod`). Those of a run end with it: `Command::Clear` gives them up. A hook that is a
//! command outlives the worker, as its container does; everything else is asked for again by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::clock;
use super::exec::{ExecError, ExecStreams};
use super::pod_run::{Key, PodNumber, Watched};
use super::poller::Interest;
use super::state::SavedHook;
use super::take_over::Held;
use super::worker::{Done, Worker};
use crate::events::{Kind, Note};
use crate::http;
use crate::keeper;
use crate::manifest::Uid;
use crate::manifest::pod::{HookAction, HttpGet, ProbeAction};
use crate::pod::event::{Hook, Index, Outcome as Told, ProbeKind};
use crate::pod::{BootTime, Command, Event};
use crate::probe::{Attempt, Get, Outcome, Question, Step, Way};

/// `<major>.<minor>` of the Kubernetes whose rules these are (k8s-openapi's feature).
const PROBE_AGENT: &str = "kube-probe/1.36";
const HOOK_AGENT: &str = "kube-lifecycle/1.36";
/// The kubelet's client for hooks has no limit, and waits for ever.
const HTTP_HOOK: Duration = Duration::from_secs(30);
/// Bytes of a command's output that are kept (reference §4).
const MAX_OUTPUT: usize = 10 << 10;

/// One of them in the life of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrandNumber(u64);

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Hook(Hook),
    Probe(ProbeKind),
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pod: PodNumber,
    container: Index,
    attempt: u32,
}

struct Errand {
    place: Place,
    purpose: Purpose,
    due: Option<BootTime>,
    way: Running,
}

enum Running {
    Command {
        words: String,
        output: Option<Watched<OwnedFd>>,
        said: Vec<u8>,
        /// Known once it runs.
        pid: Option<u32>,
    },
    Connection {
        attempt: Box<Watched<Attempt>>,
        question: Question,
        /// The Pod itself is asked.
        own: bool,
    },
    /// A host's name is being looked up.
    LookUp(Way, Duration),
    Sleep,
}

#[derive(Default)]
pub struct Errands {
    all: BTreeMap<ErrandNumber, Errand>,
    in_order: BTreeSet<(BootTime, ErrandNumber)>,
    last: u64,
    /// Hooks of the last worker whose ends were heard before their machines asked for them.
    ended: Vec<(Place, Hook)>,
}

/// What is asked over a connection.
struct Asked<'a> {
    host: Option<&'a str>,
    port: u16,
    way: AskedWay<'a>,
}

enum AskedWay<'a> {
    Tcp,
    Http(&'a HttpGet, &'static str),
    Grpc(&'a str),
}

impl Errands {
    pub fn deadline(&self) -> Option<BootTime> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// A number for one that is watched before it is inserted.
    fn next_number(&mut self) -> ErrandNumber {
        self.last += 1;
        ErrandNumber(self.last)
    }

    fn insert(&mut self, number: ErrandNumber, errand: Errand) {
        self.in_order.extend(errand.due.map(|due| (due, number)));
        self.all.insert(number, errand);
    }

    fn remove(&mut self, number: ErrandNumber) -> Option<Errand> {
        let errand = self.all.remove(&number)?;
        if let Some(due) = errand.due {
            self.in_order.remove(&(due, number));
        }
        Some(errand)
    }

    fn of(&self, place: Place, purpose: Purpose) -> bool {
        self.all.values().any(|errand| (errand.place, errand.purpose) == (place, purpose))
    }
}

impl Worker {
    /// Begins what `Command::RunHook` asks for, unless it is under way since an earlier worker's time.
    pub fn run_hook(&mut self, pod: PodNumber, container: Index, attempt: u32, hook: Hook) {
        let place = Place { pod, container, attempt };
        if let Some(at) = self.errands.ended.iter().position(|ended| *ended == (place, hook)) {
            self.errands.ended.swap_remove(at);
            return;
        }
        if self.errands.of(place, Purpose::Hook(hook)) {
            return;
        }
        let Some(run) = self.pods.get(&pod) else { return };
        let lifecycle = &run.pod().containers[container].lifecycle;
        let action = match hook {
            Hook::PostStart => lifecycle.post_start.clone(),
            Hook::PreStop => lifecycle.pre_stop.clone(),
        };
        let purpose = Purpose::Hook(hook);
        match action {
            None => self.tell(pod, Event::HookEnded { container, attempt, hook, error: None }),
            Some(HookAction::Sleep(time)) => {
                let due = Some(clock::now() + time);
                let number = self.errands.next_number();
                self.errands.insert(number, Errand { place, purpose, due, way: Running::Sleep });
            }
            Some(HookAction::Exec(command)) => self.run_command(place, purpose, command, None),
            Some(HookAction::HttpGet(get)) => {
                let (host, port) = (get.host.as_deref(), get.port);
                let asked = Asked { host, port, way: AskedWay::Http(&get, HOOK_AGENT) };
                self.ask(place, purpose, &asked, HTTP_HOOK);
            }
        }
    }

    /// Begins what `Command::Probe` asks for.
    pub fn probe(&mut self, pod: PodNumber, container: Index, attempt: u32, kind: ProbeKind) {
        let place = Place { pod, container, attempt };
        let Some(run) = self.pods.get(&pod) else { return };
        let probes = &run.pod().containers[container].probes;
        let probe = match kind {
            ProbeKind::Startup => &probes.startup,
            ProbeKind::Liveness => &probes.liveness,
            ProbeKind::Readiness => &probes.readiness,
        };
        let Some(probe) = probe.clone() else { return };
        let purpose = Purpose::Probe(kind);
        let (host, port, way) = match &probe.action {
            ProbeAction::Exec(command) => {
                return self.run_command(place, purpose, command.clone(), Some(probe.timeout));
            }
            ProbeAction::HttpGet(get) => (get.host.as_deref(), get.port, AskedWay::Http(get, PROBE_AGENT)),
            ProbeAction::TcpSocket { host, port } => (host.as_deref(), *port, AskedWay::Tcp),
            ProbeAction::Grpc { port, service } => (None, *port, AskedWay::Grpc(service)),
        };
        self.ask(place, purpose, &Asked { host, port, way }, probe.timeout);
    }

    /// Opens the connection, once it is known to whom.
    fn ask(&mut self, place: Place, purpose: Purpose, asked: &Asked<'_>, timeout: Duration) {
        let host = asked.host.unwrap_or("127.0.0.1");
        let way = match self.way(asked, host) {
            Ok(way) => way,
            Err(message) => return self.conclude(place, purpose, Outcome::NotAsked(message)),
        };
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
            let due = Some(clock::now() + timeout);
            let way = Running::LookUp(way, timeout);
            let number = self.errands.next_number();
            self.errands.insert(number, Errand { place, purpose, due, way });
            let (host, port) = (host.to_owned(), asked.port);
            return self.execs.lane.add(move || {
                let found = http::addresses(&host).map_err(|error| error.to_string());
                let first =
                    found.and_then(|all| all.into_iter().next().ok_or(format!("{host} has no address")));
                Done::Found { errand: number, address: first.map(|address| SocketAddr::new(address, port)) }
            });
        };
        let question = Question { address: SocketAddr::new(address, asked.port), way, timeout };
        self.connect(place, purpose, &question, clock::now() + timeout, asked.host.is_none());
    }

    fn way(&self, asked: &Asked<'_>, host: &str) -> Result<Way, String> {
        match &asked.way {
            AskedWay::Tcp => Ok(Way::Tcp),
            AskedWay::Grpc(service) => {
                Ok(Way::Grpc { service: (*service).to_owned(), user_agent: PROBE_AGENT })
            }
            AskedWay::Http(get, agent) => {
                let scheme = if get.https { "https" } else { "http" };
                let bracketed = if host.contains(':') && !host.starts_with('[') {
                    format!("[{host}]")
                } else {
                    host.to_owned()
                };
                let url = format!("{scheme}://{bracketed}:{}{}", get.port, get.path);
                let url = url.parse().map_err(|error: http::InvalidUrl| error.to_string())?;
                let asked = Get::new(url, get.headers.clone(), agent);
                Ok(Way::Http(if *agent == HOOK_AGENT { asked.of_hook() } else { asked }))
            }
        }
    }

    /// From the Pod's own network, if it is the Pod that is asked; from the host's, if the manifest names somebody.
    fn connect(&mut self, place: Place, purpose: Purpose, question: &Question, due: BootTime, own: bool) {
        let Some(run) = self.pods.get(&place.pod) else { return };
        let network = run.namespaces.net.as_ref().filter(|_| own && !run.pod().host_network);
        let mut attempt = match Attempt::begin(question, network.map(AsFd::as_fd)) {
            Ok(attempt) => attempt,
            Err(outcome) => return self.conclude(place, purpose, outcome),
        };
        // On this machine, a connection mostly stands by now.
        match attempt.step() {
            Step::Wait => {}
            Step::Verdict(outcome) => return self.conclude(place, purpose, outcome),
            Step::Elsewhere(get) => return self.follow(place, purpose, question, get, due, own),
        }
        let number = self.errands.next_number();
        match self.poller.add(&attempt, Interest::Progress, Key::Errand(number)) {
            Ok(registration) => {
                let attempt = Box::new(Watched { inner: attempt, registration });
                let way = Running::Connection { attempt, question: question.clone(), own };
                self.errands.insert(number, Errand { place, purpose, due: Some(due), way });
            }
            Err(error) => {
                self.conclude(place, purpose, Outcome::NotAsked(format!("watch a connection: {error}")));
            }
        }
    }

    /// To another path or port of the same host.
    fn follow(
        &mut self,
        place: Place,
        purpose: Purpose,
        before: &Question,
        get: Get,
        due: BootTime,
        own: bool,
    ) {
        let address = SocketAddr::new(before.address.ip(), get.url.port());
        let question = Question { address, way: Way::Http(get), timeout: before.timeout };
        self.connect(place, purpose, &question, due, own);
    }

    /// A connection may get further, or a command has said something.
    pub fn errand_ready(&mut self, number: ErrandNumber) {
        let Some(errand) = self.errands.all.get_mut(&number) else { return };
        match &mut errand.way {
            Running::Connection { attempt, .. } => match attempt.inner.step() {
                Step::Wait => {}
                Step::Verdict(outcome) => self.finish(number, outcome),
                Step::Elsewhere(get) => {
                    let Some(errand) = self.take(number) else { return };
                    let (place, purpose) = (errand.place, errand.purpose);
                    let Running::Connection { question, own, .. } = errand.way else { return };
                    self.follow(place, purpose, &question, get, errand.due.unwrap_or_else(clock::now), own);
                }
            },
            Running::Command { output, said, .. } => {
                let Some(pipe) = output else { return };
                if !drain(&pipe.inner, said) {
                    let pipe = output.take();
                    pipe.into_iter().for_each(|pipe| self.poller.remove(&pipe.inner, pipe.registration));
                }
            }
            Running::LookUp(..) | Running::Sleep => {}
        }
    }

    /// A host's name was looked up.
    pub fn host_found(&mut self, number: ErrandNumber, address: Result<SocketAddr, String>) {
        let Some(errand) = self.take(number) else { return };
        let Running::LookUp(way, timeout) = errand.way else { return };
        match address {
            Ok(address) => {
                let question = Question { address, way, timeout };
                let due = errand.due.unwrap_or_else(clock::now);
                self.connect(errand.place, errand.purpose, &question, due, false);
            }
            Err(message) => self.conclude(errand.place, errand.purpose, Outcome::Failure(message)),
        }
    }

    /// Ends what has taken its time.
    pub fn pass_time_of_errands(&mut self, now: BootTime) {
        while let Some((at, number)) = self.errands.in_order.first().copied()
            && at <= now
        {
            let Some(errand) = self.errands.all.get(&number) else { return };
            let outcome = match &errand.way {
                Running::Sleep => Outcome::Success,
                Running::Connection { attempt, .. } => attempt.inner.too_late(),
                Running::LookUp(..) => Outcome::Failure("the host's name was not found in time".to_owned()),
                Running::Command { words, .. } => Outcome::Failure(format!("command {words} timed out")),
            };
            self.finish(number, outcome);
        }
    }

    /// What belongs to a run that is cleared away.
    pub fn give_up_errands(&mut self, pod: PodNumber, container: Index) {
        let is_its = |errand: &Errand| (errand.place.pod, errand.place.container) == (pod, container);
        let all = self.errands.all.iter().filter(|(_, errand)| is_its(errand));
        let numbers: Vec<_> = all.map(|(number, _)| *number).collect();
        for number in numbers {
            drop(self.take(number));
        }
    }

    /// Takes one out of everything that waits for it. A command is killed with its whole process group, which is its own.
    fn take(&mut self, number: ErrandNumber) -> Option<Errand> {
        let mut errand = self.errands.remove(number)?;
        match &mut errand.way {
            Running::Connection { attempt, .. } => self.poller.remove(&attempt.inner, attempt.registration),
            Running::Command { output, pid, .. } => {
                if let Some(pipe) = output.take() {
                    self.poller.remove(&pipe.inner, pipe.registration);
                }
                if let Some(pid) = pid.take() {
                    kill_group(pid);
                    self.execs.forget(pid);
                }
                self.forget_hook(errand.place, errand.purpose);
            }
            Running::LookUp(..) | Running::Sleep => {}
        }
        Some(errand)
    }

    fn finish(&mut self, number: ErrandNumber, outcome: Outcome) {
        if let Some(errand) = self.take(number) {
            self.conclude(errand.place, errand.purpose, outcome);
        }
    }

    /// Tells the machine what one has come to.
    fn conclude(&mut self, place: Place, purpose: Purpose, outcome: Outcome) {
        let Place { pod, container, attempt } = place;
        let event = match purpose {
            Purpose::Hook(hook) => {
                let error = match outcome {
                    Outcome::Success | Outcome::Warning(_) => None,
                    Outcome::Failure(message) | Outcome::NotAsked(message) => Some(message),
                };
                Event::HookEnded { container, attempt, hook, error }
            }
            Purpose::Probe(probe) => {
                let outcome = match outcome {
                    Outcome::Success => Told::Success,
                    Outcome::Warning(message) => {
                        self.warn_of_probe(place, probe, message);
                        Told::Success
                    }
                    Outcome::Failure(message) => Told::Failure(message),
                    Outcome::NotAsked(message) => Told::Broken(message),
                };
                Event::ProbeResult { container, attempt, probe, outcome }
            }
        };
        self.tell(pod, event);
    }

    fn warn_of_probe(&mut self, place: Place, probe: ProbeKind, message: String) {
        let Some(run) = self.pods.get(&place.pod) else { return };
        let name = &run.pod().containers[place.container].name;
        let message = format!("{} probe warning: {message}", probe.title());
        let note = Note::new(Kind::Warning, "ProbeWarning", message).of_container(name);
        self.record(place.pod, vec![note]);
    }

    /// Runs a command in the container and listens to what it says; without a time limit, for as long as the container runs.
    fn run_command(
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
            kill_group(begun);
            return false;
        };
        if let Running::Command { pid, .. } = &mut errand.way {
            *pid = Some(begun);
        }
        let (place, purpose) = (errand.place, errand.purpose);
        if let (Purpose::Hook(hook), Some(run)) = (purpose, self.pods.get_mut(&place.pod)) {
            let (keeper, start_time) = (self.reign.keeper, keeper::start_time(begun));
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
            let pidfd = pidfd.filter(|_| keeper::start_time(hook.pid) == hook.start_time);
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

    fn forget_hook(&mut self, place: Place, purpose: Purpose) {
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
fn drain(pipe: &OwnedFd, said: &mut Vec<u8>) -> bool {
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

/// Each command leads a session and so a process group of its own, whose id is not given to another as long as one of it is there.
fn kill_group(pid: u32) {
    if let Some(group) = Pid::from_raw(pid as i32) {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
