//! What a worker does for a machine beside its commands: tells it what happened, and saves it.

use podkeep::pod::machine::State;
use podkeep::pod::{Command, Event, StartFailure};

use super::ledger::Ledger;
use super::world::{Run, World};

/// What a worker leaves to the next one.
pub struct Saved {
    pub state: State,
    pub records: Vec<Option<Run>>,
    pub ledgers: Vec<Ledger>,
    pub stopping: bool,
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
        let running = self.running();
        if let Event::PauseEnded { .. } = event {
            let told = self.groups.iter_mut().zip(&running).filter(|(_, running)| **running);
            told.filter_map(|(group, _)| group.as_mut()).for_each(|group| group.told_of_doom = true);
        }
        let commands = self.machine.step(event.clone(), self.now);
        self.check_counts(&counts, &event);
        self.check_status(&event);
        self.check_cause(&event, &running);
        for command in &commands {
            self.check_asked(command);
        }
        if self.machine.survival() != survival {
            self.save_survival();
        }
        commands
    }

    /// Writes down what the next boot must know.
    pub fn save_survival(&mut self) {
        self.ledgers_on_disk.clone_from(&self.ledgers);
        self.survival = serde_json::to_string(&self.machine.survival()).expect("it is plain data");
    }

    fn note(&mut self, event: &Event) {
        match *event {
            Event::Stop => self.stopping = true,
            Event::ImageArrived { container } => self.ledgers[container].image_arrived(),
            Event::Cleared { container, .. } => self.is_cleared(container),
            Event::Prepared | Event::PrepareFailed { .. } => {
                self.ledgers.iter_mut().for_each(|ledger| ledger.free(self.now));
            }
            _ => {}
        }
        let Some(container) = container_of(event) else { return };
        self.ledgers[container].told(event, self.now);
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
