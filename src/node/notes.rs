//! What of a Pod's life people are told as events, in the kubelet's words.

use std::slice;

use jiff::Timestamp;

use super::pod_run::{PodNumber, PodRun};
use super::sources;
use super::worker::{Done, Worker};
use crate::events::{self, Kind, Note, Written};
use crate::pod::event::{Hook, Index};
use crate::pod::set::Problem;
use crate::pod::status::ContainerState;
use crate::pod::{Command, Event, ImageProblem, Outcome, PrepareProblem};

/// What is worth telling of something that happened.
pub fn of_event(run: &PodRun, event: &Event) -> Option<Note> {
    let of = |container: Index, kind, reason, message: String| {
        Some(Note::new(kind, reason, message).of_container(name(run, container)))
    };
    match event {
        Event::ImageReady { container, .. } => {
            let image = image(run, *container);
            let message = format!("Container image {image:?} already present on machine");
            of(*container, Kind::Normal, "Pulled", message)
        }
        Event::ImageMissing { container, problem, message } => {
            let (reason, message) = image_problem(image(run, *container), *problem, message);
            of(*container, Kind::Warning, reason, message)
        }
        Event::Started { container, .. } => {
            of(*container, Kind::Normal, "Started", format!("Started container {}", name(run, *container)))
        }
        Event::StartFailed { container, message, .. } => {
            of(*container, Kind::Warning, "Failed", format!("Error: {message}"))
        }
        Event::PrepareFailed { problem, message } => {
            let reason = match problem {
                PrepareProblem::Volume => "FailedMount",
                PrepareProblem::Other => "FailedCreatePodSandBox",
            };
            Some(Note::new(Kind::Warning, reason, message.clone()))
        }
        Event::HookEnded { container, hook, error: Some(error), .. } => {
            let (reason, which) = match hook {
                Hook::PostStart => ("FailedPostStartHook", "PostStart"),
                Hook::PreStop => ("FailedPreStopHook", "PreStop"),
            };
            of(*container, Kind::Warning, reason, format!("{which}Hook failed: {error}"))
        }
        Event::ProbeResult { container, probe, outcome: Outcome::Failure(message), .. } => {
            of(*container, Kind::Warning, "Unhealthy", format!("{} probe failed: {message}", probe.title()))
        }
        Event::ProbeResult { container, probe, outcome: Outcome::Broken(message), .. } => {
            of(*container, Kind::Warning, "Unhealthy", format!("{} probe errored: {message}", probe.title()))
        }
        Event::StorageExceeded { message } if run.machine.can_fail() => {
            Some(Note::new(Kind::Warning, "Evicted", message.clone()))
        }
        Event::ReleaseFailed { message } => Some(Note::new(Kind::Warning, "FailedKillPod", message.clone())),
        Event::Stuck { container, processes } => {
            of(*container, Kind::Warning, "FailedKillPod", format!("does not end: {processes}"))
        }
        _ => None,
    }
}

/// What is worth telling of something that is done now.
pub fn of_command(run: &PodRun, command: Command) -> Option<Note> {
    match command {
        Command::Signal { container } => {
            let name = name(run, container);
            let why = match run.machine.failed_probe(container) {
                Some(probe) => format!("Container {name} failed {} probe, will be restarted", probe.as_str()),
                None => format!("Stopping container {name}"),
            };
            Some(Note::new(Kind::Normal, "Killing", why).of_container(name))
        }
        _ => None,
    }
}

/// Containers that wait because they ended too often.
pub fn of_backoff(run: &PodRun) -> Vec<Note> {
    let pod = run.pod();
    let waits = |state: &ContainerState| matches!(state, ContainerState::Waiting { reason, .. } if *reason == "CrashLoopBackOff");
    let status = run.machine.status();
    let waiting = status.containers.iter().filter(|container| waits(&container.state));
    let note = |name: &str| {
        let message = format!(
            "Back-off restarting failed container {name} in pod {}_{}({})",
            pod.id.name, pod.id.namespace, pod.uid
        );
        Note::new(Kind::Warning, "BackOff", message).of_container(name)
    };
    waiting.map(|container| note(&container.name)).collect()
}

fn image_problem(image: &str, problem: ImageProblem, message: &str) -> (&'static str, String) {
    match problem {
        ImageProblem::Missing => ("Failed", format!("Failed to pull image {image:?}: {message}")),
        ImageProblem::NeverPull => {
            let what = format!("Container image {image:?} is not present with pull policy of Never");
            ("ErrImageNeverPull", format!("{what}: {message}"))
        }
        ImageProblem::InvalidName | ImageProblem::Unreadable => {
            ("InspectFailed", format!("Failed to inspect image {image:?}: {message}"))
        }
    }
}

fn name(run: &PodRun, container: Index) -> &str {
    run.pod().containers.get(container).map_or("?", |container| container.name.as_str())
}

fn image(run: &PodRun, container: Index) -> &str {
    run.pod().containers.get(container).map_or("?", |container| container.image.as_str())
}

impl Worker {
    /// Keeps what has happened to a Pod; the file gets it soon.
    pub fn record(&mut self, number: PodNumber, notes: Vec<Note>) {
        let Some(run) = self.pods.get(&number).filter(|_| !notes.is_empty()) else { return };
        let pod = run.pod();
        let now = Timestamp::now();
        for note in notes {
            self.recorder.record(&pod.id.namespace, &pod.id.name, pod.uid.as_str(), note, now);
        }
        self.not_now();
    }

    /// Keeps what is wrong with a manifest for the Pods that it concerns.
    pub fn record_problem(&mut self, problem: &Problem) {
        let (reason, ids) = match problem {
            Problem::Broken { keeps: ids, .. } | Problem::Circle { ids } => {
                ("FailedValidation", ids.as_slice())
            }
            Problem::NotReplaced { id, .. } => ("FailedUpdate", slice::from_ref(id)),
            Problem::Duplicate { id, .. } => ("FailedValidation", slice::from_ref(id)),
            Problem::OutOfPods { id, .. } => ("OutOfpods", slice::from_ref(id)),
            Problem::DuplicateObject { .. } | Problem::Waits { .. } => return,
        };
        let (message, now) = (sources::describe(problem), Timestamp::now());
        for id in ids {
            // One that waits for its place has no uid yet that anything else goes by.
            let uid = self.pods.values().find(|run| run.pod().id == *id).map_or("", |run| run.uid().as_str());
            let note = Note::new(Kind::Warning, reason, message.clone());
            self.recorder.record(&id.namespace, &id.name, uid, note, now);
        }
        self.not_now();
    }

    /// Keeps what has happened in this turn for the next worker, should this one end.
    pub fn keep_events(&mut self) {
        let Some(lines) = self.recorder.take_fresh() else { return };
        if let Err(error) = self.fresh_events.add(&lines) {
            log::warn!("{error}");
        }
    }

    /// Writes what the file on disk lacks, beside the loop.
    pub fn write_events(&mut self) {
        let Some((written, last)) = self.recorder.take_unwritten() else { return };
        let path = self.options.folders.events();
        self.disk.add_for_later(move || {
            let result = match written {
                Written::Append(lines) => events::append(&path, &lines),
                Written::Replace(lines) => events::replace(&path, &lines),
            };
            Done::EventsWritten(result.map(|()| last))
        });
    }

    pub fn events_written(&mut self, result: Result<u64, events::Error>) {
        let cleared = match result {
            // What came meanwhile is there still, and only there.
            Ok(last) if !self.recorder.is_latest(last) => Ok(()),
            Ok(_) => self.fresh_events.clear(),
            Err(error) => {
                self.recorder.not_written();
                Err(error)
            }
        };
        if let Err(error) = cleared {
            log::warn!("{error}");
        }
    }
}
