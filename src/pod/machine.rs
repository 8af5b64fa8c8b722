//! The state machine of one Pod: what happened goes in, what is to be done comes out.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BootTime;
use super::backoff::{BackOff, Pace};
use super::container::{Container, Ending, STUCK_AFTER, STUCK_AGAIN, Stage};
use super::event::{Command, Event, Exit, Index, StartFailure};
use super::status::{ContainerStatus, Phase, PodStatus};
use crate::manifest::Pod;

/// The numbers that hold for every Pod of the node.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub crash_loop: Pace,
}

impl Default for Settings {
    fn default() -> Self {
        Self { crash_loop: Pace::CRASH_LOOP }
    }
}

/// One Pod, from its manifest to its last trace.
#[derive(Clone, Debug)]
pub struct Machine {
    pod: Arc<Pod>,
    settings: Settings,
    state: State,
}

/// All that a machine remembers: saved after every step, so that a new worker goes on where the last one was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    stage: PodStage,
    started_at: BootTime,
    /// In the order of the Pod's containers.
    containers: Vec<Container>,
    message: Option<String>,
    prepare: BackOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum PodStage {
    Preparing,
    PrepareBackOff {
        until: BootTime,
    },
    Active,
    /// Asked to end while it was being prepared: what was made must be known before it can be released.
    StoppingEarly,
    Stopping,
    Releasing {
        then: Rest,
    },
    ReleaseBackOff {
        until: BootTime,
        then: Rest,
    },
    /// Ran to its end (`restartPolicy` Never or OnFailure); only its status is left.
    Finished,
    Gone,
}

/// What comes after a release.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Rest {
    Finished,
    Gone,
}

/// What must be known of a Pod after the machine was restarted: everything else starts afresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    /// By container, in the Pod's order: the number of its latest run that began; `None` if it never ran.
    pub restarts: Vec<Option<u32>>,
    /// The Pod had run to its end: its final state.
    pub finished: Option<State>,
}

impl Machine {
    /// A Pod that is new to this node; [`begin`](Self::begin) says what comes first.
    pub fn new(pod: Arc<Pod>, settings: Settings, now: BootTime) -> Self {
        let containers = pod.containers.iter().map(|_| Container::new(None)).collect();
        let state = State {
            stage: PodStage::Preparing,
            started_at: now,
            containers,
            message: None,
            prepare: BackOff::default(),
        };
        Self { pod, settings, state }
    }

    /// A Pod that ran on an earlier boot: each container that ran counts one restart more, back-off starts afresh,
    /// and a Pod that had run to its end stays there.
    pub fn after_reboot(pod: Arc<Pod>, survival: Survival, settings: Settings, now: BootTime) -> Self {
        let mut machine = Self::new(pod, settings, now);
        match survival.finished {
            Some(state) if state.containers.len() == machine.state.containers.len() => machine.state = state,
            _ => {
                for (container, latest) in machine.state.containers.iter_mut().zip(survival.restarts) {
                    *container = Container::new(latest);
                }
            }
        }
        machine
    }

    /// A Pod that an earlier worker was keeping. `None` if the state does not belong to this Pod.
    pub fn resume(pod: Arc<Pod>, state: State, settings: Settings) -> Option<Self> {
        (state.containers.len() == pod.containers.len()).then_some(Self { pod, settings, state })
    }

    /// Of this Pod's restarts: the node's, unless the Pod sets its own longest wait.
    fn pace(&self) -> Pace {
        let max = self.pod.max_restart_period.unwrap_or(self.settings.crash_loop.max);
        Pace::crash_loop(max)
    }

    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn is_gone(&self) -> bool {
        self.state.stage == PodStage::Gone
    }

    pub fn is_finished(&self) -> bool {
        self.state.stage == PodStage::Finished
    }

    /// The containers that have a process, or whose process is being made, with their PID where it is known.
    pub fn alive(&self) -> impl Iterator<Item = (Index, Option<u32>)> {
        self.state.containers.iter().enumerate().filter_map(|(index, container)| match container.stage {
            Stage::Running { pid, .. } => Some((index, Some(pid))),
            Stage::Starting => Some((index, None)),
            _ => None,
        })
    }

    /// The containers that [`Event::ImageArrived`] means something to.
    pub fn without_image(&self) -> impl Iterator<Item = Index> {
        let waits = |c: &Container| matches!(c.stage, Stage::ImageBackOff { .. });
        self.state.containers.iter().enumerate().filter(move |(_, c)| waits(c)).map(|(index, _)| index)
    }

    /// The images that containers run from, or ran from last.
    pub fn image_ids(&self) -> impl Iterator<Item = &str> {
        self.state.containers.iter().filter_map(|c| c.image_id.as_deref())
    }

    /// The number of a container's current run, counted from 0.
    pub fn attempt(&self, container: Index) -> u32 {
        self.state.containers.get(container).map_or(0, |c| c.restarts)
    }

    /// What must be on disk for the next boot.
    pub fn survival(&self) -> Survival {
        Survival {
            restarts: self.state.containers.iter().map(|c| c.latest_run).collect(),
            finished: self.is_finished().then(|| self.state.clone()),
        }
    }

    /// The commands that were under way when this state was saved. They can be carried out twice without harm.
    pub fn begin(&self) -> Vec<Command> {
        match self.state.stage {
            PodStage::Preparing | PodStage::StoppingEarly => vec![Command::Prepare],
            PodStage::Releasing { .. } => vec![Command::Release],
            PodStage::Active | PodStage::Stopping => self.containers_under_way(),
            PodStage::PrepareBackOff { .. }
            | PodStage::ReleaseBackOff { .. }
            | PodStage::Finished
            | PodStage::Gone => Vec::new(),
        }
    }

    fn containers_under_way(&self) -> Vec<Command> {
        let command = |(container, state): (Index, &Container)| match &state.stage {
            Stage::Finding => Some(Command::FindImage { container }),
            Stage::Starting => Some(Command::Start { container, attempt: state.restarts }),
            Stage::Running { ending: Some(Ending::Killed { .. }), .. } => Some(Command::Kill { container }),
            Stage::Clearing { .. } => Some(Command::Clear { container }),
            _ => None,
        };
        self.state.containers.iter().enumerate().filter_map(command).collect()
    }

    /// The next moment at which time alone changes something: [`Event::Tick`] is due then.
    pub fn deadline(&self) -> Option<BootTime> {
        match self.state.stage {
            PodStage::PrepareBackOff { until } | PodStage::ReleaseBackOff { until, .. } => Some(until),
            PodStage::Active | PodStage::Stopping => {
                self.state.containers.iter().filter_map(Container::deadline).min()
            }
            _ => None,
        }
    }

    /// Takes in what happened at `now` and says what is to be done, in this order.
    ///
    /// An event that does not fit the state it meets is old news (an exit that was told twice, say) and changes nothing.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Command> {
        let mut todo = Vec::new();
        match event {
            Event::Prepared => self.prepared(now, &mut todo),
            Event::PrepareFailed { message } => self.prepare_failed(message, now, &mut todo),
            Event::ImageReady { container, image_id } => self.image_ready(container, image_id, &mut todo),
            Event::ImageMissing { container, problem, message } => {
                if let Some(c) = self.container_in(container, |s| matches!(s, Stage::Finding)) {
                    c.image_missing(problem, message, now);
                }
            }
            Event::ImageArrived { container } => self.image_arrived(container, &mut todo),
            Event::Started { container, pid } => self.started(container, pid, now, &mut todo),
            Event::Adopted { container, attempt, pid } => {
                self.adopted(container, attempt, pid, now, &mut todo)
            }
            Event::StartFailed { container, failure, message } => {
                self.start_failed(container, failure, message, now, &mut todo);
            }
            Event::Exited { container, exit } => self.exited(container, exit, now, &mut todo),
            Event::PauseEnded { message } => self.pause_ended(&message),
            Event::Cleared { container, oom_killed } => self.cleared(container, oom_killed),
            Event::Stuck { container, processes } => self.stuck(container, processes),
            Event::Released => self.released(),
            Event::ReleaseFailed { message } => self.release_failed(message, now),
            Event::Stop => self.stop(now, &mut todo),
            Event::Tick => {}
        }
        self.pass_time(now, &mut todo);
        self.start_waiting(&mut todo);
        self.settle(&mut todo);
        todo
    }

    fn prepared(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        match self.state.stage {
            PodStage::Preparing => {
                self.state.stage = PodStage::Active;
                self.state.message = None;
            }
            PodStage::StoppingEarly => self.stop_containers(now, todo),
            _ => {}
        }
    }

    fn prepare_failed(&mut self, message: String, now: BootTime, todo: &mut Vec<Command>) {
        match self.state.stage {
            PodStage::Preparing => {
                self.state.message = Some(message);
                self.state.prepare.step(now, now, Pace::PREPARE);
                let until = self.state.prepare.due(now, Pace::PREPARE);
                self.state.stage = PodStage::PrepareBackOff { until };
            }
            PodStage::StoppingEarly => self.stop_containers(now, todo),
            _ => {}
        }
    }

    fn image_ready(&mut self, container: Index, image_id: String, todo: &mut Vec<Command>) {
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::Finding)) else { return };
        c.image_ready(image_id);
        todo.push(Command::Start { container, attempt: c.restarts });
    }

    fn image_arrived(&mut self, container: Index, todo: &mut Vec<Command>) {
        if self.state.stage != PodStage::Active {
            return;
        }
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::ImageBackOff { .. })) else {
            return;
        };
        c.stage = Stage::Finding;
        todo.push(Command::FindImage { container });
    }

    fn started(&mut self, container: Index, pid: u32, now: BootTime, todo: &mut Vec<Command>) {
        let stopping = self.state.stage == PodStage::Stopping;
        let grace = self.pod.termination_grace;
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::Starting)) else { return };
        c.started(pid, now);
        if stopping {
            stop_running(container, c, grace, now, todo);
        }
    }

    fn adopted(&mut self, container: Index, attempt: u32, pid: u32, now: BootTime, todo: &mut Vec<Command>) {
        let stopping = self.state.stage == PodStage::Stopping;
        let (grace, pace) = (self.pod.termination_grace, self.pace());
        let Some(c) = self.state.containers.get_mut(container).filter(|c| c.missed(attempt)) else { return };
        c.adopted(attempt, pid, now, pace);
        if stopping {
            stop_running(container, c, grace, now, todo);
        }
    }

    fn start_failed(
        &mut self,
        container: Index,
        failure: StartFailure,
        message: String,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let stopping = self.state.stage == PodStage::Stopping;
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::Starting)) else { return };
        match failure {
            StartFailure::Config | StartFailure::Create if stopping => c.stage = Stage::Ended,
            StartFailure::Config | StartFailure::Create => c.create_failed(failure, message, now),
            StartFailure::Exec => {
                // containerd reports a failed exec as exit code 128.
                c.ended(Exit::Code(128), Some(message), now);
                todo.push(Command::Clear { container });
            }
        }
    }

    fn exited(&mut self, container: Index, exit: Exit, now: BootTime, todo: &mut Vec<Command>) {
        let alive = |s: &Stage| matches!(s, Stage::Running { .. } | Stage::Starting);
        let Some(c) = self.container_in(container, alive) else { return };
        c.ended(exit, None, now);
        todo.push(Command::Clear { container });
    }

    /// Nothing is to be done: the kernel has done it, and each container's end comes by itself.
    fn pause_ended(&mut self, message: &str) {
        for c in &mut self.state.containers {
            c.will_end_for(message);
        }
    }

    fn cleared(&mut self, container: Index, oom_killed: bool) {
        let policy = self.pod.containers[container].restart.policy;
        let stopping = self.state.stage == PodStage::Stopping;
        let pace = self.pace();
        let Some(c) = self.state.containers.get_mut(container) else { return };
        let Stage::Clearing { end, .. } = &c.stage else { return };
        let end = end.clone();
        let again = !stopping && Container::runs_again(policy, &end);
        c.cleared(end, oom_killed, again, pace);
    }

    fn stuck(&mut self, container: Index, processes: String) {
        let Some(c) = self.state.containers.get_mut(container) else { return };
        match &mut c.stage {
            Stage::Running { ending: Some(Ending::Killed { stuck, .. }), .. }
            | Stage::Clearing { stuck, .. } => {
                *stuck = Some(processes);
            }
            _ => {}
        }
    }

    fn released(&mut self) {
        if let PodStage::Releasing { then } = self.state.stage {
            self.state.message = None;
            self.state.stage = match then {
                Rest::Finished => PodStage::Finished,
                Rest::Gone => PodStage::Gone,
            };
        }
    }

    fn release_failed(&mut self, message: String, now: BootTime) {
        if let PodStage::Releasing { then } = self.state.stage {
            self.state.message = Some(message);
            self.state.prepare.step(now, now, Pace::PREPARE);
            let until = self.state.prepare.due(now, Pace::PREPARE);
            self.state.stage = PodStage::ReleaseBackOff { until, then };
        }
    }

    fn stop(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        match self.state.stage {
            PodStage::Preparing => self.state.stage = PodStage::StoppingEarly,
            PodStage::PrepareBackOff { .. } => self.stop_containers(now, todo),
            PodStage::Active => self.stop_containers(now, todo),
            PodStage::Releasing { .. } => self.state.stage = PodStage::Releasing { then: Rest::Gone },
            PodStage::ReleaseBackOff { until, .. } => {
                self.state.stage = PodStage::ReleaseBackOff { until, then: Rest::Gone };
            }
            PodStage::Finished => {
                self.state.stage = PodStage::Releasing { then: Rest::Gone };
                todo.push(Command::Release);
            }
            PodStage::StoppingEarly | PodStage::Stopping | PodStage::Gone => {}
        }
    }

    fn stop_containers(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        self.state.stage = PodStage::Stopping;
        let grace = self.pod.termination_grace;
        for (index, container) in self.state.containers.iter_mut().enumerate() {
            match container.stage {
                Stage::Running { .. } => stop_running(index, container, grace, now, todo),
                Stage::Starting | Stage::Clearing { .. } | Stage::Ended => {}
                _ => container.stage = Stage::Ended,
            }
        }
    }

    /// Carries out what is due by now.
    fn pass_time(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        match self.state.stage {
            PodStage::PrepareBackOff { until } if until <= now => {
                self.state.stage = PodStage::Preparing;
                todo.push(Command::Prepare);
            }
            PodStage::ReleaseBackOff { until, then } if until <= now => {
                self.state.stage = PodStage::Releasing { then };
                todo.push(Command::Release);
            }
            PodStage::Active | PodStage::Stopping => self.pass_container_time(now, todo),
            _ => {}
        }
    }

    fn pass_container_time(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        let pace = self.pace();
        for (container, c) in self.state.containers.iter_mut().enumerate() {
            if c.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            match &mut c.stage {
                Stage::ImageBackOff { .. } | Stage::CreateBackOff { .. } => {
                    c.stage = Stage::Finding;
                    todo.push(Command::FindImage { container });
                }
                Stage::CrashBackOff { .. } => {
                    c.restart(now, pace);
                    todo.push(Command::FindImage { container });
                }
                Stage::Running { ending, .. } => match ending {
                    Some(Ending::Signalled { .. }) => kill(container, ending, now, todo),
                    Some(Ending::Killed { diagnose_at, .. }) => {
                        *diagnose_at = now + STUCK_AGAIN;
                        todo.push(Command::Diagnose { container });
                    }
                    None => {}
                },
                Stage::Clearing { diagnose_at, .. } => {
                    *diagnose_at = now + STUCK_AGAIN;
                    todo.push(Command::Diagnose { container });
                }
                _ => {}
            }
        }
    }

    /// Lets the next container have its turn: in the order of the spec, each after the one before it was tried.
    fn start_waiting(&mut self, todo: &mut Vec<Command>) {
        if self.state.stage != PodStage::Active {
            return;
        }
        let Some(container) = self.state.containers.iter().position(|c| !c.tried) else { return };
        let c = &mut self.state.containers[container];
        if c.stage == Stage::Waiting {
            c.stage = Stage::Finding;
            todo.push(Command::FindImage { container });
        }
    }

    /// When every container has ended for good, what the Pod holds is released.
    fn settle(&mut self, todo: &mut Vec<Command>) {
        let then = match self.state.stage {
            PodStage::Active => Rest::Finished,
            PodStage::Stopping => Rest::Gone,
            _ => return,
        };
        if self.state.containers.iter().all(|c| c.stage == Stage::Ended) {
            self.state.stage = PodStage::Releasing { then };
            todo.push(Command::Release);
        }
    }

    fn container_in(&mut self, index: Index, fits: impl Fn(&Stage) -> bool) -> Option<&mut Container> {
        self.state.containers.get_mut(index).filter(|c| fits(&c.stage))
    }

    /// The Pod's status as it stands.
    pub fn status(&self) -> PodStatus {
        let specs = self.pod.containers.iter();
        let phases = self.state.containers.iter().zip(specs).map(|(c, spec)| c.phase(spec.restart.policy));
        let statuses = self.pod.containers.iter().zip(&self.state.containers);
        let pace = self.pace();
        PodStatus {
            phase: phase(phases),
            terminating: self.is_terminating(),
            message: self.message(),
            started_at: self.state.started_at,
            containers: statuses
                .map(|(spec, c)| ContainerStatus {
                    name: spec.name.clone(),
                    state: c.state(&spec.name, pace),
                    last: c.last_state().cloned(),
                    restart_count: c.restarts,
                    image_id: c.image_id.clone(),
                    pid: c.pid(),
                })
                .collect(),
        }
    }

    /// Nobody wants the Pod any more: it is ending, or gone.
    pub fn is_terminating(&self) -> bool {
        matches!(
            self.state.stage,
            PodStage::StoppingEarly
                | PodStage::Stopping
                | PodStage::Releasing { then: Rest::Gone }
                | PodStage::ReleaseBackOff { then: Rest::Gone, .. }
                | PodStage::Gone
        )
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
        if stuck.is_empty() { self.state.message.clone() } else { Some(stuck.join("; ")) }
    }
}

/// The kubelet's rules (`KP:getPhase`): pending while one has never run, running while one runs or will run again.
fn phase(containers: impl Iterator<Item = Option<Phase>>) -> Phase {
    let mut all = Phase::Succeeded;
    for one in containers {
        match one {
            None => return Phase::Pending,
            Some(Phase::Running | Phase::Pending) => all = Phase::Running,
            Some(Phase::Failed) if all == Phase::Succeeded => all = Phase::Failed,
            Some(_) => {}
        }
    }
    all
}

/// Sends the stop signal, or SIGKILL where the grace period is zero.
fn stop_running(
    container: Index,
    c: &mut Container,
    grace: Duration,
    now: BootTime,
    todo: &mut Vec<Command>,
) {
    let Stage::Running { ending, .. } = &mut c.stage else { return };
    if ending.is_some() {
        return;
    }
    if grace.is_zero() {
        kill(container, ending, now, todo);
    } else {
        *ending = Some(Ending::Signalled { kill_at: now + grace });
        todo.push(Command::Signal { container });
    }
}

fn kill(container: Index, ending: &mut Option<Ending>, now: BootTime, todo: &mut Vec<Command>) {
    *ending = Some(Ending::Killed { diagnose_at: now + STUCK_AFTER, stuck: None });
    todo.push(Command::Kill { container });
}

#[cfg(test)]
mod tests;
