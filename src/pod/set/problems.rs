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

impl Set {
    /// Every problem there is now.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems_with(|_, _| true, |_, _| true)
    }

    /// Why a Pod that runs is not replaced by what its file asks for now, if that is so.
    pub fn not_replaced(&self, id: &PodId) -> Option<&str> {
        match &self.names.get(id)?.next.as_ref()?.stage {
            NextStage::Rehearsing(why) => why.as_deref(),
            NextStage::Ready | NextStage::Dropped => None,
        }
    }

    /// Equal Pods or objects in two files are no news: a renamed file is there under both names for a moment.
    pub(super) fn report_new(&mut self, commands: &mut Vec<SetCommand>) {
        let now = self.problems_with(|kept, other| kept.uid != other.uid, |kept, other| kept != other);
        let new = now.iter().filter(|problem| !self.reported.contains(problem));
        commands.extend(new.cloned().map(SetCommand::Report));
        self.reported = now;
    }

    /// `pods` and `objects` are asked, of two that have the same name, whether that is a problem.
    fn problems_with(
        &self,
        pods: impl Fn(&Pod, &Pod) -> bool,
        objects: impl Fn(&Object, &Object) -> bool,
    ) -> Vec<Problem> {
        let mut problems = self.broken_files();
        problems.extend(self.duplicates(pods));
        problems.extend(self.objects.duplicates(objects));
        problems.extend(self.names.iter().filter_map(|(id, name)| self.holds_up(id, name)));
        problems.extend(self.precedence.circles().iter().map(|ids| Problem::Circle { ids: ids.clone() }));
        problems
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

    /// Why what is wanted under a name is not on the machine.
    fn holds_up(&self, id: &PodId, name: &Name) -> Option<Problem> {
        let is_there = name.instance.as_ref().is_some_and(Instance::stays);
        if name.instance.is_some() && name.next.is_none() && self.precedence.is_empty() {
            return None;
        }
        let (origin, pod) = self.wanted(id, name)?;
        let is_on_its_way =
            name.instance.as_ref().is_some_and(|instance| !is_there || instance.pod.uid == pod.uid);
        if is_on_its_way || self.precedence.is_in_circle(id) {
            return None;
        }
        let (id, origin) = (id.clone(), origin.clone());
        if let Some(message) = self.not_replaced(&id) {
            return Some(Problem::NotReplaced { message: message.to_owned(), id, origin });
        }
        if !self.is_its_turn(pod) {
            return Some(Problem::Waits { after: self.not_ready(pod).cloned().collect(), id, origin });
        }
        let max = self.max_pods.filter(|_| !is_there && !self.has_place())?;
        Some(Problem::OutOfPods { id, origin, max })
    }
}
