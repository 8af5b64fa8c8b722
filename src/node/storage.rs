//! What Pods write to the disk is measured, beside the loop, for those alone that have a limit; who exceeds it is evicted.
//!
//! Of a volume that has a project quota the file system is asked ([`volume::counted_by_quota`]); the rest is walked through.
//!
//! The loop asks the file systems how much is free, which costs nothing. What has a limit is walked through only when so much
//! less is free that a limit can be exceeded, or when anything has changed since the last walk and that is long ago.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock;
use super::pod_run::{PodNumber, PodRun};
use super::tasks::Tasks;
use super::worker::{Done, Worker};
use crate::logs::{container_log_dir, pod_log_dir};
use crate::manifest::Uid;
use crate::pod::storage::{self, Usage};
use crate::pod::{BootTime, Event};
use crate::sys::disk_usage::disk_usage;
use crate::volume;

/// Between two looks at what is free (`pkg/kubelet/kubelet.go:evictionMonitoringPeriod`).
const LOOK: Duration = Duration::from_secs(10);
/// So many times as long as a walk took there is none: it takes a twentieth of a processor and of the disk's time at most.
const REST: u32 = 20;

/// Bytes that are free where containers and emptyDirs lie, and where logs do.
type Free = [u64; 2];

/// When the node looks, and what it knows.
pub struct Measuring {
    /// Nobody waits for it when the worker ends.
    pub lane: Tasks<Done>,
    /// How old a measurement may become where anything has changed; `None`: nothing is measured.
    period: Option<Duration>,
    /// Those that have a limit and may be evicted.
    pods: BTreeSet<PodNumber>,
    /// `None` while a walk is under way, or there are none.
    look_at: Option<BootTime>,
    under_way: bool,
    /// `None` if it says nothing of one of them.
    last: Option<Walk>,
}

/// What the last walk found.
#[derive(Clone, Copy, Debug)]
struct Walk {
    began: BootTime,
    free: Free,
    /// The least that any of the Pods may still write.
    room: u64,
}

/// What came of a walk.
pub struct Measured {
    began: BootTime,
    free: Free,
    usages: Vec<(PodNumber, Usage)>,
}

impl Measuring {
    pub fn new(period: Option<Duration>) -> io::Result<Measuring> {
        let lane = Tasks::new(1)?;
        Ok(Measuring { lane, period, pods: BTreeSet::new(), look_at: None, under_way: false, last: None })
    }

    pub fn deadline(&self) -> Option<BootTime> {
        self.look_at
    }

    /// Says whether a Pod that has a limit may be evicted.
    pub fn set(&mut self, number: PodNumber, may_be: bool, now: BootTime) {
        if !may_be {
            self.pods.remove(&number);
            self.look_at = self.look_at.filter(|_| !self.pods.is_empty());
        } else if self.pods.insert(number) {
            self.last = None;
            self.look_after(Duration::ZERO, now);
        }
    }

    fn look_after(&mut self, rest: Duration, now: BootTime) {
        let Some(period) = self.period.filter(|_| !self.pods.is_empty() && !self.under_way) else { return };
        self.look_at.get_or_insert(now + LOOK.min(period).max(rest));
    }
}

impl Walk {
    /// Whether what it has found is good enough still.
    fn holds(&self, free: Free, period: Duration, now: BootTime) -> bool {
        let less: u64 = self.free.iter().zip(free).map(|(before, now)| before.saturating_sub(now)).sum();
        less <= self.room && (free == self.free || now - self.began < period)
    }
}

impl Worker {
    /// Looks whether somebody may have written more than it may, if it is time to.
    pub fn measure_storage(&mut self, now: BootTime) {
        let measuring = &mut self.measuring;
        let (Some(period), true) = (measuring.period, measuring.look_at.is_some_and(|at| at <= now)) else {
            return;
        };
        measuring.look_at = None;
        if self.ending.is_some() {
            return;
        }
        let folders = &self.options.folders;
        let free = [&folders.root, &folders.logs].map(|folder| free_in(folder));
        if measuring.last.is_some_and(|walk| walk.holds(free, period, now)) {
            return measuring.look_after(Duration::ZERO, now);
        }
        measuring.under_way = true;
        // Of those that come while it is under way it will know nothing.
        measuring.last = Some(Walk { began: now, free, room: 0 });
        let pods = self.measuring.pods.iter().filter_map(|number| Some((*number, self.pods.get(number)?)));
        let places: Vec<_> = pods.map(|(number, run)| (number, self.places_of(run))).collect();
        self.measuring.lane.add(move || {
            let usages = places.into_iter().map(|(number, places)| (number, places.measure())).collect();
            Done::StorageMeasured(Measured { began: now, free, usages })
        });
    }

    /// Evicts who has written more than it may.
    pub fn storage_measured(&mut self, measured: Measured) {
        let Measured { began, free, usages } = measured;
        let mut room = u64::MAX;
        for (number, usage) in usages {
            let Some(run) = self.pods.get(&number) else { continue };
            match storage::room(run.pod(), &usage) {
                Ok(left) => room = room.min(left),
                Err(message) => {
                    log::warn!("{}: evicted: {message}", run.pod().id);
                    self.tell(number, Event::StorageExceeded { message });
                }
            }
        }
        let now = clock::now();
        let measuring = &mut self.measuring;
        measuring.under_way = false;
        measuring.last = measuring.last.map(|_| Walk { began, free, room });
        measuring.look_after((now - began) * REST, now);
    }

    /// Where that lies which has to be measured of a Pod.
    fn places_of(&self, run: &PodRun) -> Places {
        let (pod, folders) = (run.pod(), &self.options.folders);
        let mut containers = Vec::new();
        if storage::limits_containers(pod) {
            let logs = pod_log_dir(&folders.logs, &pod.id.namespace, &pod.id.name, &pod.uid);
            containers.extend(pod.containers.iter().enumerate().map(|(index, container)| {
                let layer = folders.container_run(&pod.uid, &container.name, run.machine.attempt(index));
                [layer, container_log_dir(&logs, &container.name)]
            }));
        }
        let (folder, files) = (folders.pod(&pod.uid), folders.files_of(&pod.uid));
        let path = |volume| volume::host_source(volume, &folder, &files);
        let volumes =
            pod.volumes.iter().map(|volume| storage::is_counted(pod, volume).then(|| path(volume))?);
        let volumes = volumes.collect();
        Places { uid: pod.uid.clone(), host_users: pod.host_users, containers, volumes }
    }
}

/// In the Pod's order.
struct Places {
    uid: Uid,
    host_users: bool,
    /// The writable layer and the logs of each container.
    containers: Vec<[PathBuf; 2]>,
    volumes: Vec<Option<PathBuf>>,
}

impl Places {
    fn measure(self) -> Usage {
        let of_volume = |place: &Option<PathBuf>| place.as_ref().map_or(0, |path| self.measure_volume(path));
        Usage {
            containers: self
                .containers
                .iter()
                .map(|places| places.iter().map(|place| walk(place)).sum())
                .collect(),
            volumes: self.volumes.iter().map(of_volume).collect(),
        }
    }

    fn measure_volume(&self, path: &Path) -> u64 {
        match volume::counted_by_quota(&self.uid, path) {
            Some(counted) if !self.host_users => counted,
            // The kernel lets everybody take their own files out of a project, but for those in a user namespace.
            counted => walk(path).max(counted.unwrap_or(0)),
        }
    }
}

fn walk(path: &Path) -> u64 {
    disk_usage(path).unwrap_or_else(|errno| {
        log::warn!("measure {}: {errno}", path.display());
        0
    })
}

fn free_in(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bfree.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from(Duration::from_secs(seconds))
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const A: PodNumber = PodNumber(1);

    #[test]
    fn a_walk_is_good_until_a_limit_can_be_exceeded_or_it_is_old_and_something_has_changed() {
        let walk = Walk { began: at(0), free: [1000, 500], room: 100 };
        assert!(walk.holds([900, 500], MINUTE, at(10)), "all of it may be one Pod's, which may have it");
        assert!(!walk.holds([899, 500], MINUTE, at(10)));
        assert!(!walk.holds([950, 449], MINUTE, at(10)), "in layers and in logs");
        assert!(walk.holds([1001, 500], MINUTE, at(59)));
        assert!(!walk.holds([1001, 500], MINUTE, at(60)), "what one gave back another may have written");
        assert!(walk.holds([1000, 500], MINUTE, at(9999)), "nobody has written anything");
    }

    #[test]
    fn nobody_wakes_up_where_nothing_has_a_limit_or_the_configuration_says_so() {
        let mut measuring = Measuring::new(Some(MINUTE)).unwrap();
        assert_eq!(measuring.deadline(), None);
        measuring.set(A, true, at(0));
        measuring.set(A, true, at(5));
        assert_eq!(measuring.deadline(), Some(at(10)));
        measuring.set(A, false, at(7));
        assert_eq!(measuring.deadline(), None);
        let mut off = Measuring::new(None).unwrap();
        off.set(A, true, at(0));
        assert_eq!(off.deadline(), None);
    }

    #[test]
    fn a_walk_that_took_long_is_not_repeated_soon() {
        let mut measuring = Measuring::new(Some(MINUTE)).unwrap();
        measuring.set(A, true, at(0));
        measuring.look_at = None;
        measuring.look_after(Duration::from_secs(3) * REST, at(13));
        assert_eq!(measuring.deadline(), Some(at(73)));
        let mut often = Measuring::new(Some(Duration::from_secs(1))).unwrap();
        often.set(A, true, at(0));
        assert_eq!(often.deadline(), Some(at(1)), "as often as the configuration says");
    }
}
