//! What one container was promised: written down from what its machine was told and asked for, never from the machine.
//!
//! A ledger is saved and read back with the machine's state: a new worker keeps the promises that the last one saved.

use std::time::Duration;

use podkeep::manifest::Container;
use podkeep::manifest::pod::{RestartAction, RestartPolicy, Role};
use podkeep::pod::{BootTime, Command, Event, Exit, StartFailure};

use super::facts::Facts;

/// Seconds between one failure and the next try (reference §3.4).
const RUNGS: [u64; 7] = [0, 10, 20, 40, 80, 160, 300];
/// What a shorter longest wait leaves of that is every rung cut to it, but a first one below 10 s is doubled from there.
fn rung(rung: usize, longest: Duration) -> Duration {
    let initial = Duration::from_secs(10).min(longest);
    let seconds = RUNGS[rung.min(RUNGS.len() - 1)];
    if seconds == 0 { Duration::ZERO } else { Duration::from_secs(seconds).min(longest).max(initial) }
}
/// After so long a rest the ladder is climbed from the ground again.
const REST: Duration = Duration::from_secs(600);
/// Between two tries, where the Pod says nothing else of its restarts.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Clone, Default)]
struct Ladder {
    rung: usize,
    last_step: Option<BootTime>,
}

impl Ladder {
    fn wait(&mut self, failed_at: BootTime, longest: Duration) -> Duration {
        if self.last_step.is_some_and(|last| failed_at - last > REST) {
            self.rung = 0;
        }
        rung(self.rung, longest)
    }

    fn climb(&mut self, now: BootTime) {
        self.rung += 1;
        self.last_step = Some(now);
    }

    /// The wait where already the first retry waits.
    fn climb_and_wait(&mut self, now: BootTime) -> Duration {
        self.wait(now, LONGEST);
        self.climb(now);
        self.wait(now, LONGEST)
    }
}

/// A failure and the time that has to pass after it.
#[derive(Clone)]
struct Promise {
    failed_at: BootTime,
    wait: Duration,
    /// Something else was in the way until then: processes that did not end, say.
    free_at: BootTime,
    lifted_by: Lifter,
}

/// What ends a wait before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lifter {
    Nothing,
    Images,
    Objects,
}

#[derive(Clone, Default)]
pub struct Ledger {
    /// The number of the run that is on, or of the next one.
    pub run: u32,
    /// Those behind it need not wait for it any more.
    pub passed: bool,
    /// It was started since the Pod began, or began anew.
    pub had_turn: bool,
    pub facts: Facts,
    /// It has a process or is being started, as far as the worker was told.
    going: bool,
    /// How its latest run ended, until the next one is asked for.
    over: Option<Exit>,
    /// A probe was the reason of that.
    unhealthy: bool,
    /// Nothing is left of that run.
    cleared: bool,
    /// Its image is being looked for.
    finding: bool,
    promise: Option<Promise>,
    crash: Ladder,
    image: Ladder,
    create: Ladder,
}

impl Ledger {
    /// A container that was restarted so often before the machine was started.
    pub fn new(run: u32) -> Self {
        Self { run, ..Self::default() }
    }

    /// Nothing will run here again unless somebody asks for it.
    pub fn is_over_for_good(&self, spec: &Container) -> bool {
        let for_good = |exit| {
            after(spec, exit, self.unhealthy) == After::Nothing || spec.role == Role::Init && self.passed
        };
        self.cleared && self.over.is_some_and(for_good)
    }

    /// It has ended and asks for all to start over.
    pub fn restarts_all(&self, spec: &Container) -> bool {
        self.over.is_some_and(|exit| after(spec, exit, self.unhealthy) == After::RestartAll)
    }

    pub fn told(&mut self, spec: &Container, longest: Duration, event: &Event, now: BootTime) {
        match event {
            Event::Started { .. } => self.begun(now),
            Event::Adopted { attempt, .. } => self.adopted(*attempt, longest, now),
            Event::StartFailed { failure: StartFailure::Exec, .. } => {
                self.ended(Exit::Code(128), longest, now);
            }
            Event::StartFailed { failure, .. } => {
                self.passed |= spec.role == Role::Main;
                self.going = false;
                let wait = self.create.climb_and_wait(now);
                let is_config = *failure == StartFailure::Config;
                self.promise(wait, if is_config { Lifter::Objects } else { Lifter::Nothing }, now);
            }
            // What was asked before all started over is answered too.
            Event::ImageMissing { .. } | Event::ImageReady { .. } if !self.finding => {}
            Event::ImageMissing { .. } => {
                self.finding = false;
                self.passed |= spec.role == Role::Main;
                let wait = self.image.climb_and_wait(now);
                self.promise(wait, Lifter::Images, now);
            }
            Event::ImageReady { .. } => {
                self.finding = false;
                self.image = Ladder::default();
            }
            Event::Exited { exit, .. } if self.going => self.ended(*exit, longest, now),
            Event::Cleared { .. } if self.over.is_some() => {
                self.free(now);
                self.cleared = true;
                self.passed |= spec.role == Role::Init && self.over == Some(Exit::Code(0));
            }
            _ => {}
        }
        self.passed |= self.going && self.facts.lets_pass(spec);
        self.passed |= self.over.is_some() && spec.role == Role::Main;
    }

    fn begun(&mut self, now: BootTime) {
        self.had_turn = true;
        self.facts = Facts::begin(now);
        self.going = true;
        self.over = None;
        self.cleared = false;
        self.promise = None;
        self.create = Ladder::default();
    }

    /// Whether this run is more than was known of the container.
    pub fn is_news(&self, attempt: u32) -> bool {
        attempt > self.run || attempt == self.run && self.over.is_none() && self.facts.is_new()
    }

    fn adopted(&mut self, attempt: u32, longest: Duration, now: BootTime) {
        if !self.is_news(attempt) {
            return;
        }
        if attempt > self.run {
            if self.over.is_none() {
                self.ended(Exit::Unknown, longest, now);
            }
            self.crash.climb(now);
            self.run = attempt;
        }
        self.begun(now);
    }

    fn ended(&mut self, exit: Exit, longest: Duration, now: BootTime) {
        self.going = false;
        self.over = Some(exit);
        self.cleared = false;
        self.unhealthy = self.facts.unhealthy;
        let wait = self.crash.wait(now, longest);
        self.promise(wait, Lifter::Nothing, now);
    }

    fn promise(&mut self, wait: Duration, lifted_by: Lifter, now: BootTime) {
        self.promise = Some(Promise { failed_at: now, wait, free_at: now, lifted_by });
    }

    pub fn arrived(&mut self, what: Lifter) {
        self.promise.take_if(|promise| promise.lifted_by == what);
    }

    /// What was in the way until now may have been so for longer than the promise.
    pub fn free(&mut self, now: BootTime) {
        if let Some(promise) = &mut self.promise {
            promise.free_at = now;
        }
    }

    /// Nothing of it is on the machine, as far as the worker was told.
    pub fn is_nowhere(&self) -> bool {
        !self.going && (self.over.is_none() || self.cleared)
    }

    pub fn is_cleared(&self) -> bool {
        self.cleared
    }

    /// The whole Pod starts over: its next run is another one, unless the one that is due has not begun.
    pub fn start_over(&mut self) {
        if self.over.is_some() || !self.facts.is_new() {
            self.run += 1;
        }
        (self.had_turn, self.passed, self.going, self.finding) = (false, false, false, false);
        (self.over, self.promise) = (None, None);
        self.facts = Facts::default();
    }

    /// Its back-off, where the start of the whole Pod waits for it.
    pub fn climb_for_all(&mut self, now: BootTime) -> BootTime {
        let due = self.promise.as_ref().map_or(now, |promise| promise.failed_at + promise.wait);
        self.crash.climb(now);
        due
    }

    pub fn asked(&mut self, spec: &Container, command: &Command, now: BootTime) {
        match *command {
            Command::FindImage { .. } => self.next_try(spec, now),
            Command::Start { attempt, .. } => {
                // Broken by passing `restarts + 1` to `Command::Start`: found.
                assert_eq!(attempt, self.run, "each run counts exactly one more");
                self.going = true;
            }
            _ => {}
        }
    }

    fn next_try(&mut self, spec: &Container, now: BootTime) {
        self.facts = Facts::default();
        self.finding = true;
        if let Some(exit) = self.over.take() {
            let after = after(spec, exit, self.unhealthy);
            // Broken by letting `Container::after` take OnFailure for Always: found.
            assert!(after != After::Nothing, "{:?} does not restart after {exit:?}", spec.restart);
            self.crash.climb(now);
            self.run += 1;
        }
        if let Some(promise) = self.promise.take() {
            let due = promise.failed_at + promise.wait;
            // Broken by halving the delay in `BackOff::due`: found.
            assert!(now >= due, "a back-off is shorter than promised");
            // Broken by a `Pace::CRASH_LOOP` with a maximum of 600 s, and by leaving out `expired`: both found.
            assert!(now <= due.max(promise.free_at), "a back-off is longer than promised, or than 300 s");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum After {
    Nothing,
    Again,
    RestartAll,
}

/// Kubernetes' rules once more, written down on their own.
fn after(spec: &Container, exit: Exit, unhealthy: bool) -> After {
    let succeeded = exit == Exit::Code(0);
    if !unhealthy {
        for rule in &spec.restart.rules {
            if rule.codes.contains(&exit.code()) == rule.one_of {
                return match rule.action {
                    RestartAction::RestartAll => After::RestartAll,
                    RestartAction::Restart if spec.role == Role::Init && succeeded => After::Nothing,
                    RestartAction::Restart => After::Again,
                };
            }
        }
    }
    let again = match (spec.restart.policy, spec.role) {
        (RestartPolicy::Never, _) => false,
        (RestartPolicy::Always, Role::Init) | (RestartPolicy::OnFailure, _) => !succeeded || unhealthy,
        (RestartPolicy::Always, _) => true,
    };
    if again { After::Again } else { After::Nothing }
}
