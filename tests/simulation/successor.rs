//! A worker's death and a machine's restart: what the next worker makes of what is left.

use std::sync::Arc;

use podkeep::pod::machine::{Settings, Survival};
use podkeep::pod::{Command, Event, Exit, Machine};

use super::ledger::Ledger;
use super::processes::pause_ended;
use super::world::{Run, Whole, World};

impl World {
    /// The worker dies, and so may the next one while it takes over.
    pub fn take_over(&mut self) {
        if self.rehearsing {
            return self.begin_rehearsal();
        }
        while !self.resume() {}
    }

    /// A new worker goes on with what the last one saved; says whether it is still alive after its first commands.
    fn resume(&mut self) -> bool {
        self.stay_away();
        self.read_back();
        let mut todo = self.machine.begin();
        self.adopt(&mut todo);
        self.check_adopted();
        // The last worker may have written down what it did not live to be.
        self.save_survival();
        self.tell_what_was_missed();
        self.carry_out(todo)
    }

    /// Tells of every process on record, and of the one that only the journal knows.
    fn adopt(&mut self, todo: &mut Vec<Command>) {
        let unwritten = self.journal.take().filter(|(container, run)| self.records[*container] != Some(*run));
        let before = unwritten.map(|(container, run)| {
            // Before anything else: the journal has room for one, and this worker may start the next.
            self.saved.records[container] = Some(run);
            (container, self.records[container].replace(run))
        });
        let number = |(container, record): (usize, &Option<Run>)| {
            record.is_some_and(|run| run.attempt > self.machine.attempt(container))
        };
        self.adopting = true;
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
            Command::Clear { container }
            | Command::Kill { container }
            | Command::RunHook { container, .. } => !overtaken[container],
            _ => true,
        });
        self.adopting = false;
        todo.extend(self.step(Event::Tick));
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
        if self.held && self.random.one_in(10) {
            // The keeper died too; but not in the very turn that released the Pod: nothing would tell its end then.
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
        self.machine =
            Machine::resume(pod, state, Settings::default(), self.now).expect("it is this Pod's state");
        self.records.clone_from(&self.saved.records);
        self.ledgers.clone_from(&self.saved.ledgers);
        self.stopping = self.saved.stopping;
        self.whole = self.saved.whole.clone();
        self.worker += 1;
        self.ledgers.iter_mut().for_each(|ledger| ledger.facts.forget_when());
        self.ledgers.iter_mut().for_each(|ledger| ledger.free(self.now));
        self.groups.iter_mut().flatten().for_each(|group| group.told_of_doom = false);
    }

    /// Ends of processes, also those that the last worker knew of; and that nobody wants the Pod any more.
    fn tell_what_was_missed(&mut self) {
        let mut groups = self.groups.iter().flatten().peekable();
        // With one that came later, the first process of its namespace is there again.
        if groups.peek().is_some() && groups.all(|group| group.doomed) {
            self.answers.push((self.now, pause_ended()));
        }
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
            self.answers.push((self.now, Event::Stop { within: None }));
        }
    }

    /// The machine is restarted: of the Pod, only its folders and what `survival` said last are left.
    pub fn reboot(&mut self) {
        let finished = self.machine.is_finished();
        let survival: Survival = serde_json::from_str(&self.survival).expect("what was saved can be read");
        self.restart_clock();
        self.began_at = self.now;
        self.worker += 1;
        let pod = Arc::clone(&self.pod);
        self.machine = Machine::after_reboot(pod, survival, Settings::default(), self.now);
        // Broken by a `survival` without the final state: found.
        assert!(!finished || self.machine.is_finished(), "a Pod that has finished stays so over a reboot");
        let expected: Vec<u32> = self.began.iter().map(|run| run.map_or(0, |run| run + 1)).collect();
        if self.machine.is_finished() {
            self.ledgers.clone_from(&self.ledgers_on_disk);
        } else {
            // Broken by counting a run that was decided and never began, and by keeping the number as it was: both
            // found.
            assert_eq!(self.counts(), expected, "each container that ran counts one restart more");
            self.ledgers = expected.into_iter().map(Ledger::new).collect();
        }
        self.forget_all_but_folders();
        let commands = self.machine.begin();
        if !self.wanted {
            self.answers.push((self.now, Event::Stop { within: None }));
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
        self.whole = Whole::default();
    }
}
