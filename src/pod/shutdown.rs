//! The end of all Pods: those of low priority first, and of two that come after each other (`podkeep.io/after`) the later one
//! first, within the time that the node has (`K/nodeshutdown/`).

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::BootTime;
use crate::manifest::{Pod, PodId, Uid};
use crate::order;

/// From this priority on Pods are critical (`system-cluster-critical`).
pub const CRITICAL: i32 = 2_000_000_000;

/// How long a Pod that is killed may take to be gone before nobody waits for it.
const TO_DIE: Duration = Duration::from_secs(10);

/// What Pods of one range of priorities get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The least priority of the range; the next period begins the next range. What lies below all is of the first one.
    pub priority: i32,
    /// From the end of those before them; `None`: as long as their own grace periods say.
    pub within: Option<Duration>,
}

/// All Pods on their way off the node.
#[derive(Debug)]
pub struct Shutdown {
    groups: VecDeque<Group>,
}

#[derive(Debug)]
struct Group {
    within: Option<Duration>,
    /// Once it is this group's turn.
    until: Option<BootTime>,
    /// Those that nobody waits for were told.
    is_begun: bool,
    pods: Vec<Ending>,
    /// How many of them come after each Pod and are waited for; of those that come after none, it is not here.
    awaited: BTreeMap<PodId, usize>,
    /// Those that nobody waits for any more since the last look.
    freed: Vec<PodId>,
}

#[derive(Debug)]
struct Ending {
    pod: Arc<Pod>,
    course: Course,
    /// When it is late, once it was told.
    until: Option<BootTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Runs,
    Stops,
    /// Its time is over and it is being killed, or cannot be: nobody waits for it.
    Late,
}

impl Shutdown {
    /// `periods`: by ascending priority, at least one.
    pub fn new(pods: Vec<Arc<Pod>>, periods: &[Period]) -> Shutdown {
        let mut groups: VecDeque<Group> = periods.iter().map(|period| Group::new(period.within)).collect();
        let of_each = group_of_each(&pods, periods);
        for (pod, group) in pods.into_iter().zip(of_each) {
            groups[group].add(pod);
        }
        Shutdown { groups }
    }

    /// Which Pods are to be stopped now, and within what time if not within their own grace period.
    pub fn step(&mut self, gone: Option<&Uid>, now: BootTime) -> Vec<(Uid, Option<Duration>)> {
        if let Some(gone) = gone {
            self.groups.iter_mut().for_each(|group| group.forget(gone));
        }
        let mut stops = Vec::new();
        while let Some(group) = self.groups.front_mut() {
            let within = group.within;
            group.until = group.until.or_else(|| within.map(|within| now + within));
            group.note_late(now);
            stops.extend(group.stop_those_that_may(now));
            let nobody_is_left = group.pods.iter().all(|ending| ending.course == Course::Late);
            let is_over = nobody_is_left || group.until.is_some_and(|until| until <= now);
            if !is_over || self.groups.len() == 1 {
                break;
            }
            let late = self.groups.pop_front().map(|group| group.pods);
            let late = late.into_iter().flatten().map(|ending| Ending { course: Course::Late, ..ending });
            if let Some(next) = self.groups.front_mut() {
                next.pods.extend(late);
            }
        }
        stops
    }

    /// When the time of a group or of one Pod is over.
    pub fn deadline(&self) -> Option<BootTime> {
        let group = self.groups.front()?;
        let is_over_then =
            self.groups.len() > 1 || group.pods.iter().any(|ending| ending.course == Course::Runs);
        let stopping = group.pods.iter().filter(|ending| ending.course == Course::Stops);
        stopping.filter_map(|ending| ending.until).chain(group.until).filter(|_| is_over_then).min()
    }
}

impl Group {
    fn new(within: Option<Duration>) -> Group {
        Group {
            within,
            until: None,
            is_begun: false,
            pods: Vec::new(),
            awaited: BTreeMap::new(),
            freed: Vec::new(),
        }
    }

    fn add(&mut self, pod: Arc<Pod>) {
        for id in &pod.after {
            *self.awaited.entry(id.clone()).or_default() += 1;
        }
        self.pods.push(Ending { pod, course: Course::Runs, until: None });
    }

    fn forget(&mut self, uid: &Uid) {
        let Some(at) = self.pods.iter().position(|ending| ending.pod.uid == *uid) else { return };
        let gone = self.pods.remove(at);
        if gone.course != Course::Late {
            self.let_go(&gone.pod);
        }
    }

    /// Nobody waits any more for this Pod to be gone.
    fn let_go(&mut self, pod: &Pod) {
        for id in &pod.after {
            let Some(awaited) = self.awaited.get_mut(id) else { continue };
            *awaited -= 1;
            if *awaited == 0 {
                self.awaited.remove(id);
                self.freed.push(id.clone());
            }
        }
    }

    /// One that cannot be killed (an uninterruptible sleep) keeps no other from its turn.
    fn note_late(&mut self, now: BootTime) {
        for at in 0..self.pods.len() {
            let ending = &mut self.pods[at];
            if ending.course == Course::Stops && ending.until.is_some_and(|until| until <= now) {
                ending.course = Course::Late;
                let pod = Arc::clone(&ending.pod);
                self.let_go(&pod);
            }
        }
    }

    fn stop_those_that_may(&mut self, now: BootTime) -> Vec<(Uid, Option<Duration>)> {
        let freed = mem::take(&mut self.freed);
        let may: Vec<bool> = match mem::replace(&mut self.is_begun, true) {
            _ if self.until.is_some_and(|until| until <= now) => vec![true; self.pods.len()],
            // With a thousand Pods, not each one's end is looked at for all of them.
            true if freed.is_empty() => vec![false; self.pods.len()],
            true => self.pods.iter().map(|ending| freed.contains(&ending.pod.id)).collect(),
            false => self.pods.iter().map(|ending| !self.awaited.contains_key(&ending.pod.id)).collect(),
        };
        let told = self.tell(&may, now);
        // Edits may leave versions on the machine that come after each other: nobody is left to wait for then.
        let nothing_moves = told.is_empty() && self.pods.iter().all(|ending| ending.course != Course::Stops);
        if nothing_moves { self.tell(&vec![true; self.pods.len()], now) } else { told }
    }

    /// Those of these that run.
    fn tell(&mut self, which: &[bool], now: BootTime) -> Vec<(Uid, Option<Duration>)> {
        let left = self.until.map(|until| until.max(now) - now);
        let pods = self.pods.iter_mut().zip(which);
        let untold = pods.filter(|(ending, is_meant)| ending.course == Course::Runs && **is_meant);
        untold
            .map(|(ending, _)| {
                ending.course = Course::Stops;
                let grace =
                    left.map_or(ending.pod.termination_grace, |left| left.min(ending.pod.termination_grace));
                ending.until = Some(now + grace + TO_DIE);
                (ending.pod.uid.clone(), left)
            })
            .collect()
    }
}

/// The group of each Pod's priority; or that of a Pod which comes after it, where that is a later one.
fn group_of_each(pods: &[Arc<Pod>], periods: &[Period]) -> Vec<usize> {
    let by_priority =
        |pod: &Arc<Pod>| periods.iter().rposition(|period| period.priority <= pod.priority).unwrap_or(0);
    let mut groups: Vec<usize> = pods.iter().map(by_priority).collect();
    let places = order::map(pods.iter().enumerate().map(|(place, pod)| (&pod.id, place)));
    let mut raised: Vec<usize> = (0..pods.len()).collect();
    while let Some(later) = raised.pop() {
        for earlier in pods[later].after.iter().filter_map(|id| places.get(id)) {
            if groups[*earlier] < groups[later] {
                groups[*earlier] = groups[later];
                raised.push(*earlier);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32, after: &[&str]) -> Arc<Pod> {
        let id = |name: &str| PodId { namespace: "default".to_owned(), name: name.to_owned() };
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        let uid = Uid::parse(&format!("{hex:0>32}")).unwrap();
        let after = after.iter().map(|name| id(name)).collect();
        Arc::new(Pod { priority, after, ..Pod::plain(id(name), uid, Vec::new()) })
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from(Duration::from_secs(1000 + seconds))
    }

    struct Story {
        shutdown: Shutdown,
        pods: Vec<Arc<Pod>>,
    }

    impl Story {
        fn new(pods: Vec<Arc<Pod>>, periods: &[(i32, Option<u64>)]) -> Story {
            let period = |(priority, within): &(i32, Option<u64>)| Period {
                priority: *priority,
                within: within.map(Duration::from_secs),
            };
            let periods: Vec<_> = periods.iter().map(period).collect();
            Story { shutdown: Shutdown::new(pods.clone(), &periods), pods }
        }

        /// Who is stopped when this one is gone (or nobody), with the seconds it has.
        fn stops(&mut self, gone: &str, seconds: u64) -> String {
            let gone = self.pods.iter().find(|pod| pod.id.name == gone).map(|pod| pod.uid.clone());
            let stops = self.shutdown.step(gone.as_ref(), at(seconds));
            let told = |(uid, within): &(Uid, Option<Duration>)| {
                let pod = self.pods.iter().find(|pod| pod.uid == *uid).unwrap();
                let within = within.map(|within| format!(" {}", within.as_secs())).unwrap_or_default();
                format!("{}{within}", pod.id.name)
            };
            stops.iter().map(told).collect::<Vec<_>>().join(", ")
        }
    }

    #[test]
    fn the_critical_ones_end_last() {
        let pods =
            vec![pod("dns", CRITICAL, &[]), pod("a", 0, &[]), pod("b", 1000, &[]), pod("low", -5, &[])];
        let mut story = Story::new(pods, &[(0, None), (CRITICAL, None)]);
        assert_eq!(story.stops("", 0), "a, b, low");
        assert_eq!(story.stops("a", 1), "");
        assert_eq!(story.stops("low", 1), "");
        assert_eq!(story.stops("b", 100), "dns");
    }

    #[test]
    fn a_group_has_its_time_and_no_more() {
        let pods = vec![
            pod("a", 0, &[]),
            pod("b", 0, &["a"]),
            pod("dns", CRITICAL, &[]),
            pod("net", CRITICAL, &["a"]),
        ];
        let mut story = Story::new(pods, &[(0, Some(20)), (1000, Some(7)), (CRITICAL, Some(10))]);
        // `a` goes with the later one of those that come after it.
        assert_eq!(story.stops("", 0), "b 20");
        assert_eq!(story.shutdown.deadline(), Some(at(20)));
        assert_eq!(story.stops("", 19), "");
        // A group without Pods takes no time.
        assert_eq!(story.stops("", 20), "dns 10, net 10");
        // Nobody waits for `b` any more, which is late.
        assert_eq!(story.stops("net", 25), "a 5");
        assert_eq!(story.stops("b", 26), "");
        assert_eq!(story.shutdown.deadline(), None);
    }

    #[test]
    fn whom_nobody_stopped_in_time_is_stopped_at_its_end() {
        let pods = vec![pod("a", 0, &[]), pod("b", 0, &["a"])];
        let mut story = Story::new(pods, &[(0, Some(20)), (CRITICAL, Some(10))]);
        assert_eq!(story.stops("", 0), "b 20");
        assert_eq!(story.stops("", 20), "a 0");
    }

    #[test]
    fn one_that_cannot_be_killed_keeps_nobody_from_the_turn() {
        let pods = vec![pod("a", 0, &[]), pod("stuck", 0, &["a"]), pod("dns", CRITICAL, &[])];
        let mut story = Story::new(pods, &[(0, None), (CRITICAL, None)]);
        assert_eq!(story.stops("", 0), "stuck");
        // Its grace period of 30 s, and 10 s to die.
        assert_eq!(story.shutdown.deadline(), Some(at(40)));
        assert_eq!(story.stops("", 40), "a");
        assert_eq!(story.stops("a", 41), "dns");
    }

    #[test]
    fn versions_that_come_after_each_other_end_all_the_same() {
        let pods = vec![pod("a", 0, &["b"]), pod("b", 0, &["a"])];
        let mut story = Story::new(pods, &[(0, None)]);
        assert_eq!(story.stops("", 0), "a, b");
    }

    #[test]
    fn time_runs_from_the_end_of_those_before() {
        let mut story = Story::new(vec![pod("a", 0, &[]), pod("z", 10, &[])], &[(0, Some(5)), (10, Some(5))]);
        assert_eq!(story.stops("", 0), "a 5");
        assert_eq!(story.stops("a", 1), "z 5");
    }
}
