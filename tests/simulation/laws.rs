//! What must hold after every step of a machine, and when a new worker has come.

use std::ops::RangeInclusive;
use std::time::Duration;

use podkeep::manifest::pod::Role;
use podkeep::pod::status::{ContainerState, Phase, PodStatus};
use podkeep::pod::{BootTime, Command, Event, Exit};

use super::ledger::Ledger;
use super::processes::Group;
use super::world::World;

/// The shortest and the longest time between two tries to prepare or release a Pod.
const POD_RETRY: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(122);

impl World {
    pub fn counts(&self) -> Vec<u32> {
        self.machine.status().containers.iter().map(|c| c.restart_count).collect()
    }

    pub fn check_counts(&self, before: &PodStatus, event: &Event) {
        for (was, is) in before.containers.iter().map(|c| c.restart_count).zip(self.counts()) {
            // Broken by adding two in `Container::restart`: found.
            assert!(is == was || is == was + 1, "restarts go from {was} to {is} at {event:?}");
        }
    }

    pub fn check_status(&self, event: &Event) {
        let status = self.machine.status();
        for c in &status.containers {
            let running = matches!(c.state, ContainerState::Running { .. });
            // Broken by a `Container::pid` that also answers while a container is being cleared: found.
            assert_eq!(running, c.pid.is_some(), "what runs has a PID, and nothing else has");
        }
        let past = self.machine.deadline().is_some_and(|deadline| deadline <= self.now);
        let past = past && !self.adopting;
        // Broken by leaving `diagnose_at` as it is, and by a `deadline` that asks the containers in every stage: both
        // found.
        assert!(!past, "a deadline is left in the past by {event:?}");
        let is_ending =
            self.stopping || self.whole.stop_by.is_some() && matches!(event, Event::PrepareFailed { .. });
        if let (false, Event::PrepareFailed { .. } | Event::ReleaseFailed { .. }) = (is_ending, event) {
            let wait = self.machine.deadline().map(|at| at - self.now);
            // Broken by a `Pace::PREPARE` with an initial delay of zero, and by one with a maximum of 1220 s: both found.
            assert!(
                wait.is_some_and(|wait| POD_RETRY.contains(&wait)),
                "a Pod is tried again after {wait:?}"
            );
        }
        if let Event::Stuck { container, processes } = event
            && self.groups[*container].is_some()
        {
            let said = status.message.is_some_and(|message| message.contains(processes));
            // Broken by a `message` that says only what the Pod as a whole waits for: found.
            assert!(said, "what resists SIGKILL is said");
        }
    }

    pub fn check_conditions(&self, before: &PodStatus, event: &Event) {
        let status = self.machine.status();
        for condition in &status.conditions {
            let was = before.conditions.iter().find(|was| was.kind == condition.kind);
            // From there on it is a Pod of its own.
            let was = was.filter(|was| was.holds == condition.holds && *event != Event::Proceed);
            let since = was.map_or(self.now, |was| was.since);
            // Broken by a `note_conditions` that renews what holds at every step: found.
            assert_eq!(condition.since, since, "{} has changed when it changed", condition.kind);
        }
    }

    pub fn check_cause(&self, event: &Event, ran: &[bool]) {
        let Event::Exited { container, exit } = *event else { return };
        let status = self.machine.status();
        let ContainerState::Terminated(end) = &status.containers[container].state else { return };
        let Some(group) = &self.groups[container] else { return };
        if !ran[container] || group.run.attempt != self.machine.attempt(container) {
            // The end of an earlier run, which a new worker makes up for.
            return;
        }
        let killed = matches!(exit, Exit::Signal(9) | Exit::Unknown);
        let known = end.cause.is_some();
        let ours = self.end_by(container).is_some() || self.whole.restart_at.is_some();
        // Broken by a `will_end_for` that does nothing, and by `#[serde(skip)]` on the doom: both found.
        assert!(known || !(killed && group.told_of_doom), "why it ended is not forgotten");
        // Broken by an `ended` that leaves the doom for the next run: found.
        assert!(
            !known || (killed && group.doomed) || ours,
            "what ends for another reason is not said to end for this one"
        );
    }

    /// Of a run that is cleared away, and that the machine knows of: whether the kernel killed in it for want of memory.
    pub fn is_end_for_want_of_memory(&self, event: &Event) -> Option<bool> {
        let Event::Cleared { container } = *event else { return None };
        let group = self.groups[container].as_ref()?;
        let is_known = group.run.attempt == self.machine.attempt(container);
        self.machine.end_of(container).filter(|_| is_known).map(|_| group.out_of_memory)
    }

    pub fn check_memory(&self, event: &Event, expected: Option<bool>) {
        let (Event::Cleared { container }, Some(expected)) = (event, expected) else { return };
        let status = self.machine.status().containers.swap_remove(*container);
        let end = match &status.state {
            ContainerState::Terminated(end) => Some(end),
            _ => status.last.as_ref(),
        };
        // Broken by removing the cgroup before its end was written down: found.
        assert_eq!(
            end.map(|end| end.oom_killed),
            Some(expected),
            "why a run ended outlives the worker that cleared it"
        );
    }

    pub fn check_asked(&mut self, command: &Command) {
        let (Command::FindImage { container } | Command::Start { container, .. }) = *command else { return };
        // Broken by not ending containers in `CrashBackOff` in `stop_containers`: found.
        assert!(self.whole.stop_by.is_none(), "nothing starts once the Pod is ending");
        self.check_started_over();
        let spec = &self.pod.containers[container];
        self.ledgers[container].asked(spec, command, self.now);
        if !matches!(command, Command::Start { .. }) {
            return;
        }
        let first = !self.ledgers[container].had_turn;
        let before = &self.ledgers[..container];
        assert!(!first || before.iter().all(|before| before.passed), "containers start in order");
        self.ledgers[container].had_turn = true;
    }

    /// The first thing that is asked for when all containers start over.
    fn check_started_over(&mut self) {
        let Some(at) = self.whole.restart_at.take() else { return };
        assert!(self.groups.iter().all(Option::is_none), "all have ended before all start over");
        assert!(self.now >= at, "all start over after the back-off of the one that asked for it");
        self.ledgers.iter_mut().for_each(Ledger::start_over);
    }

    /// By when a container has to be over, if it has to.
    pub fn end_by(&self, container: usize) -> Option<BootTime> {
        let own = self.ledgers[container].facts.kill_by;
        own.into_iter().chain(self.whole.stop_by).min()
    }

    pub fn check_may_end(&self, container: usize) {
        if self.groups[container].is_some() {
            assert!(self.end_by(container).is_some(), "nothing is stopped in a Pod that shall run");
        }
    }

    pub fn check_may_signal(&self, container: usize) {
        let Some(group) = self.groups[container].as_ref().filter(|group| group.exit.is_none()) else {
            return;
        };
        let by = self.end_by(container).expect("it may end");
        assert!(by > self.now || group.killed.is_some(), "no grace means no stop signal");
        if by <= self.now + Duration::from_secs(2) {
            return;
        }
        let spec = &self.pod.containers[container];
        assert!(self.ledgers[container].facts.pre_stop_is_over(spec), "preStop comes before the stop signal");
        let behind = self.groups[container + 1..].iter().flatten();
        let alive = behind.filter(|group| group.exit.is_none()).count();
        let is_ordered = spec.role == Role::Sidecar && self.whole.stop_by.is_some();
        assert!(!is_ordered || alive == 0, "a sidecar ends after all that started behind it");
    }

    /// Terminal phases are for ever, and a Pod is ready only if its containers are.
    pub fn check_phase(&mut self, before: Phase) {
        let status = self.machine.status();
        // Broken by a `phase` that does not know `Restarting`, and by one that counts a sidecar only while it runs: both found.
        let was_terminal = matches!(before, Phase::Succeeded | Phase::Failed);
        assert!(!was_terminal || status.phase == before, "a terminal phase is for ever: {status:#?}");
        let holds =
            |kind| status.conditions.iter().any(|condition| condition.kind == kind && condition.holds);
        let mut ready = true;
        for ((c, ledger), spec) in status.containers.iter().zip(&self.ledgers).zip(&self.pod.containers) {
            let expected = c.pid.is_some() && ledger.facts.is_ready(spec);
            assert!(
                spec.role == Role::Init || c.ready == expected,
                "{} is ready: {}, not {expected}",
                c.name,
                c.ready
            );
            ready &= spec.role == Role::Init || c.ready;
        }
        let is_terminal = matches!(status.phase, Phase::Succeeded | Phase::Failed);
        assert_eq!(holds("Ready"), ready && !is_terminal, "{status:?}");
        if self.machine.is_finished() {
            assert!(is_terminal, "what is finished has succeeded or failed");
        }
        let expected = match status.reason {
            Some("Evicted") => self.wrote_too_much,
            Some(_) => self.deadline_was_over(),
            None => return,
        };
        assert!(status.phase == Phase::Failed && expected, "a deadline fails what exceeds it");
    }

    /// After a calm hour.
    pub fn check_settled(&mut self) {
        let may_loop = self.pod.containers.iter().any(|spec| !spec.restart.rules.is_empty());
        if self.machine.is_finished() || self.whole.stop_by.is_some() || may_loop {
            return;
        }
        let status = self.machine.status();
        for ((c, ledger), spec) in status.containers.iter().zip(&self.ledgers).zip(&self.pod.containers) {
            let is_over = spec.role == Role::Main && ledger.is_over_for_good(spec);
            assert!(c.ready || is_over, "a calm hour settles every Pod: {status:#?}");
        }
        assert_eq!(status.phase, Phase::Running);
    }

    pub fn check_adopted(&self) {
        for (group, status) in self.groups.iter().zip(self.machine.status().containers) {
            let alive = group.as_ref().filter(|group| group.exit.is_none());
            let Some(group) = alive else { continue };
            // Broken by ignoring `Adopted`: found.
            assert_eq!(status.pid, Some(group.run.pid), "what runs is known after a new worker has come");
            // Broken by an `adopted` that keeps the old number: found, by the ledger first.
            assert_eq!(status.restart_count, group.run.attempt, "and so is its number");
        }
    }

    pub fn check_told_to_end(&self) {
        let is_prepared = |event: &Event| matches!(event, Event::Prepared | Event::PrepareFailed { .. });
        if self.answers.iter().any(|(_, event)| is_prepared(event)) {
            // A worker died between preparing and saving: the next one prepares again before it stops anything.
            return;
        }
        let alive = |group: &&Group| group.exit.is_none();
        let statuses = self.machine.status().containers;
        for (container, (group, status)) in self.groups.iter().zip(statuses).enumerate() {
            let Some(group) = group.as_ref().filter(alive).filter(|_| status.pid.is_some()) else { continue };
            let told = group.signalled.is_some() || group.killed.is_some();
            assert!(told || !self.must_be_told(container), "what has to end has been told so");
            let over = self.end_by(container).is_some_and(|by| by <= self.now);
            assert!(!over || group.killed.is_some(), "no grace is exceeded");
        }
    }

    /// Nobody has to end before it, and no hook of it runs.
    fn must_be_told(&self, container: usize) -> bool {
        let spec = &self.pod.containers[container];
        let nobody_behind = self.ledgers[container + 1..].iter().all(Ledger::is_nowhere);
        let waits_for_others = spec.role == Role::Sidecar && !nobody_behind;
        self.end_by(container).is_some()
            && !waits_for_others
            && self.ledgers[container].facts.pre_stop_is_over(spec)
    }

    fn deadline_was_over(&self) -> bool {
        self.pod.active_deadline.is_some()
    }

    /// Nothing is under way, and no time is set.
    pub fn check_rest(&mut self) {
        let machine = &self.machine;
        // Broken by a second `Release` that is never asked for, by a `begin` that forgets it, by ignoring `Adopted`:
        // all found.
        assert!(self.calm || machine.is_finished() || machine.is_gone(), "a Pod waits for nothing");
        let over = self.work_is_over() || self.machine.status().reason.is_some();
        assert!(!self.machine.is_finished() || over, "a Pod is finished when its work is over");
        self.save();
        self.advance(self.now + Duration::from_secs(60));
    }
}

/// Whoever waits for a process that resists SIGKILL asks which one it is.
pub fn check_asked_about(group: &Group, now: BootTime) {
    let resisted = group.killed.is_some_and(|killed| now - killed > Duration::from_secs(2));
    // Broken by leaving out `Diagnose` for the container that is running, then for the one that is being cleared:
    // both found.
    assert!(!resisted || group.asked_about, "a process resists for long, and nobody asks which");
}
