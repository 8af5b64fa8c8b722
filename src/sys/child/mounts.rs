//! What is mounted below the container's root. Everything is reached by descriptor.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fchmod, fchown, fstat, major, minor, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::{Child, copy_up, process};
use crate::sys::inroot::{self, Kind, Links};
use crate::sys::mount::{READ_ONLY, set_attributes, set_propagation};
use crate::sys::step::{Inherit, MountChange, MountOption, Propagation, PropagationKind, Slot, Step};

/// `MOUNT_ATTR_*`.
const NOSUID_NODEV_NOEXEC: u64 = 0x2 | 0x4 | 0x8;

impl Child<'_> {
    /// Only for [`Step::Mount`].
    pub(super) fn mount(&mut self, step: &Step) -> Result<(), Errno> {
        let Step::Mount { kind, options, change, at, slot, inherit } = step else { return Err(Errno::INVAL) };
        let target = inroot::ensure(self.root()?, at, Kind::Directory, Links::Refuse)?;
        // Where something is written first, what forbids that comes later.
        let late = if *inherit == Inherit::Nothing { 0 } else { change.set & READ_ONLY };
        let mounted = new_mount(kind, options, change.set & !late)?;
        match inherit {
            Inherit::Nothing => {}
            Inherit::Mode => copy_mode(&target, &mounted)?,
            Inherit::Content => {
                copy_mode(&target, &mounted)?;
                copy_up::copy(target.as_fd(), mounted.as_fd())?;
            }
        }
        if late != 0 {
            set_attributes(mounted.as_fd(), late, 0, false)?;
        }
        attach(mounted.as_fd(), target.as_fd())?;
        apply_but_set(mounted.as_fd(), change)?;
        match slot {
            Some(slot) => self.fill(*slot, mounted),
            None => Ok(()),
        }
    }

    pub(super) fn bind(&mut self, slot: Slot, at: &CStr, change: &MountChange) -> Result<(), Errno> {
        let source = self.slot(slot)?;
        let kind = if is_directory(source)? { Kind::Directory } else { Kind::File };
        let target = inroot::ensure(self.root()?, at, kind, Links::Follow)?;
        if change.set | change.clear != 0 {
            set_attributes(source, change.set, change.clear, false)?;
        }
        apply_but_set(source, change)?;
        attach(source, target.as_fd())
    }

    pub(super) fn remount(&self, at: &CStr, change: &MountChange) -> Result<(), Errno> {
        let mounted = inroot::open(self.root()?, at, OFlags::PATH | OFlags::NOFOLLOW, Links::Refuse)?;
        if change.set | change.clear != 0 {
            set_attributes(mounted.as_fd(), change.set, change.clear, false)?;
        }
        apply_but_set(mounted.as_fd(), change)
    }

    pub(super) fn open_directory(&mut self, at: &CStr, slot: Slot) -> Result<(), Errno> {
        let directory = inroot::ensure(self.root()?, at, Kind::Directory, Links::Refuse)?;
        self.fill(slot, directory)
    }

    pub(super) fn open_private_proc(&mut self, slot: Slot) -> Result<(), Errno> {
        let proc = new_mount(c"proc", &[], NOSUID_NODEV_NOEXEC)?;
        self.fill(slot, proc)
    }

    /// The container's `/dev/null`, only if it is what it should be (CVE-2025-31133).
    fn open_null(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let null = inroot::open(self.root()?, c"/dev/null", flags | OFlags::NOFOLLOW, Links::Refuse)?;
        let stat = fstat(&null)?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        let is_null = device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
        if is_null { Ok(null) } else { Err(Errno::NXIO) }
    }

    pub(super) fn null_input(&self) -> Result<(), Errno> {
        process::redirect(self.open_null(OFlags::RDONLY)?.as_raw_fd(), libc::STDIN_FILENO)
    }

    /// What is there is pinned by its descriptor before anything is put over it.
    fn pin(&self, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match inroot::open(self.root()?, path, OFlags::PATH | OFlags::NOFOLLOW, Links::Refuse) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn mask(&mut self, path: &CStr, options: &[MountOption]) -> Result<(), Errno> {
        let Some(target) = self.pin(path)? else { return Ok(()) };
        if is_directory(target.as_fd())? {
            self.mask_directory(&target, options)
        } else {
            self.mask_file(&target)
        }
    }

    fn mask_file(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if self.null.is_none() {
            self.null = Some(self.open_null(OFlags::PATH)?);
        }
        let null = self.null.as_ref().ok_or(Errno::BADF)?;
        attach(copy(null.as_fd(), false)?.as_fd(), target.as_fd())
    }

    /// One empty file system serves all: the first is mounted, the others are copies of that mount.
    fn mask_directory(&mut self, target: &OwnedFd, options: &[MountOption]) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return attach(copy(empty.as_fd(), false)?.as_fd(), target.as_fd());
        }
        let empty = new_mount(c"tmpfs", options, READ_ONLY | NOSUID_NODEV_NOEXEC)?;
        attach(empty.as_fd(), target.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }

    pub(super) fn make_read_only(&self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = self.pin(path)? else { return Ok(()) };
        let tree = copy(target.as_fd(), true)?;
        set_attributes(tree.as_fd(), READ_ONLY, 0, true)?;
        attach(tree.as_fd(), target.as_fd())
    }
}

/// The root's own mount.
pub(super) fn make_read_only(root: BorrowedFd<'_>) -> Result<(), Errno> {
    set_attributes(root, READ_ONLY, 0, false)
}

pub(super) fn propagate(mount: BorrowedFd<'_>, propagation: Propagation) -> Result<(), Errno> {
    set_propagation(mount, propagation_bits(propagation.kind), propagation.recursive)
}

/// `MS_PRIVATE` and its kin.
pub(super) fn propagation_bits(kind: PropagationKind) -> u64 {
    match kind {
        PropagationKind::Private => libc::MS_PRIVATE,
        PropagationKind::Slave => libc::MS_SLAVE,
        PropagationKind::Shared => libc::MS_SHARED,
        PropagationKind::Unbindable => libc::MS_UNBINDABLE,
    }
}

/// What remains of a change once the mount has its own attributes.
fn apply_but_set(mount: BorrowedFd<'_>, change: &MountChange) -> Result<(), Errno> {
    if change.recursive_set | change.recursive_clear != 0 {
        set_attributes(mount, change.recursive_set, change.recursive_clear, true)?;
    }
    for propagation in &change.propagation {
        propagate(mount, *propagation)?;
    }
    Ok(())
}

/// A file system that is mounted nowhere yet.
fn new_mount(kind: &CStr, options: &[MountOption], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in options {
        match option {
            MountOption::Flag(name) => fsconfig_set_flag(&context, name.as_c_str())?,
            MountOption::Value(name, value) => {
                fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?;
            }
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the mount that the descriptor leads to.
pub(super) fn copy(of: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(of, c"", flags)
}

pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", by_descriptor)
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

fn copy_mode(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(from)?;
    let root = inroot::open(to.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY, Links::Refuse)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    fchown(&root, Some(uid), Some(gid))?;
    fchmod(&root, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

/// The value in one write, as the files of procfs want it. `proc` is a procfs that no container can have a say in.
pub(super) fn write(proc: BorrowedFd<'_>, path: &CStr, value: &CStr) -> Result<(), Errno> {
    let file = openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let written = rustix::io::write(&file, value.to_bytes())?;
    if written == value.count_bytes() { Ok(()) } else { Err(Errno::IO) }
}
