//! From the host's root to the container's.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount as mount_old,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::{Child, below, mounts};
use crate::sys::mount::map_owners;
use crate::sys::step::{Below, Mapping, Propagation, Slot, Step};

pub(super) fn set_host_propagation(propagation: Propagation) -> Result<(), Errno> {
    let mut flags =
        MountPropagationFlags::from_bits_retain(mounts::propagation_bits(propagation.kind) as u32);
    flags.set(MountPropagationFlags::REC, propagation.recursive);
    mount_change(c"/", flags)
}

/// Over itself: the overlay then names the same layers by the same paths.
pub(super) fn map_layers(layers_dir: &CStr, map: &Mapping) -> Result<(), Errno> {
    let tree = clone_tree(layers_dir, map.recursive)?;
    map_owners(tree.as_fd(), map.user_namespace.as_fd(), map.recursive)?;
    move_mount(&tree, c"", CWD, layers_dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

pub(super) fn mount(layers_dir: &CStr, options: &CStr, at: &CStr) -> Result<(), Errno> {
    chdir(layers_dir)?;
    mount_old(c"overlay", at, c"overlay", MountFlags::empty(), options)
}

/// By mount(2), in one page: what fsconfig(2) takes for `lowerdir` is 255 bytes, and one layer at a time only since 6.7.
pub(super) fn open_image(
    layers_dir: &CStr,
    options: &CStr,
    at: &CStr,
    below: Option<&Below>,
) -> Result<OwnedFd, Errno> {
    chdir(layers_dir)?;
    let flags = MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NODEV | MountFlags::NOSUID;
    mount_old(c"overlay", at, c"overlay", flags, options)?;
    let image = clone_below(at, below, false)?;
    unmount(at, UnmountFlags::DETACH)?;
    Ok(image)
}

fn clone_below(path: &CStr, below: Option<&Below>, recursive: bool) -> Result<OwnedFd, Errno> {
    match below {
        None => clone_tree(path, recursive),
        Some(below) => mounts::copy(below::open(path, below)?.as_fd(), recursive),
    }
}

fn clone_tree(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, path, flags)
}

/// With both arguments `.` the old root ends up on top of the new one, and no directory is needed for it.
pub(super) fn pivot(root: BorrowedFd<'_>) -> Result<(), Errno> {
    fchdir(root)?;
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    chdir(c"/")
}

pub(super) fn move_over(root: BorrowedFd<'_>) -> Result<(), Errno> {
    fchdir(root)?;
    mount_move(c".", c"/")?;
    chroot(c".")?;
    chdir(c"/")
}

impl Child<'_> {
    /// Only for [`Step::OpenSource`].
    pub(super) fn open_source(&mut self, step: &Step) -> Result<(), Errno> {
        let Step::OpenSource { source, below, recursive, slot, map } = step else { return Err(Errno::INVAL) };
        let tree = clone_below(source, below.as_ref(), *recursive)?;
        if let Some(map) = map {
            map_owners(tree.as_fd(), map.user_namespace.as_fd(), map.recursive)?;
        }
        self.fill(*slot, tree)
    }

    /// Its descriptor leads to the attached mount from then on; its path would lead below.
    pub(super) fn attach_root(&mut self, slot: Slot, at: &CStr) -> Result<(), Errno> {
        move_mount(self.slot(slot)?, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = self.slots.get_mut(slot.0).and_then(Option::take);
        Ok(())
    }

    pub(super) fn open_root(&mut self, at: &CStr) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.root = Some(open(at, flags, Mode::empty())?);
        Ok(())
    }
}
