//! Whose a volume's files are: the Pod's root's and, with `fsGroup`, that group's too (`V/volume_linux.go:changeFilePermission`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Uid};

use crate::manifest::pod::FsGroupChangePolicy;

/// What the group may do with the files of a volume that the Pod may write to, and of one that it may not.
const READ_WRITE: RawMode = 0o660;
const READ: RawMode = 0o440;
/// Beside that, of folders: what is made in them is the group's too.
const FOLDER: RawMode = 0o2110;

/// Ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The Pod's root, whose group owns what no `fsGroup` does.
    pub user: u32,
    pub fs_group: Option<u32>,
}

impl Owner {
    pub(super) fn group(self) -> u32 {
        self.fs_group.unwrap_or(self.user)
    }

    /// Of a file that the Pod may only read.
    pub(super) fn file_mode(self, mode: RawMode) -> RawMode {
        mode | self.fs_group.map_or(0, |_| READ)
    }

    /// Of a folder that the Pod may only read.
    pub(super) fn folder_mode(self, mode: RawMode) -> RawMode {
        mode | self.fs_group.map_or(0, |_| READ | FOLDER)
    }

    /// Makes it the owner of something that is open, with this mode.
    pub(super) fn give(self, fd: BorrowedFd<'_>, mode: RawMode) -> rustix::io::Result<()> {
        rustix::fs::fchown(fd, Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group())))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
    }

    pub(super) fn give_link(self, folder: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group()));
        rustix::fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Gives a volume that the Pod may write to, with all that is in it, to the group. The volume's own folder comes last: it tells
/// `OnRootMismatch` that everything in it has been given.
///
/// Containers have written there before: no link is followed, nothing is opened but folders, and no mount is crossed.
pub(super) fn give_to_group(volume: &Path, group: u32, policy: FsGroupChangePolicy) -> io::Result<()> {
    let root = rustix::fs::open(volume, FOLDERS | OFlags::NOFOLLOW, Mode::empty())?;
    if policy == FsGroupChangePolicy::OnRootMismatch && is_given(&root, group)? {
        return Ok(());
    }
    let mut unlisted = vec![PathBuf::from(".")];
    while let Some(path) = unlisted.pop() {
        let folder = rustix::fs::openat2(&root, &path, FOLDERS, Mode::empty(), INSIDE)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
            let fd = rustix::fs::openat2(&folder, name, flags, Mode::empty(), inside)?;
            if give_one(&fd, group)? == FileType::Directory {
                unlisted.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    give_one(&root, group)?;
    Ok(())
}

const FOLDERS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

fn is_given(folder: &OwnedFd, group: u32) -> io::Result<bool> {
    const WANTED: RawMode = READ_WRITE | FOLDER;
    let stat = rustix::fs::fstat(folder)?;
    Ok(stat.st_gid == group && stat.st_mode & WANTED == WANTED)
}

/// A link has no mode of its own. Says what it is.
fn give_one(fd: &OwnedFd, group: u32) -> io::Result<FileType> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    rustix::fs::chownat(fd.as_fd(), "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    let more = match kind {
        FileType::Symlink => return Ok(kind),
        FileType::Directory => READ_WRITE | FOLDER,
        _ => READ_WRITE,
    };
    // A descriptor of O_PATH cannot be given to fchmod; its link in procfs can be given to chmod.
    let link = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string());
    rustix::fs::chmod(&link, Mode::from_raw_mode(stat.st_mode & 0o7777 | more))?;
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    /// The group is the own one: who is not root may give to no other. Groups are looked at in the guest.
    #[test]
    fn a_group_may_read_and_write_all_that_is_in_a_volume_and_nothing_that_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        for (file, mode) in [("a/b/f", 0o600), ("a/run", 0o755), ("../outside", 0o600)] {
            fs::write(volume.join(file), "").unwrap();
            fs::set_permissions(volume.join(file), Permissions::from_mode(mode)).unwrap();
        }
        symlink(&outside, volume.join("link")).unwrap();
        symlink(dir.path(), volume.join("folder")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            volume.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for folder in ["", "a", "a/b"] {
            fs::set_permissions(volume.join(folder), Permissions::from_mode(0o700)).unwrap();
        }
        let group = rustix::process::getegid().as_raw();
        give_to_group(&volume, group, FsGroupChangePolicy::OnRootMismatch).unwrap();
        let modes =
            ["", "a", "a/b", "a/b/f", "a/run", "fifo", "../outside"].map(|path| mode(&volume.join(path)));
        assert_eq!(modes, [0o2770, 0o2770, 0o2770, 0o660, 0o775, 0o660, 0o600]);

        fs::set_permissions(volume.join("a/run"), Permissions::from_mode(0o700)).unwrap();
        give_to_group(&volume, group, FsGroupChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(mode(&volume.join("a/run")), 0o700, "the volume's own folder says that all is done");
        give_to_group(&volume, group, FsGroupChangePolicy::Always).unwrap();
        assert_eq!(mode(&volume.join("a/run")), 0o760);
    }

    #[test]
    fn a_volume_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/", dir.path().join("v")).unwrap();
        let group = rustix::process::getegid().as_raw();
        assert!(give_to_group(&dir.path().join("v"), group, FsGroupChangePolicy::Always).is_err());
    }
}
