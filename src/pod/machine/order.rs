//! What comes before what: the order in which containers start and end, and what time brings.

use super::super::container::Container;
use super::super::run::STUCK_AGAIN;
use super::*;

impl Machine {
    pub(super) fn note_passed(&mut self) {
        for (c, spec) in self.state.containers.iter_mut().zip(&self.pod.containers) {
            c.note_passed(spec);
        }
    }

    /// Sees whether the Pod's work is over, and whether everything has ended.
    pub(super) fn conclude(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        if self.state.stage == PodStage::Active && self.is_over() {
            let kill_at = now + self.pod.termination_grace;
            self.stop_containers(Rest::Finished, kill_at, now, todo);
        }
        match self.state.stage {
            PodStage::Stopping { then, .. }
                if self.state.containers.iter().all(|c| c.stage == Stage::Ended) =>
            {
                self.state.stage = PodStage::Releasing { then };
                todo.push(Command::Release);
            }
            PodStage::Restarting { until } if until <= now && self.nothing_is_alive() => {
                self.state.containers.iter_mut().for_each(Container::start_over);
                self.state.stage = PodStage::Active;
            }
            _ => {}
        }
    }

    /// Every main container has ended for good, or an init container has and did not succeed.
    fn is_over(&self) -> bool {
        let mut mains_are_over = true;
        for (c, spec) in self.state.containers.iter().zip(&self.pod.containers) {
            let is_over = c.stage == Stage::Ended;
            match spec.role {
                Role::Init if is_over && !c.passed => return true,
                Role::Main => mains_are_over &= is_over,
                Role::Init | Role::Sidecar => {}
            }
        }
        mains_are_over
    }

    /// Carries out what is due by now.
    pub(super) fn pass_time(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        if self.active_deadline().is_some_and(|deadline| deadline <= now) {
            self.deadline_exceeded(now, todo);
        }
        match self.state.stage {
            PodStage::RehearsalBackOff { until } if until <= now => {
                self.state.stage = PodStage::Rehearsing;
                todo.push(Command::Rehearse);
            }
            PodStage::PrepareBackOff { until } if until <= now => {
                self.state.stage = PodStage::Preparing;
                todo.push(Command::Prepare);
            }
            PodStage::ReleaseBackOff { until, then } if until <= now => {
                self.state.stage = PodStage::Releasing { then };
                todo.push(Command::Release);
            }
            PodStage::Rehearsed
            | PodStage::Active
            | PodStage::Restarting { .. }
            | PodStage::Stopping { .. } => self.pass_container_time(now, todo),
            _ => {}
        }
    }

    /// Ends go on in [`go_on_ending`](Self::go_on_ending).
    fn pass_container_time(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        let pace = self.pace();
        for (container, c) in self.state.containers.iter_mut().enumerate() {
            if c.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            match &mut c.stage {
                Stage::ImageBackOff { .. } | Stage::CreateBackOff { .. } => {
                    c.try_again();
                    todo.push(Command::FindImage { container });
                }
                Stage::CrashBackOff { .. } => {
                    c.restart(now, pace);
                    todo.push(Command::FindImage { container });
                }
                Stage::Clearing { diagnose_at, .. } => {
                    *diagnose_at = now + STUCK_AGAIN;
                    todo.push(Command::Diagnose { container });
                }
                _ => {}
            }
        }
    }

    /// Images are looked for side by side; containers start in the order of the spec, each first when those before it are
    /// [passed](Container::passed). What runs again waits for nobody. What is only rehearsed does not start.
    pub(super) fn start(&mut self, todo: &mut Vec<Command>) {
        let mut is_its_turn = match self.state.stage {
            PodStage::Active => true,
            PodStage::Rehearsed => false,
            _ => return,
        };
        for (container, c) in self.state.containers.iter_mut().enumerate() {
            match c.stage {
                Stage::Waiting => {
                    c.stage = Stage::Finding;
                    todo.push(Command::FindImage { container });
                }
                Stage::Ready if is_its_turn => {
                    c.stage = Stage::Starting;
                    todo.push(Command::Start { container, attempt: c.restarts });
                }
                _ => {}
            }
            is_its_turn &= c.passed;
        }
    }

    /// The whole Pod's containers end side by side, but sidecars one by one after all that started behind them
    /// (`KR/kuberuntime_termination_order.go`).
    pub(super) fn go_on_ending(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        let in_order = matches!(self.state.stage, PodStage::Stopping { .. } | PodStage::Restarting { .. });
        let mut others_are_over = true;
        for (container, c) in self.state.containers.iter_mut().enumerate().rev() {
            let waits = in_order && self.pod.containers[container].role == Role::Sidecar;
            if let Some(run) = c.run_mut() {
                run.go_on_ending(container, others_are_over || !waits, now, todo);
            }
            others_are_over &= !c.is_alive();
        }
    }

    pub(super) fn probe(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        for (container, c) in self.state.containers.iter_mut().enumerate() {
            let attempt = c.restarts;
            let Some(run) = c.run_mut() else { continue };
            let due = run.probing.ask(run.ending.is_some(), now);
            todo.extend(due.into_iter().map(|probe| Command::Probe { container, attempt, probe }));
        }
    }
}
