//! All containers of a Pod start again: because one of them ended so (`RestartAllContainers`), or because what they use has changed.

use super::*;

/// Why all containers of a Pod that asks for it start again.
const CHANGED: &str = "a ConfigMap or Secret that the Pod uses has changed";

impl Machine {
    pub(super) fn objects_changed(
        &mut self,
        fingerprint: Option<String>,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        if let Some(new) = fingerprint.filter(|_| self.pod.restart_on_change) {
            let before = self.state.fingerprint.replace(new);
            if self.state.stage == PodStage::Active && before.is_some() && before != self.state.fingerprint {
                return self.end_all_for_restart(CHANGED, self.pod.termination_grace, now, todo);
            }
        }
        match self.state.stage {
            PodStage::RehearsalBackOff { .. } => {
                self.state.stage = PodStage::Rehearsing;
                todo.push(Command::Rehearse);
            }
            PodStage::Active => {
                for (container, c) in self.state.containers.iter_mut().enumerate() {
                    if c.try_again_configured() {
                        todo.push(Command::FindImage { container });
                    }
                }
            }
            _ => {}
        }
    }

    /// What they have is thrown away.
    pub(super) fn end_all_for_restart(
        &mut self,
        why: &str,
        grace: Duration,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        self.state.stage = PodStage::Restarting { until: now };
        for (container, (c, spec)) in self.state.containers.iter_mut().zip(&self.pod.containers).enumerate() {
            let place = Place { container, attempt: c.restarts };
            match &mut c.stage {
                Stage::Running(run) => {
                    run.fault = Some(Fault::RestartAll(why.to_owned()));
                    run.end(place, spec.lifecycle.pre_stop.is_some(), now + grace, now, todo);
                }
                Stage::Starting | Stage::Clearing { .. } => {}
                _ => c.stage = Stage::Ended,
            }
        }
    }

    /// All containers had ended and started over, as a run tells that is the next one of its container, or its first.
    pub(super) fn missed_restart_of_all(&mut self, now: BootTime) {
        self.state.stage = PodStage::Active;
        let pace = self.pace();
        for index in 0..self.state.containers.len() {
            let after = self.after(index);
            let c = &mut self.state.containers[index];
            if c.is_alive() {
                c.end_unseen(now);
            }
            if after == After::RestartAll {
                c.step_back_off(now, pace);
            }
            c.start_over();
        }
    }
}
