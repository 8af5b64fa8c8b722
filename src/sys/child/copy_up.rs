//! `tmpcopyup`: the directory that a tmpfs hides is copied into it first. An option of runc's and crun's, used by podman
//! (`--read-only-tmpfs`). Extended attributes are not copied.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, chmodat, chownat, mkdirat,
    mknodat, openat, readlinkat_raw, sendfile, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::sys::inroot::{self, Links};

/// Deeper trees are refused: each level holds two descriptors and a part of the stack.
const MAX_DEPTH: usize = 64;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies what lies in the directory `from` below the root of the mount `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = inroot::open(from, c".", OFlags::RDONLY | OFlags::DIRECTORY, Links::Refuse)?;
    let to = inroot::open(to, c".", OFlags::RDONLY | OFlags::DIRECTORY, Links::Refuse)?;
    copy_directory(from.as_fd(), to.as_fd(), 0)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth == MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut space = [MaybeUninit::<u8>::uninit(); 1024];
    let mut entries = RawDir::new(from, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            mkdirat(to, name, mode)?;
            let inner = openat(from, name, DIRECTORY, Mode::empty())?;
            let copy = openat(to, name, DIRECTORY, Mode::empty())?;
            copy_directory(inner.as_fd(), copy.as_fd(), depth + 1)?;
        }
        FileType::RegularFile => copy_file(from, to, name, mode)?,
        FileType::Symlink => {
            let mut space = [MaybeUninit::<u8>::uninit(); libc::PATH_MAX as usize];
            let (target, rest) = readlinkat_raw(from, name, &mut space)?;
            // A target that fills the space has lost its end.
            let Some(end) = rest.first_mut() else { return Err(Errno::NAMETOOLONG) };
            end.write(0);
            let length = target.len();
            // SAFETY: the kernel has written the first `length` bytes, and the next is the zero just put there.
            let target = unsafe { std::slice::from_raw_parts(target.as_ptr(), length + 1) };
            let target = CStr::from_bytes_with_nul(target).map_err(|_| Errno::INVAL)?;
            symlinkat(target, to, name)?;
        }
        _ => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    take_over(to, name, &stat, kind)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<(), Errno> {
    let source = openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, mode)?;
    while sendfile(&copy, &source, None, 1 << 20)? > 0 {}
    Ok(())
}

/// Owner, permissions and times, in this order: a new owner loses setuid.
fn take_over(to: BorrowedFd<'_>, name: &CStr, stat: &Stat, kind: FileType) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
