//! Everything under one root of ours: where that root is, the QoS classes and the Pods in it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fgetxattr, open};

use super::group::{DIRECTORY, Group};
use super::mount::{self, Mount};
use super::{Controller, Error, PodCgroupName, PodLimits};
use crate::manifest::pod::QosClass;

/// Below the top of the hierarchy, unless the configuration or a service manager gives another root.
const DEFAULT_ROOT: &str = "podkeep";
/// Where podkeep's own processes live in a delegated root: a group with controllers below has no processes itself.
const NODE_LEAF: &str = "node";
/// New processes may be forked while others are being moved.
const MOVE_ROUNDS: usize = 10;

/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// podkeep's part of the cgroup v2 hierarchy.
#[derive(Debug)]
pub struct Tree {
    root: Group,
    classes: Classes,
    missing: Vec<Controller>,
    delegated: bool,
    /// Nobody else's, as long as it is open.
    _lock: Option<OwnedFd>,
}

#[derive(Debug)]
struct Classes {
    guaranteed: Group,
    burstable: Group,
    best_effort: Group,
}

/// A Pod's group that was there already, to be taken over or cleaned up.
#[derive(Debug)]
pub struct ExistingPod {
    pub qos: QosClass,
    pub name: PodCgroupName,
    pub group: Group,
}

impl Tree {
    /// Finds the cgroup2 mount, chooses the root, makes it, and turns the controllers on from the top down.
    ///
    /// The root is `cgroup_root` where given (a path below the mount, such as `/podkeep-test`); otherwise the subtree
    /// that a service manager has delegated to us (`Delegate=yes`: the extended attribute `trusted.delegate` or
    /// `user.delegate` is `1` on our own group); otherwise `/podkeep`. In a delegated root, every process that is
    /// there (podkeep's own) is moved into the leaf `node`.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process has a tree open at that root. No cgroup2 mount, a malformed `cgroup_root`, or a
    /// kernel that refuses to make a group. That a controller is missing is none: see [`Tree::missing_controllers`].
    pub fn open(cgroup_root: Option<&str>) -> Result<Tree, Error> {
        let mount = Mount::find()?;
        let top = open_top(&mount)?;
        let place = Place::choose(cgroup_root, &mount)?;
        let mut root = place.make(top)?;
        let lock = root.lock()?;
        if place.delegated {
            move_into_leaf(&root)?;
        }
        let missing = root.enable_below()?.missing();
        let classes = Classes::make(&root)?;
        Ok(Tree { root, classes, missing, delegated: place.delegated, _lock: lock })
    }

    /// What this host cannot enforce: on a hybrid host, the controllers that are bound to cgroup v1.
    pub fn missing_controllers(&self) -> &[Controller] {
        &self.missing
    }

    /// The root, as `/proc/PID/cgroup` shows it.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Makes a Pod's group, or opens the one that is there, and writes its limits.
    pub fn pod(&self, qos: QosClass, name: &PodCgroupName, limits: &PodLimits) -> Result<Group, Error> {
        let mut pod = self.classes.get(qos).ensure(name.as_str())?;
        pod.limit_pod(limits)?;
        pod.enable_below()?;
        Ok(pod)
    }

    /// A Pod's group as it is, limits untouched; `None` if there is none.
    pub fn existing_pod(&self, qos: QosClass, name: &PodCgroupName) -> Result<Option<Group>, Error> {
        let mut pod = self.classes.get(qos).existing_child(name.as_str())?;
        if let Some(pod) = &mut pod {
            pod.enable_below()?;
        }
        Ok(pod)
    }

    /// Every Pod's group in the tree: to take over, or to clean up what belongs to no Pod.
    pub fn existing_pods(&self) -> Result<Vec<ExistingPod>, Error> {
        let mut pods = Vec::new();
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for directory in self.classes.get(qos).children()? {
                let Some(name) = directory.to_str().and_then(PodCgroupName::parse) else { continue };
                let Some(group) = self.existing_pod(qos, &name)? else { continue };
                pods.push(ExistingPod { qos, name, group });
            }
        }
        Ok(pods)
    }

    /// Sets a class's share of the processor: by the sum of the cpu requests (thousandths of a core) of its Pods that
    /// run now. BestEffort has the least weight from the start and keeps it.
    pub fn weigh_class(&self, qos: QosClass, cpu_request_milli: u64) -> Result<(), Error> {
        self.classes.get(qos).weigh(cpu_request_milli)
    }

    /// Removes the classes and the root where nothing is left in them; says whether all of them are gone.
    ///
    /// A delegated root stays, for the service manager removes it; so do the groups above ours.
    pub fn remove_if_empty(self) -> Result<bool, Error> {
        let Classes { guaranteed, burstable, best_effort } = &self.classes;
        let mut gone = true;
        for class in [guaranteed, burstable, best_effort] {
            gone &= remove_unless_busy(class)?;
        }
        if gone && !self.delegated && self.root.path() != Path::new("/") {
            gone = remove_unless_busy(&self.root)?;
        }
        Ok(gone)
    }
}

impl Classes {
    fn make(root: &Group) -> Result<Classes, Error> {
        let make = |name| {
            let mut class = root.ensure(name)?;
            class.enable_below()?;
            Ok(class)
        };
        let classes = Classes {
            guaranteed: make("guaranteed")?,
            burstable: make("burstable")?,
            best_effort: make("besteffort")?,
        };
        classes.best_effort.weigh(0)?;
        Ok(classes)
    }

    fn get(&self, qos: QosClass) -> &Group {
        match qos {
            QosClass::Guaranteed => &self.guaranteed,
            QosClass::Burstable => &self.burstable,
            QosClass::BestEffort => &self.best_effort,
        }
    }
}

/// Where the root is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// From the top of the mount down.
    names: Vec<String>,
    delegated: bool,
}

impl Place {
    fn choose(cgroup_root: Option<&str>, mount: &Mount) -> Result<Place, Error> {
        if let Some(root) = cgroup_root {
            return Ok(Place { names: checked_names(root)?, delegated: false });
        }
        Ok(match delegated_root(mount)? {
            Some(names) => Place { names, delegated: true },
            None => Place { names: vec![DEFAULT_ROOT.to_owned()], delegated: false },
        })
    }

    /// Makes what is missing of the path. Above a delegated root, the controllers are the service manager's matter.
    fn make(&self, top: Group) -> Result<Group, Error> {
        let mut group = top;
        for name in &self.names {
            if !self.delegated {
                group.enable_below()?;
            }
            group = group.ensure(name)?;
        }
        Ok(group)
    }
}

fn checked_names(root: &str) -> Result<Vec<String>, Error> {
    let names: Vec<_> = root.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let is_plain = |name: &String| name != "." && name != ".." && !name.contains('\0');
    names.iter().all(is_plain).then_some(names).ok_or_else(|| Error::BadRoot(root.to_owned()))
}

/// Our own group, or the one above if ours is the leaf of an earlier start, if it is marked as delegated.
///
/// Groups further up are not asked: there, the delegation was meant for another manager (`user@1000.service`).
fn delegated_root(mount: &Mount) -> Result<Option<Vec<String>>, Error> {
    let own = mount::cgroup_of("self")?;
    let root = if own.ends_with(NODE_LEAF) { own.parent().unwrap_or(&own) } else { &own };
    let Ok(below_top) = root.strip_prefix(&mount.top) else { return Ok(None) };
    if !is_delegated(&mount.point.join(below_top)) {
        return Ok(None);
    }
    Ok(below_top.to_str().and_then(|path| checked_names(path).ok()))
}

fn is_delegated(directory: &Path) -> bool {
    let Ok(directory) = open(directory, DIRECTORY, Mode::empty()) else { return false };
    ["trusted.delegate", "user.delegate"].iter().any(|attribute| {
        let mut value = [0; 8];
        fgetxattr(&directory, *attribute, &mut value[..]).is_ok_and(|length| value[..length] == *b"1")
    })
}

/// The directory of the mount, if it is what mountinfo says.
pub(super) fn open_top(mount: &Mount) -> Result<Group, Error> {
    let failed = |e: rustix::io::Errno| Error::Mount { path: mount.point.clone(), source: e.into() };
    let directory = open(&mount.point, DIRECTORY, Mode::empty()).map_err(failed)?;
    let kind = rustix::fs::fstatfs(&directory).map_err(failed)?.f_type;
    if kind as u64 != CGROUP2_MAGIC {
        return Err(Error::Shadowed(mount.point.clone()));
    }
    Ok(Group::top(directory, mount.top.clone()))
}

/// A group that has controllers on for those below must not have processes itself ("no internal processes").
fn move_into_leaf(root: &Group) -> Result<(), Error> {
    let leaf = root.ensure(NODE_LEAF)?;
    for _ in 0..MOVE_ROUNDS {
        let pids = root.own_processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            leaf.adopt(pid)?;
        }
    }
    Err(Error::Populated(PathBuf::from(root.path())))
}

fn remove_unless_busy(group: &Group) -> Result<bool, Error> {
    match group.remove_alone() {
        Ok(()) => Ok(true),
        Err(Error::Busy(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_root_is_a_path_of_plain_names() {
        assert_eq!(checked_names("/podkeep/a").unwrap(), ["podkeep", "a"]);
        assert_eq!(checked_names("podkeep/").unwrap(), ["podkeep"]);
        assert!(checked_names("/").unwrap().is_empty());
        for bad in ["/a/../b", "..", "/./a", "a\0b"] {
            assert!(matches!(checked_names(bad), Err(Error::BadRoot(_))), "{bad:?}");
        }
    }
}
