//! What stands in the way of files and Pods.

use super::*;

/// What stands in the way of a file or a Pod right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `keeps`: the Pods of the last good version, which stay.
    Broken { origin: Origin, message: String, keeps: Vec<PodId> },
    /// `origin` asks for a Pod whose name `kept` has.
    Duplicate { id: PodId, origin: Origin, kept: Origin },
    /// `origin` holds a ConfigMap or Secret whose name `kept` has.
    DuplicateObject { id: ObjectId, origin: Origin, kept: Origin },
    /// `maxPods` Pods are there already; it is started when one of them is gone.
    OutOfPods { id: PodId, origin: Origin, max: u32 },
    /// The new version that `origin` asks for cannot be prepared as things are: the old one runs on.
    NotReplaced { id: PodId, origin: Origin, message: String },
    /// It starts after these, which are not Ready.
    Waits { id: PodId, origin: Origin, after: Vec<PodId> },
    /// Each of these Pods comes after the next one, and the last after the first: none of them starts.
    Circle { ids: Vec<PodId> },
}

/// What a problem is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    File(Origin),
    Name(PodId),
    Objects,
    Circles,
}

impl Set {
    /// Every problem there is now.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.files.keys().filter_map(|origin| self.broken(origin)).collect();
        problems.extend(self.names.keys().flat_map(|id| self.duplicates(id, |_, _| true)));
        problems.extend(self.objects.duplicates(|_, _| true));
        problems.extend(self.names.keys().filter_map(|id| self.holds_up(id)));
        problems.extend(self.circles());
        problems
    }

    /// Why a Pod that runs is not replaced by what its file asks for now, if that is so.
    pub fn not_replaced(&self, id: &PodId) -> Option<&str> {
        match &self.names.get(id)?.next.as_ref()?.stage {
            NextStage::Rehearsing(why) => why.as_deref(),
            NextStage::Ready | NextStage::Dropped => None,
        }
    }

    /// Reports what came to be a problem of this file or these names. Equal Pods or objects in two files are no news: a renamed file
    /// is there under both names for a moment.
    pub(super) fn report_new(
        &mut self,
        file: Option<Origin>,
        touched: &BTreeSet<PodId>,
        commands: &mut Vec<SetCommand>,
    ) {
        if let Some(origin) = file {
            let broken = self.broken(&origin).into_iter().collect();
            self.report(Subject::File(origin), broken, commands);
        }
        for id in touched {
            let duplicates = self.duplicates(id, |kept, other| kept.uid != other.uid);
            let all = duplicates.into_iter().chain(self.holds_up(id)).collect();
            self.report(Subject::Name(id.clone()), all, commands);
        }
        let circles = self.circles().collect();
        self.report(Subject::Circles, circles, commands);
    }

    pub(super) fn report(&mut self, subject: Subject, now: Vec<Problem>, commands: &mut Vec<SetCommand>) {
        let before = match now.is_empty() {
            true => self.reported.remove(&subject),
            false => self.reported.insert(subject, now.clone()),
        };
        let before = before.unwrap_or_default();
        let new = now.into_iter().filter(|problem| !before.contains(problem));
        commands.extend(new.map(SetCommand::Report));
    }

    fn broken(&self, origin: &Origin) -> Option<Problem> {
        let file = self.files.get(origin)?;
        let message = file.broken.clone()?;
        let keeps = file.pods.iter().map(|pod| pod.id.clone()).collect();
        Some(Problem::Broken { origin: origin.clone(), message, keeps })
    }

    fn circles(&self) -> impl Iterator<Item = Problem> {
        self.precedence.circles().iter().map(|ids| Problem::Circle { ids: ids.clone() })
    }

    /// Files that ask for a name that another one has; `which` is asked about the owner's Pod and the other one.
    fn duplicates(&self, id: &PodId, which: impl Fn(&Pod, &Pod) -> bool) -> Vec<Problem> {
        let claimants = self.names.get(id).map_or(&[][..], |name| &name.claimants);
        let Some((kept, others)) = claimants.split_first() else { return Vec::new() };
        let loses = |origin: &&Origin| match (self.asked(kept, id), self.asked(origin, id)) {
            (Some(kept), Some(other)) => which(kept, other),
            _ => false,
        };
        let duplicate = |origin: &Origin| Problem::Duplicate {
            id: id.clone(),
            origin: origin.clone(),
            kept: kept.clone(),
        };
        others.iter().filter(loses).map(duplicate).collect()
    }

    /// Why what is wanted under a name is not on the machine.
    fn holds_up(&self, id: &PodId) -> Option<Problem> {
        let name = self.names.get(id)?;
        let is_there = name.instance.as_ref().is_some_and(Instance::stays);
        let (origin, pod) = self.wanted(id, name)?;
        let is_on_its_way =
            name.instance.as_ref().is_some_and(|instance| !is_there || instance.pod.uid == pod.uid);
        if is_on_its_way || self.precedence.is_in_circle(id) {
            return None;
        }
        let (id, origin) = (id.clone(), origin.clone());
        if let Some(message) = self.not_replaced(&id).filter(|_| is_there) {
            return Some(Problem::NotReplaced { message: message.to_owned(), id, origin });
        }
        if !self.is_its_turn(pod) {
            return Some(Problem::Waits { after: self.not_ready(pod).cloned().collect(), id, origin });
        }
        let max = self.max_pods.filter(|_| !is_there && !self.has_place())?;
        Some(Problem::OutOfPods { id, origin, max })
    }
}
