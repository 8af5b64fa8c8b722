//! What a worker does for a machine beside its commands: tells it what happened, and saves it.

use std::time::Duration;

use podkeep::manifest::pod::Role;
use podkeep::pod::machine::{State, is_routine};
use podkeep::pod::{BootTime, Command, Event, StartFailure};

use super::ledger::{Ledger, Lifter};
use super::world::{Run, Whole, World};

/// What an evicted Pod has to end, if its own grace is not shorter.
const EVICTION_GRACE: Duration = Duration::from_secs(2);

/// What a worker leaves to the next one.
pub struct Saved {
    pub state: State,
    pub records: Vec<Option<Run>>,
    pub ledgers: Vec<Ledger>,
    pub stopping: bool,
    pub whole: Whole,
}

impl Saved {
    pub fn new(state: State, ledgers: Vec<Ledger>) -> Self {
        Self { state, records: vec![None; ledgers.len()], ledgers, stopping: false, whole: Whole::default() }
    }
}

impl World {
    pub fn save(&mut self) {
        self.write_down();
        self.journal = None;
        self.unacknowledged.clear();
        self.routine = true;
    }

    /// In the middle of a turn: nothing is acknowledged.
    fn write_down(&mut self) {
        self.saved = Saved {
            state: self.machine.state().clone(),
            records: self.records.clone(),
            ledgers: self.ledgers.clone(),
            stopping: self.stopping,
            whole: self.whole.clone(),
        };
    }

    /// What is known only until the cgroup is gone is written down before. Says whether the worker is still alive then.
    pub fn clear_away(&mut self, container: usize) -> bool {
        let Some(group) = &mut self.groups[container] else { return true };
        let out_of_memory = group.out_of_memory && !group.is_removed;
        group.is_removed = true;
        self.machine.note_last_words(container, out_of_memory, None);
        if out_of_memory {
            self.write_down();
        }
        self.calm || !self.random.one_in(30)
    }

    /// Tells the machine what happened, and holds what it asks for against the laws.
    pub fn step(&mut self, event: Event) -> Vec<Command> {
        self.count_step();
        let is_out_of_memory = self.is_end_for_want_of_memory(&event);
        self.note(&event);
        let survival = self.machine.survival();
        let before = self.machine.status();
        // As far as the machine knows.
        let running: Vec<bool> = before.containers.iter().map(|c| c.pid.is_some()).collect();
        if let Event::PauseEnded { .. } = event {
            let told = self.groups.iter_mut().zip(&running).filter(|(_, running)| **running);
            told.filter_map(|(group, _)| group.as_mut()).for_each(|group| group.told_of_doom = true);
        }
        let old_news = self.machine.is_old_news(&event);
        let commands = self.machine.step(event.clone(), self.now);
        self.routine &= is_routine(event == Event::Tick, old_news, &commands);
        self.check_counts(&before, &event);
        self.check_status(&event);
        self.check_conditions(&before, &event);
        self.check_cause(&event, &running);
        self.check_memory(&event, is_out_of_memory);
        for command in &commands {
            self.check_asked(command);
        }
        self.check_phase(before.phase);
        if self.machine.survival() != survival {
            self.save_survival();
        }
        commands
    }

    /// What a run's hooks and probes came to, and what one that was adopted tells of those before it.
    fn note_run(&mut self, container: usize, event: &Event) {
        let grace = self.pod.termination_grace;
        let spec = &self.pod.containers[container];
        let ending = self.whole.stop_by.is_some() || self.whole.restart_at.is_some();
        let ledger = &mut self.ledgers[container];
        match event {
            Event::HookEnded { hook, attempt, error, .. } if *attempt == ledger.run => {
                ledger.facts.hook_ended(spec, *hook, error.is_some(), grace, self.now);
            }
            Event::ProbeResult { probe, attempt, outcome, .. } if *attempt == ledger.run => {
                ledger.facts.probe_result(spec, *probe, outcome, grace, ending, self.now);
                if let Some(group) = &mut self.groups[container] {
                    group.probes[*probe as usize] = None;
                }
            }
            Event::Adopted { attempt, .. } if ledger.is_news(*attempt) => {
                let is_next = *attempt > ledger.run || !ledger.is_going();
                if is_next && self.whole.restart_at.take().is_some() {
                    self.missed_start_over();
                }
                self.ledgers[..container].iter_mut().for_each(|before| before.passed = true);
            }
            Event::Cleared { .. } if self.whole.restart_at.is_some() && ledger.restarts_all(spec) => {
                let due = ledger.climb_for_all(self.now);
                self.whole.restart_at = self.whole.restart_at.max(Some(due));
            }
            _ => {}
        }
    }

    /// A worker died after all had started over and before it wrote that down.
    fn missed_start_over(&mut self) {
        for (ledger, spec) in self.ledgers.iter_mut().zip(&self.pod.containers) {
            if ledger.restarts_all(spec) && !ledger.is_cleared() {
                ledger.climb_for_all(self.now);
            }
            ledger.start_over();
        }
    }

    /// What follows for the Pod as a whole.
    fn note_whole(&mut self) {
        if self.whole.restart_at.is_none() && self.work_is_over() || self.deadline_is_over() {
            self.stops_by(self.now + self.pod.termination_grace);
        }
    }

    /// Every main container has ended for good, or an init container has without success.
    pub fn work_is_over(&self) -> bool {
        let is_over = |role: Role| {
            let all = self.ledgers.iter().zip(&self.pod.containers);
            all.filter(move |(_, spec)| spec.role == role)
                .map(|(ledger, spec)| (ledger.is_over_for_good(spec), ledger.passed))
        };
        is_over(Role::Main).all(|(over, _)| over) || is_over(Role::Init).any(|(over, passed)| over && !passed)
    }

    pub fn deadline_is_over(&self) -> bool {
        let is_over = |deadline| self.now >= self.began_at + deadline;
        self.pod.active_deadline.is_some_and(is_over) && !self.machine.is_finished() && !self.rehearsing
    }

    fn stops_by(&mut self, by: BootTime) {
        self.whole.stop_by = Some(self.whole.stop_by.map_or(by, |before| before.min(by)));
        self.whole.restart_at = None;
    }

    /// Writes down what the next boot must know.
    pub fn save_survival(&mut self) {
        self.ledgers_on_disk.clone_from(&self.ledgers);
        self.survival = serde_json::to_string(&self.machine.survival()).expect("it is plain data");
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Stop { within } => {
                self.stopping = true;
                let grace = self.pod.termination_grace;
                self.stops_by(self.now + within.map_or(grace, |within| within.min(grace)));
            }
            // Who ends already, or has not begun, is left alone.
            Event::StorageExceeded { .. } if self.whole.stop_by.is_none() && !self.rehearsing => {
                self.wrote_too_much = true;
                self.stops_by(self.now + EVICTION_GRACE.min(self.pod.termination_grace));
            }
            Event::ImageArrived { container } => self.ledgers[*container].arrived(Lifter::Images),
            Event::ObjectsChanged { .. } => {
                self.ledgers.iter_mut().for_each(|ledger| ledger.arrived(Lifter::Objects));
            }
            Event::Cleared { container, .. } => self.is_cleared(*container),
            Event::Prepared | Event::PrepareFailed { .. } => {
                self.whole.prepared |= *event == Event::Prepared;
                self.ledgers.iter_mut().for_each(|ledger| ledger.free(self.now));
            }
            _ => {}
        }
        let Some(container) = container_of(event) else { return self.note_whole() };
        self.note_run(container, event);
        if self.whole.restart_at.is_some() && is_of_no_use_to_one_that_ends(event) {
            return self.note_whole();
        }
        let longest = self.pod.max_restart_period.unwrap_or(Duration::from_secs(300));
        let spec = &self.pod.containers[container];
        let ledger = &mut self.ledgers[container];
        let before = ledger.restarts_all(spec);
        ledger.told(spec, longest, event, self.now);
        if !before && ledger.restarts_all(spec) && self.whole.prepared && self.whole.stop_by.is_none() {
            self.whole.restart_at.get_or_insert(self.now);
        }
        self.note_whole();
        let begins = matches!(
            event,
            Event::Started { .. }
                | Event::Adopted { .. }
                | Event::StartFailed { failure: StartFailure::Exec, .. }
        );
        if begins && let Some(run) = self.records[container] {
            self.began[container] = self.began[container].max(Some(run.attempt));
        }
    }
}

/// What was under way for a start that nobody wants any more.
fn is_of_no_use_to_one_that_ends(event: &Event) -> bool {
    match event {
        Event::ImageReady { .. } | Event::ImageMissing { .. } => true,
        Event::StartFailed { failure, .. } => *failure != StartFailure::Exec,
        _ => false,
    }
}

fn container_of(event: &Event) -> Option<usize> {
    match *event {
        Event::ImageReady { container, .. }
        | Event::ImageMissing { container, .. }
        | Event::Started { container, .. }
        | Event::Adopted { container, .. }
        | Event::StartFailed { container, .. }
        | Event::Exited { container, .. }
        | Event::HookEnded { container, .. }
        | Event::ProbeResult { container, .. }
        | Event::Cleared { container, .. } => Some(container),
        _ => None,
    }
}
