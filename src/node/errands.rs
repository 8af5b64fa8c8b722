//! Probes and hooks of containers on their way: each one's connection, command or pause, until it has come to something.
//!
//! What they lead to is the machine's to decide (`pod`). Those of a run end with it: `Command::Clear` gives them up. A hook that is a
//! command outlives the worker, as its container does; everything else is asked for again by the next one.

mod command;
mod offspring;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::clock;
use super::pod_run::{Key, PodNumber, Watched};
use super::poller::{Interest, Registration};
use super::worker::{Done, Worker};
use crate::container::expanded_command;
use crate::events::{Kind, Note};
use crate::http;
use crate::manifest::pod::{HookAction, HttpGet, ProbeAction};
use crate::order;
use crate::pod::event::{Hook, Index, Outcome as Told, ProbeKind};
use crate::pod::{BootTime, Event, probe_of};
use crate::probe::{self, Asker, Attempt, Get, Outcome, Step, Way};
use crate::sys::namespace::Tour;
use command::drain;

/// The kubelet's client for hooks has no limit, and waits for ever.
const HTTP_HOOK: Duration = Duration::from_secs(30);

/// A container on this machine answers within this time: its connection is looked at then, or, where nobody waits for the Pod to become
/// Ready, with all others of the moment and when the next probes are made. Only one that has come to nothing is watched; to watch each,
/// and to wake up for each, cost as much as the probe.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// A probe that asks so often asks from one socket: to make one in the Pod's network takes a third of all that asking costs. For one that
/// asks seldom, that is less than what an idle socket has of the kernel's memory.
const OFTEN: Duration = Duration::from_secs(2);

/// So many connections are begun together: each has a descriptor.
const AT_ONCE: usize = 64;

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
    Connection(Box<Connection>),
    /// A host's name is being looked up.
    LookUp(Way),
    Sleep,
}

/// What asks, and how it stands.
pub struct Connection {
    attempt: Attempt,
    /// The Pod itself is asked.
    own: bool,
    until: BootTime,
    /// `None` before the first look.
    watched: Option<Registration>,
}

/// A connection that shall be begun, with all others that the same turn asks for.
struct Asked {
    place: Place,
    purpose: Purpose,
    question: Question,
    until: BootTime,
}

enum Question {
    New {
        address: SocketAddr,
        way: Way,
        /// As of a [`Connection`].
        own: bool,
    },
    /// The same as before.
    Again(Box<Connection>),
}

#[derive(Default)]
pub struct Errands {
    asked: VecDeque<Asked>,
    /// Many at once come and go with each tick of the probes, and the nodes of a tree, each larger than a page's quarter, with them.
    all: HashMap<ErrandNumber, Errand>,
    in_order: BTreeSet<(BootTime, ErrandNumber)>,
    last: u64,
    /// Hooks of the last worker whose ends were heard before their machines asked for them.
    ended: Vec<(Place, Hook)>,
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

    fn put_off(&mut self, number: ErrandNumber, until: BootTime) {
        let Some(errand) = self.all.get_mut(&number) else { return };
        if let Some(due) = errand.due.replace(until) {
            self.in_order.remove(&(due, number));
        }
        self.in_order.insert((until, number));
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
        let of_pod = Arc::clone(run.pod());
        let lifecycle = &of_pod.containers[container].lifecycle;
        let action = match hook {
            Hook::PostStart => &lifecycle.post_start,
            Hook::PreStop => &lifecycle.pre_stop,
        };
        let purpose = Purpose::Hook(hook);
        match action {
            None => self.tell(pod, Event::HookEnded { container, attempt, hook, error: None }),
            Some(HookAction::Sleep(time)) => {
                let due = Some(clock::now() + *time);
                let number = self.errands.next_number();
                self.errands.insert(number, Errand { place, purpose, due, way: Running::Sleep });
            }
            Some(HookAction::Exec(command)) => self.run_command(place, purpose, command.clone(), None),
            Some(HookAction::HttpGet(get)) => {
                let way = self.way_of(pod, get, Asker::Hook);
                self.ask(place, purpose, get.host.as_deref(), get.port, way, HTTP_HOOK);
            }
        }
    }

    /// Begins what `Command::Probe` asks for.
    pub fn probe(&mut self, pod: PodNumber, container: Index, attempt: u32, kind: ProbeKind) {
        let place = Place { pod, container, attempt };
        let Some(run) = self.pods.get(&pod) else { return };
        let of_pod = Arc::clone(run.pod());
        let spec = &of_pod.containers[container];
        let Some(probe) = probe_of(&spec.probes, kind) else { return };
        let (purpose, timeout) = (Purpose::Probe(kind), probe.timeout);
        if let Some(connection) = self.resting(place, kind) {
            let (question, until) = (Question::Again(connection), clock::now() + timeout);
            return self.errands.asked.push_back(Asked { place, purpose, question, until });
        }
        let (host, port, way) = match &probe.action {
            ProbeAction::Exec(command) => {
                let command = expanded_command(command, &spec.env);
                return self.run_command(place, purpose, command, Some(timeout));
            }
            ProbeAction::HttpGet(get) => (get.host.as_deref(), get.port, self.way_of(pod, get, Asker::Probe)),
            ProbeAction::TcpSocket { host, port } => (host.as_deref(), *port, Ok(Way::Tcp)),
            ProbeAction::Grpc { port, service } => {
                (None, *port, Ok(Way::Grpc { service: service.clone(), timeout }))
            }
        };
        self.ask(place, purpose, host, port, way, timeout);
    }

    fn way_of(&self, pod: PodNumber, get: &HttpGet, asker: Asker) -> Result<Way, String> {
        Get::new(get, asker, self.own_address(pod)).map(Way::Http).map_err(|error| error.to_string())
    }

    /// Where a Pod itself is asked: its first address; the loopback where it has none of its own.
    fn own_address(&self, pod: PodNumber) -> IpAddr {
        let own = self.pods.get(&pod).map(|run| self.addresses_of_pod(run)).unwrap_or_default();
        own.first().copied().unwrap_or(probe::OWN_ADDRESS)
    }

    /// Opens the connection, once it is known to whom: to the Pod itself where no host is named.
    fn ask(
        &mut self,
        place: Place,
        purpose: Purpose,
        host: Option<&str>,
        port: u16,
        way: Result<Way, String>,
        timeout: Duration,
    ) {
        let due = clock::now() + timeout;
        let way = match way {
            Ok(way) => way,
            Err(message) => return self.conclude(place, purpose, Outcome::NotAsked(message)),
        };
        let (name, known) = match host {
            None => ("", Some(self.own_address(place.pod))),
            Some(name) => (name, name.trim_matches(['[', ']']).parse().ok()),
        };
        if let Some(address) = known {
            let address = SocketAddr::new(address, port);
            let question = Question::New { address, way, own: host.is_none() };
            return self.errands.asked.push_back(Asked { place, purpose, question, until: due });
        }
        let number = self.errands.next_number();
        self.errands.insert(number, Errand { place, purpose, due: Some(due), way: Running::LookUp(way) });
        let name = name.to_owned();
        self.execs.lane.add(move || {
            let found = http::addresses(&name).map_err(|error| error.to_string());
            let first = found.and_then(|all| all.into_iter().next().ok_or(format!("{name} has no address")));
            Done::Found { errand: number, address: first.map(|address| SocketAddr::new(address, port)) }
        });
    }

    /// Begins the connections that this turn has asked for; says whether there were any.
    pub fn connect(&mut self) -> bool {
        let asked = &mut self.errands.asked;
        let asked: Vec<_> = asked.drain(..asked.len().min(AT_ONCE)).collect();
        let is_any = !asked.is_empty();
        for (place, purpose, connection) in self.connections(asked) {
            match connection {
                Ok(connection) => self.begin(place, purpose, connection),
                Err(outcome) => self.conclude(place, purpose, outcome),
            }
        }
        is_any
    }

    /// All on one way through the Pods' networks, because to go into a namespace costs as much as to connect there.
    fn connections(&self, all: Vec<Asked>) -> Vec<(Place, Purpose, Result<Box<Connection>, Outcome>)> {
        let mut tour = Tour::default();
        let connection = |Asked { place, purpose, question, until }| {
            let connection = match question {
                Question::New { address, way, own } => {
                    let socket = self.open_socket(&mut tour, place.pod, own, address);
                    let socket = socket.map_err(|error| Outcome::NotAsked(format!("open a socket: {error}")));
                    let attempt = socket.and_then(|socket| Attempt::begin(socket, address, way));
                    attempt.map(|attempt| Box::new(Connection { attempt, own, until, watched: None }))
                }
                Question::Again(mut connection) => {
                    connection.until = until;
                    connection.attempt.connect().map(|()| connection)
                }
            };
            (place, purpose, connection)
        };
        all.into_iter().map(connection).collect()
    }

    /// In the Pod's own network, if it is the Pod that is asked; in the host's, if the manifest names somebody.
    fn open_socket<'a>(
        &'a self,
        tour: &mut Tour<'a>,
        pod: PodNumber,
        own: bool,
        address: SocketAddr,
    ) -> Result<OwnedFd, Errno> {
        // Told to nobody: a Pod that is gone takes in nothing.
        let run = self.pods.get(&pod).ok_or(Errno::SRCH)?;
        let network = run.namespaces.net.as_ref().filter(|_| own && !run.pod().host_network);
        tour.enter(network.map(AsFd::as_fd))?;
        probe::open(address)
    }

    fn begin(&mut self, place: Place, purpose: Purpose, mut connection: Box<Connection>) {
        if let Some(outcome) = connection.attempt.ask() {
            return self.heard(place, purpose, connection, outcome);
        }
        let number = self.errands.next_number();
        let first_look = clock::now() + FIRST_LOOK;
        let is_ready = self.pods.get(&place.pod).is_some_and(|run| run.machine.is_ready());
        let first_look = if is_ready { first_look.together() } else { first_look };
        let due = Some(first_look.min(connection.until));
        let way = Running::Connection(connection);
        self.errands.insert(number, Errand { place, purpose, due, way });
    }

    /// Its time is over, or it is looked at for the first time, and watched if it has come to nothing.
    fn look(&mut self, number: ErrandNumber, now: BootTime) {
        // The answer may have come while the loop was held up.
        self.errand_ready(number);
        let Some(errand) = self.errands.all.get_mut(&number) else { return };
        let Running::Connection(connection) = &mut errand.way else { return };
        if connection.until <= now {
            let outcome = connection.attempt.too_late();
            return self.finish(number, outcome);
        }
        match self.poller.add(&connection.attempt, Interest::Progress, Key::Errand(number)) {
            Ok(registration) => {
                connection.watched = Some(registration);
                let until = connection.until;
                self.errands.put_off(number, until);
            }
            Err(error) => self.finish(number, Outcome::NotAsked(format!("watch a connection: {error}"))),
        }
    }

    /// A connection may get further, or a command has said something.
    pub fn errand_ready(&mut self, number: ErrandNumber) {
        let Some(errand) = self.errands.all.get_mut(&number) else { return };
        match &mut errand.way {
            Running::Connection(connection) => match connection.attempt.step() {
                Step::Wait => {}
                Step::Verdict(outcome) => self.finish(number, outcome),
                Step::Elsewhere(address, get) => {
                    let Connection { own, until, .. } = **connection;
                    let Some(Errand { place, purpose, .. }) = self.take(number) else { return };
                    let question = Question::New { address, way: Way::Http(get), own };
                    self.errands.asked.push_back(Asked { place, purpose, question, until });
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
        let Some(Errand { place, purpose, due, way: Running::LookUp(way) }) = self.take(number) else {
            return;
        };
        match address {
            Ok(address) => {
                let until = due.unwrap_or_else(clock::now);
                let question = Question::New { address, way, own: false };
                self.errands.asked.push_back(Asked { place, purpose, question, until });
            }
            Err(message) => self.conclude(place, purpose, Outcome::Failure(message)),
        }
    }

    /// Ends what has taken its time.
    pub fn pass_time_of_errands(&mut self, now: BootTime) {
        while let Some((at, number)) = self.errands.in_order.first().copied()
            && at <= now
        {
            let Some(errand) = self.errands.all.get(&number) else { return };
            let outcome = match &errand.way {
                Running::Connection(_) => {
                    self.look(number, now);
                    continue;
                }
                Running::Sleep => Outcome::Success,
                Running::LookUp(..) => Outcome::Failure("the host's name was not found in time".to_owned()),
                Running::Command { words, .. } => Outcome::Failure(format!("command {words} timed out")),
            };
            self.finish(number, outcome);
        }
    }

    /// What belongs to a run that is cleared away.
    pub fn give_up_errands(&mut self, pod: PodNumber, container: Index) {
        let is_its = |place: Place| (place.pod, place.container) == (pod, container);
        self.errands.asked.retain(|asked| !is_its(asked.place));
        let all = self.errands.all.iter().filter(|(_, errand)| is_its(errand.place));
        let numbers = order::set(all.map(|(number, _)| *number));
        for number in numbers {
            drop(self.take(number));
        }
        let run = self.pods.get_mut(&pod);
        run.and_then(|run| run.containers.get_mut(container)).into_iter().for_each(|c| c.resting.clear());
    }

    /// Takes one out of everything that waits for it. A command is killed with all that it has begun.
    fn take(&mut self, number: ErrandNumber) -> Option<Errand> {
        let mut errand = self.errands.remove(number)?;
        match &mut errand.way {
            Running::Connection(connection) => {
                if let Some(watched) = connection.watched.take() {
                    self.poller.remove(&connection.attempt, watched);
                }
            }
            Running::Command { output, pid, .. } => {
                if let Some(pipe) = output.take() {
                    self.poller.remove(&pipe.inner, pipe.registration);
                }
                if let Some(pid) = pid.take() {
                    let run = self.pods.get(&errand.place.pod);
                    let container = run.and_then(|run| run.containers.get(errand.place.container));
                    offspring::kill(pid, container.and_then(|container| container.group.as_ref()));
                    self.execs.forget(pid);
                }
                self.forget_hook(errand.place, errand.purpose);
            }
            Running::LookUp(..) | Running::Sleep => {}
        }
        Some(errand)
    }

    fn finish(&mut self, number: ErrandNumber, outcome: Outcome) {
        let Some(Errand { place, purpose, way, .. }) = self.take(number) else { return };
        match way {
            Running::Connection(connection) => self.heard(place, purpose, connection, outcome),
            Running::Command { .. } | Running::LookUp(_) | Running::Sleep => {
                self.conclude(place, purpose, outcome)
            }
        }
    }

    /// A connection has come to something. It is kept where the probe will soon ask for the same.
    fn heard(&mut self, place: Place, purpose: Purpose, mut connection: Box<Connection>, outcome: Outcome) {
        // A startup probe that succeeds has asked for the last time.
        if let Purpose::Probe(kind @ (ProbeKind::Liveness | ProbeKind::Readiness)) = purpose
            && outcome == Outcome::Success
            && let Some(run) = self.pods.get_mut(&place.pod)
            && probe_of(&run.pod().containers[place.container].probes, kind)
                .is_some_and(|probe| probe.period <= OFTEN)
            && connection.own
            && connection.attempt.rest()
        {
            run.containers[place.container].resting.push((kind, connection));
        }
        self.conclude(place, purpose, outcome);
    }

    /// What the probe has asked with last time.
    fn resting(&mut self, place: Place, kind: ProbeKind) -> Option<Box<Connection>> {
        let run = self.pods.get_mut(&place.pod)?;
        let resting = &mut run.containers.get_mut(place.container)?.resting;
        resting.iter().position(|(of, _)| *of == kind).map(|at| resting.swap_remove(at).1)
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
}
