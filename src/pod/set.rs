//! What spans Pods: which are wanted, from which file of which source, and which of them may run now; and the Secrets beside them.
//!
//! Pure: events in, commands out, no I/O and no clock. [`Set`] decides that a Pod starts or stops; how it does so is the
//! business of the state machine of that one Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use super::secrets::Secrets;
use crate::manifest::{ObjectId, Pod, PodId, Secret, Uid};
use crate::order;

/// Which source a file belongs to. The node numbers its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SourceId(pub u32);

/// One file of one source: what can own a Pod's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub source: SourceId,
    pub file: PathBuf,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum SetEvent {
    /// At start, before anything is read: the saved last good version of a file. Its Pods are started as soon as it is
    /// known that nothing newer can be had (the file is broken, the listing is done, the folder cannot be listed).
    Restored {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
    },
    /// At start, before anything is read: this Pod is on the machine already (taken over from an earlier worker).
    Adopted {
        pod: Arc<Pod>,
        stopping: bool,
    },
    /// The file was read and every document in it is sound.
    FileRead {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
        secrets: Vec<Arc<Secret>>,
    },
    /// The file is there and cannot be read or decoded: its last good Pods and Secrets stay.
    FileBroken {
        origin: Origin,
        message: String,
    },
    FileGone {
        origin: Origin,
    },
    /// The source's first complete listing: last good versions of files that are not among these are dropped.
    Listed {
        source: SourceId,
        files: Vec<PathBuf>,
    },
    /// The source cannot be listed: what was restored from it may start.
    Unlistable {
        source: SourceId,
    },
    /// Everything of this Pod is off the machine: its name and its place are free.
    PodGone {
        uid: Uid,
    },
}

/// What the node shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum SetCommand {
    Start(Arc<Pod>),
    /// Ends with [`SetEvent::PodGone`]. Given once for each start.
    Stop {
        uid: Uid,
        why: StopReason,
    },
    /// Save these Pods as the last good version of this file (off the loop).
    SaveGood {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
    },
    /// The saved last good version of this file is of no use any more.
    ForgetGood {
        origin: Origin,
    },
    /// Another Secret has this name now, or none.
    SecretChanged(ObjectId),
    /// A problem that was not there before this event.
    Report(Problem),
}

/// Why a Pod is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// No file asks for it any more.
    Removed,
    /// Its file asks for something else under the same name.
    Replaced,
}

/// What stands in the way of a file or a Pod right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `keeps`: the Pods of the last good version, which stay.
    Broken { origin: Origin, message: String, keeps: Vec<PodId> },
    /// `origin` asks for a Pod whose name `kept` has.
    Duplicate { id: PodId, origin: Origin, kept: Origin },
    /// `origin` holds a Secret whose name `kept` has.
    DuplicateSecret { id: ObjectId, origin: Origin, kept: Origin },
    /// `maxPods` Pods are there already; it is started when one of them is gone.
    OutOfPods { id: PodId, origin: Origin, max: u32 },
}

/// The wanted Pods of all sources, and those on the machine.
#[derive(Debug)]
pub struct Set {
    max_pods: Option<u32>,
    /// Sources whose first complete listing is still to come.
    unlisted: BTreeSet<SourceId>,
    files: BTreeMap<Origin, File>,
    names: BTreeMap<PodId, Name>,
    secrets: Secrets,
    /// Counts names up, so that those that wait for a place are served in order.
    next_turn: u64,
    /// What was reported and still holds.
    reported: Vec<Problem>,
}

/// What one file asks for.
#[derive(Debug, Default)]
struct File {
    /// The last good version.
    pods: Vec<Arc<Pod>>,
    /// What of it is saved.
    saved: Option<Vec<Uid>>,
    broken: Option<String>,
    /// Restored, and it may turn out that there is a newer version or no file any more: starts and stops nothing.
    held: bool,
}

/// One Pod name: who asks for it and what is on the machine.
#[derive(Debug)]
struct Name {
    turn: u64,
    /// The first one owns the name, the others wait for it. In order of their coming.
    claimants: Vec<Origin>,
    instance: Option<Instance>,
}

/// A Pod on the machine, or on its way there or off it.
#[derive(Debug)]
struct Instance {
    pod: Arc<Pod>,
    stopping: bool,
    /// Adopted, and no file has asked for it so far.
    orphan: bool,
}

/// The names that are asked whether their Pods are still wanted.
enum Touched {
    All,
    /// One may stand here more than once.
    These(Vec<PodId>),
}

impl Set {
    /// `sources`: all there are. A Pod that was adopted and that no file claims is stopped when each of them has been listed.
    /// `max_pods`: no limit when `None`.
    pub fn new(sources: &[SourceId], max_pods: Option<u32>) -> Set {
        Set {
            max_pods,
            unlisted: order::set(sources.iter().copied()),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            secrets: Secrets::default(),
            next_turn: 0,
            reported: Vec::new(),
        }
    }

    /// Takes one event and says what follows from it, in order.
    pub fn step(&mut self, event: SetEvent) -> Vec<SetCommand> {
        let mut commands = Vec::new();
        let touched = self.touched(&event);
        match event {
            SetEvent::Restored { origin, pods } => self.restored(origin, pods),
            SetEvent::Adopted { pod, stopping } => self.adopted(pod, stopping),
            SetEvent::FileRead { origin, pods, secrets } => {
                self.hold_secrets(&origin, secrets, &mut commands);
                self.file_read(origin, pods, &mut commands);
            }
            SetEvent::FileBroken { origin, message } => self.file_broken(origin, message),
            SetEvent::FileGone { origin } => self.file_gone(&origin, &mut commands),
            SetEvent::Listed { source, files } => self.listed(source, &files, &mut commands),
            SetEvent::Unlistable { source } => self.release(source),
            SetEvent::PodGone { uid } => self.pod_gone(&uid, &mut commands),
        }
        self.stop_unwanted(touched, &mut commands);
        self.start_wanted(&mut commands);
        self.names.retain(|_, name| !name.claimants.is_empty() || name.instance.is_some());
        self.report_new(&mut commands);
        commands
    }

    /// Whose names an event may make unwanted. With a thousand Pods, not all are asked whenever one file changes.
    fn touched(&self, event: &SetEvent) -> Touched {
        let ids = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.id.clone()).collect::<Vec<_>>();
        let asked_by = |origin: &Origin| self.files.get(origin).map_or_else(Vec::new, |file| ids(&file.pods));
        Touched::These(match event {
            SetEvent::Restored { origin, pods } | SetEvent::FileRead { origin, pods, .. } => {
                [asked_by(origin), ids(pods)].concat()
            }
            SetEvent::FileBroken { origin, .. } | SetEvent::FileGone { origin } => asked_by(origin),
            SetEvent::Adopted { pod, .. } => vec![pod.id.clone()],
            SetEvent::PodGone { .. } => Vec::new(),
            SetEvent::Listed { .. } | SetEvent::Unlistable { .. } => return Touched::All,
        })
    }

    /// Whether each source has been listed: only then is what nobody asks for unwanted.
    pub fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Every problem there is now.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.broken_files();
        problems.extend(self.duplicates(|_, _| true));
        problems.extend(self.secrets.duplicates(|_, _| true));
        problems.extend(self.waiting());
        problems
    }

    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The file that owns a Pod's name now.
    pub fn origin(&self, id: &PodId) -> Option<&Origin> {
        self.names.get(id)?.claimants.first()
    }

    fn restored(&mut self, origin: Origin, pods: Vec<Arc<Pod>>) {
        let ids: Vec<_> = pods.iter().map(|pod| pod.id.clone()).collect();
        let saved = Some(uids(&pods));
        self.claim(&origin, pods);
        let file = self.files.entry(origin).or_default();
        file.saved = saved;
        file.held = true;
        for id in &ids {
            self.prefer_the_running(id);
        }
    }

    /// A second Pod of one name cannot be: the first is the one that counts.
    fn adopted(&mut self, pod: Arc<Pod>, stopping: bool) {
        let id = pod.id.clone();
        let name = self.name(&id);
        let orphan = name.claimants.is_empty();
        name.instance.get_or_insert(Instance { pod, stopping, orphan });
        self.prefer_the_running(&id);
    }

    fn file_read(&mut self, origin: Origin, pods: Vec<Arc<Pod>>, commands: &mut Vec<SetCommand>) {
        self.claim(&origin, pods);
        let file = self.files.entry(origin.clone()).or_default();
        file.broken = None;
        file.held = false;
        let uids = uids(&file.pods);
        if file.saved.as_ref() != Some(&uids) {
            file.saved = Some(uids);
            commands.push(SetCommand::SaveGood { origin, pods: file.pods.clone() });
        }
    }

    /// Makes `secrets` what the file holds.
    fn hold_secrets(&mut self, origin: &Origin, secrets: Vec<Arc<Secret>>, commands: &mut Vec<SetCommand>) {
        let changed = self.secrets.file_read(origin, secrets);
        commands.extend(changed.into_iter().map(SetCommand::SecretChanged));
    }

    fn file_broken(&mut self, origin: Origin, message: String) {
        let file = self.files.entry(origin).or_default();
        file.broken = Some(message);
        file.held = false;
    }

    fn file_gone(&mut self, origin: &Origin, commands: &mut Vec<SetCommand>) {
        self.claim(origin, Vec::new());
        self.hold_secrets(origin, Vec::new(), commands);
        let saved = self.files.remove(origin).and_then(|file| file.saved);
        if saved.is_some() {
            commands.push(SetCommand::ForgetGood { origin: origin.clone() });
        }
    }

    fn listed(&mut self, source: SourceId, files: &[PathBuf], commands: &mut Vec<SetCommand>) {
        let there = order::set(files.iter());
        let lost = |origin: &&Origin| origin.source == source && !there.contains(&origin.file);
        let lost: Vec<_> = self.files.keys().filter(lost).cloned().collect();
        for origin in &lost {
            self.file_gone(origin, commands);
        }
        self.unlisted.remove(&source);
        self.release(source);
    }

    /// Nothing newer is to be had of what was restored from this source.
    fn release(&mut self, source: SourceId) {
        for (_, file) in self.files.iter_mut().filter(|(origin, _)| origin.source == source) {
            file.held = false;
        }
    }

    /// What comes next under the same name has the place before all that wait.
    fn pod_gone(&mut self, uid: &Uid, commands: &mut Vec<SetCommand>) {
        let with_uid = |name: &Name| name.instance.as_ref().is_some_and(|instance| instance.pod.uid == *uid);
        let Some((id, name)) = self.names.iter_mut().find(|(_, name)| with_uid(name)) else { return };
        name.instance = None;
        let id = id.clone();
        self.start(&id, commands);
    }

    /// Makes `pods` what the file asks for, instead of what it asked for before.
    fn claim(&mut self, origin: &Origin, pods: Vec<Arc<Pod>>) {
        let file = self.files.entry(origin.clone()).or_default();
        let ids = order::set(pods.iter().map(|pod| pod.id.clone()));
        let before = mem::replace(&mut file.pods, pods);
        for pod in before.iter().filter(|pod| !ids.contains(&pod.id)) {
            let claimants = &mut self.name(&pod.id).claimants;
            let owned = claimants.first() == Some(origin);
            claimants.retain(|claimant| claimant != origin);
            if owned {
                self.prefer_the_running(&pod.id);
            }
        }
        // In the file's order, which is the order of their turns.
        let now: Vec<_> = self.files[origin].pods.iter().map(|pod| pod.id.clone()).collect();
        for id in now {
            let name = self.name(&id);
            if !name.claimants.contains(origin) {
                name.claimants.push(origin.clone());
            }
            if let Some(instance) = &mut name.instance {
                instance.orphan = false;
            }
        }
    }

    fn name(&mut self, id: &PodId) -> &mut Name {
        let next_turn = &mut self.next_turn;
        self.names.entry(id.clone()).or_insert_with(|| {
            *next_turn += 1;
            Name { turn: *next_turn, claimants: Vec::new(), instance: None }
        })
    }

    /// Gives a name to the file that asks for what is running under it: when its owner went away, and at start. At other
    /// times the owner decides, or an edit would lose against a copy of the file that was made before it.
    fn prefer_the_running(&mut self, id: &PodId) {
        let Some(name) = self.names.get(id) else { return };
        let Some(instance) = name.instance.as_ref().filter(|instance| !instance.stopping) else { return };
        let asks_for_it =
            |origin: &Origin| self.asked(origin, id).is_some_and(|pod| pod.uid == instance.pod.uid);
        let better = name.claimants.iter().position(asks_for_it);
        if let (Some(better), Some(name)) = (better, self.names.get_mut(id)) {
            let origin = name.claimants.remove(better);
            name.claimants.insert(0, origin);
        }
    }

    fn asked(&self, origin: &Origin, id: &PodId) -> Option<&Arc<Pod>> {
        self.files.get(origin)?.pods.iter().find(|pod| pod.id == *id)
    }

    /// The file that owns the name and what it asks for; none while that may still turn out to be outdated.
    fn wanted(&self, id: &PodId, name: &Name) -> Option<(&Origin, &Arc<Pod>)> {
        let (origin, file) = self.files.get_key_value(name.claimants.first()?)?;
        let pod = file.pods.iter().find(|pod| pod.id == *id)?;
        (!file.held).then_some((origin, pod))
    }

    fn stop_unwanted(&mut self, touched: Touched, commands: &mut Vec<SetCommand>) {
        let touched = match touched {
            Touched::All => self.names.keys().cloned().collect(),
            Touched::These(ids) => ids,
        };
        for id in touched {
            let Some(why) = self.names.get(&id).and_then(|name| self.why_stop(&id, name)) else { continue };
            if let Some(instance) = self.names.get_mut(&id).and_then(|name| name.instance.as_mut()) {
                instance.stopping = true;
                commands.push(SetCommand::Stop { uid: instance.pod.uid.clone(), why });
            }
        }
    }

    fn why_stop(&self, id: &PodId, name: &Name) -> Option<StopReason> {
        let instance = name.instance.as_ref().filter(|instance| !instance.stopping)?;
        if name.claimants.is_empty() {
            let may_be_asked_for_yet = instance.orphan && !self.is_listed();
            return (!may_be_asked_for_yet).then_some(StopReason::Removed);
        }
        let (_, wanted) = self.wanted(id, name)?;
        (wanted.uid != instance.pod.uid).then_some(StopReason::Replaced)
    }

    fn start_wanted(&mut self, commands: &mut Vec<SetCommand>) {
        let mut idle: Vec<_> = self
            .names
            .iter()
            .filter(|(_, name)| name.instance.is_none())
            .map(|(id, name)| (name.turn, id.clone()))
            .collect();
        order::sort(&mut idle);
        for (_, id) in idle {
            self.start(&id, commands);
        }
    }

    /// Starts what is wanted under a name that has nothing on the machine, if there is a place for it.
    fn start(&mut self, id: &PodId, commands: &mut Vec<SetCommand>) {
        let wanted = self.names.get(id).and_then(|name| self.wanted(id, name));
        let Some((_, pod)) = wanted.filter(|_| self.has_place()) else { return };
        let pod = Arc::clone(pod);
        self.name(id).instance = Some(Instance { pod: Arc::clone(&pod), stopping: false, orphan: false });
        commands.push(SetCommand::Start(pod));
    }

    /// A Pod that is being stopped still has its place.
    fn has_place(&self) -> bool {
        let taken = || self.names.values().filter(|name| name.instance.is_some()).count();
        self.max_pods.is_none_or(|max| taken() < max as usize)
    }

    fn broken_files(&self) -> Vec<Problem> {
        let broken = |(origin, file): (&Origin, &File)| {
            let message = file.broken.clone()?;
            let keeps = file.pods.iter().map(|pod| pod.id.clone()).collect();
            Some(Problem::Broken { origin: origin.clone(), message, keeps })
        };
        self.files.iter().filter_map(broken).collect()
    }

    /// Files that ask for a name that another one has; `which` is asked about the owner's Pod and the other one.
    fn duplicates(&self, which: impl Fn(&Pod, &Pod) -> bool) -> Vec<Problem> {
        let mut duplicates = Vec::new();
        for (id, name) in &self.names {
            let Some((kept, others)) = name.claimants.split_first() else { continue };
            let loses = |origin: &&Origin| match (self.asked(kept, id), self.asked(origin, id)) {
                (Some(kept), Some(other)) => which(kept, other),
                _ => false,
            };
            duplicates.extend(others.iter().filter(loses).map(|origin| Problem::Duplicate {
                id: id.clone(),
                origin: origin.clone(),
                kept: kept.clone(),
            }));
        }
        duplicates
    }

    fn waiting(&self) -> Vec<Problem> {
        let Some(max) = self.max_pods else { return Vec::new() };
        let waits = |(id, name): (&PodId, &Name)| {
            let (origin, _) = self.wanted(id, name).filter(|_| name.instance.is_none())?;
            Some(Problem::OutOfPods { id: id.clone(), origin: origin.clone(), max })
        };
        self.names.iter().filter_map(waits).collect()
    }

    /// Equal Pods or Secrets in two files are no news: a renamed file is there under both names for a moment.
    fn report_new(&mut self, commands: &mut Vec<SetCommand>) {
        let mut now = self.broken_files();
        now.extend(self.duplicates(|kept, other| kept.uid != other.uid));
        now.extend(self.secrets.duplicates(|kept, other| kept != other));
        now.extend(self.waiting());
        let new = now.iter().filter(|problem| !self.reported.contains(problem));
        commands.extend(new.cloned().map(SetCommand::Report));
        self.reported = now;
    }
}

fn uids(pods: &[Arc<Pod>]) -> Vec<Uid> {
    pods.iter().map(|pod| pod.uid.clone()).collect()
}
