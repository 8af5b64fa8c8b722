//! A Pod's status as Kubernetes describes it (reference §5).

use super::super::status::{Condition, ContainerState, ContainerStatus, Phase, PodStatus, RESTARTING_ALL};
use super::*;
use crate::manifest::Container as Spec;

/// The types of `status.conditions`.
const CONDITIONS: [&str; 6] = [
    "PodReadyToStartContainers",
    INITIALIZED,
    READY,
    CONTAINERS_READY,
    "PodScheduled",
    // Shown only while it holds.
    RESTARTING,
];
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const RESTARTING: &str = "AllContainersRestarting";

/// Which of [`CONDITIONS`] hold, and since when each does or does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held([(bool, BootTime); CONDITIONS.len()]);

impl Held {
    pub fn none(now: BootTime) -> Held {
        Held([(false, now); CONDITIONS.len()])
    }
}

impl Default for Held {
    /// Of a Pod that an older podkeep has kept: since the machine was started, for all that is known.
    fn default() -> Held {
        Held::none(BootTime::from_nanos(0))
    }
}

impl Machine {
    /// The Pod's status as it stands.
    pub fn status(&self) -> PodStatus {
        let phase = self.phase();
        PodStatus {
            phase,
            reason: self.state.failure.as_ref().map(Failure::reason),
            message: self.message(),
            terminating: self.is_terminating(),
            conditions: self.conditions(phase),
            started_at: self.state.started_at,
            boot_wall: self.state.boot_wall,
            containers: (0..self.pod.containers.len()).map(|index| self.container_status(index)).collect(),
        }
    }

    fn container_status(&self, index: Index) -> ContainerStatus {
        let (spec, c) = (&self.pod.containers[index], &self.state.containers[index]);
        let has_init = self.pod.containers.iter().any(|spec| spec.role != Role::Main);
        let creating = if has_init { "PodInitializing" } else { "ContainerCreating" };
        let (state, last) = match self.state.stage {
            PodStage::Restarting { .. } if c.stage == Stage::Ended => {
                (ContainerState::Waiting { reason: RESTARTING_ALL, message: None }, c.last.as_ref())
            }
            _ => (c.state(spec, &self.pod, creating, self.pace()), c.last_state()),
        };
        ContainerStatus {
            name: spec.name.clone(),
            role: spec.role,
            state,
            last: last.cloned(),
            restart_count: c.restarts,
            image_id: c.image_id.clone(),
            pid: c.pid(),
            started: c.has_started(spec),
            ready: match spec.role {
                Role::Init => c.passed,
                Role::Sidecar | Role::Main => c.is_ready(spec),
            },
        }
    }

    /// The kubelet's rules (`KP:getPhase`): pending while one has never run, running while one runs or will run again.
    /// Sidecars count as long as they may run. A terminal phase is for ever: what has ended and starts over runs.
    fn phase(&self) -> Phase {
        let mut all = Phase::Succeeded;
        if let PodStage::Restarting { .. } = self.state.stage {
            return Phase::Running;
        }
        for (c, spec) in self.state.containers.iter().zip(&self.pod.containers) {
            let one = match spec.role {
                _ if self.state.failure.is_some() => Some(Phase::Failed),
                Role::Init if c.passed => Some(Phase::Succeeded),
                // It runs again, or everything is over.
                Role::Init if c.phase(spec) == Some(Phase::Failed) => return Phase::Failed,
                Role::Init => None,
                Role::Sidecar if !self.is_ending() || c.is_alive() => c.passed.then_some(Phase::Running),
                Role::Sidecar => Some(Phase::Succeeded),
                Role::Main => c.phase(spec),
            };
            match one {
                None => return Phase::Pending,
                Some(Phase::Running | Phase::Pending) => all = Phase::Running,
                Some(Phase::Failed) if all == Phase::Succeeded => all = Phase::Failed,
                Some(_) => {}
            }
        }
        all
    }

    /// Notes which conditions hold by now.
    pub(super) fn note_conditions(&mut self, now: BootTime) {
        let all_by_now = self.holding();
        for ((holds, since), by_now) in self.state.conditions.0.iter_mut().zip(all_by_now) {
            if *holds != by_now {
                (*holds, *since) = (by_now, now);
            }
        }
    }

    /// In the order of [`CONDITIONS`].
    fn holding(&self) -> [bool; CONDITIONS.len()] {
        let prepared = matches!(
            self.state.stage,
            PodStage::Active | PodStage::Restarting { .. } | PodStage::Stopping { .. }
        );
        let restarting = matches!(self.state.stage, PodStage::Restarting { .. });
        let phase = self.phase();
        let all = |holds: fn(&Machine, Index) -> bool| {
            (0..self.pod.containers.len()).all(|container| holds(self, container))
        };
        // Once a main container has run, nobody asks for the others any more.
        let initialized = phase == Phase::Succeeded || self.is_main_begun() || all(Machine::is_initialized);
        let ready = matches!(phase, Phase::Pending | Phase::Running) && all(Machine::is_ready_for_pod);
        [prepared, initialized, ready, ready, true, restarting]
    }

    fn is_main_begun(&self) -> bool {
        let mut mains = self.state.containers.iter().zip(&self.pod.containers);
        mains.any(|(c, spec)| spec.role == Role::Main && c.phase(spec).is_some())
    }

    /// An init container is done, or a sidecar has started.
    fn is_initialized(&self, container: Index) -> bool {
        match self.pod.containers[container].role {
            Role::Init => self.state.containers[container].passed,
            Role::Sidecar => self.state.containers[container].has_started(&self.pod.containers[container]),
            Role::Main => true,
        }
    }

    fn is_ready_for_pod(&self, container: Index) -> bool {
        let spec = &self.pod.containers[container];
        spec.role == Role::Init || self.state.containers[container].is_ready(spec)
    }

    /// As they were noted last, each with the reason why it does not hold.
    fn conditions(&self, phase: Phase) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (kind, (holds, since)) in CONDITIONS.into_iter().zip(self.state.conditions.0) {
            let (reason, message) = match (kind, phase) {
                (RESTARTING, _) if !holds => continue,
                (INITIALIZED, Phase::Succeeded) => (Some("PodCompleted"), None),
                (INITIALIZED, _) if !holds => {
                    let others = self.names(|machine, container| !machine.is_initialized(container));
                    (
                        Some("ContainersNotInitialized"),
                        Some(format!("containers with incomplete status: {others}")),
                    )
                }
                (READY | CONTAINERS_READY, Phase::Succeeded) => (Some("PodCompleted"), None),
                (READY | CONTAINERS_READY, Phase::Failed) => (Some("PodFailed"), None),
                (READY | CONTAINERS_READY, _) if !holds => {
                    let others = self.names(|machine, container| !machine.is_ready_for_pod(container));
                    (Some("ContainersNotReady"), Some(format!("containers with unready status: {others}")))
                }
                _ => (None, None),
            };
            conditions.push(Condition { kind, holds, since, reason, message });
        }
        conditions
    }

    /// As Go prints a list.
    fn names(&self, which: impl Fn(&Machine, Index) -> bool) -> String {
        let containers = self.pod.containers.iter().enumerate();
        let names: Vec<_> =
            containers.filter(|(index, _)| which(self, *index)).map(|(_, spec)| spec.name.as_str()).collect();
        format!("[{}]", names.join(" "))
    }

    /// Whether those that come after it may start: it is Ready, or has run to a good end.
    pub fn is_ready(&self) -> bool {
        let is_ready = |(c, spec): (&Container, &Spec)| match spec.role {
            Role::Init => c.passed,
            Role::Sidecar | Role::Main => c.is_ready(spec),
        };
        match self.state.stage {
            PodStage::Active => self.state.containers.iter().zip(&self.pod.containers).all(is_ready),
            PodStage::Finished => self.phase() == Phase::Succeeded,
            _ => false,
        }
    }

    /// Nobody wants the Pod any more: it is ending, or gone.
    pub fn is_terminating(&self) -> bool {
        matches!(
            self.state.stage,
            PodStage::StoppingEarly { then: Rest::Gone, .. }
                | PodStage::Stopping { then: Rest::Gone, .. }
                | PodStage::Releasing { then: Rest::Gone }
                | PodStage::ReleaseBackOff { then: Rest::Gone, .. }
                | PodStage::Gone
        )
    }

    /// No container of it may start any more.
    pub fn is_ending(&self) -> bool {
        is_ending(self.state.stage)
    }

    fn message(&self) -> Option<String> {
        let stuck: Vec<String> = self
            .pod
            .containers
            .iter()
            .zip(&self.state.containers)
            .filter_map(|(spec, c)| {
                c.stuck().map(|processes| format!("container {}: {processes}", spec.name))
            })
            .collect();
        let failed = self.state.failure.as_ref().map(|failure| failure.message().to_owned());
        if stuck.is_empty() { self.state.message.clone().or(failed) } else { Some(stuck.join("; ")) }
    }
}
