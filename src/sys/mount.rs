//! The one call of the new mount interface that rustix lacks: `mount_setattr(2)`. Nothing here allocates.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `MOUNT_ATTR_RDONLY`.
pub const READ_ONLY: u64 = 0x1;

/// What is changed of a mount; the layout is that of the kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR__ATIME`, the mask of those that exclude one another.
const ACCESS_TIMES: u64 = 0x70;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Sets and clears `MOUNT_ATTR_*` flags of a mount, by a descriptor of its root.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Result<(), Errno> {
    // The kernel refuses to set one way of access times without clearing the others.
    let access_times = if (set | clear) & ACCESS_TIMES == 0 { 0 } else { ACCESS_TIMES };
    let attributes =
        MountAttr { attr_set: set, attr_clr: clear & !ACCESS_TIMES | access_times, ..MountAttr::default() };
    change(mount, attributes, recursive)
}

/// Sets how mounts spread from and to this one: `MS_PRIVATE` and its kin.
///
/// # Errors
/// The kernel's.
pub fn set_propagation(mount: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<(), Errno> {
    change(mount, MountAttr { propagation, ..MountAttr::default() }, recursive)
}

/// Shows the owners of files as the maps of a user namespace say. Only for a mount that is attached nowhere yet.
///
/// # Errors
/// The kernel's; `EINVAL` where the file system cannot do it.
pub fn map_owners(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        userns_fd: user_namespace.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    change(mount, attributes, recursive)
}

fn change(mount: BorrowedFd<'_>, attributes: MountAttr, recursive: bool) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string and `attributes` a complete `mount_attr` of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttr>(),
        )
    };
    super::child::check(result).map(drop)
}
