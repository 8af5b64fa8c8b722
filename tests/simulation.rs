//! One Pod's machine in a random but seeded world that replaces the node and nothing else.
//!
//! `PODKEEP_LONG=1` runs many more worlds; `PODKEEP_SEED=n` replays one.

use std::sync::Arc;
use std::time::Duration;

use podkeep::manifest::pod::{Container, Pod, PodId, PullPolicy, Resources, RestartPolicy, Security, Uid};
use podkeep::pod::machine::Settings;
use podkeep::pod::{BootTime, Command, Event, Exit, ImageProblem, Machine, StartFailure};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct Process {
    attempt: u32,
    pid: u32,
    exit: Option<Exit>,
    signalled: Option<BootTime>,
}

struct World {
    random: Random,
    machine: Machine,
    now: BootTime,
    /// The state as the last save left it.
    saved: String,
    /// Answers under way, which die with the worker.
    answers: Vec<(BootTime, Event)>,
    /// Ends under way, which do not.
    ends: Vec<(BootTime, usize, u32)>,
    processes: Vec<Option<Process>>,
    latest: Vec<Option<u32>>,
    tried: Vec<bool>,
    held: bool,
    stopping: bool,
    next_pid: u32,
}

fn pod(random: &mut Random) -> Pod {
    let container = |index| Container {
        name: format!("c{index}"),
        image: "busybox".into(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        ports: Vec::new(),
        resources: Resources::default(),
        security: Security::default(),
        mounts: Vec::new(),
    };
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    Pod {
        id: PodId { namespace: "default".into(), name: "web-edge7".into() },
        uid: Uid::parse(&"a".repeat(32)).expect("32 hex digits"),
        labels: Default::default(),
        annotations: Default::default(),
        containers: (0..=random.below(4)).map(container).collect(),
        volumes: Vec::new(),
        restart_policy: policies[random.below(3) as usize],
        termination_grace: Duration::from_secs(random.below(3) * 30),
        host_network: false,
        hostname: None,
        node_name: "edge7".into(),
        object: serde_json::Value::Null,
        source: serde_json::Value::Null,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let pod = Arc::new(pod(&mut random));
        let count = pod.containers.len();
        let now = BootTime::from_nanos(1_000_000_000);
        let machine = Machine::new(pod, Settings::default(), now);
        let saved = serde_json::to_string(machine.state()).expect("a state is plain data");
        Self {
            random,
            machine,
            now,
            saved,
            answers: Vec::new(),
            ends: Vec::new(),
            processes: (0..count).map(|_| None).collect(),
            latest: vec![None; count],
            tried: vec![false; count],
            held: false,
            stopping: false,
            next_pid: 1,
        }
    }

    fn later(&mut self, seconds: u64) -> BootTime {
        self.now + Duration::from_millis(self.random.below(seconds * 1000 + 1))
    }

    fn live(&mut self) {
        let commands = self.machine.begin();
        self.carry_out(commands);
        for _ in 0..150 {
            match self.random.below(60) {
                0 => self.take_over(),
                1 => self.step(Event::ImagesChanged),
                _ => self.pass_time(),
            }
        }
        self.stopping = true;
        self.step(Event::Stop);
        for turn in 0.. {
            if self.machine.is_gone() {
                break;
            }
            assert!(turn < 2000, "a removed Pod ends in bounded time");
            if self.random.one_in(40) { self.take_over() } else { self.pass_time() }
        }
        assert!(!self.held && self.processes.iter().all(Option::is_none), "nothing is left of a removed Pod");
        assert_eq!(self.machine.deadline(), None, "a Pod that is gone wakes nobody");
    }

    /// Goes on to whatever comes first: an answer, the end of a process, or a deadline.
    fn pass_time(&mut self) {
        let answer = self.answers.iter().map(|(at, _)| *at).min();
        let end = self.ends.iter().map(|(at, ..)| *at).min();
        let deadline = self.machine.deadline();
        let Some(next) = [answer, end, deadline].into_iter().flatten().min() else {
            assert!(!self.stopping || self.machine.is_gone(), "a Pod on its way out waits for nothing");
            return;
        };
        self.now = self.now.max(next);
        if answer == Some(next) {
            let first = self.answers.iter().position(|(at, _)| *at == next).expect("it is the minimum");
            let (_, event) = self.answers.remove(first);
            self.step(event);
        } else if end == Some(next) {
            self.end_process(next);
        } else {
            self.step(Event::Tick);
        }
    }

    fn end_process(&mut self, at: BootTime) {
        let first = self.ends.iter().position(|(end, ..)| *end == at).expect("it is the minimum");
        let (_, container, pid) = self.ends.remove(first);
        let code = Exit::Code(self.random.below(3) as u8);
        let Some(process) = self.processes[container].as_mut().filter(|p| p.pid == pid) else { return };
        let exit = *process.exit.get_or_insert(code);
        self.step(Event::Exited { container, exit });
    }

    fn step(&mut self, event: Event) {
        let before: Vec<u32> = self.counts();
        let tick = event == Event::Tick;
        let commands = self.machine.step(event, self.now);
        for (was, is) in before.iter().zip(self.counts()) {
            // Broken by adding two in `Container::restart`: found.
            assert!(is == *was || is == was + 1, "restarts go from {was} to {is}");
        }
        if tick {
            let past = self.machine.deadline().is_some_and(|deadline| deadline <= self.now);
            assert!(!past, "a deadline is left in the past");
        }
        self.check_status();
        let dies_unsaved = !self.stopping && self.random.one_in(20);
        self.carry_out(commands);
        if dies_unsaved { self.take_over() } else { self.save() }
    }

    fn counts(&self) -> Vec<u32> {
        self.machine.status().containers.iter().map(|c| c.restart_count).collect()
    }

    fn check_status(&self) {
        for c in self.machine.status().containers {
            let running = matches!(c.state, podkeep::pod::status::ContainerState::Running { .. });
            assert_eq!(running, c.pid.is_some(), "what runs has a PID, and nothing else has");
        }
    }

    fn save(&mut self) {
        self.saved = serde_json::to_string(self.machine.state()).expect("a state is plain data");
        let read = serde_json::from_str(&self.saved).expect("what was saved can be read");
        assert_eq!(self.machine.state(), &read);
    }

    /// The worker dies, maybe in the middle of its commands; a new one adopts what runs, then hears of what ended.
    fn take_over(&mut self) {
        self.answers.clear();
        let state = serde_json::from_str(&self.saved).expect("what was saved can be read");
        let pod = Arc::clone(self.machine.pod());
        self.machine = Machine::resume(pod, state, Settings::default()).expect("it is this Pod's state");
        let mut begun = self.machine.begin();
        begun.retain(|command| match command {
            Command::Start { container, .. } | Command::FindImage { container } => {
                self.processes[*container].is_none()
            }
            _ => true,
        });
        self.carry_out(begun);
        for container in 0..self.processes.len() {
            let Some(Process { attempt, pid, exit, .. }) = self.processes[container] else {
                // Its end was dealt with and not saved: nobody knows it any more.
                if self.machine.status().containers[container].pid.is_some() {
                    self.step(Event::Exited { container, exit: Exit::Unknown });
                }
                continue;
            };
            self.step(Event::Adopted { container, attempt, pid });
            if let Some(exit) = exit {
                self.step(Event::Exited { container, exit });
            }
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            self.carry_out_one(command);
        }
    }

    fn carry_out_one(&mut self, command: Command) {
        let at = self.later(2);
        let event = match command {
            Command::Prepare => {
                self.held = true;
                let message = "no space".into();
                if self.random.one_in(4) { Event::PrepareFailed { message } } else { Event::Prepared }
            }
            Command::FindImage { container } if self.random.one_in(6) => {
                Event::ImageMissing { container, problem: ImageProblem::Missing, message: "not there".into() }
            }
            Command::FindImage { container } => Event::ImageReady { container, image_id: "sha256:0".into() },
            Command::Start { container, attempt } => self.start(container, attempt),
            Command::Signal { container } => return self.signal(container),
            Command::Kill { container } => return self.kill(container),
            Command::Clear { container } => {
                self.processes[container] = None;
                Event::Cleared { container, oom_killed: false }
            }
            Command::Diagnose { container } => Event::Stuck { container, processes: "1 (D)".into() },
            Command::Release if self.random.one_in(4) => Event::ReleaseFailed { message: "busy".into() },
            Command::Release => {
                self.held = false;
                Event::Released
            }
        };
        self.tried_by(&event);
        self.answers.push((at, event));
    }

    fn tried_by(&mut self, event: &Event) {
        if let Event::ImageMissing { container, .. } = event {
            self.tried[*container] = true;
        }
    }

    fn start(&mut self, container: usize, attempt: u32) -> Event {
        assert!(!self.stopping, "nothing starts once the Pod is stopping");
        assert!(self.processes[container].is_none(), "a container never runs twice at once");
        // Broken by letting every container that waits have its turn at once: found.
        assert!(self.tried[..container].iter().all(|tried| *tried), "containers start in order");
        self.tried[container] = true;
        if self.random.one_in(8) {
            let failure = StartFailure::Create;
            return Event::StartFailed { container, failure, message: "refused".into() };
        }
        let next = self.latest[container].map_or(0, |latest| latest + 1);
        assert_eq!(attempt, next, "each run counts exactly one more");
        self.latest[container] = Some(attempt);
        let pid = self.next_pid;
        self.next_pid += 1;
        self.processes[container] = Some(Process { attempt, pid, exit: None, signalled: None });
        let end = self.later(900) + Duration::from_secs(3);
        self.ends.push((end, container, pid));
        Event::Started { container, pid }
    }

    fn signal(&mut self, container: usize) {
        let Some(process) = &mut self.processes[container] else { return };
        process.signalled.get_or_insert(self.now);
        let pid = process.pid;
        // Some heed it, some do not.
        if self.random.one_in(2) {
            let end = self.later(20);
            self.ends.push((end, container, pid));
        }
    }

    fn kill(&mut self, container: usize) {
        let grace = self.machine.pod().termination_grace;
        let Some(process) = &mut self.processes[container] else { return };
        let pid = process.pid;
        let over = process.signalled.is_some_and(|at| self.now - at >= grace);
        // Broken by halving the grace in `stop_running`: found.
        assert!(grace.is_zero() || over, "no SIGKILL before the grace is over");
        // Now and then in an uninterruptible sleep.
        let seconds = if self.random.one_in(5) { 60 } else { 0 };
        let end = self.later(seconds);
        self.ends.push((end, container, pid));
    }
}

#[test]
fn the_laws_hold_in_every_world() {
    if let Some(seed) = std::env::var("PODKEEP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return World::new(seed).live();
    }
    let worlds = if std::env::var_os("PODKEEP_LONG").is_some() { 100_000 } else { 500 };
    for seed in 0..worlds {
        let held = std::panic::catch_unwind(|| World::new(seed).live());
        assert!(held.is_ok(), "a law was broken: replay with PODKEEP_SEED={seed}");
    }
}
