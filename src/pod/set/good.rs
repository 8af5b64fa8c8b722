//! The last good version of each Pod: the one that ran last. It comes back after a power cut where the file's version cannot be
//! read or prepared (docs/adr/016-rehearsal.md).

use super::*;

/// What is saved of one Pod of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Good {
    pub pod: Arc<Pod>,
    /// A container of it was started once. Before one was, it is what the file said last: better than nothing, where that can
    /// no longer be read.
    pub ran: bool,
}

impl Good {
    pub(super) fn discarded(&self) -> SetCommand {
        SetCommand::Discard { uid: self.pod.uid.clone() }
    }

    fn is(&self, other: &Good) -> bool {
        self.ran == other.ran && self.pod.uid == other.pod.uid
    }
}

impl Next {
    /// Whether what ran last shall run meanwhile. `may_start`: it is its turn, as `podkeep.io/after` has it.
    pub(super) fn is_not_had(&self, may_start: bool) -> bool {
        match &self.stage {
            NextStage::Rehearsing(None) => self.takes_time,
            NextStage::Rehearsing(Some(_)) => true,
            NextStage::Ready => !may_start,
            NextStage::Dropped => false,
        }
    }
}

impl Set {
    /// Every version of a Pod that a file asks for, or that may come back in its place.
    pub fn uids(&self) -> BTreeSet<&Uid> {
        let asked = self.files.values().flat_map(|file| &file.pods);
        let good = self.files.values().flat_map(|file| &file.good).map(|good| &good.pod);
        order::set(asked.chain(good).map(|pod| &pod.uid))
    }

    pub(super) fn note_begun(&mut self, uid: &Uid, id: &PodId) {
        let instance = self.names.get_mut(id).and_then(|name| name.instance.as_mut());
        if let Some(instance) = instance.filter(|instance| instance.pod.uid == *uid) {
            instance.ran = true;
        }
    }

    /// Where nothing is on the machine, nobody waits for what takes time.
    pub(super) fn note_what_takes_time(&mut self, touched: &mut BTreeSet<PodId>) {
        for (id, name) in self.names.iter_mut().filter(|(_, name)| name.instance.is_none()) {
            if let Some(next) = &mut name.next {
                next.takes_time = true;
                touched.insert(id.clone());
            }
        }
    }

    /// Sees to it that of each of these names what ran last is saved, for the file that owns the name.
    pub(super) fn keep_good(&mut self, ids: &BTreeSet<PodId>, commands: &mut Vec<SetCommand>) {
        let owners = ids.iter().filter_map(|id| self.origin(id));
        for origin in order::set(owners.cloned()) {
            self.keep_good_of(&origin, commands);
        }
    }

    pub(super) fn keep_good_of(&mut self, origin: &Origin, commands: &mut Vec<SetCommand>) {
        let Some(file) = self.files.get(origin) else { return };
        let known = order::map(file.good.iter().map(|good| (&good.pod.id, good)));
        let good: Vec<_> =
            file.pods.iter().map(|pod| self.good_of(origin, pod, known.get(&pod.id))).collect();
        let is_same = |good: &[Good], other: &[Good]| {
            good.len() == other.len() && good.iter().zip(other).all(|(good, other)| good.is(other))
        };
        let Some(file) =
            self.files.get_mut(origin).filter(|file| !file.is_saved || !is_same(&file.good, &good))
        else {
            return;
        };
        file.is_saved = true;
        let before = mem::replace(&mut file.good, good.clone());
        good.iter().for_each(|good| self.precedence.add(&good.pod));
        before.iter().for_each(|good| self.precedence.remove(&good.pod));
        let is_kept = |lost: &Good| good.iter().any(|kept| kept.pod.uid == lost.pod.uid);
        commands.extend(before.iter().filter(|lost| !is_kept(lost)).map(Good::discarded));
        commands.push(SetCommand::SaveGood { origin: origin.clone(), pods: good });
    }

    /// What runs, else what ran last, else what is asked for.
    fn good_of(&self, origin: &Origin, asked: &Arc<Pod>, known: Option<&&Good>) -> Good {
        let name = self.names.get(&asked.id).filter(|name| name.claimants.first() == Some(origin));
        let instance = name.and_then(|name| name.instance.as_ref());
        match instance.filter(|instance| instance.ran && instance.stays()) {
            Some(instance) => Good { pod: Arc::clone(&instance.pod), ran: true },
            None => match known {
                Some(known) if known.ran => (*known).clone(),
                _ => Good { pod: Arc::clone(asked), ran: false },
            },
        }
    }

    /// The version of a file's Pod that ran last, if one ever did.
    pub(super) fn last_good(&self, origin: &Origin, id: &PodId) -> Option<&Arc<Pod>> {
        let file = self.files.get(origin)?;
        // They stand in the order of what is asked for.
        let good = file.good.get(file.place(id)?)?;
        (good.pod.id == *id && good.ran).then_some(&good.pod)
    }

    /// Starts what ran last, with no regard to circles: what ran before they were closed comes back.
    pub(super) fn start_good(&mut self, good: Arc<Pod>, commands: &mut Vec<SetCommand>) {
        if self.not_ready(&good).next().is_none() {
            self.take_place(Arc::clone(&good), SetCommand::Start(good), commands);
        }
    }
}
