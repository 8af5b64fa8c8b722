//! Which Pods come after which (`podkeep.io/after`): their start, and in reverse their end.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the Pods of all files say of each other, put together when one of them changes.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    /// Those that others come after, or would if the name were theirs.
    awaited: BTreeSet<PodId>,
    circles: Vec<Vec<PodId>>,
}

impl Precedence {
    fn new(awaited: BTreeSet<PodId>, after: &BTreeMap<&PodId, &[PodId]>) -> Precedence {
        let mut circles: Vec<Vec<PodId>> = Vec::new();
        for id in after.keys() {
            if circles.iter().any(|circle| circle.contains(id)) {
                continue;
            }
            let mut seen = BTreeSet::new();
            circles.extend(way_back_to(id, id, after, &mut seen));
        }
        Precedence { awaited, circles }
    }

    pub fn is_awaited(&self, id: &PodId) -> bool {
        self.awaited.contains(id)
    }

    pub fn is_in_circle(&self, id: &PodId) -> bool {
        self.circles.iter().any(|circle| circle.contains(id))
    }

    /// Whether there is any order at all.
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    pub fn circles(&self) -> &[Vec<PodId>] {
        &self.circles
    }

    /// Where nobody comes after anybody, there is nothing to be put together.
    pub fn may_change_by(&self, event: &SetEvent) -> bool {
        match event {
            SetEvent::Restored { pods, .. } => {
                !self.is_empty() || pods.iter().any(|good| !good.pod.after.is_empty())
            }
            SetEvent::FileRead { pods, .. } => {
                !self.is_empty() || pods.iter().any(|pod| !pod.after.is_empty())
            }
            SetEvent::FileGone { .. } | SetEvent::Listed { .. } => !self.is_empty(),
            _ => false,
        }
    }
}

/// A way from `at` to `goal` along what each comes after: `at` first, without the goal at its end.
fn way_back_to(
    goal: &PodId,
    at: &PodId,
    after: &BTreeMap<&PodId, &[PodId]>,
    seen: &mut BTreeSet<PodId>,
) -> Option<Vec<PodId>> {
    for next in *after.get(at)? {
        if next == goal {
            return Some(vec![at.clone()]);
        }
        if seen.insert(next.clone())
            && let Some(mut way) = way_back_to(goal, next, after, seen)
        {
            way.insert(0, at.clone());
            return Some(way);
        }
    }
    None
}

impl Set {
    /// What all that is asked for comes to.
    pub(super) fn precedence_now(&self) -> Precedence {
        let mut after = BTreeMap::new();
        for (id, name) in &self.names {
            let owner = name.claimants.first().and_then(|origin| self.asked(origin, id));
            if let Some(pod) = owner.filter(|pod| !pod.after.is_empty()) {
                after.insert(id, pod.after.as_slice());
            }
        }
        let files = || self.files.values();
        let good = files().flat_map(|file| &file.good).map(|good| &good.pod);
        let may_start = files().flat_map(|file| &file.pods).chain(good);
        let awaited = may_start.flat_map(|pod| pod.after.iter().cloned()).collect();
        Precedence::new(awaited, &after)
    }

    /// Those that come after a Pod, or would.
    pub(super) fn those_after(&self, id: &PodId) -> Vec<PodId> {
        if !self.precedence.is_awaited(id) {
            return Vec::new();
        }
        let is_after = |(own, name): &(&PodId, &Name)| {
            self.wanted(own, name).is_some_and(|(_, pod)| pod.after.contains(id))
        };
        self.names.iter().filter(is_after).map(|(own, _)| own.clone()).collect()
    }

    /// Whether all are Ready that this Pod comes after. In a circle it is nobody's turn.
    pub(super) fn is_its_turn(&self, pod: &Pod) -> bool {
        !self.precedence.is_in_circle(&pod.id) && self.not_ready(pod).next().is_none()
    }

    /// Those that a Pod still waits for.
    pub(super) fn not_ready<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a PodId> {
        let is_ready = |instance: &Instance| instance.ready && instance.stays();
        pod.after.iter().filter(move |id| {
            let instance = self.names.get(*id).and_then(|name| name.instance.as_ref());
            !instance.is_some_and(is_ready)
        })
    }

    /// Stops those that shall end, each when all are gone that come after it and end too.
    pub(super) fn stop_those_that_may(&mut self, commands: &mut Vec<SetCommand>) {
        let ending: Vec<_> = self.instances().filter(|instance| !instance.stays()).collect();
        if !ending.iter().any(|instance| matches!(instance.course, Course::Ends(_))) {
            return;
        }
        let holds_up = |id: &PodId| ending.iter().any(|other| other.pod.after.contains(id));
        let waiting = ending.iter().filter(|instance| instance.course != Course::Stops);
        let (held_up, free): (Vec<_>, Vec<_>) =
            waiting.map(|instance| instance.pod.id.clone()).partition(|id| holds_up(id));
        // Edits may leave versions on the machine that come after each other: nobody is left to wait for then.
        let nothing_moves = free.is_empty() && ending.iter().all(|instance| instance.course != Course::Stops);
        for id in if nothing_moves { held_up } else { free } {
            let Some(instance) = self.names.get_mut(&id).and_then(|name| name.instance.as_mut()) else {
                continue;
            };
            if let Course::Ends(why) = std::mem::replace(&mut instance.course, Course::Stops) {
                commands.push(SetCommand::Stop { uid: instance.pod.uid.clone(), why });
            }
        }
    }

    fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.names.values().filter_map(|name| name.instance.as_ref())
    }
}
