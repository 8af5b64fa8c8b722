//! From what a source learned to which Pods are wanted.

use std::path::Path;
use std::sync::Arc;

use super::clock;
use super::good_manifests;
use super::objects;
use super::pod_run::{PodNumber, PodRun};
use super::state;
use super::worker::{Done, Ending, Worker};
use crate::manifest::{Diagnostic, Pod, PodId, Uid};
use crate::pod::set::{Good, Origin, Problem, SetCommand, SetEvent, SourceId, StopReason};
use crate::pod::{Event, Machine, Rehearsal};
use crate::source::{Change, UrlError};

/// The folder or file of manifests.
pub const FILES: SourceId = SourceId(0);
/// The URL of manifests, where there is one.
pub const URL: SourceId = SourceId(1);

impl Worker {
    /// Takes what the source has to say.
    pub fn read_source(&mut self) {
        let changes = self.source.step(clock::now().since_boot());
        // Once podkeep is stopping, nothing new is wanted.
        if self.ending.is_none() {
            self.take_changes(FILES, changes);
        }
    }

    /// Takes what a source has learned, in its order.
    pub fn take_changes(&mut self, source: SourceId, changes: Vec<Change>) {
        let mut anew = !self.set.is_listed();
        for change in changes {
            let listed = matches!(change, Change::Listed { .. });
            anew |= matches!(change, Change::FolderBack);
            let Some(event) = self.set_event(source, change) else { continue };
            self.restore_objects(&event);
            if anew {
                self.forget_objects_of_no_file(&event);
            }
            let knew_all = self.set.knows_all_objects();
            self.tell_set(event);
            // Also when the last broken file is mended or gone: what changed meanwhile could not be told.
            if listed || (!knew_all && self.set.knows_all_objects()) {
                self.tell_of_objects();
            }
            // A Pod that only the other source can ask for has its volumes until then.
            if listed && self.set.is_listed() {
                if let Err(error) = self.remove_unwanted_folders() {
                    log::warn!("{error:#}");
                }
                self.tidy_cni();
            }
        }
    }

    fn set_event(&self, source: SourceId, change: Change) -> Option<SetEvent> {
        let origin = |file| Origin { source, file };
        Some(match change {
            // A copy onto a full disk leaves just that: no reason to remove a Pod.
            Change::Read { file, bytes } if bytes.trim_ascii().is_empty() => {
                let message = format!("{}: the file is empty", file.display());
                SetEvent::FileBroken { origin: origin(file), message }
            }
            Change::Read { file, bytes } => match objects::decode(&file, &bytes, &self.options.node_name) {
                // What a server says by mistake: who wants no Pods says so.
                Ok(manifest) if source == URL && manifest.documents == 0 => {
                    let message = UrlError::Empty { url: file.display().to_string() }.to_string();
                    SetEvent::FileBroken { origin: origin(file), message }
                }
                Ok(mut manifest) => {
                    objects::open_sealed(&mut manifest.objects, &self.options.folders.seal_key());
                    manifest.warnings.iter().for_each(|warning| log::warn!("{warning}"));
                    let (origin, pods) = (origin(file), manifest.pods.into_iter().map(Arc::new).collect());
                    match manifest.objects.is_empty() {
                        true => self.forget_objects(&origin),
                        false => self.keep_objects(&origin, &bytes),
                    }
                    let objects = manifest.objects.into_iter().map(Arc::new).collect();
                    SetEvent::FileRead { origin, pods, objects }
                }
                Err(diagnostics) => {
                    SetEvent::FileBroken { origin: origin(file), message: in_words(&diagnostics) }
                }
            },
            Change::Gone { file } => {
                let origin = origin(file);
                self.forget_objects(&origin);
                SetEvent::FileGone { origin }
            }
            Change::Unreadable { file, error } => {
                SetEvent::FileBroken { origin: origin(file), message: error.to_string() }
            }
            Change::FolderUnreadable { error } => {
                log::warn!("{error}: every Pod stays as it is");
                SetEvent::Unlistable { source }
            }
            Change::FolderBack => {
                log::info!("the manifests can be listed again");
                return None;
            }
            Change::Listed { files } => SetEvent::Listed { source, files },
        })
    }

    /// Tells the set what happened, and carries out what follows.
    pub fn tell_set(&mut self, event: SetEvent) {
        let commands = self.set.step(event);
        self.heed_set(commands);
    }

    /// Carries out what the set asks for.
    pub fn heed_set(&mut self, commands: Vec<SetCommand>) {
        for command in commands {
            match command {
                // Its name is free because podkeep stops: nothing new is wanted.
                SetCommand::Start(_)
                | SetCommand::Rehearse(_)
                | SetCommand::Proceed { .. }
                | SetCommand::Stop { .. }
                    if self.ending == Some(Ending::Stop) => {}
                SetCommand::Start(pod) => self.take_on(pod),
                SetCommand::Rehearse(pod) => self.rehearse_new_version(pod),
                SetCommand::Proceed { uid } => self.let_proceed(&uid),
                SetCommand::Stop { uid, why } => {
                    let Some(&number) = self.numbers.get(&uid) else { continue };
                    log::info!("{}: stopping, its manifest was {}", self.pods[&number].pod().id, word(why));
                    self.tell(number, Event::Stop { within: None });
                }
                SetCommand::SaveGood { origin, pods } => self.keep_good(origin, Some(pods)),
                SetCommand::ForgetGood { origin } => self.keep_good(origin, None),
                // Until all has been listed, another file may ask for it.
                SetCommand::Discard { uid } if self.set.is_listed() => {
                    if let Err(error) = self.remove_unwanted(vec![uid]) {
                        log::warn!("{error:#}");
                    }
                }
                SetCommand::Discard { .. } => {}
                SetCommand::ObjectChanged(id) => self.object_changed(&id),
                // Nothing is wrong with it.
                SetCommand::Report(problem @ Problem::Waits { .. }) => log::info!("{}", describe(&problem)),
                SetCommand::Report(problem) => {
                    log::warn!("{}", describe(&problem));
                    self.record_problem(&problem);
                }
            }
        }
    }

    /// A Pod that shall run from now on.
    fn take_on(&mut self, pod: Arc<Pod>) {
        log::info!("{}: new (uid {})", pod.id, pod.uid);
        self.save_pod(&pod);
        let folders = &self.options.folders;
        let now = clock::now();
        let machine = match state::load_survival(folders, &pod.uid) {
            Some(survival) => Machine::after_reboot(pod, survival, self.settings, now),
            None => Machine::new(pod, self.settings, now),
        };
        // It ran on an earlier boot, perhaps to a good end.
        let news = news_for_set(&machine, [false, false], None);
        self.add_run(PodRun::new(machine));
        news.into_iter().for_each(|event| self.tell_set(event));
    }

    fn save_pod(&self, pod: &Pod) {
        if let Err(error) = state::save_pod(&self.options.folders, pod) {
            log::error!("{}: a new worker could not take it over: {error}", pod.id);
        }
    }

    /// A new worker would not take it over, but rehearse it anew: nothing of it is saved.
    fn rehearse_new_version(&mut self, pod: Arc<Pod>) {
        log::info!("{}: its manifest was changed; seeing whether uid {} can be prepared", pod.id, pod.uid);
        self.rehearses = true;
        self.add_run(PodRun::new(Machine::rehearsing(pod, self.settings, clock::now())));
    }

    /// Its predecessor is gone.
    fn let_proceed(&mut self, uid: &Uid) {
        let Some(&number) = self.numbers.get(uid) else { return };
        let pod = Arc::clone(self.pods[&number].pod());
        log::info!("{}: new (uid {uid})", pod.id);
        self.save_pod(&pod);
        self.tell(number, Event::Proceed);
    }

    /// What is the last good version of a file's Pods is written down soon; `None`: the file is gone for good.
    fn keep_good(&mut self, origin: Origin, pods: Option<Vec<Good>>) {
        self.unsaved_good.insert(origin, pods);
        self.not_now();
    }

    pub fn save_good_manifests(&mut self) {
        if self.unsaved_good.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.unsaved_good);
        let dir = self.options.folders.good_manifests();
        self.disk.add_for_later(move || {
            let saved = good_manifests::save_all(&dir, &changed);
            Done::Finished(saved.map_err(|error| error.to_string()))
        });
    }

    /// Gives a Pod its number and sets its machine going.
    pub fn add_run(&mut self, run: PodRun) -> PodNumber {
        self.last_number += 1;
        let number = PodNumber(self.last_number);
        let commands = run.machine.begin();
        self.numbers.insert(run.uid().clone(), number);
        self.deadlines.set(number, run.machine.deadline());
        self.unsaved.insert(number);
        let pod = Arc::clone(run.pod());
        self.pods.insert(number, run);
        if let Some(fingerprint) = self.fingerprint(&pod) {
            self.tell(number, Event::ObjectsChanged { fingerprint: Some(fingerprint) });
        }
        self.begun.extend(commands.into_iter().map(|command| (number, command)));
        number
    }
}

/// What a step of one Pod means to the set of them. `before`: whether it had run, and whether it was Ready.
pub fn news_for_set(machine: &Machine, before: [bool; 2], rehearsal: Option<Rehearsal>) -> Vec<SetEvent> {
    let (uid, id) = (&machine.pod().uid, &machine.pod().id);
    let of_rehearsal = match machine.rehearsal() {
        now if now == rehearsal => None,
        Some(Rehearsal::Passed) => Some(SetEvent::Rehearsed { uid: uid.clone(), id: id.clone() }),
        Some(Rehearsal::Failed(message)) => {
            Some(SetEvent::RehearsalFailed { uid: uid.clone(), id: id.clone(), message })
        }
        Some(Rehearsal::Open) | None => None,
    };
    let [had_run, was_ready] = before;
    let began = machine.has_run() && !had_run;
    let began = began.then(|| SetEvent::Began { uid: uid.clone(), id: id.clone() });
    let ready = machine.is_ready();
    let readiness = || SetEvent::Readiness { uid: uid.clone(), id: id.clone(), ready };
    of_rehearsal.into_iter().chain(began).chain((ready != was_ready).then(readiness)).collect()
}

fn word(why: StopReason) -> &'static str {
    match why {
        StopReason::Removed => "removed",
        StopReason::Replaced => "changed",
    }
}

/// So many diagnostics of one manifest are shown; `podkeep lint` shows all.
const SHOWN: usize = 20;

/// What is wrong with a manifest, in one message of several lines.
fn in_words(diagnostics: &[Diagnostic]) -> String {
    let mut lines: Vec<String> = diagnostics.iter().take(SHOWN).map(ToString::to_string).collect();
    if diagnostics.len() > SHOWN {
        lines.push(format!("… and {} more: `podkeep lint` shows them all", diagnostics.len() - SHOWN));
    }
    lines.join("\n")
}

fn listed(ids: &[PodId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A problem as a person reads it.
pub fn describe(problem: &Problem) -> String {
    let shown = |path: &Path| path.display().to_string();
    match problem {
        Problem::Broken { origin: _, message, keeps } if keeps.is_empty() => message.clone(),
        Problem::Broken { origin, message, keeps } => {
            format!("{message}\n{}: its last good version stays: {}", shown(&origin.file), listed(keeps))
        }
        Problem::Duplicate { id, origin, kept } => {
            format!(
                "{}: Pod {id} is already asked for by {}, which stays",
                shown(&origin.file),
                shown(&kept.file)
            )
        }
        Problem::DuplicateObject { id, origin, kept } => {
            format!("{}: {id} stands already in {}, which counts", shown(&origin.file), shown(&kept.file))
        }
        Problem::OutOfPods { id, origin, max } => format!(
            "{}: Pod {id} waits: OutOfpods, maxPods allows {max}; it starts when another one is gone",
            shown(&origin.file)
        ),
        Problem::NotReplaced { id, origin, message } => format!(
            "{}: Pod {id} runs on as it was, for its new version cannot be prepared: {message}",
            shown(&origin.file)
        ),
        Problem::Waits { id, origin, after } => format!(
            "{}: Pod {id} waits: it starts after {}, which podkeep.io/after names, when Ready",
            shown(&origin.file),
            listed(after)
        ),
        Problem::Circle { ids } => format!(
            "podkeep.io/after goes round in a circle: {}, {}: none of them starts, or is replaced",
            ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" after "),
            format_args!("which is after {}", ids.first().map_or_else(String::new, ToString::to_string))
        ),
    }
}
