//! Groups outside of the node's tree: where an OCI spec's `linux.cgroupsPath` wants a container, and any group by the
//! path that `/proc/PID/cgroup` shows.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};

use super::mount::{Mount, cgroup_of};
use super::tree::open_top;
use super::{Controller, Error, Group};

/// Opens the group for the container `id`, made with all groups above it unless they are there, and says which
/// controllers it has to do without.
///
/// Every path begins at the cgroup2 mount, whether it is absolute or not; without any, the group is `id` there. That is
/// crun's way. The specification leaves it open, and below the calling process's own group, which has processes and so
/// hands no controllers on, no limit would hold; runc takes the group above that one, which may be somebody else's.
///
/// Controllers are turned on from the top down as far as the kernel lets us: a group with processes of its own cannot hand
/// any on, so below a populated one all of them are missing.
///
/// Whether the group is in use already is for the caller to ask ([`Group::populated`]).
///
/// # Errors
/// [`Error::BadPath`] for `..` and for the top itself, no cgroup2 mount, and a kernel that refuses to make a group.
pub fn open_or_make(cgroups_path: Option<&Path>, id: &str) -> Result<(Group, Vec<String>), Error> {
    let mount = Mount::find()?;
    let asked = cgroups_path.unwrap_or(Path::new(id));
    let names = plain_names(asked)?;
    if names.is_empty() {
        return Err(Error::BadPath(asked.to_owned()));
    }
    let group = make(open_top(&mount)?, &names)?;
    let missing =
        Controller::ALL.into_iter().filter(|c| !group.has(*c)).map(|c| c.as_str().to_owned()).collect();
    Ok((group, missing))
}

/// Opens the group that `/proc/PID/cgroup` shows as `path`, with the controllers that it has; `None` if it is gone.
///
/// # Errors
/// [`Error::BadPath`] if it is no plain path, or not in the part of the hierarchy that is mounted here.
pub fn open_existing(path: &Path) -> Result<Option<Group>, Error> {
    let mount = Mount::find()?;
    let mut group = open_top(&mount)?;
    for name in names_below(&mount, path)? {
        match group.existing_child(&name)? {
            Some(child) => group = child,
            None => return Ok(None),
        }
    }
    group.learn_controllers()?;
    Ok(Some(group))
}

/// Opens the group that a process is in: `within`, which is a path as `/proc/PID/cgroup` shows it, or one below.
///
/// # Errors
/// [`Error::BadPath`] if it is in another one, as a process that has got the PID of one that ended; or it is gone.
pub fn open_of_process(pid: u32, within: &Path) -> Result<Group, Error> {
    let path = cgroup_of(&pid.to_string())?;
    let group = if path.starts_with(within) { open_existing(&path)? } else { None };
    group.ok_or(Error::BadPath(path))
}

fn make(top: Group, names: &[OsString]) -> Result<Group, Error> {
    let mut group = top;
    for name in names {
        // Nothing to hand on is no error here: what is missing in the end is told.
        group.enable_below_unless_populated()?;
        group = group.ensure(name)?;
    }
    Ok(group)
}

/// From the top of the mount down.
fn names_below(mount: &Mount, path: &Path) -> Result<Vec<OsString>, Error> {
    let below = path.strip_prefix(&mount.top).map_err(|_| Error::BadPath(path.to_owned()))?;
    plain_names(below)
}

/// `..` would lead out of where the caller is meant to be, and out of a cgroup namespace's own part.
fn plain_names(path: &Path) -> Result<Vec<OsString>, Error> {
    let plain = |component: Component<'_>| match component {
        Component::Normal(name) => Some(Ok(name.to_owned())),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => Some(Err(Error::BadPath(path.to_owned()))),
    };
    let names: Vec<OsString> = path.components().filter_map(plain).collect::<Result<_, _>>()?;
    let usable = |name: &OsString| !name.as_encoded_bytes().contains(&0) && name != OsStr::new("");
    names.iter().all(usable).then_some(names).ok_or_else(|| Error::BadPath(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leads_up() {
        assert_eq!(plain_names(Path::new("/a/./b//c/")).unwrap(), ["a", "b", "c"]);
        assert!(plain_names(Path::new("/")).unwrap().is_empty());
        for bad in ["..", "/a/../b", "a/..", "a\0b"] {
            assert!(matches!(plain_names(Path::new(bad)), Err(Error::BadPath(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_shown_path_begins_where_the_mount_does() {
        let part = Mount { point: "/sys/fs/cgroup".into(), top: "/docker/x".into() };
        assert_eq!(names_below(&part, Path::new("/docker/x/a")).unwrap(), ["a"]);
        assert!(matches!(names_below(&part, Path::new("/docker/xy")), Err(Error::BadPath(_))));
        // A process outside of our cgroup namespace is shown so.
        let whole = Mount { point: "/sys/fs/cgroup".into(), top: "/".into() };
        assert!(matches!(names_below(&whole, Path::new("/../b")), Err(Error::BadPath(_))));
    }
}
