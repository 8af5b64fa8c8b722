//! What a worker does for a machine beside its commands: tell it, save it, die, and take over from a dead one.

use std::sync::Arc;

use podkeep::pod::machine::{Settings, State, Survival};
use podkeep::pod::status::ContainerState;
use podkeep::pod::{Command, Event, Exit, Machine};

use super::ledger::Ledger;
use super::world::{Run, World};

/// What a worker leaves to the next one.
pub struct Saved {
    state: State,
    records: Vec<Option<Run>>,
    ledgers: Vec<Ledger>,
    stopping: bool,
}

impl Saved {
    pub fn new(state: State, ledgers: Vec<Ledger>) -> Self {
        Self { state, records: vec![None; ledgers.len()], ledgers, stopping: false }
    }
}

impl World {
    pub fn save(&mut self) {
        self.saved = Saved {
            state: self.machine.state().clone(),
            records: self.records.clone(),
            ledgers: self.ledgers.clone(),
            stopping: self.stopping,
        };
        self.journal = None;
        self.unacknowledged.clear();
    }

    /// Tells the machine what happened, and holds what it asks for against the laws.
    pub fn step(&mut self, event: Event) -> Vec<Command> {
        self.count_step();
        self.note(&event);
        let counts = self.counts();
        let survival = self.machine.survival();
        let commands = self.machine.step(event.clone(), self.now);
        self.check_counts(&counts, &event);
        self.check_status(&event);
        for command in &commands {
            self.check_asked(command);
        }
        if self.machine.survival() != survival {
            self.survival = serde_json::to_string(&self.machine.survival()).expect("it is plain data");
        }
        commands
    }

    fn note(&mut self, event: &Event) {
        match *event {
            Event::Stop => self.stopping = true,
            Event::ImagesChanged => self.ledgers.iter_mut().for_each(Ledger::images_changed),
            Event::Cleared { container, .. } => self.is_cleared(container),
            Event::Prepared | Event::PrepareFailed { .. } => {
                self.ledgers.iter_mut().for_each(|ledger| ledger.free(self.now));
            }
            _ => {}
        }
        let Some(container) = container_of(event) else { return };
        self.ledgers[container].told(event, self.now);
        let begins = !matches!(event, Event::StartFailed { .. });
        if let (true, Some(run)) = (begins || is_exec_failure(event), self.records[container])
            && matches!(event, Event::Started { .. } | Event::Adopted { .. } | Event::StartFailed { .. })
        {
            self.began[container] = self.began[container].max(Some(run.attempt));
        }
    }

    fn counts(&self) -> Vec<u32> {
        self.machine.status().containers.iter().map(|c| c.restart_count).collect()
    }

    fn check_counts(&self, before: &[u32], event: &Event) {
        for (was, is) in before.iter().zip(self.counts()) {
            // Broken by adding two in `Container::restart`: found.
            assert!(is == *was || is == was + 1, "restarts go from {was} to {is} at {event:?}");
        }
    }

    fn check_status(&self, event: &Event) {
        let status = self.machine.status();
        for c in &status.containers {
            let running = matches!(c.state, ContainerState::Running { .. });
            // Broken by a `Container::pid` that also answers while a container is being cleared: found.
            assert_eq!(running, c.pid.is_some(), "what runs has a PID, and nothing else has");
        }
        let past = self.machine.deadline().is_some_and(|deadline| deadline <= self.now);
        // Broken by a `pass_container_time` that leaves `diagnose_at` as it is: found.
        assert!(!past, "a deadline is left in the past by {event:?}");
        if let Event::Stuck { container, processes } = event
            && self.groups[*container].is_some()
        {
            let said = status.message.is_some_and(|message| message.contains(processes));
            // Broken by a `message` that says only what the Pod as a whole waits for: found.
            assert!(said, "what resists SIGKILL is said");
        }
    }

    fn check_asked(&mut self, command: &Command) {
        let (Command::FindImage { container } | Command::Start { container, .. }) = *command else { return };
        // Broken by not ending containers in `CrashBackOff` in `stop_containers`: found.
        assert!(!self.stopping, "nothing starts once the Pod is stopping");
        let policy = self.pod.restart_policy;
        self.ledgers[container].asked(command, policy, self.now);
        let before = &self.ledgers[..container];
        let first = self.made[container].is_none();
        // Broken by letting every container that waits have its turn at once: found.
        assert!(!first || before.iter().all(|before| before.tried), "containers start in order");
    }

    /// The worker dies, and so may the next one while it takes over.
    pub fn take_over(&mut self) {
        while !self.resume() {}
    }

    /// A new worker goes on with what the last one saved; says whether it is still alive after its first commands.
    fn resume(&mut self) -> bool {
        self.stay_away();
        self.read_back();
        let mut todo = self.machine.begin();
        self.adopt(&mut todo);
        self.check_adopted();
        self.tell_what_was_missed();
        self.carry_out(todo)
    }

    /// Tells of every process on record, and of the one that only the journal knows.
    fn adopt(&mut self, todo: &mut Vec<Command>) {
        let before = self.journal.take().map(|(container, run)| {
            // Before anything else: the journal has room for one, and this worker may start the next.
            self.saved.records[container] = Some(run);
            (container, self.records[container].replace(run))
        });
        let number = |(container, record): (usize, &Option<Run>)| {
            record.is_some_and(|run| run.attempt > self.machine.attempt(container))
        };
        let overtaken: Vec<bool> = self.records.iter().enumerate().map(number).collect();
        if let Some((container, Some(before))) = before
            && let Some((_, exit)) = self.unacknowledged.iter().find(|(of, _)| *of == before)
        {
            todo.extend(self.step(Event::Exited { container, exit: *exit }));
        }
        for container in 0..self.records.len() {
            if let Some(Run { attempt, pid }) = self.records[container] {
                todo.extend(self.step(Event::Adopted { container, attempt, pid }));
            }
        }
        // What has a process needs no new one; what was asked for an earlier run is over.
        todo.retain(|command| match *command {
            Command::Start { container, .. } | Command::FindImage { container } => {
                self.records[container].is_none()
            }
            Command::Clear { container } | Command::Kill { container } => !overtaken[container],
            _ => true,
        });
    }

    /// For a while there is no worker.
    fn stay_away(&mut self) {
        self.answers.clear();
        let back = self.soon(100);
        self.groups.iter_mut().flatten().for_each(|group| group.asked_about = true);
        let (over, still): (Vec<_>, Vec<_>) = self.ends.drain(..).partition(|(at, ..)| *at <= back);
        self.ends = still;
        for (_, container, pid) in over {
            self.ends_now(container, pid);
        }
        if self.random.one_in(10) {
            // The keeper died too.
            self.unacknowledged.clear();
        }
        self.advance(back);
    }

    fn read_back(&mut self) {
        let text = serde_json::to_string(&self.saved.state).expect("a state is plain data");
        let state = serde_json::from_str(&text).expect("what was saved can be read");
        // Broken by `#[serde(skip)]` on the crash back-off: found.
        assert_eq!(self.saved.state, state, "what was saved is read as it was");
        let pod = Arc::clone(&self.pod);
        self.machine = Machine::resume(pod, state, Settings::default()).expect("it is this Pod's state");
        self.records.clone_from(&self.saved.records);
        self.ledgers.clone_from(&self.saved.ledgers);
        self.stopping = self.saved.stopping;
        self.ledgers.iter_mut().for_each(|ledger| ledger.free(self.now));
    }

    fn check_adopted(&self) {
        for (group, status) in self.groups.iter().zip(self.machine.status().containers) {
            let alive = group.as_ref().filter(|group| group.exit.is_none());
            let Some(group) = alive else { continue };
            // Broken by ignoring `Adopted`: found.
            assert_eq!(status.pid, Some(group.run.pid), "what runs is known after a new worker has come");
            assert_eq!(status.restart_count, group.run.attempt, "and so is its number");
        }
    }

    /// Ends of processes, also those that the last worker knew of; and that nobody wants the Pod any more.
    fn tell_what_was_missed(&mut self) {
        for container in 0..self.records.len() {
            let Some(run) = self.records[container] else { continue };
            let group = self.groups[container].as_ref().filter(|group| group.run == run);
            if group.is_some_and(|group| group.exit.is_none()) {
                continue;
            }
            let known = self.unacknowledged.iter().find(|(of, _)| *of == run);
            let exit = known.map_or(Exit::Unknown, |(_, exit)| *exit);
            self.answers.push((self.now, Event::Exited { container, exit }));
        }
        if !self.wanted && !self.stopping {
            self.answers.push((self.now, Event::Stop));
        }
    }

    /// The machine is restarted: of the Pod, only its folders and what `survival` said last are left.
    pub fn reboot(&mut self) {
        let finished = self.machine.is_finished();
        let survival: Survival = serde_json::from_str(&self.survival).expect("what was saved can be read");
        self.restart_clock();
        let pod = Arc::clone(&self.pod);
        self.machine = Machine::after_reboot(pod, survival, Settings::default(), self.now);
        // Broken by a `survival` without the final state: found.
        assert!(!finished || self.machine.is_finished(), "a Pod that has finished stays so over a reboot");
        let expected: Vec<u32> = self.began.iter().map(|run| run.map_or(0, |run| run + 1)).collect();
        if !self.machine.is_finished() {
            // Broken by counting a run that was decided and never began, and by keeping the number as it was: both
            // found.
            assert_eq!(self.counts(), expected, "each container that ran counts one restart more");
            self.ledgers = expected.into_iter().map(Ledger::new).collect();
        }
        self.forget_all_but_folders();
        let commands = self.machine.begin();
        if !self.wanted {
            self.answers.push((self.now, Event::Stop));
        }
        self.save();
        if !self.carry_out(commands) {
            self.take_over();
        }
    }

    fn forget_all_but_folders(&mut self) {
        self.answers.clear();
        self.ends.clear();
        self.groups.iter_mut().for_each(|group| *group = None);
        self.records.iter_mut().for_each(|record| *record = None);
        self.made.clone_from(&self.began);
        self.stopping = false;
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
        | Event::Cleared { container, .. } => Some(container),
        _ => None,
    }
}

fn is_exec_failure(event: &Event) -> bool {
    matches!(event, Event::StartFailed { failure: podkeep::pod::StartFailure::Exec, .. })
}
