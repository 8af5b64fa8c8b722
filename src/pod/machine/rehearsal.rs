//! The new version of a Pod that runs: whether it can take its place is found out before the old one is stopped.

use super::*;

/// How far a new version has come. It holds up nothing and changes nothing on the machine but the image store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// It is not known yet whether it could be prepared.
    Open,
    /// It could not, as things are, and will be tried again.
    Failed(String),
    /// It could, and its images are there.
    Passed,
}

impl Machine {
    /// `None` for a Pod that is no longer, or never was, waiting to take another one's place.
    pub fn rehearsal(&self) -> Option<Rehearsal> {
        Some(match self.state.stage {
            PodStage::Rehearsing => Rehearsal::Open,
            PodStage::RehearsalBackOff { .. } => {
                Rehearsal::Failed(self.state.message.clone().unwrap_or_default())
            }
            PodStage::Rehearsed => match self.missing_image() {
                Some(why) => Rehearsal::Failed(why),
                None if self.state.containers.iter().all(|c| c.stage == Stage::Ready) => Rehearsal::Passed,
                None => Rehearsal::Open,
            },
            _ => return None,
        })
    }

    fn missing_image(&self) -> Option<String> {
        let mut containers = self.pod.containers.iter().zip(&self.state.containers);
        containers
            .find_map(|(spec, c)| c.missing_image().map(|why| format!("container {}: {why}", spec.name)))
    }

    pub(super) fn rehearsed(&mut self) {
        if self.state.stage == PodStage::Rehearsing {
            self.state.message = None;
            self.state.stage = PodStage::Rehearsed;
        }
    }

    pub(super) fn rehearsal_failed(&mut self, message: String, now: BootTime) {
        if self.state.stage == PodStage::Rehearsing {
            self.state.message = Some(message);
            self.state.prepare.step(now, now, Pace::PREPARE);
            let until = self.state.prepare.due(now, Pace::PREPARE);
            self.state.stage = PodStage::RehearsalBackOff { until };
        }
    }

    /// Its predecessor is gone. What the rehearsal found stays found: a container whose image is there does not look for it again.
    pub(super) fn proceed(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        if self.rehearsal().is_none() {
            return;
        }
        self.state.stage = PodStage::Preparing;
        self.state.started_at = now;
        self.state.conditions = status::Held::none(now);
        self.state.message = None;
        self.state.prepare = BackOff::default();
        // A missing image was no attempt to start.
        self.state.containers.iter_mut().for_each(|c| c.passed = false);
        todo.push(Command::Prepare);
    }
}
