//! Project quotas: what all files of one folder take of a disk together, counted and limited by its file system.
//!
//! A project is a number that each file has, and a folder hands on to what is made in it. ext4, xfs and f2fs know them, each where it was
//! made or mounted so. The commands are those of XFS, which the kernel knows of every file system with quotas (`fs/quota/quota.c`), by a
//! descriptor (quotactl_fd(2), 5.14): the device's path, and whether this mount namespace has one, does not matter.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// What the commands count disks in.
const BLOCK: u64 = 512;

/// `linux/quota.h`, `linux/dqblk_xfs.h`.
const PRJQUOTA: libc::c_int = 2;
const Q_XGETQUOTA: libc::c_int = xfs(3);
const Q_XSETQLIM: libc::c_int = xfs(4);
const Q_XGETQSTATV: libc::c_int = xfs(8);
const Q_XGETNEXTQUOTA: libc::c_int = xfs(9);
const FS_DQUOT_VERSION: i8 = 1;
const FS_PROJ_QUOTA: i8 = 1 << 1;
const FS_DQ_BHARD: u16 = 1 << 3;
const FS_QSTATV_VERSION1: i8 = 1;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;

/// `linux/fs.h`.
const FS_IOC_FSGETXATTR: Opcode = opcode::read::<Attributes>(b'X', 31);
const FS_IOC_FSSETXATTR: Opcode = opcode::write::<Attributes>(b'X', 32);
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const fn xfs(command: libc::c_int) -> libc::c_int {
    ((b'X' as libc::c_int) << 8) + command
}

/// What a file system says of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Project {
    /// Bytes of the disk; not yet written ones and those of files that are open and deleted too.
    pub used: u64,
    /// Folders too.
    pub files: u64,
    /// Bytes beyond which nothing more is given (`EDQUOT`, with XFS `ENOSPC`); 0 is none.
    pub limit: u64,
}

/// Whether the file system that `file` lies on keeps the limits of projects.
pub fn is_enforced(file: BorrowedFd<'_>) -> bool {
    let mut state = State { version: FS_QSTATV_VERSION1, ..State::default() };
    // SAFETY: Q_XGETQSTATV writes one struct fs_quota_statv, which `State` is, into memory that outlives the call.
    let asked = unsafe { quotactl(file, Q_XGETQSTATV, 0, (&raw mut state).cast()) };
    asked.is_ok() && state.flags & FS_QUOTA_PDQ_ENFD != 0
}

/// What the project of this number has and may have.
///
/// # Errors
/// The kernel's; `ESRCH` and `ENOSYS` where projects are not counted.
pub fn project(file: BorrowedFd<'_>, id: u32) -> rustix::io::Result<Project> {
    // XFS knows none that never had anything.
    let known = read(file, Q_XGETQUOTA, id)?;
    Ok(known.map_or(Project { used: 0, files: 0, limit: 0 }, |(_, project)| project))
}

/// The first project from this number on that has or may have anything, and its number.
///
/// # Errors
/// As [`project`].
pub fn next_project(file: BorrowedFd<'_>, id: u32) -> rustix::io::Result<Option<(u32, Project)>> {
    read(file, Q_XGETNEXTQUOTA, id)
}

fn read(file: BorrowedFd<'_>, command: libc::c_int, id: u32) -> rustix::io::Result<Option<(u32, Project)>> {
    let mut quota = Quota::default();
    // SAFETY: both commands write one struct fs_disk_quota, which `Quota` is, into memory that outlives the call.
    match unsafe { quotactl(file, command, id, (&raw mut quota).cast()) } {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    }
    let bytes = |blocks: u64| blocks.saturating_mul(BLOCK);
    let project = Project { used: bytes(quota.blocks), files: quota.files, limit: bytes(quota.hard_limit) };
    Ok(Some((quota.id, project)))
}

/// Limits what a project may have to so many bytes; 0 takes the limit away.
pub fn set_limit(file: BorrowedFd<'_>, id: u32, bytes: u64) -> rustix::io::Result<()> {
    let mut quota = Quota {
        version: FS_DQUOT_VERSION,
        flags: FS_PROJ_QUOTA,
        fields: FS_DQ_BHARD,
        id,
        hard_limit: bytes / BLOCK,
        ..Quota::default()
    };
    // SAFETY: Q_XSETQLIM reads one struct fs_disk_quota, which `Quota` is.
    unsafe { quotactl(file, Q_XSETQLIM, id, (&raw mut quota).cast()) }
}

/// The project of a file or folder; 0 is everybody's.
pub fn id_of(file: BorrowedFd<'_>) -> rustix::io::Result<u32> {
    attributes(file).map(|attributes| attributes.project)
}

/// Gives an empty folder to a project, and so what will be made in it. Its owner may do so too, unless in a user namespace other than the
/// first (`fileattr_set_prepare`).
pub fn set_id(folder: BorrowedFd<'_>, id: u32) -> rustix::io::Result<()> {
    let before = attributes(folder)?;
    let after = Attributes { project: id, flags: before.flags | FS_XFLAG_PROJINHERIT, ..before };
    // SAFETY: FS_IOC_FSSETXATTR reads one struct fsxattr, which `Attributes` is.
    unsafe { ioctl(folder, Setter::<FS_IOC_FSSETXATTR, Attributes>::new(after)) }
}

fn attributes(file: BorrowedFd<'_>) -> rustix::io::Result<Attributes> {
    // SAFETY: FS_IOC_FSGETXATTR writes one struct fsxattr, which `Attributes` is.
    unsafe { ioctl(file, Getter::<FS_IOC_FSGETXATTR, Attributes>::new()) }
}

/// # Safety
/// `data` has to point to what this command reads or writes, which has to stay there during the call.
unsafe fn quotactl(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    id: u32,
    data: *mut libc::c_void,
) -> rustix::io::Result<()> {
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: the descriptor is open while it is borrowed; the caller answers for `data`.
    match unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, id, data) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// `struct fsxattr`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`, as far as it is needed.
#[derive(Default)]
#[repr(C)]
struct Quota {
    version: i8,
    flags: i8,
    /// Which of those that follow are to be set.
    fields: u16,
    id: u32,
    hard_limit: u64,
    soft_limit: u64,
    files_hard_limit: u64,
    files_soft_limit: u64,
    blocks: u64,
    files: u64,
    /// Times, warnings, and all of them once more for realtime devices.
    rest: [u64; 7],
}

/// `struct fs_quota_statv`, as far as it is needed.
#[derive(Default)]
#[repr(C)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    in_memory: u32,
    /// Where the quotas lie, and how long soft limits may be exceeded.
    rest: [u64; 19],
}

const _: () =
    assert!(size_of::<Attributes>() == 28 && size_of::<Quota>() == 112 && size_of::<State>() == 160);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    /// What they say of a file system that has them is looked at in the guest.
    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = File::open("/proc/self").unwrap();
        assert!(!is_enforced(proc.as_fd()));
        assert_eq!(project(proc.as_fd(), 7), Err(Errno::NOSYS));
        assert_eq!(next_project(proc.as_fd(), 7), Err(Errno::NOSYS));
        assert_eq!(set_limit(proc.as_fd(), 7, 4096), Err(Errno::NOSYS));
        assert_eq!(id_of(proc.as_fd()), Err(Errno::NOTTY));
        assert_eq!(set_id(proc.as_fd(), 7), Err(Errno::NOTTY));
    }
}
