//! What must hold after every step of a machine, and when a new worker has come.

use std::ops::RangeInclusive;
use std::time::Duration;

use podkeep::pod::status::ContainerState;
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

    pub fn check_counts(&self, before: &[u32], event: &Event) {
        for (was, is) in before.iter().zip(self.counts()) {
            // Broken by adding two in `Container::restart`: found.
            assert!(is == *was || is == was + 1, "restarts go from {was} to {is} at {event:?}");
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
        // Broken by leaving `diagnose_at` as it is, and by a `deadline` that asks the containers in every stage: both
        // found.
        assert!(!past, "a deadline is left in the past by {event:?}");
        if let (false, Event::PrepareFailed { .. } | Event::ReleaseFailed { .. }) = (self.stopping, event) {
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

    /// Which containers run, as far as the machine knows.
    pub fn running(&self) -> Vec<bool> {
        self.machine.status().containers.iter().map(|c| c.pid.is_some()).collect()
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
        // Broken by a `will_end_for` that does nothing, and by `#[serde(skip)]` on the doom: both found.
        assert!(known || !(killed && group.told_of_doom), "why it ended is not forgotten");
        // Broken by an `ended` that leaves the doom for the next run: found.
        assert!(
            !known || (killed && group.doomed),
            "what ends for another reason is not said to end for this one"
        );
    }

    pub fn check_asked(&mut self, command: &Command) {
        let (Command::FindImage { container } | Command::Start { container, .. }) = *command else { return };
        // Broken by not ending containers in `CrashBackOff` in `stop_containers`: found.
        assert!(!self.stopping, "nothing starts once the Pod is stopping");
        let policy = self.pod.containers[container].restart.policy;
        self.ledgers[container].asked(command, policy, self.now);
        let before = &self.ledgers[..container];
        let first = self.made[container].is_none();
        // Broken by letting every container that waits have its turn at once: found.
        assert!(!first || before.iter().all(|before| before.tried), "containers start in order");
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
        for (group, status) in self.groups.iter().zip(self.machine.status().containers) {
            let Some(group) = group.as_ref().filter(alive).filter(|_| status.pid.is_some()) else { continue };
            let told = group.signalled.is_some() || group.killed.is_some();
            // Broken by a `started` that does not look whether the Pod is stopping: found.
            assert!(told || !self.stopping, "what runs in a Pod that is stopping has been told to end");
        }
    }

    /// Nothing is under way, and no time is set.
    pub fn check_rest(&mut self) {
        let machine = &self.machine;
        // Broken by a second `Release` that is never asked for, by a `begin` that forgets it, by ignoring `Adopted`:
        // all found.
        assert!(machine.is_finished() || machine.is_gone(), "a Pod waits for nothing");
        let over = |ledger: &Ledger| ledger.is_over_for_good(self.pod.containers[0].restart.policy);
        // Broken by letting `Container::runs_again` take Never for OnFailure: found.
        assert!(machine.is_gone() || self.ledgers.iter().all(over), "a Pod is finished when none runs again");
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
