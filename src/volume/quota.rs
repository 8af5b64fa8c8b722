//! An emptyDir's `sizeLimit`, kept by the file system where it keeps limits of projects ([ADR 23](../../docs/adr/023-project-quotas.md)).

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::EMPTY_DIRS;
use crate::manifest::Uid;
use crate::sys::project_quota::{self as projects, Project};

/// Projects of ours begin with these 4 bits. People count from 1, the kubelet from 1,048,577 on.
const OURS: u32 = 0x7000_0000;
/// So many of them may be a volume's, next to one another: what was deleted a moment ago, of the same Pod, may not be gone yet.
const OF_ONE: u32 = 16;
/// No file system limits to more than half of 64 bits.
const MOST: u64 = 1 << 62;

/// Lets the file system refuse what exceeds the limit of a volume that is empty, if it can. Doing it twice is the same as doing it once.
///
/// Done to a volume that is not empty, or that belongs to somebody's project already, it does nothing.
pub(super) fn limit(uid: &Uid, volume: &str, folder: &Path, size_limit: u64) -> rustix::io::Result<()> {
    let folder = open(folder)?;
    let folder = folder.as_fd();
    if !projects::is_enforced(folder) {
        return Ok(());
    }
    let Some(id) = project_for(uid, volume, folder)? else { return Ok(()) };
    let block = rustix::fs::fstatvfs(folder)?.f_frsize.max(1);
    let limit = first_excess(size_limit, block);
    match projects::project(folder, id)?.limit == limit {
        true => Ok(()),
        false => projects::set_limit(folder, id, limit),
    }
}

/// The least that is more than a limit: who has come so far has exceeded it, and comes no further.
fn first_excess(size_limit: u64, block: u64) -> u64 {
    (size_limit.min(MOST) / block + 1) * block
}

/// The volume's project. The folder tells which it is: nothing is saved, and so nothing can be lost.
fn project_for(uid: &Uid, volume: &str, folder: BorrowedFd<'_>) -> rustix::io::Result<Option<u32>> {
    let ids = ids(uid, volume);
    let id = projects::id_of(folder)?;
    if ids.contains(&id) {
        return Ok(Some(id));
    }
    // Of another project more is limited than this volume. What is in it already would not be counted.
    if id != 0 || !is_empty(folder)? {
        return Ok(None);
    }
    for id in ids {
        // A limit without a file is what became of a folder that was deleted by hand.
        if let Project { used: 0, files: 0, .. } = projects::project(folder, id)? {
            projects::set_id(folder, id)?;
            return Ok(Some(id));
        }
    }
    Err(Errno::EXIST)
}

/// The projects that may be a volume's. One that its folder has besides is none that podkeep gave it: a container that is root on the host
/// may have taken another volume's.
fn ids(uid: &Uid, volume: &str) -> Range<u32> {
    // FNV-1a, which is the same in every podkeep.
    let bytes = uid.as_str().bytes().chain(volume.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let number = (hash ^ (hash >> 24)) & 0x00ff_ffff;
    let first = OURS + number * OF_ONE;
    first..first + OF_ONE
}

/// Bytes that the file system has counted of a volume; `None` where it does not count them.
pub(super) fn counted(uid: &Uid, volume: &str, folder: &Path) -> Option<u64> {
    let folder = open(folder).ok()?;
    let id = projects::id_of(folder.as_fd()).ok()?;
    let is_its_own = ids(uid, volume).contains(&id);
    is_its_own.then(|| projects::project(folder.as_fd(), id).ok()).flatten().map(|project| project.used)
}

/// Takes away the limits of all volumes of a Pod, whose own folder this is. What of them is still on the disk keeps its project until it
/// is deleted.
pub(super) fn give_back(uid: &Uid, pod: &Path) -> rustix::io::Result<()> {
    let Ok(volumes) = open(&pod.join(EMPTY_DIRS)) else { return Ok(()) };
    for entry in Dir::read_from(&volumes)? {
        let entry = entry?;
        let given_back = match entry.file_name().to_str() {
            Ok(name) if !name.starts_with('.') => give_back_one(volumes.as_fd(), ids(uid, name)),
            _ => continue,
        };
        match given_back {
            // Nothing is counted here, or not any more.
            Err(Errno::NOSYS | Errno::SRCH) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Not that of the folder: a container may have put it into another one meanwhile.
fn give_back_one(disk: BorrowedFd<'_>, mut ids: Range<u32>) -> rustix::io::Result<()> {
    while let Some((id, project)) = projects::next_project(disk, ids.start)?.filter(|(id, _)| *id < ids.end) {
        if project.limit != 0 {
            projects::set_limit(disk, id, 0)?;
        }
        ids.start = id + 1;
    }
    Ok(())
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open(folder: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(folder, FOLDER, Mode::empty())
}

fn is_empty(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_the_limit_of_the_file_system_has_exceeded_that_of_the_volume() {
        for (size_limit, block, expected) in
            [(1, 4096, 4096), (4095, 4096, 4096), (4096, 4096, 8192), (1 << 20, 1024, (1 << 20) + 1024)]
        {
            assert_eq!(first_excess(size_limit, block), expected);
        }
        assert!(first_excess(u64::MAX, 65536) < i64::MAX as u64, "the kernel takes it");
    }

    #[test]
    fn a_volume_has_the_same_projects_over_all_versions_of_podkeep_and_shares_them_with_no_other() {
        let uid = |digit: &str| Uid::parse(&digit.repeat(32)).unwrap();
        assert_eq!(ids(&uid("a"), "data"), 0x7a51_a980..0x7a51_a990);
        let mut all: Vec<_> = Vec::new();
        for digit in ["a", "b", "c", "0"] {
            all.extend(["data", "datb", "cache", "a", "b"].map(|volume| ids(&uid(digit), volume)));
        }
        assert!(all.iter().all(|ids| ids.start >= OURS && ids.end <= OURS + (1 << 28)), "{all:?}");
        all.sort_by_key(|ids| ids.start);
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start), "{all:?}");
    }
}
