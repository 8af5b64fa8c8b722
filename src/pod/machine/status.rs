//! A Pod's status as Kubernetes describes it (reference §5).

use super::super::status::{Condition, ContainerState, ContainerStatus, Phase, PodStatus};
use super::*;
use crate::manifest::Container as Spec;

impl Machine {
    /// The Pod's status as it stands.
    pub fn status(&self) -> PodStatus {
        let phase = self.phase();
        let containers: Vec<_> =
            (0..self.pod.containers.len()).map(|index| self.container_status(index)).collect();
        PodStatus {
            phase,
            reason: self.state.failure.map(|Failure::DeadlineExceeded| "DeadlineExceeded"),
            message: self.message(),
            terminating: self.is_terminating(),
            conditions: self.conditions(phase, &containers),
            started_at: self.state.started_at,
            containers,
        }
    }

    fn container_status(&self, index: Index) -> ContainerStatus {
        let (spec, c) = (&self.pod.containers[index], &self.state.containers[index]);
        let has_init = self.pod.containers.iter().any(|spec| spec.role != Role::Main);
        let creating = if has_init { "PodInitializing" } else { "ContainerCreating" };
        ContainerStatus {
            name: spec.name.clone(),
            role: spec.role,
            state: c.state(&spec.name, creating, self.pace()),
            last: c.last_state().cloned(),
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
    /// Sidecars that have ended count for nothing.
    fn phase(&self) -> Phase {
        let mut all = Phase::Succeeded;
        for (c, spec) in self.state.containers.iter().zip(&self.pod.containers) {
            let one = match spec.role {
                _ if self.state.failure.is_some() => Some(Phase::Failed),
                Role::Init if c.passed => Some(Phase::Succeeded),
                // It runs again, or everything is over.
                Role::Init if c.phase(spec) == Some(Phase::Failed) => return Phase::Failed,
                Role::Init => None,
                Role::Sidecar if c.run().is_some() => c.passed.then_some(Phase::Running),
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

    fn conditions(&self, phase: Phase, containers: &[ContainerStatus]) -> Vec<Condition> {
        let prepared = matches!(
            self.state.stage,
            PodStage::Active | PodStage::Restarting { .. } | PodStage::Stopping { .. }
        );
        let mut conditions = vec![condition("PodReadyToStartContainers", prepared)];
        conditions.push(self.initialized(phase, containers));
        let ready = readiness(phase, containers);
        conditions.push(Condition { kind: "Ready", ..ready.clone() });
        conditions.push(ready);
        conditions.push(condition("PodScheduled", true));
        if let PodStage::Restarting { .. } = self.state.stage {
            conditions.push(condition("AllContainersRestarting", true));
        }
        conditions
    }

    /// Init containers are done and sidecars have started, or a main container runs or has run.
    fn initialized(&self, phase: Phase, containers: &[ContainerStatus]) -> Condition {
        let is_main_begun = containers.iter().any(|c| {
            c.role == Role::Main && (c.last.is_some() || !matches!(c.state, ContainerState::Waiting { .. }))
        });
        let passed = |c: &ContainerStatus| match c.role {
            Role::Init => c.ready,
            Role::Sidecar => c.started,
            Role::Main => true,
        };
        match phase {
            Phase::Succeeded => Condition { reason: Some("PodCompleted"), ..condition("Initialized", true) },
            _ if is_main_begun => condition("Initialized", true),
            _ => {
                let what = "containers with incomplete status";
                unless_all("Initialized", "ContainersNotInitialized", what, containers, passed)
            }
        }
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
        let failed = self.state.failure.map(|Failure::DeadlineExceeded| {
            "Pod was active on the node longer than the specified deadline".to_owned()
        });
        if stuck.is_empty() { self.state.message.clone().or(failed) } else { Some(stuck.join("; ")) }
    }
}

fn readiness(phase: Phase, containers: &[ContainerStatus]) -> Condition {
    let not = |reason| Condition { reason: Some(reason), ..condition("ContainersReady", false) };
    match phase {
        Phase::Succeeded => not("PodCompleted"),
        Phase::Failed => not("PodFailed"),
        Phase::Pending | Phase::Running => {
            let what = "containers with unready status";
            let ready = |c: &ContainerStatus| c.role == Role::Init || c.ready;
            unless_all("ContainersReady", "ContainersNotReady", what, containers, ready)
        }
    }
}

fn condition(kind: &'static str, holds: bool) -> Condition {
    Condition { kind, holds, reason: None, message: None }
}

/// Holds if it does for each container; names those for which it does not.
fn unless_all(
    kind: &'static str,
    reason: &'static str,
    what: &str,
    containers: &[ContainerStatus],
    holds: impl Fn(&ContainerStatus) -> bool,
) -> Condition {
    let others: Vec<&str> = containers.iter().filter(|c| !holds(c)).map(|c| c.name.as_str()).collect();
    if others.is_empty() {
        return condition(kind, true);
    }
    let message = format!("{what}: [{}]", others.join(" "));
    Condition { reason: Some(reason), message: Some(message), ..condition(kind, false) }
}
