//! Which Pods come after which (`podkeep.io/after`): their start, and in reverse their end.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the Pods of all files say of each other.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    /// Those that others come after: which, in how many versions. They do, or would if the name were theirs.
    awaited: BTreeMap<PodId, BTreeMap<PodId, usize>>,
    /// Those of which something may have changed since circles were looked for.
    changed: BTreeSet<PodId>,
    /// Each begins with the first of its names. Every Pod that is in any circle is in one of these.
    circles: Vec<Vec<PodId>>,
}

impl Precedence {
    pub fn is_awaited(&self, id: &PodId) -> bool {
        self.awaited.contains_key(id)
    }

    pub fn is_in_circle(&self, id: &PodId) -> bool {
        self.circles.iter().any(|circle| circle.contains(id))
    }

    pub fn circles(&self) -> &[Vec<PodId>] {
        &self.circles
    }

    /// A file asks for these Pods now, and no more for those before.
    pub fn changes(&mut self, before: &[Arc<Pod>], now: &[Arc<Pod>]) {
        now.iter().for_each(|pod| self.add(pod));
        before.iter().for_each(|pod| self.remove(pod));
        for pod in before.iter().chain(now) {
            if !pod.after.is_empty() || self.is_awaited(&pod.id) {
                self.changed.insert(pod.id.clone());
            }
        }
    }

    /// A version of a Pod that may start.
    pub fn add(&mut self, pod: &Pod) {
        for id in &pod.after {
            *self.awaited.entry(id.clone()).or_default().entry(pod.id.clone()).or_default() += 1;
        }
    }

    pub fn remove(&mut self, pod: &Pod) {
        for id in &pod.after {
            let Some(later) = self.awaited.get_mut(id) else { continue };
            if let Some(versions) = later.get_mut(&pod.id) {
                *versions -= 1;
                if *versions == 0 {
                    later.remove(&pod.id);
                }
            }
            if later.is_empty() {
                self.awaited.remove(id);
            }
        }
    }

    /// What comes after others may be another version now.
    pub fn has_another_owner(&mut self, id: &PodId) {
        if self.is_awaited(id) {
            self.changed.insert(id.clone());
        }
    }
}

/// Those that shall end, in the reverse order of their start.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Of those that are not gone: how many come after each Pod.
    awaited: BTreeMap<PodId, usize>,
    /// They have begun to end, or those that they waited for are gone.
    to_see: BTreeSet<PodId>,
    waiting: BTreeSet<PodId>,
    /// How many were told to stop and are not gone.
    stopping: usize,
}

impl Ends {
    pub fn begins(&mut self, pod: &Pod) {
        for id in &pod.after {
            *self.awaited.entry(id.clone()).or_default() += 1;
        }
        self.waiting.insert(pod.id.clone());
        self.to_see.insert(pod.id.clone());
    }

    pub fn stops(&mut self, id: &PodId) {
        self.waiting.remove(id);
        self.stopping += 1;
    }

    pub fn is_gone(&mut self, gone: &Instance) {
        match gone.course {
            Course::Stays => return,
            Course::Ends(_) => {
                self.waiting.remove(&gone.pod.id);
            }
            Course::Stops => self.stopping -= 1,
        }
        for id in &gone.pod.after {
            let Some(awaited) = self.awaited.get_mut(id) else { continue };
            *awaited -= 1;
            if *awaited == 0 {
                self.awaited.remove(id);
                self.to_see.insert(id.clone());
            }
        }
    }

    /// Those that wait for nobody any more.
    fn free(&mut self) -> BTreeSet<PodId> {
        let mut free = mem::take(&mut self.to_see);
        free.retain(|id| self.waiting.contains(id) && !self.awaited.contains_key(id));
        // Edits may leave versions on the machine that come after each other: nobody is left to wait for then.
        let nothing_moves = free.is_empty() && self.stopping == 0;
        if nothing_moves { self.waiting.clone() } else { free }
    }
}

impl Set {
    /// Finds out who is in a circle, after changes to what some Pods come after: none comes to be or goes that has none of these in
    /// it. Those that are in one now, or were, are touched: it holds up nobody any more, or holds up all.
    pub(super) fn see_circles(&mut self, touched: &mut BTreeSet<PodId>) {
        let changed = mem::take(&mut self.precedence.changed);
        if changed.is_empty() {
            return;
        }
        let before = mem::take(&mut self.precedence.circles);
        let (open, mut circles): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|circle| circle.iter().any(|id| changed.contains(id)));
        let mut suspects = order::set(open.iter().flatten().cloned());
        for id in changed.iter().filter(|id| self.precedence.is_awaited(id)) {
            let reached = self.reached_from(id);
            if reached.contains_key(id) {
                suspects.extend(reached.into_keys().cloned());
            }
        }
        for id in &suspects {
            if !circles.iter().any(|circle| circle.contains(id)) {
                circles.extend(self.circle_of(id));
            }
        }
        touched.extend(suspects);
        order::sort(&mut circles);
        self.precedence.circles = circles;
    }

    /// All that a Pod comes after, and all that those come after, each with the one that comes after it.
    fn reached_from<'a>(&'a self, id: &'a PodId) -> BTreeMap<&'a PodId, &'a PodId> {
        let mut reached = BTreeMap::new();
        let mut open = vec![id];
        while let Some(later) = open.pop() {
            let owner = self.origin(later).and_then(|origin| self.asked(origin, later));
            for earlier in owner.iter().flat_map(|pod| &pod.after) {
                if !reached.contains_key(earlier) {
                    reached.insert(earlier, later);
                    open.push(earlier);
                }
            }
        }
        reached
    }

    /// A circle that a Pod is in: each comes after the next one.
    fn circle_of(&self, id: &PodId) -> Option<Vec<PodId>> {
        let reached = self.reached_from(id);
        let (mut circle, mut at) = (Vec::new(), *reached.get(id)?);
        while at != id {
            circle.push(at.clone());
            at = reached.get(at)?;
        }
        circle.push(id.clone());
        circle.reverse();
        let first = (0..circle.len()).min_by_key(|place| &circle[*place])?;
        circle.rotate_left(first);
        Some(circle)
    }

    /// Those that come after a Pod.
    pub(super) fn those_after(&self, id: &PodId) -> Vec<PodId> {
        let later = self.precedence.awaited.get(id).into_iter().flat_map(BTreeMap::keys);
        later.cloned().collect()
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
        for id in self.ends.free() {
            let Some(instance) = self.names.get_mut(&id).and_then(|name| name.instance.as_mut()) else {
                continue;
            };
            if let Course::Ends(why) = mem::replace(&mut instance.course, Course::Stops) {
                self.ends.stops(&id);
                commands.push(SetCommand::Stop { uid: instance.pod.uid.clone(), why });
            }
        }
    }
}
