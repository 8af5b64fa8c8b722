//! What spans Pods: which are wanted, from which file of which source, and which of them may run now; and the ConfigMaps and Secrets beside
//! them.
//!
//! Pure: events in, commands out, no I/O and no clock. [`Set`] decides that a Pod starts or stops; how it does so is the
//! business of the state machine of that one Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

pub use good::Good;
use precedence::{Ends, Precedence};
pub use problems::Problem;
use problems::Subject;

use super::objects::Objects;
use crate::manifest::{Object, ObjectId, Pod, PodId, Uid};
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
    /// known that nothing newer can be had (the file is broken, the listing is done, the folder cannot be listed, the file's
    /// version cannot be prepared).
    Restored {
        origin: Origin,
        pods: Vec<Good>,
    },
    /// Before the first of the file that is told of: it cannot be read, and held these when it was last.
    ObjectsRestored {
        origin: Origin,
        objects: Vec<Arc<Object>>,
    },
    /// At start, before anything is read: this Pod is on the machine already (taken over from an earlier worker). `ran`: as
    /// [`Began`](SetEvent::Began) tells.
    Adopted {
        pod: Arc<Pod>,
        stopping: bool,
        ready: bool,
        ran: bool,
    },
    /// The file was read and every document in it is sound.
    FileRead {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
        objects: Vec<Arc<Object>>,
    },
    /// The file is there and cannot be read or decoded: its last good Pods and objects stay.
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
    /// The new version of a Pod could be prepared, and its images are there.
    Rehearsed {
        uid: Uid,
        id: PodId,
    },
    /// It could not, as things are; the node tries again by itself.
    RehearsalFailed {
        uid: Uid,
        id: PodId,
        message: String,
    },
    /// All that could be found out at once was: what is still being rehearsed takes its time.
    TakesTime,
    /// A container of this Pod was started, on this boot or an earlier one: from now on it is the last good version.
    Began {
        uid: Uid,
        id: PodId,
    },
    /// A Pod has become Ready (or succeeded), or is so no more.
    Readiness {
        uid: Uid,
        id: PodId,
        ready: bool,
    },
    /// Everything of this Pod is off the machine: its name and its place are free.
    PodGone {
        uid: Uid,
        id: PodId,
    },
}

/// What the node shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum SetCommand {
    Start(Arc<Pod>),
    /// Find out whether this new version could take the place of a Pod that runs, or that ran when the power went: again and
    /// again, until it could ([`SetEvent::Rehearsed`]) or is stopped. [`SetEvent::TakesTime`] follows if that is not known
    /// at once.
    Rehearse(Arc<Pod>),
    /// The way is free for a version that was rehearsed: start it.
    Proceed {
        uid: Uid,
    },
    /// Ends with [`SetEvent::PodGone`]. Given once for each start.
    Stop {
        uid: Uid,
        why: StopReason,
    },
    /// Save these Pods as the last good version of this file (off the loop).
    SaveGood {
        origin: Origin,
        pods: Vec<Good>,
    },
    /// The saved last good version of this file is of no use any more.
    ForgetGood {
        origin: Origin,
    },
    /// This is no last good version any more. If it is not on the machine and not [wanted](Set::uids), what an earlier boot
    /// left of it can go.
    Discard {
        uid: Uid,
    },
    /// Another ConfigMap or Secret has this name now, or none.
    ObjectChanged(ObjectId),
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

/// The wanted Pods of all sources, and those on the machine.
///
/// With a thousand Pods, not each one's step is everyone's business: whom an event touches is found out, and only those are looked
/// at.
#[derive(Debug)]
pub struct Set {
    max_pods: Option<u32>,
    /// Sources whose first complete listing is still to come.
    unlisted: BTreeSet<SourceId>,
    files: BTreeMap<Origin, File>,
    names: BTreeMap<PodId, Name>,
    precedence: Precedence,
    ends: Ends,
    objects: Objects,
    /// Counts names up, so that those that wait for a place are served in order.
    next_turn: u64,
    /// What was reported and still holds.
    reported: BTreeMap<Subject, Vec<Problem>>,
}

/// What one file asks for.
#[derive(Debug, Default)]
struct File {
    /// What it said when it was last in order.
    pods: Vec<Arc<Pod>>,
    /// Their places, by id.
    by_id: Vec<usize>,
    /// The last good version of each of them, as it is saved.
    good: Vec<Good>,
    is_saved: bool,
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
    /// What shall take its place.
    next: Option<Next>,
}

/// A Pod on the machine, or on its way there or off it.
#[derive(Debug)]
struct Instance {
    pod: Arc<Pod>,
    course: Course,
    /// Ready in Kubernetes' sense, or run to a good end.
    ready: bool,
    /// A container of it was started.
    ran: bool,
    /// Adopted, and no file has asked for it so far.
    orphan: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Stays,
    /// It stops when those are gone that come after it and stop too.
    Ends(StopReason),
    Stops,
}

/// A Pod that is being rehearsed beside the instance of its name, or was; or before there is one, where an earlier boot has had
/// another version.
#[derive(Debug)]
struct Next {
    pod: Arc<Pod>,
    stage: NextStage,
    /// Whether it can be prepared was not known at once.
    takes_time: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum NextStage {
    /// Why it cannot be prepared, if that is so.
    Rehearsing(Option<String>),
    /// It waits until the instance is gone.
    Ready,
    /// Nobody wants it any more, and it is on its way off.
    Dropped,
}

impl Instance {
    fn new(pod: Arc<Pod>) -> Instance {
        Instance { pod, course: Course::Stays, ready: false, ran: false, orphan: false }
    }

    fn stays(&self) -> bool {
        self.course == Course::Stays
    }
}

impl File {
    /// Makes `pods` what it asks for; what it asked for before.
    fn ask(&mut self, pods: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        self.by_id = (0..pods.len()).collect();
        order::sort_by(&mut self.by_id, |a, b| pods[*a].id.cmp(&pods[*b].id));
        mem::replace(&mut self.pods, pods)
    }

    fn place(&self, id: &PodId) -> Option<usize> {
        let found = self.by_id.binary_search_by(|place| self.pods[*place].id.cmp(id));
        found.ok().map(|at| self.by_id[at])
    }

    fn asked(&self, id: &PodId) -> Option<&Arc<Pod>> {
        self.place(id).map(|place| &self.pods[place])
    }
}

impl Name {
    fn is_empty(&self) -> bool {
        self.claimants.is_empty() && self.instance.is_none() && self.next.is_none()
    }
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
            precedence: Precedence::default(),
            ends: Ends::default(),
            objects: Objects::default(),
            next_turn: 0,
            reported: BTreeMap::new(),
        }
    }

    /// Takes one event and says what follows from it, in order.
    pub fn step(&mut self, event: SetEvent) -> Vec<SetCommand> {
        let mut commands = Vec::new();
        let mut touched = self.touched(&event);
        let file = match &event {
            SetEvent::FileRead { origin, .. } | SetEvent::FileBroken { origin, .. } => Some(origin.clone()),
            _ => None,
        };
        match event {
            SetEvent::Readiness { uid, id, ready } => self.note_readiness(&uid, &id, ready),
            SetEvent::Began { uid, id } => self.note_begun(&uid, &id),
            SetEvent::TakesTime => self.note_what_takes_time(&mut touched),
            SetEvent::Rehearsed { uid, id } => self.rehearsed(&uid, &id, NextStage::Ready),
            SetEvent::RehearsalFailed { uid, id, message } => {
                self.rehearsed(&uid, &id, NextStage::Rehearsing(Some(message)));
            }
            SetEvent::Restored { origin, pods } => self.restored(origin, pods),
            SetEvent::ObjectsRestored { origin, objects } => {
                self.files.entry(origin.clone()).or_default();
                self.hold_objects(&origin, objects, &mut commands);
            }
            SetEvent::Adopted { pod, stopping, ready, ran } => self.adopted(pod, stopping, ready, ran),
            SetEvent::FileRead { origin, pods, objects } => {
                self.hold_objects(&origin, objects, &mut commands);
                self.file_read(&origin, pods);
                self.keep_good_of(&origin, &mut commands);
            }
            SetEvent::FileBroken { origin, message } => self.file_broken(origin, message),
            SetEvent::FileGone { origin } => self.file_gone(&origin, &mut commands),
            SetEvent::Listed { source, files } => self.listed(source, &files, &mut commands),
            SetEvent::Unlistable { source } => self.release(source),
            SetEvent::PodGone { uid, id } => self.pod_gone(&uid, &id, &mut touched, &mut commands),
        }
        if touched.is_empty() && file.is_none() {
            return commands;
        }
        self.see_circles(&mut touched);
        self.keep_good(&touched, &mut commands);
        self.heed_wishes(&mut touched, &mut commands);
        self.stop_those_that_may(&mut commands);
        self.start_wanted(&touched, &mut commands);
        for id in &touched {
            if self.names.get(id).is_some_and(Name::is_empty) {
                self.names.remove(id);
            }
        }
        self.report_new(file, &touched, &mut commands);
        commands
    }

    /// The names of which an event may change what becomes of them.
    fn touched(&self, event: &SetEvent) -> BTreeSet<PodId> {
        let ids = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.id.clone()).collect::<Vec<_>>();
        let asked_by = |origin: &Origin| self.files.get(origin).map_or_else(Vec::new, |file| ids(&file.pods));
        order::set(match event {
            SetEvent::Restored { pods, .. } => pods.iter().map(|good| good.pod.id.clone()).collect(),
            SetEvent::FileRead { origin, pods, .. } => [asked_by(origin), ids(pods)].concat(),
            SetEvent::FileBroken { origin, .. } | SetEvent::FileGone { origin } => asked_by(origin),
            SetEvent::Adopted { pod, .. } => vec![pod.id.clone()],
            SetEvent::PodGone { id, .. }
            | SetEvent::Rehearsed { id, .. }
            | SetEvent::RehearsalFailed { id, .. }
            | SetEvent::Began { id, .. } => vec![id.clone()],
            SetEvent::Readiness { id, .. } => self.those_after(id),
            SetEvent::TakesTime | SetEvent::ObjectsRestored { .. } => Vec::new(),
            SetEvent::Listed { .. } | SetEvent::Unlistable { .. } => self.names.keys().cloned().collect(),
        })
    }

    /// Whether each source has been listed: only then is what nobody asks for unwanted.
    pub fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Whether no source holds an object that is not known: everything was listed, and every file could be read.
    pub fn knows_all_objects(&self) -> bool {
        self.is_listed() && self.files.values().all(|file| file.broken.is_none())
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The file that owns a Pod's name now.
    pub fn origin(&self, id: &PodId) -> Option<&Origin> {
        self.names.get(id)?.claimants.first()
    }

    fn restored(&mut self, origin: Origin, good: Vec<Good>) {
        let pods: Vec<_> = good.iter().map(|good| Arc::clone(&good.pod)).collect();
        let ids: Vec<_> = pods.iter().map(|pod| pod.id.clone()).collect();
        self.claim(&origin, pods);
        good.iter().for_each(|good| self.precedence.add(&good.pod));
        let file = self.files.entry(origin).or_default();
        file.good = good;
        file.is_saved = true;
        file.held = true;
        for id in &ids {
            self.prefer_the_running(id);
        }
    }

    /// A second Pod of one name cannot be: the first is the one that counts.
    fn adopted(&mut self, pod: Arc<Pod>, stopping: bool, ready: bool, ran: bool) {
        let id = pod.id.clone();
        let name = self.name(&id);
        let orphan = name.claimants.is_empty();
        if name.instance.is_none() {
            let course = if stopping { Course::Stops } else { Course::Stays };
            name.instance = Some(Instance { course, ready, ran, orphan, ..Instance::new(Arc::clone(&pod)) });
            if stopping {
                self.ends.begins(&pod);
                self.ends.stops(&id);
            }
        }
        self.prefer_the_running(&id);
    }

    fn file_read(&mut self, origin: &Origin, pods: Vec<Arc<Pod>>) {
        self.claim(origin, pods);
        let file = self.files.entry(origin.clone()).or_default();
        file.broken = None;
        file.held = false;
    }

    /// Makes `objects` what the file holds.
    fn hold_objects(&mut self, origin: &Origin, objects: Vec<Arc<Object>>, commands: &mut Vec<SetCommand>) {
        let changed = self.objects.file_read(origin, objects);
        commands.extend(changed.into_iter().map(SetCommand::ObjectChanged));
        let duplicates = self.objects.duplicates(|kept, other| kept != other);
        self.report(Subject::Objects, duplicates, commands);
    }

    fn file_broken(&mut self, origin: Origin, message: String) {
        let file = self.files.entry(origin).or_default();
        file.broken = Some(message);
        file.held = false;
    }

    fn file_gone(&mut self, origin: &Origin, commands: &mut Vec<SetCommand>) {
        self.claim(origin, Vec::new());
        self.hold_objects(origin, Vec::new(), commands);
        self.reported.remove(&Subject::File(origin.clone()));
        let Some(file) = self.files.remove(origin).filter(|file| file.is_saved) else { return };
        file.good.iter().for_each(|good| self.precedence.remove(&good.pod));
        commands.push(SetCommand::ForgetGood { origin: origin.clone() });
        commands.extend(file.good.iter().map(Good::discarded));
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
    fn pod_gone(
        &mut self,
        uid: &Uid,
        id: &PodId,
        touched: &mut BTreeSet<PodId>,
        commands: &mut Vec<SetCommand>,
    ) {
        let Some(name) = self.names.get_mut(id) else { return };
        name.next.take_if(|next| next.pod.uid == *uid);
        if let Some(gone) = name.instance.take_if(|instance| instance.pod.uid == *uid) {
            self.ends.is_gone(&gone);
            touched.extend(self.those_after(id));
            if self.max_pods.is_some() {
                touched.extend(
                    self.names.iter().filter(|(_, name)| name.instance.is_none()).map(|(id, _)| id.clone()),
                );
            }
        }
        self.start(id, commands);
    }

    fn rehearsed(&mut self, uid: &Uid, id: &PodId, stage: NextStage) {
        let next = self.names.get_mut(id).and_then(|name| name.next.as_mut());
        if let Some(next) =
            next.filter(|next| next.pod.uid == *uid && matches!(next.stage, NextStage::Rehearsing(_)))
        {
            next.stage = stage;
        }
    }

    fn note_readiness(&mut self, uid: &Uid, id: &PodId, ready: bool) {
        let instance = self.names.get_mut(id).and_then(|name| name.instance.as_mut());
        if let Some(instance) = instance.filter(|instance| instance.pod.uid == *uid) {
            instance.ready = ready;
        }
    }

    /// Makes `pods` what the file asks for, instead of what it asked for before.
    fn claim(&mut self, origin: &Origin, pods: Vec<Arc<Pod>>) {
        let file = self.files.entry(origin.clone()).or_default();
        let ids = order::set(pods.iter().map(|pod| pod.id.clone()));
        let before = file.ask(pods);
        self.precedence.changes(&before, &self.files[origin].pods);
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
            Name { turn: *next_turn, claimants: Vec::new(), instance: None, next: None }
        })
    }

    /// Gives a name to the file that asks for what is running under it: when its owner went away, and at start. At other
    /// times the owner decides, or an edit would lose against a copy of the file that was made before it.
    fn prefer_the_running(&mut self, id: &PodId) {
        let Some(name) = self.names.get(id) else { return };
        let Some(instance) = name.instance.as_ref().filter(|instance| instance.stays()) else { return };
        let asks_for_it =
            |origin: &Origin| self.asked(origin, id).is_some_and(|pod| pod.uid == instance.pod.uid);
        let better = name.claimants.iter().position(asks_for_it);
        if let (Some(better), Some(name)) = (better, self.names.get_mut(id)) {
            let origin = name.claimants.remove(better);
            name.claimants.insert(0, origin);
            self.precedence.has_another_owner(id);
        }
    }

    fn asked(&self, origin: &Origin, id: &PodId) -> Option<&Arc<Pod>> {
        self.files.get(origin)?.asked(id)
    }

    /// The file that owns the name and what it asks for; none while that may still turn out to be outdated.
    fn wanted(&self, id: &PodId, name: &Name) -> Option<(&Origin, &Arc<Pod>)> {
        let (origin, file) = self.files.get_key_value(name.claimants.first()?)?;
        let pod = file.asked(id)?;
        (!file.held).then_some((origin, pod))
    }

    /// Stops what is not wanted any more, and has new versions rehearsed.
    fn heed_wishes(&mut self, touched: &mut BTreeSet<PodId>, commands: &mut Vec<SetCommand>) {
        for id in touched.clone() {
            self.drop_next(&id, commands);
            self.rehearse(&id, commands);
            let Some(why) = self.names.get(&id).and_then(|name| self.why_stop(&id, name)) else { continue };
            if let Some(instance) = self.names.get_mut(&id).and_then(|name| name.instance.as_mut()) {
                instance.course = Course::Ends(why);
                self.ends.begins(&instance.pod);
                touched.extend(self.those_after(&id));
            }
        }
    }

    fn why_stop(&self, id: &PodId, name: &Name) -> Option<StopReason> {
        let instance = name.instance.as_ref().filter(|instance| instance.stays())?;
        if name.claimants.is_empty() {
            let may_be_asked_for_yet = instance.orphan && !self.is_listed();
            return (!may_be_asked_for_yet).then_some(StopReason::Removed);
        }
        let (_, wanted) = self.wanted(id, name)?;
        let is_ready = |next: &Next| next.stage == NextStage::Ready && next.pod.uid == wanted.uid;
        let may_come = wanted.recreate || name.next.as_ref().is_some_and(is_ready);
        (wanted.uid != instance.pod.uid && may_come && self.is_its_turn(wanted))
            .then_some(StopReason::Replaced)
    }

    /// Gives up a new version that is not the one that is wanted now.
    fn drop_next(&mut self, id: &PodId, commands: &mut Vec<SetCommand>) {
        let Some(name) = self.names.get(id) else { return };
        let why = match self.wanted(id, name) {
            Some((_, wanted)) if name.next.as_ref().is_some_and(|next| next.pod.uid == wanted.uid) => return,
            Some(_) => StopReason::Replaced,
            None if name.claimants.is_empty() => StopReason::Removed,
            None => return,
        };
        let next = self.names.get_mut(id).and_then(|name| name.next.as_mut());
        if let Some(next) = next.filter(|next| next.stage != NextStage::Dropped) {
            next.stage = NextStage::Dropped;
            commands.push(SetCommand::Stop { uid: next.pod.uid.clone(), why });
        }
    }

    /// A Pod that runs goes on running until it is known that what is wanted instead could be prepared.
    fn rehearse(&mut self, id: &PodId, commands: &mut Vec<SetCommand>) {
        let Some(name) = self.names.get(id).filter(|name| name.next.is_none()) else { return };
        let Some(instance) = name.instance.as_ref().filter(|instance| instance.stays()) else { return };
        let Some((_, wanted)) = self.wanted(id, name) else { return };
        if wanted.uid == instance.pod.uid || wanted.recreate || self.precedence.is_in_circle(id) {
            return;
        }
        let pod = Arc::clone(wanted);
        self.begin_rehearsal(pod, commands);
    }

    fn begin_rehearsal(&mut self, pod: Arc<Pod>, commands: &mut Vec<SetCommand>) {
        let stage = NextStage::Rehearsing(None);
        self.name(&pod.id).next = Some(Next { pod: Arc::clone(&pod), stage, takes_time: false });
        commands.push(SetCommand::Rehearse(pod));
    }

    fn start_wanted(&mut self, touched: &BTreeSet<PodId>, commands: &mut Vec<SetCommand>) {
        let idle = |id: &PodId| self.names.get(id).filter(|name| name.instance.is_none());
        let mut idle: Vec<_> =
            touched.iter().filter_map(|id| idle(id).map(|name| (name.turn, id.clone()))).collect();
        order::sort(&mut idle);
        for (_, id) in idle {
            self.start(&id, commands);
        }
    }

    /// Starts what is wanted under a name that has nothing on the machine. Where another version of it ran when the power went,
    /// what is wanted is rehearsed first, and the other one runs unless that succeeds at once.
    fn start(&mut self, id: &PodId, commands: &mut Vec<SetCommand>) {
        let Some(name) = self.names.get(id).filter(|name| name.instance.is_none()) else { return };
        let Some((origin, wanted)) = self.wanted(id, name) else { return };
        let (wanted, good) = (Arc::clone(wanted), self.last_good(origin, id).map(Arc::clone));
        let ran = good.as_ref().is_some_and(|good| good.uid == wanted.uid);
        let may_start =
            self.not_ready(&wanted).next().is_none() && (ran || !self.precedence.is_in_circle(id));
        let good = good.filter(|_| !ran && !wanted.recreate);
        match (&name.next, good) {
            // A dropped version has to be gone, or there could be two of one uid.
            (Some(next), _) if next.stage == NextStage::Dropped || next.pod.uid != wanted.uid => {}
            (Some(next), Some(good)) if next.is_not_had(may_start) => self.start_good(good, commands),
            (Some(next), Some(_)) if next.stage != NextStage::Ready => {}
            (None, Some(good)) if self.precedence.is_in_circle(id) => self.start_good(good, commands),
            (None, Some(_)) => self.begin_rehearsal(wanted, commands),
            (_, _) if !may_start => {}
            (Some(_), _) => {
                let uid = wanted.uid.clone();
                self.take_place(wanted, SetCommand::Proceed { uid }, commands);
            }
            (None, None) => self.take_place(Arc::clone(&wanted), SetCommand::Start(wanted), commands),
        }
    }

    /// Gives a Pod the place of its name, if there is a place on the node.
    fn take_place(&mut self, pod: Arc<Pod>, command: SetCommand, commands: &mut Vec<SetCommand>) {
        if !self.has_place() {
            return;
        }
        let name = self.name(&pod.id);
        name.next.take_if(|next| next.pod.uid == pod.uid);
        name.instance = Some(Instance::new(pod));
        commands.push(command);
    }

    /// A Pod that is being stopped still has its place.
    fn has_place(&self) -> bool {
        let taken = || self.names.values().filter(|name| name.instance.is_some()).count();
        self.max_pods.is_none_or(|max| taken() < max as usize)
    }
}

mod good;
mod precedence;
mod problems;
