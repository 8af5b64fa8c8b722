//! What one container was promised: written down from what its machine was told and asked for, never from the machine.
//!
//! A ledger is saved and read back with the machine's state: a new worker keeps the promises that the last one saved.

use std::time::Duration;

use podkeep::manifest::pod::RestartPolicy;
use podkeep::pod::{BootTime, Command, Event, Exit, StartFailure};

/// Seconds between one failure and the next try (reference §3.4).
const RUNGS: [u64; 7] = [0, 10, 20, 40, 80, 160, 300];
/// After so long a rest the ladder is climbed from the ground again.
const REST: Duration = Duration::from_secs(600);

#[derive(Clone, Default)]
struct Ladder {
    rung: usize,
    last_step: Option<BootTime>,
}

impl Ladder {
    fn wait(&mut self, failed_at: BootTime) -> Duration {
        if self.last_step.is_some_and(|last| failed_at - last > REST) {
            self.rung = 0;
        }
        Duration::from_secs(RUNGS[self.rung.min(RUNGS.len() - 1)])
    }

    fn climb(&mut self, now: BootTime) {
        self.rung += 1;
        self.last_step = Some(now);
    }

    /// The wait where already the first retry waits.
    fn climb_and_wait(&mut self, now: BootTime) -> Duration {
        self.wait(now);
        self.climb(now);
        self.wait(now)
    }
}

/// A failure and the time that has to pass after it.
#[derive(Clone)]
struct Promise {
    failed_at: BootTime,
    wait: Duration,
    /// Something else was in the way until then: processes that did not end, say.
    free_at: BootTime,
    lifted_by_images: bool,
}

#[derive(Clone, Default)]
pub struct Ledger {
    /// The number of the run that is on, or of the next one.
    pub run: u32,
    pub tried: bool,
    /// It has a process or is being started, as far as the worker was told.
    going: bool,
    /// How its latest run ended, until the next one is asked for.
    over: Option<Exit>,
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
    pub fn is_over_for_good(&self, policy: RestartPolicy) -> bool {
        self.over.is_some_and(|exit| !again(policy, exit))
    }

    pub fn told(&mut self, event: &Event, now: BootTime) {
        match event {
            Event::Started { .. } => self.begun(),
            Event::Adopted { attempt, .. } => self.adopted(*attempt, now),
            Event::StartFailed { failure: StartFailure::Exec, .. } => {
                self.ended(Exit::Code(128), now);
            }
            Event::StartFailed { .. } => {
                self.tried = true;
                self.going = false;
                let wait = self.create.climb_and_wait(now);
                self.promise(wait, false, now);
            }
            Event::ImageMissing { .. } => {
                self.tried = true;
                let wait = self.image.climb_and_wait(now);
                self.promise(wait, true, now);
            }
            Event::ImageReady { .. } => self.image = Ladder::default(),
            Event::Exited { exit, .. } if self.going => self.ended(*exit, now),
            Event::Cleared { .. } => self.free(now),
            _ => {}
        }
    }

    fn begun(&mut self) {
        self.tried = true;
        self.going = true;
        self.over = None;
        self.promise = None;
        self.create = Ladder::default();
    }

    fn adopted(&mut self, attempt: u32, now: BootTime) {
        if attempt < self.run || attempt == self.run && self.over.is_some() {
            return;
        }
        if attempt > self.run {
            if self.over.is_none() {
                self.ended(Exit::Unknown, now);
            }
            self.crash.climb(now);
            self.run = attempt;
        }
        self.begun();
    }

    fn ended(&mut self, exit: Exit, now: BootTime) {
        self.tried = true;
        self.going = false;
        self.over = Some(exit);
        let wait = self.crash.wait(now);
        self.promise(wait, false, now);
    }

    fn promise(&mut self, wait: Duration, lifted_by_images: bool, now: BootTime) {
        self.promise = Some(Promise { failed_at: now, wait, free_at: now, lifted_by_images });
    }

    pub fn image_arrived(&mut self) {
        if self.promise.as_ref().is_some_and(|promise| promise.lifted_by_images) {
            self.promise = None;
        }
    }

    /// What was in the way until now may have been so for longer than the promise.
    pub fn free(&mut self, now: BootTime) {
        if let Some(promise) = &mut self.promise {
            promise.free_at = now;
        }
    }

    pub fn asked(&mut self, command: &Command, policy: RestartPolicy, now: BootTime) {
        match *command {
            Command::FindImage { .. } => self.next_try(policy, now),
            Command::Start { attempt, .. } => {
                // Broken by passing `restarts + 1` to `Command::Start`: found.
                assert_eq!(attempt, self.run, "each run counts exactly one more");
                self.going = true;
            }
            _ => {}
        }
    }

    fn next_try(&mut self, policy: RestartPolicy, now: BootTime) {
        if let Some(exit) = self.over.take() {
            // Broken by letting `Container::runs_again` take OnFailure for Always: found.
            assert!(again(policy, exit), "{policy:?} does not restart after {exit:?}");
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

fn again(policy: RestartPolicy, exit: Exit) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit != Exit::Code(0),
        RestartPolicy::Never => false,
    }
}
