//! The one call of the new mount interface that rustix lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `MOUNT_ATTR_RDONLY`.
pub const READ_ONLY: u64 = 0x1;

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets `MOUNT_ATTR_*` flags of a mount, by a descriptor of its root. Does not allocate.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> Result<(), Errno> {
    // The kernel refuses to set one way of access times without clearing the others.
    let access_times = if set & ACCESS_TIMES == 0 { 0 } else { ACCESS_TIMES };
    let attributes = MountAttr { attr_set: set, attr_clr: access_times, propagation: 0, userns_fd: 0 };
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

/// `MOUNT_ATTR__ATIME`, the mask of those that exclude one another.
const ACCESS_TIMES: u64 = 0x70;
