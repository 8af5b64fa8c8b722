//! The world around one machine: time, processes, and answers on their way to the worker.

use std::sync::Arc;
use std::time::Duration;

use podkeep::manifest::Pod;
use podkeep::pod::machine::{Settings, Survival};
use podkeep::pod::{BootTime, Command, Event, Exit, Machine};

use super::ledger::Ledger;
use super::manifest;
use super::processes::Group;
use super::random::Random;
use super::worker::Saved;

/// More than all containers of a Pod can go through in one instant; a loop that lets no time pass exceeds it.
const STEPS_PER_INSTANT: u32 = 250;

/// A run of a container, as a worker writes it down.
#[derive(Clone, Copy, PartialEq)]
pub struct Run {
    pub attempt: u32,
    pub pid: u32,
}

/// What holds for the Pod as a whole, written down from what its machine was told.
#[derive(Clone, Default)]
pub struct Whole {
    /// Nothing may start any more, and what runs has to be over then.
    pub stop_by: Option<BootTime>,
    /// There is something to start in, as far as the worker was told.
    pub prepared: bool,
    /// All containers are being ended, to start over not before then.
    pub restart_at: Option<BootTime>,
}

pub struct World {
    pub random: Random,
    pub pod: Arc<Pod>,
    pub machine: Machine,
    pub now: BootTime,
    pub ledgers: Vec<Ledger>,
    /// The processes that the worker knows, dead ones too until they are cleared away.
    pub records: Vec<Option<Run>>,
    /// This machine was told to stop.
    pub stopping: bool,
    /// Nothing has happened since it was saved but what need not be.
    pub routine: bool,
    /// It is not yet its Pod's turn.
    pub rehearsing: bool,
    pub whole: Whole,
    /// Answers under way, which die with the worker.
    pub answers: Vec<(BootTime, Event)>,

    // What outlives a worker.
    pub saved: Saved,
    /// What the start journal holds: a process that is not written down elsewhere.
    pub journal: Option<(usize, Run)>,
    /// Ends that no worker has acknowledged: the keeper has them.
    pub unacknowledged: Vec<(Run, Exit)>,
    /// First processes that will end by themselves, or have been killed.
    pub ends: Vec<(BootTime, usize, u32)>,
    pub groups: Vec<Option<Group>>,
    /// The number of the latest run whose process was made.
    pub made: Vec<Option<u32>>,
    /// The Pod's manifest is there.
    pub wanted: bool,
    /// It has written more than it may, at some time.
    pub wrote_too_much: bool,
    pub next_pid: u32,

    // What outlives a boot.
    pub survival: String,
    /// As they were when that was written.
    pub ledgers_on_disk: Vec<Ledger>,
    /// The number of the latest run that some worker knew to have begun.
    pub began: Vec<Option<u32>>,
    /// The Pod has folders, volumes, namespaces.
    pub held: bool,
    /// Preparing the Pod hardly ever succeeds.
    pub full_disk: bool,

    /// A new worker is telling what it finds.
    pub adopting: bool,
    /// How many workers there were: what the last one asked for nobody answers to this one.
    pub worker: u32,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// When this boot's Pod began.
    pub began_at: BootTime,
    pub steps: u64,
    steps_now: u32,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let full_disk = random.one_in(12);
        let pod = Arc::new(manifest::pod(&mut random));
        let count = pod.containers.len();
        let now = BootTime::from_nanos(1_000_000_000);
        let machine = Machine::new(Arc::clone(&pod), Settings::default(), now);
        let ledgers = vec![Ledger::default(); count];
        let saved = Saved::new(machine.state().clone(), ledgers.clone());
        Self {
            random,
            pod,
            machine,
            now,
            ledgers_on_disk: ledgers.clone(),
            ledgers,
            records: vec![None; count],
            stopping: false,
            rehearsing: false,
            routine: false,
            whole: Whole::default(),
            adopting: false,
            worker: 0,
            calm: false,
            began_at: now,
            answers: Vec::new(),
            saved,
            journal: None,
            unacknowledged: Vec::new(),
            ends: Vec::new(),
            groups: (0..count).map(|_| None).collect(),
            made: vec![None; count],
            wanted: true,
            wrote_too_much: false,
            next_pid: 1,
            survival: serde_json::to_string(&Survival::default()).expect("it is plain data"),
            began: vec![None; count],
            held: false,
            full_disk,
            steps: 0,
            steps_now: 0,
        }
    }

    /// One Pod's life, from its manifest's coming to some time after the manifest has gone. Says how many steps it had.
    pub fn live(mut self) -> u64 {
        if self.random.one_in(4) {
            self.rehearse();
        } else {
            let commands = self.machine.begin();
            if !self.carry_out(commands) {
                self.take_over();
            }
        }
        for _ in 0..self.random.below(200) {
            match self.random.below(100) {
                0 => self.take_over(),
                1 => self.reboot(),
                2..4 => self.image_arrives(),
                4 => self.pause_ends(),
                5 => self.happens(Event::ObjectsChanged { fingerprint: None }),
                6 if self.random.one_in(8) => self.writes_too_much(),
                _ => self.pass_time(),
            }
        }
        if self.random.one_in(2) {
            self.calm_down();
        }
        self.wanted = false;
        let within = self.less_time();
        self.happens(Event::Stop { within });
        self.end();
        self.steps
    }

    fn end(&mut self) {
        let mut turns = 0;
        while !self.machine.is_gone() {
            turns += 1;
            // Broken by taking `Released` for one more failure: found.
            assert!(turns < 2000, "a removed Pod ends in bounded time");
            match self.random.below(200) {
                // Once more, with less time.
                6 => {
                    let within = self.less_time();
                    self.happens(Event::Stop { within });
                }
                0..4 => self.take_over(),
                4 => self.reboot(),
                5 => self.image_arrives(),
                7 => self.pause_ends(),
                8 => self.happens(Event::ObjectsChanged { fingerprint: None }),
                9 => self.writes_too_much(),
                _ => self.pass_time(),
            }
        }
        // Broken by a `stop` that forgets what a failed preparation may have left: found.
        assert!(!self.held && self.groups.iter().all(Option::is_none), "nothing is left of a removed Pod");
        // Broken by a `deadline` of a Pod that is gone: found.
        assert_eq!(self.machine.deadline(), None, "a Pod that is gone wakes nobody");
    }

    fn less_time(&mut self) -> Option<Duration> {
        let longest = self.random.pick(&[0, 5, 100]);
        self.random.one_in(3).then(|| self.random.up_to(longest))
    }

    /// For an hour nothing goes wrong: init containers succeed, everything else runs on and is well.
    fn calm_down(&mut self) {
        self.calm = true;
        self.full_disk = false;
        let until = self.now + Duration::from_secs(3600);
        while self.now < until && !self.machine.is_finished() && !self.machine.is_gone() {
            self.pass_time();
        }
        self.check_settled();
        self.calm = false;
    }

    pub fn image_arrives(&mut self) {
        let container = self.random.below(self.ledgers.len() as u64) as usize;
        self.happens(Event::ImageArrived { container });
    }

    fn writes_too_much(&mut self) {
        self.happens(Event::StorageExceeded { message: "too much".into() });
    }

    /// A moment within so many seconds, often this very one.
    pub fn soon(&mut self, seconds: u64) -> BootTime {
        if self.random.one_in(3) { self.now } else { self.now + self.random.up_to(seconds) }
    }

    pub fn advance(&mut self, to: BootTime) {
        if to > self.now {
            self.now = to;
            self.steps_now = 0;
        }
    }

    /// The clock of a new boot.
    pub fn restart_clock(&mut self) {
        self.now = BootTime::from(Duration::from_secs(1 + self.random.below(20)));
        self.steps_now = 0;
    }

    /// Goes on to whatever comes first: an answer, the end of a process, or a deadline.
    pub fn pass_time(&mut self) {
        let answer = self.answers.iter().map(|(at, _)| *at).min();
        let end = self.ends.iter().map(|(at, ..)| *at).min();
        let deadline = self.machine.deadline();
        let Some(next) = [answer, end, deadline].into_iter().flatten().min() else {
            return if self.rehearsing { self.check_rehearsal() } else { self.check_rest() };
        };
        if next > self.now && !self.routine {
            // A worker writes everything down before it waits.
            self.save();
        }
        self.advance(next);
        if answer == Some(next) {
            let first = self.answers.iter().position(|(at, _)| *at == next).expect("it is the minimum");
            let (_, event) = self.answers.remove(first);
            self.happens(event);
        } else if end == Some(next) {
            self.end_process(next);
        } else {
            self.happens(Event::Tick);
        }
    }

    /// Counts a step; a machine that goes round and round while no time passes is found out here.
    pub fn count_step(&mut self) {
        self.steps += 1;
        self.steps_now += 1;
        // Broken by leaving `diagnose_at` as it is, with the law on past deadlines taken out: found.
        assert!(self.steps_now < STEPS_PER_INSTANT, "no time passes any more");
    }

    /// Something happens to the Pod. Its worker may die over it, and not every step is the last of its turn.
    pub fn happens(&mut self, event: Event) {
        if let Event::Cleared { container } = event
            && !self.clear_away(container)
        {
            return self.take_over();
        }
        let commands = self.step(event);
        if !self.carry_out(commands) {
            return self.take_over();
        }
        self.check_told_to_end();
        if !self.routine && !self.random.one_in(4) {
            self.save();
        }
    }

    /// Carries out commands up to the worker's death; says whether it is still alive.
    pub fn carry_out(&mut self, commands: Vec<Command>) -> bool {
        let dies_after = (!self.calm && self.random.one_in(30))
            .then(|| self.random.below(commands.len() as u64 + 1) as usize);
        for (done, command) in commands.into_iter().enumerate() {
            if dies_after == Some(done) || !self.carry_out_one(command) {
                return false;
            }
        }
        dies_after.is_none()
    }
}
