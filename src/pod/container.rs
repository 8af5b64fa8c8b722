//! One container's part of a Pod's machine: from waiting for its turn to its last end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::{BackOff, Pace};
use super::event::{Exit, ImageProblem, StartFailure};
use super::probe::Probing;
use super::run::{Ending, Fault, Run, STUCK_AFTER};
use super::status::{ContainerState, Termination};
use super::{BootTime, Phase};
use crate::manifest::pod::{RestartAction, RestartPolicy, Role};
use crate::manifest::{Container as Spec, Pod};

/// signal(7): the same on every machine.
const SIGKILL: u8 = 9;

/// Where a container stands. Each stage holds what only that stage knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Nothing has been asked for yet.
    Waiting,
    /// Its image is being looked for.
    Finding,
    /// Its image was not there.
    ImageBackOff {
        until: BootTime,
        failed_at: BootTime,
        problem: ImageProblem,
        message: String,
    },
    /// It could not even be created.
    CreateBackOff {
        until: BootTime,
        failed_at: BootTime,
        failure: StartFailure,
        message: String,
    },
    /// Its image is there; others have to come before it.
    Ready,
    /// Its process is being made.
    Starting,
    Running(Run),
    /// Its first process has ended; the rest of its cgroup is being ended and cleared away.
    Clearing {
        end: Termination,
        diagnose_at: BootTime,
        stuck: Option<String>,
    },
    /// It ended, and will be started again.
    CrashBackOff {
        until: BootTime,
    },
    /// It will not run again.
    Ended,
}

/// What follows the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// The container runs again.
    Again,
    /// The whole Pod starts again.
    RestartAll,
}

/// A container's stage and what is remembered over its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Container {
    pub stage: Stage,
    /// How often it has been started again: counted up as soon as its next run is decided.
    pub restarts: u32,
    /// The number of its latest run that began, on this boot or an earlier one; `None` if it never ran.
    pub latest_run: Option<u32>,
    /// The end of its latest run that ended.
    pub last: Option<Termination>,
    /// The end of the run before that one.
    pub before_last: Option<Termination>,
    pub image_id: Option<String>,
    /// What it waited in before it was tried again, until something comes of that: who asks meanwhile is told what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried_after: Option<Box<Stage>>,
    /// Why the kernel is ending its current run, where something else than the run itself is the reason.
    #[serde(default)]
    doom: Option<String>,
    /// Containers behind it need not wait for it any more: an init container has succeeded, a sidecar has started, any other
    /// has been tried (which it was called before there were others).
    #[serde(alias = "tried")]
    pub passed: bool,
    crash: BackOff,
    image: BackOff,
    image_failures: u32,
    create: BackOff,
}

impl Container {
    /// A container whose latest run was this one, on an earlier boot of the machine; `None` if it never ran.
    pub fn new(latest_run: Option<u32>) -> Self {
        Self {
            stage: Stage::Waiting,
            restarts: latest_run.map_or(0, |run| run.saturating_add(1)),
            latest_run,
            last: None,
            before_last: None,
            image_id: None,
            tried_after: None,
            doom: None,
            passed: false,
            crash: BackOff::default(),
            image: BackOff::default(),
            image_failures: 0,
            create: BackOff::default(),
        }
    }

    /// When time alone will change its stage.
    pub fn deadline(&self) -> Option<BootTime> {
        match &self.stage {
            Stage::ImageBackOff { until, .. }
            | Stage::CreateBackOff { until, .. }
            | Stage::CrashBackOff { until } => Some(*until),
            Stage::Running(run) => run.deadline(),
            Stage::Clearing { diagnose_at, .. } => Some(*diagnose_at),
            Stage::Waiting | Stage::Finding | Stage::Ready | Stage::Starting | Stage::Ended => None,
        }
    }

    pub fn image_ready(&mut self, image_id: String) {
        self.image_id = Some(image_id);
        self.image_failures = 0;
        self.image = BackOff::default();
        self.stage = Stage::Ready;
    }

    pub fn image_missing(&mut self, problem: ImageProblem, message: String, now: BootTime) {
        self.image_failures = self.image_failures.saturating_add(1);
        // The kubelet's first retry of a pull waits as well: one step ahead of `due`.
        self.image.step(now, now, Pace::IMAGE);
        let until = self.image.due(now, Pace::IMAGE);
        self.stage = Stage::ImageBackOff { until, failed_at: now, problem, message };
        self.tried_after = None;
    }

    /// The start failed before there was a process.
    pub fn create_failed(&mut self, failure: StartFailure, message: String, now: BootTime) {
        self.create.step(now, now, Pace::CRASH_LOOP);
        let until = self.create.due(now, Pace::CRASH_LOOP);
        self.stage = Stage::CreateBackOff { until, failed_at: now, failure, message };
        self.tried_after = None;
    }

    /// What it lacked for a start may be there now; says whether it lacked something.
    pub fn try_again_configured(&mut self) -> bool {
        let lacks = matches!(self.stage, Stage::CreateBackOff { failure: StartFailure::Config, .. });
        if lacks {
            self.try_again();
        }
        lacks
    }

    /// Begins anew with its image, after something was missing or has failed.
    pub fn try_again(&mut self) {
        self.tried_after = Some(Box::new(std::mem::replace(&mut self.stage, Stage::Finding)));
    }

    pub fn started(&mut self, spec: &Spec, pid: u32, now: BootTime) {
        self.latest_run = Some(self.restarts);
        self.create = BackOff::default();
        self.tried_after = None;
        let post_start = spec.lifecycle.post_start.is_some();
        let probing = Probing::begin(&spec.probes, now);
        self.stage = Stage::Running(Run { pid, since: now, post_start, probing, ending: None, fault: None });
    }

    pub fn run(&self) -> Option<&Run> {
        match &self.stage {
            Stage::Running(run) => Some(run),
            _ => None,
        }
    }

    pub fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.stage {
            Stage::Running(run) => Some(run),
            _ => None,
        }
    }

    /// It runs, its postStart hook is done, and its startup probe has succeeded.
    pub fn has_started(&self, spec: &Spec) -> bool {
        self.run().is_some_and(|run| !run.post_start && run.probing.has_started(&spec.probes))
    }

    pub fn is_ready(&self, spec: &Spec) -> bool {
        self.has_started(spec) && self.run().is_some_and(|run| run.probing.is_ready(&spec.probes))
    }

    /// Something of it is on the machine, or is being made.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Running(_) | Stage::Clearing { .. })
    }

    /// Lets those behind it pass, if there is nothing any more that they have to wait for. Once passed, for good.
    pub fn note_passed(&mut self, spec: &Spec) {
        let started = || {
            self.run().is_some_and(|run| {
                !run.post_start && (spec.role == Role::Main || run.probing.has_started(&spec.probes))
            })
        };
        self.passed |= match spec.role {
            Role::Init => {
                self.stage == Stage::Ended && self.last.as_ref().is_some_and(Termination::succeeded)
            }
            Role::Sidecar => started() && self.run().is_some_and(|run| run.fault.is_none()),
            Role::Main => match self.stage {
                Stage::Waiting | Stage::Finding | Stage::Ready | Stage::Starting => false,
                Stage::Running(_) => started(),
                _ => true,
            },
        };
    }

    /// The whole Pod starts again, and it has ended for that.
    pub fn start_over(&mut self) {
        if self.latest_run == Some(self.restarts) {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.passed = false;
        self.stage = Stage::Waiting;
    }

    /// What runs now ends for this reason, as soon as the kernel gets to it. What is only being started may be a new run
    /// already, which that does not concern.
    pub fn will_end_for(&mut self, reason: &str) {
        if matches!(self.stage, Stage::Running(_)) {
            self.doom = Some(reason.to_owned());
        }
    }

    /// Whether a process of this run is more than was known when the state was saved.
    pub fn missed(&self, attempt: u32) -> bool {
        match self.stage {
            // It was ended before it ran, for all to start over.
            Stage::Ended if self.latest_run != Some(self.restarts) => attempt >= self.restarts,
            Stage::Running(_) | Stage::Clearing { .. } | Stage::CrashBackOff { .. } | Stage::Ended => {
                attempt > self.restarts
            }
            _ => attempt >= self.restarts,
        }
    }

    /// A run that was begun after the state was saved goes on: what was missed before it is made up for.
    pub fn adopted(&mut self, spec: &Spec, attempt: u32, pid: u32, now: BootTime, pace: Pace) {
        if attempt > self.restarts {
            self.end_unseen(now);
            if let Some(last) = &self.last {
                self.crash.step(last.finished_at, now, pace);
            }
            self.restarts = attempt;
        }
        self.started(spec, pid, now);
    }

    /// The saved run must have begun and ended, for a later one exists; how is known only if it was being cleared.
    pub fn end_unseen(&mut self, now: BootTime) {
        let started_at = match &self.stage {
            Stage::Clearing { end, .. } => {
                self.before_last = self.last.replace(end.clone());
                return;
            }
            Stage::CrashBackOff { .. } | Stage::Ended => return,
            Stage::Running(run) => Some(run.since),
            _ => None,
        };
        let end = Termination {
            exit: Exit::Unknown,
            oom_killed: false,
            unhealthy: false,
            for_restart: false,
            start_error: None,
            cause: self.doom.take(),
            last_words: None,
            started_at,
            finished_at: now,
        };
        self.before_last = self.last.replace(end);
    }

    /// Its run is over, but for what is left in its cgroup.
    pub fn ended(&mut self, role: Role, exit: Exit, start_error: Option<String>, now: BootTime) {
        self.latest_run = Some(self.restarts);
        // Nobody saw it end; but what stands behind it runs.
        let exit =
            if role == Role::Init && self.passed && exit == Exit::Unknown { Exit::Code(0) } else { exit };
        let started_at = self.run().map(|run| run.since);
        // It may have ended by itself just before.
        let is_killed = matches!(exit, Exit::Signal(SIGKILL) | Exit::Unknown);
        let doom = self.doom.take().filter(|_| is_killed);
        let fault = self.run_mut().and_then(|run| run.fault.take());
        let unhealthy = matches!(fault, Some(Fault::Unhealthy(..)));
        let for_restart = is_killed && matches!(fault, Some(Fault::RestartAll(_)));
        let fault = fault.map(|(Fault::Unhealthy(_, why) | Fault::RestartAll(why) | Fault::Other(why))| why);
        let cause = fault.or(doom);
        let end = Termination {
            exit,
            oom_killed: false,
            unhealthy,
            for_restart,
            start_error,
            cause,
            last_words: None,
            started_at,
            finished_at: now,
        };
        self.stage = Stage::Clearing { end, diagnose_at: now + STUCK_AFTER, stuck: None };
    }

    /// Nothing is left of its run: on to the next one, or to the end.
    pub fn cleared(&mut self, end: Termination, again: bool, pace: Pace) {
        let finished_at = end.finished_at;
        self.before_last = self.last.replace(end);
        self.stage = if again {
            Stage::CrashBackOff { until: self.crash.due(finished_at, pace) }
        } else {
            Stage::Ended
        };
    }

    /// The back-off after a run is over: its next run begins with a look at its image.
    pub fn restart(&mut self, now: BootTime, pace: Pace) {
        if let Some(last) = &self.last {
            self.crash.step(last.finished_at, now, pace);
        }
        self.restarts = self.restarts.saturating_add(1);
        self.stage = Stage::Finding;
    }

    /// When the back-off of the run that ended last is over; from now on the next one waits longer.
    pub fn step_back_off(&mut self, now: BootTime, pace: Pace) -> BootTime {
        let Some(last) = &self.last else { return now };
        let due = self.crash.due(last.finished_at, pace);
        self.crash.step(last.finished_at, now, pace);
        due
    }

    /// What the manifest asks for after this end (`pkg/api/v1/pod/util.go:ContainerShouldRestart`).
    pub fn after(spec: &Spec, end: &Termination) -> After {
        let again = |again: bool| if again { After::Again } else { After::Nothing };
        let is_done = spec.role == Role::Init && end.succeeded();
        // What a probe ends is ruled by the policy alone.
        match spec.restart.rule_for(end.exit.code()).filter(|_| !end.unhealthy) {
            Some(RestartAction::RestartAll) => return After::RestartAll,
            Some(RestartAction::Restart) => return again(!is_done),
            None => {}
        }
        match spec.restart.policy {
            RestartPolicy::Always => again(!is_done),
            RestartPolicy::OnFailure => again(end.unhealthy || !end.succeeded()),
            RestartPolicy::Never => After::Nothing,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.run().map(|run| run.pid)
    }

    /// Why its image could not be had, while that is waited for.
    pub fn missing_image(&self) -> Option<&str> {
        match &self.stage {
            Stage::ImageBackOff { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Processes that SIGKILL has not ended, in words.
    pub fn stuck(&self) -> Option<&str> {
        match &self.stage {
            Stage::Running(Run { ending: Some(Ending::Killed { stuck, .. }), .. })
            | Stage::Clearing { stuck, .. } => stuck.as_deref(),
            _ => None,
        }
    }

    /// How this container counts for the Pod's phase; `None` while it has neither run nor ended.
    pub fn phase(&self, spec: &Spec) -> Option<Phase> {
        match &self.stage {
            Stage::Running(_) => Some(Phase::Running),
            Stage::Clearing { end, .. } if Self::after(spec, end) != After::Nothing => Some(Phase::Running),
            Stage::Clearing { end, .. } => Some(Self::final_phase(end)),
            Stage::Ended => self.last.as_ref().map(Self::final_phase),
            _ => self.last.as_ref().map(|_| Phase::Running),
        }
    }

    fn final_phase(end: &Termination) -> Phase {
        if end.succeeded() { Phase::Succeeded } else { Phase::Failed }
    }

    /// The container's state in the words of Kubernetes (reference §5).
    /// `creating` is what it waits for where nothing is wrong.
    pub fn state(&self, spec: &Spec, pod: &Pod, creating: &'static str, pace: Pace) -> ContainerState {
        let waiting = |reason, message| ContainerState::Waiting { reason, message };
        let stage = match &self.stage {
            Stage::Finding | Stage::Ready | Stage::Starting => self.tried_after.as_deref(),
            _ => None,
        };
        match stage.unwrap_or(&self.stage) {
            Stage::Waiting | Stage::Finding | Stage::Ready | Stage::Starting => waiting(creating, None),
            Stage::ImageBackOff { problem, message, .. } => {
                waiting(self.image_reason(*problem), Some(message.clone()))
            }
            Stage::CreateBackOff { failure, message, .. } => {
                waiting(create_reason(*failure), Some(message.clone()))
            }
            Stage::Running(run) => ContainerState::Running { started_at: run.since },
            Stage::Clearing { end, .. } => ContainerState::Terminated(end.clone()),
            Stage::CrashBackOff { until } => match &self.last {
                Some(last) if *until > last.finished_at => {
                    waiting("CrashLoopBackOff", Some(self.crash_message(spec, pod, pace)))
                }
                _ => waiting(creating, None),
            },
            Stage::Ended => match &self.last {
                Some(last) => ContainerState::Terminated(last.clone()),
                None => waiting(creating, None),
            },
        }
    }

    /// What `lastState` shows beside [`Container::state`]: never the same end twice.
    pub fn last_state(&self) -> Option<&Termination> {
        match self.stage {
            Stage::Ended => self.before_last.as_ref(),
            _ => self.last.as_ref(),
        }
    }

    fn image_reason(&self, problem: ImageProblem) -> &'static str {
        match problem {
            ImageProblem::Missing if self.image_failures > 1 => "ImagePullBackOff",
            ImageProblem::Missing => "ErrImagePull",
            ImageProblem::NeverPull => "ErrImageNeverPull",
            ImageProblem::InvalidName => "InvalidImageName",
            ImageProblem::Unreadable => "ImageInspectError",
        }
    }

    /// In the kubelet's words, with a duration as Go writes it.
    fn crash_message(&self, spec: &Spec, pod: &Pod, pace: Pace) -> String {
        let delay = match &self.last {
            Some(last) => self.crash.due(last.finished_at, pace) - last.finished_at,
            None => Duration::ZERO,
        };
        let delay = match delay.as_secs() {
            seconds @ 0..60 => format!("{seconds}s"),
            seconds => format!("{}m{}s", seconds / 60, seconds % 60),
        };
        let (name, id, uid) = (&spec.name, &pod.id, &pod.uid);
        format!("back-off {delay} restarting failed container={name} pod={}_{}({uid})", id.name, id.namespace)
    }
}

fn create_reason(failure: StartFailure) -> &'static str {
    match failure {
        StartFailure::Config => "CreateContainerConfigError",
        StartFailure::Create | StartFailure::Exec => "CreateContainerError",
    }
}
