//! Device nodes and links below the container's `/dev`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::mounts;
use crate::sys::inroot::{self, Kind, Links};
use crate::sys::step::Node;

/// Permissions are set once more, without the umask. What an image has there is replaced: it need not be that device.
pub(super) fn make_node(below: BorrowedFd<'_>, path: &CStr, node: Node) -> Result<(), Errno> {
    let permissions = Mode::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    let kind = FileType::from_raw_mode(node.mode);
    match mknodat(below, path, kind, permissions, device) {
        Err(Errno::EXIST) => {
            unlinkat(below, path, AtFlags::empty())?;
            mknodat(below, path, kind, permissions, device)?;
        }
        made => made?,
    }
    chmodat(below, path, permissions, AtFlags::empty())?;
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    chownat(below, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn bind_node(below: BorrowedFd<'_>, path: &CStr, node: BorrowedFd<'_>) -> Result<(), Errno> {
    let target = inroot::ensure(below, path, Kind::File, Links::Refuse)?;
    mounts::attach(node, target.as_fd())
}

pub(super) fn make_link(below: BorrowedFd<'_>, path: &CStr, to: &CStr) -> Result<(), Errno> {
    match symlinkat(to, below, path) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
