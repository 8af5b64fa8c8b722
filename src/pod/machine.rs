//! The state machine of one Pod: what happened goes in, what is to be done comes out.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BootTime;
use super::backoff::{BackOff, Pace};
use super::container::{After, Container, Stage};
use super::event::{Command, Event, Exit, Hook, Index, Outcome, ProbeKind, StartFailure};
use super::probe;
use super::run::{Ending, Fault, Place, Run};
use super::status::Termination;
use failure::Failure;
pub use rehearsal::Rehearsal;

use crate::manifest::Pod;
use crate::manifest::pod::{RestartPolicy, Role};

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
    /// A new worker tells what it finds. Until it has told all, up to the first tick, nothing is concluded from the rest.
    adopting: bool,
}

/// All that a machine remembers: saved after every step, so that a new worker goes on where the last one was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    stage: PodStage,
    started_at: BootTime,
    /// In the order of the Pod's containers.
    containers: Vec<Container>,
    message: Option<String>,
    #[serde(default)]
    failure: Option<Failure>,
    prepare: BackOff,
    #[serde(default)]
    conditions: status::Held,
    /// All its times are of an earlier boot, in which the wall clock said this at zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_wall: Option<Wall>,
    /// Of the ConfigMaps and Secrets that the containers were started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

/// A time of day: nanoseconds since 1970.
pub type Wall = u64;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum PodStage {
    /// The new version of a Pod that runs: whether it could be prepared is being found out, and nothing is changed for it.
    Rehearsing,
    /// It could not.
    RehearsalBackOff {
        until: BootTime,
    },
    /// It could: its images are being found. With all of them it waits until its predecessor is gone.
    Rehearsed,
    Preparing,
    PrepareBackOff {
        until: BootTime,
    },
    Active,
    /// A container's end asked for the restart of all, or they are due another environment: they are being ended, and start over
    /// then, not before `until`.
    Restarting {
        until: BootTime,
    },
    /// Asked to end while it was being prepared: what was made must be known before it can be released.
    StoppingEarly {
        then: Rest,
        kill_at: BootTime,
    },
    /// Every process is killed then, if it has not ended.
    Stopping {
        then: Rest,
        kill_at: BootTime,
    },
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

/// What the last words of a Pod's containers may take together, in equal shares
/// (`pkg/kubelet/container/runtime.go:MaxPodTerminationMessageLogLength`). Bytes.
const MAX_WORDS_OF_POD: usize = 12 << 10;

/// What must be known of a Pod after the machine was restarted: everything else starts afresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    /// By container, in the Pod's order: the number of its latest run that began; `None` if it never ran.
    pub restarts: Vec<Option<u32>>,
    /// The Pod had run to its end: its final state.
    pub finished: Option<State>,
}

impl Survival {
    /// For another boot, which cannot tell from its own clock when this one's times were. `boot_wall`: what the wall clock said when
    /// this machine was started.
    pub fn dated(mut self, boot_wall: Wall) -> Survival {
        if let Some(state) = &mut self.finished {
            state.boot_wall.get_or_insert(boot_wall);
        }
        self
    }

    /// Whether both say the same, whatever the wall clock said.
    pub fn is_same(&self, other: &Survival) -> bool {
        let undated = |survival: &Survival| Survival {
            restarts: survival.restarts.clone(),
            finished: survival.finished.clone().map(|state| State { boot_wall: None, ..state }),
        };
        undated(self) == undated(other)
    }
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
            failure: None,
            prepare: BackOff::default(),
            conditions: status::Held::none(now),
            boot_wall: None,
            fingerprint: None,
        };
        let mut machine = Self { pod, settings, state, adopting: false };
        machine.note_conditions(now);
        machine
    }

    /// A Pod that shall take the place of one that runs, if it can: it waits for [`Event::Proceed`] when it is
    /// [rehearsed](Self::rehearsal).
    pub fn rehearsing(pod: Arc<Pod>, settings: Settings, now: BootTime) -> Self {
        let mut machine = Self::new(pod, settings, now);
        machine.state.stage = PodStage::Rehearsing;
        machine
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
    pub fn resume(pod: Arc<Pod>, state: State, settings: Settings, now: BootTime) -> Option<Self> {
        if state.containers.len() != pod.containers.len() {
            return None;
        }
        let mut machine = Self { pod, settings, state, adopting: true };
        machine.spread_probes(now);
        Some(machine)
    }

    /// A thousand Pods' probes that came due while nobody was there do not all come at once.
    fn spread_probes(&mut self, now: BootTime) {
        let of_pod = u64::from_str_radix(&self.pod.uid.as_str()[..16], 16).unwrap_or(0);
        for (index, (c, spec)) in self.state.containers.iter_mut().zip(&self.pod.containers).enumerate() {
            if let Some(run) = c.run_mut() {
                run.probing.spread(&spec.probes, of_pod.wrapping_add(4 * index as u64), now);
            }
        }
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

    /// Whether a container of it ran, on this boot or an earlier one.
    pub fn has_run(&self) -> bool {
        self.state.containers.iter().any(|c| c.latest_run.is_some())
    }

    /// The containers that have a process, or whose process is being made, with their PID where it is known.
    pub fn alive(&self) -> impl Iterator<Item = (Index, Option<u32>)> {
        self.state.containers.iter().enumerate().filter_map(|(index, container)| match container.stage {
            Stage::Running(ref run) => Some((index, Some(run.pid))),
            Stage::Starting => Some((index, None)),
            _ => None,
        })
    }

    /// The containers that [`Event::ImageArrived`] means something to.
    pub fn without_image(&self) -> impl Iterator<Item = Index> {
        let waits = |c: &Container| matches!(c.stage, Stage::ImageBackOff { .. });
        self.state.containers.iter().enumerate().filter(move |(_, c)| waits(c)).map(|(index, _)| index)
    }

    /// Whether [`Event::PrepareAgain`] means something to it.
    pub fn waits_to_be_prepared(&self) -> bool {
        matches!(self.state.stage, PodStage::PrepareBackOff { .. } | PodStage::RehearsalBackOff { .. })
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

    /// Whether `survival` is [that](Self::survival).
    pub fn survives_as(&self, survival: &Survival) -> bool {
        let restarts = self.state.containers.iter().map(|c| c.latest_run);
        let finished = self.is_finished().then_some(&self.state);
        restarts.eq(survival.restarts.iter().copied()) && finished == survival.finished.as_ref()
    }

    /// The commands that were under way when this state was saved. They can be carried out twice without harm.
    pub fn begin(&self) -> Vec<Command> {
        match self.state.stage {
            PodStage::Rehearsing => vec![Command::Rehearse],
            PodStage::Preparing | PodStage::StoppingEarly { .. } => vec![Command::Prepare],
            PodStage::Releasing { .. } => vec![Command::Release],
            PodStage::Rehearsed
            | PodStage::Active
            | PodStage::Restarting { .. }
            | PodStage::Stopping { .. } => self.containers_under_way(),
            PodStage::RehearsalBackOff { .. }
            | PodStage::PrepareBackOff { .. }
            | PodStage::ReleaseBackOff { .. }
            | PodStage::Finished
            | PodStage::Gone => Vec::new(),
        }
    }

    fn containers_under_way(&self) -> Vec<Command> {
        let command = |(container, c): (Index, &Container)| {
            let attempt = c.restarts;
            match &c.stage {
                Stage::Finding => Some(Command::FindImage { container }),
                Stage::Starting => Some(Command::Start { container, attempt }),
                Stage::Running(run) => match (&run.ending, run.hook()) {
                    (Some(Ending::Killed { .. }), _) => Some(Command::Kill { container }),
                    (_, Some(hook)) => Some(Command::RunHook { container, attempt, hook }),
                    _ => None,
                },
                Stage::Clearing { .. } => Some(Command::Clear { container }),
                _ => None,
            }
        };
        self.state.containers.iter().enumerate().filter_map(command).collect()
    }

    /// Whether nothing of an outcome but when the probe is due again has to be known to a new worker, which makes up its own mind
    /// on that. To be asked before it is taken in, for [`is_routine`].
    pub fn is_old_news(&self, event: &Event) -> bool {
        let Event::ProbeResult { container, probe, outcome, .. } = event else { return false };
        let run = self.state.containers.get(*container).and_then(Container::run);
        run.is_some_and(|run| run.probing.is_old_news(*probe, outcome))
    }

    /// The next moment at which time alone changes something: [`Event::Tick`] is due then.
    pub fn deadline(&self) -> Option<BootTime> {
        let of_containers = || self.state.containers.iter().filter_map(Container::deadline).min();
        let of_stage = match self.state.stage {
            PodStage::RehearsalBackOff { until }
            | PodStage::PrepareBackOff { until }
            | PodStage::ReleaseBackOff { until, .. } => Some(until),
            PodStage::Rehearsed | PodStage::Active | PodStage::Stopping { .. } => of_containers(),
            PodStage::Restarting { until } if self.nothing_is_alive() => Some(until),
            PodStage::Restarting { .. } => of_containers(),
            _ => None,
        };
        of_stage.into_iter().chain(self.active_deadline()).min()
    }

    /// Takes in what happened at `now` and says what is to be done, in this order.
    ///
    /// An event that does not fit the state it meets is old news (an exit that was told twice, say) and changes nothing.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Command> {
        let mut todo = Vec::new();
        self.adopting &= event != Event::Tick;
        self.take_in(event, now, &mut todo);
        self.note_passed();
        if !self.adopting {
            self.conclude(now, &mut todo);
            self.pass_time(now, &mut todo);
            self.conclude(now, &mut todo);
            self.start(&mut todo);
            self.go_on_ending(now, &mut todo);
            self.probe(now, &mut todo);
        }
        self.note_conditions(now);
        todo
    }

    fn take_in(&mut self, event: Event, now: BootTime, todo: &mut Vec<Command>) {
        match event {
            Event::Rehearsed => self.rehearsed(),
            Event::RehearsalFailed { message } => self.rehearsal_failed(message, now),
            Event::Proceed => self.proceed(now, todo),
            Event::Prepared => self.prepared(now, todo),
            Event::PrepareFailed { message, .. } => self.prepare_failed(message, now, todo),
            Event::PrepareAgain => self.prepare_again(now),
            Event::ImageReady { container, image_id } => {
                if let Some(c) = self.container_in(container, |s| matches!(s, Stage::Finding)) {
                    c.image_ready(image_id);
                }
            }
            Event::ImageMissing { container, problem, message } => {
                if let Some(c) = self.container_in(container, |s| matches!(s, Stage::Finding)) {
                    c.image_missing(problem, message, now);
                }
            }
            Event::ImageArrived { container } => self.image_arrived(container, todo),
            Event::ObjectsChanged { fingerprint } => self.objects_changed(fingerprint, now, todo),
            Event::Started { container, pid } => self.started(container, pid, now, todo),
            Event::Adopted { container, attempt, pid } => self.adopted(container, attempt, pid, now, todo),
            Event::StartFailed { container, failure, message } => {
                self.start_failed(container, failure, message, now, todo);
            }
            Event::Exited { container, exit } => {
                let alive = |s: &Stage| matches!(s, Stage::Running(_) | Stage::Starting);
                if self.container_in(container, alive).is_some() {
                    self.ended(container, exit, None, now, todo);
                }
            }
            Event::PauseEnded { message } => self.pause_ended(&message),
            Event::Cleared { container } => self.cleared(container, now),
            Event::Stuck { container, processes } => self.stuck(container, processes),
            Event::HookEnded { container, attempt, hook, error } => {
                self.hook_ended(container, attempt, hook, error, now, todo);
            }
            Event::ProbeResult { container, attempt, probe, outcome } => {
                self.probe_result(container, attempt, probe, &outcome, now, todo);
            }
            Event::Released => self.released(),
            Event::ReleaseFailed { message } => self.release_failed(message, now),
            Event::StorageExceeded { message } => self.storage_exceeded(message, now, todo),
            Event::Stop { within } => self.stop(within, now, todo),
            Event::Tick => {}
        }
    }

    fn prepared(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        match self.state.stage {
            PodStage::Preparing => {
                self.state.stage = PodStage::Active;
                self.state.message = None;
            }
            PodStage::StoppingEarly { then, kill_at } => self.stop_containers(then, kill_at, now, todo),
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
            PodStage::StoppingEarly { then, kill_at } => self.stop_containers(then, kill_at, now, todo),
            _ => {}
        }
    }

    fn prepare_again(&mut self, now: BootTime) {
        if let PodStage::PrepareBackOff { until } | PodStage::RehearsalBackOff { until } =
            &mut self.state.stage
        {
            *until = now;
        }
    }

    fn image_arrived(&mut self, container: Index, todo: &mut Vec<Command>) {
        if !matches!(self.state.stage, PodStage::Rehearsed | PodStage::Active) {
            return;
        }
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::ImageBackOff { .. })) else {
            return;
        };
        c.try_again();
        todo.push(Command::FindImage { container });
    }

    fn started(&mut self, container: Index, pid: u32, now: BootTime, todo: &mut Vec<Command>) {
        let pod = Arc::clone(&self.pod);
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::Starting)) else { return };
        c.started(&pod.containers[container], pid, now);
        self.begin_run(container, now, todo);
    }

    /// Its hook runs first, or its end if nobody wants it any more.
    fn begin_run(&mut self, container: Index, now: BootTime, todo: &mut Vec<Command>) {
        let attempt = self.attempt(container);
        let stage = self.state.stage;
        let spec = &self.pod.containers[container];
        let Some(run) = self.state.containers[container].run_mut() else { return };
        let place = Place { container, attempt };
        let pre_stop = spec.lifecycle.pre_stop.is_some();
        match stage {
            PodStage::Stopping { kill_at, .. } => run.end(place, pre_stop, kill_at, now, todo),
            PodStage::Restarting { .. } => run.kill(container, now, todo),
            _ if run.post_start => {
                todo.push(Command::RunHook { container, attempt, hook: Hook::PostStart });
            }
            _ => {}
        }
    }

    fn adopted(&mut self, container: Index, attempt: u32, pid: u32, now: BootTime, todo: &mut Vec<Command>) {
        let (pod, pace) = (Arc::clone(&self.pod), self.pace());
        let Some(c) = self.state.containers.get(container).filter(|c| c.missed(attempt)) else { return };
        let is_next = attempt > c.restarts || c.stage == Stage::Ended;
        if matches!(self.state.stage, PodStage::Restarting { .. }) && is_next {
            self.missed_restart_of_all(now);
        }
        self.state.containers[container].adopted(&pod.containers[container], attempt, pid, now, pace);
        // It would not have been started otherwise.
        for (c, spec) in self.state.containers.iter_mut().zip(&pod.containers).take(container) {
            c.passed = true;
            if spec.role == Role::Init && !c.is_alive() {
                c.stage = Stage::Ended;
            }
        }
        self.begin_run(container, now, todo);
    }

    fn start_failed(
        &mut self,
        container: Index,
        failure: StartFailure,
        message: String,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let stage = self.state.stage;
        let Some(c) = self.container_in(container, |s| matches!(s, Stage::Starting)) else { return };
        match (failure, stage) {
            // containerd reports a failed exec as exit code 128.
            (StartFailure::Exec, _) => self.ended(container, Exit::Code(128), Some(message), now, todo),
            (_, PodStage::Stopping { .. } | PodStage::Restarting { .. }) => c.stage = Stage::Ended,
            _ => c.create_failed(failure, message, now),
        }
    }

    fn ended(
        &mut self,
        container: Index,
        exit: Exit,
        start_error: Option<String>,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let role = self.pod.containers[container].role;
        self.state.containers[container].ended(role, exit, start_error, now);
        todo.push(Command::Clear { container });
        // A Pod of which a new worker does not know that it was prepared has nothing that could start over.
        let is_active = self.state.stage == PodStage::Active;
        if is_active && self.after(container) == After::RestartAll {
            // At once, as the kubelet does.
            let why = "all containers of the Pod start again";
            self.end_all_for_restart(why, Duration::ZERO, now, todo);
        }
    }

    /// The end of a container's run that is being cleared away.
    pub fn end_of(&self, container: Index) -> Option<&Termination> {
        match &self.state.containers.get(container)?.stage {
            Stage::Clearing { end, .. } => Some(end),
            _ => None,
        }
    }

    /// What follows the end of a container whose run is being cleared away.
    fn after(&self, container: Index) -> After {
        let after = |end| Container::after(&self.pod.containers[container], end);
        self.end_of(container).map_or(After::Nothing, after)
    }

    /// Nothing is to be done: the kernel has done it, and each container's end comes by itself.
    fn pause_ended(&mut self, message: &str) {
        for c in &mut self.state.containers {
            c.will_end_for(message);
        }
    }

    /// What is known of a run's end only until it is cleared away: whether the kernel killed for want of memory, and what the run has
    /// left as its last words. To be saved before anything is cleared away.
    pub fn note_last_words(&mut self, container: Index, oom_killed: bool, message: Option<String>) {
        let share = MAX_WORDS_OF_POD / self.pod.containers.len();
        let Some(c) = self.state.containers.get_mut(container) else { return };
        let Stage::Clearing { end, .. } = &mut c.stage else { return };
        // A worker before this one may have noted it, and cleared away half.
        end.oom_killed |= oom_killed;
        if let Some(mut words) = message {
            words.truncate(words.floor_char_boundary(share));
            end.last_words = Some(words);
        }
    }

    fn cleared(&mut self, container: Index, now: BootTime) {
        let pace = self.pace();
        let after = self.after(container);
        let stage = self.state.stage;
        let Some(c) = self.state.containers.get_mut(container) else { return };
        let Stage::Clearing { end, .. } = &c.stage else { return };
        let end = end.clone();
        // An init container that was passed has succeeded, whatever a new worker could see of it.
        let is_passed = c.passed && self.pod.containers[container].role == Role::Init;
        let is_wanted = !matches!(stage, PodStage::Restarting { .. }) && !is_ending(stage);
        let again = is_wanted && after != After::Nothing && !is_passed;
        c.cleared(end, again, pace);
        if let (PodStage::Restarting { until }, After::RestartAll) = (stage, after) {
            let until = until.max(c.step_back_off(now, pace));
            self.state.stage = PodStage::Restarting { until };
        }
    }

    fn hook_ended(
        &mut self,
        container: Index,
        attempt: u32,
        hook: Hook,
        error: Option<String>,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let Some(run) = self.run_of(container, attempt) else { return };
        match (hook, error) {
            (Hook::PreStop, _) => {
                if let Some(Ending::Announced { hook, .. }) = &mut run.ending {
                    *hook = false;
                }
            }
            (Hook::PostStart, None) => run.post_start = false,
            (Hook::PostStart, Some(error)) if run.post_start => {
                run.post_start = false;
                let fault = Fault::Other(format!("PostStartHookError: {error}"));
                self.end_for(container, fault, self.pod.termination_grace, now, todo);
            }
            (Hook::PostStart, Some(_)) => {}
        }
    }

    fn probe_result(
        &mut self,
        container: Index,
        attempt: u32,
        kind: ProbeKind,
        outcome: &Outcome,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let pod = Arc::clone(&self.pod);
        let Some(run) = self.run_of(container, attempt) else { return };
        let specs = &pod.containers[container].probes;
        let is_failed = run.probing.take_in(specs, kind, outcome, run.since, now);
        if !is_failed {
            return;
        }
        let own = probe::of(specs, kind).and_then(|spec| spec.termination_grace);
        let why = match outcome {
            Outcome::Failure(why) | Outcome::Broken(why) => why.as_str(),
            Outcome::Success => "",
        };
        let fault = Fault::Unhealthy(kind, format!("its {} probe failed: {why}", kind.as_str()));
        self.end_for(container, fault, own.unwrap_or(pod.termination_grace), now, todo);
    }

    /// The probe for which a container is being ended that will run again, if one is.
    pub fn failed_probe(&self, container: Index) -> Option<ProbeKind> {
        let never = self.pod.containers.get(container)?.restart.policy == RestartPolicy::Never;
        match self.state.containers.get(container)?.run()?.fault {
            Some(Fault::Unhealthy(kind, _)) if !never => Some(kind),
            _ => None,
        }
    }

    /// Ends one container while its Pod goes on.
    fn end_for(
        &mut self,
        container: Index,
        fault: Fault,
        grace: Duration,
        now: BootTime,
        todo: &mut Vec<Command>,
    ) {
        let attempt = self.attempt(container);
        let pre_stop = self.pod.containers[container].lifecycle.pre_stop.is_some();
        let Some(run) = self.state.containers[container].run_mut() else { return };
        if run.ending.is_none() {
            run.fault = Some(fault);
            run.end(Place { container, attempt }, pre_stop, now + grace, now, todo);
        }
    }

    /// This run of a container, if it is the one that is on.
    fn run_of(&mut self, container: Index, attempt: u32) -> Option<&mut Run> {
        self.state.containers.get_mut(container).filter(|c| c.restarts == attempt)?.run_mut()
    }

    fn stuck(&mut self, container: Index, processes: String) {
        let Some(c) = self.state.containers.get_mut(container) else { return };
        match &mut c.stage {
            Stage::Running(Run { ending: Some(Ending::Killed { stuck, .. }), .. })
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

    fn stop(&mut self, within: Option<Duration>, now: BootTime, todo: &mut Vec<Command>) {
        let grace =
            within.map_or(self.pod.termination_grace, |within| within.min(self.pod.termination_grace));
        self.stop_within(grace, Rest::Gone, now, todo);
    }

    fn stop_within(&mut self, grace: Duration, then: Rest, now: BootTime, todo: &mut Vec<Command>) {
        let by = now + grace;
        match self.state.stage {
            // Nothing was made for it.
            PodStage::Rehearsing | PodStage::RehearsalBackOff { .. } | PodStage::Rehearsed => {
                self.state.stage = PodStage::Gone;
            }
            PodStage::Preparing => self.state.stage = PodStage::StoppingEarly { then, kill_at: by },
            PodStage::PrepareBackOff { .. } | PodStage::Active | PodStage::Restarting { .. } => {
                self.stop_containers(then, by, now, todo);
            }
            PodStage::StoppingEarly { kill_at, .. } => {
                self.state.stage = PodStage::StoppingEarly { then, kill_at: kill_at.min(by) };
            }
            PodStage::Stopping { kill_at, .. } => self.stop_containers(then, kill_at.min(by), now, todo),
            PodStage::Releasing { .. } => self.state.stage = PodStage::Releasing { then },
            PodStage::ReleaseBackOff { until, .. } => {
                self.state.stage = PodStage::ReleaseBackOff { until, then };
            }
            PodStage::Finished => {
                self.state.stage = PodStage::Releasing { then };
                todo.push(Command::Release);
            }
            PodStage::Gone => {}
        }
    }

    fn stop_containers(&mut self, then: Rest, kill_at: BootTime, now: BootTime, todo: &mut Vec<Command>) {
        self.state.stage = PodStage::Stopping { then, kill_at };
        for (container, (c, spec)) in self.state.containers.iter_mut().zip(&self.pod.containers).enumerate() {
            let place = Place { container, attempt: c.restarts };
            match &mut c.stage {
                Stage::Running(run) => run.end(place, spec.lifecycle.pre_stop.is_some(), kill_at, now, todo),
                Stage::Starting | Stage::Clearing { .. } => {}
                stage => *stage = Stage::Ended,
            }
        }
    }

    fn container_in(&mut self, index: Index, fits: impl Fn(&Stage) -> bool) -> Option<&mut Container> {
        self.state.containers.get_mut(index).filter(|c| fits(&c.stage))
    }

    fn nothing_is_alive(&self) -> bool {
        !self.state.containers.iter().any(Container::is_alive)
    }
}

/// Whether a step need not be saved: a thousand probes a second would else be as many files written. `is_tick` and `old_news`:
/// its event is [`Event::Tick`], or was [`Machine::is_old_news`].
pub fn is_routine(is_tick: bool, old_news: bool, commands: &[Command]) -> bool {
    let only_probes = commands.iter().all(|command| matches!(command, Command::Probe { .. }));
    // A tick that asks for nothing has changed something else: a deadline is over, say.
    only_probes && (old_news || is_tick && !commands.is_empty())
}

/// No container may start any more.
fn is_ending(stage: PodStage) -> bool {
    !matches!(
        stage,
        PodStage::Rehearsing
            | PodStage::RehearsalBackOff { .. }
            | PodStage::Rehearsed
            | PodStage::Preparing
            | PodStage::PrepareBackOff { .. }
            | PodStage::Active
            | PodStage::Restarting { .. }
    )
}

mod failure;
mod order;
mod rehearsal;
mod restart_all;
mod status;
#[cfg(test)]
mod tests;
