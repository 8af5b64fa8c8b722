//! Removes a folder and all below it, and nothing else: the walk follows no link and crosses no mount.
//!
//! It runs as root beside people's data (a hostPath lies one forgotten unmount away). So it goes by fd from folder to folder, the kernel is told not to
//! cross mounts (`RESOLVE_NO_XDEV`), and the mount of each folder is compared with that of the folder it began in.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// Folders held open at a time. What lies deeper is first moved up to the top, so that depth costs neither fds nor stack.
const MAX_OPEN: usize = 32;

/// Why a tree could not be removed. What was removed until then stays removed.
#[derive(Debug, thiserror::Error)]
#[error("remove {name:?}: {reason}")]
pub struct RemoveTreeError {
    /// The file or folder it stopped at.
    pub name: OsString,
    pub reason: RemoveTreeReason,
}

/// What stopped a removal.
#[derive(Debug, thiserror::Error)]
pub enum RemoveTreeReason {
    #[error("something is mounted there")]
    MountPoint,
    #[error("it is not the name of one entry")]
    InvalidName,
    #[error("{0}")]
    System(Errno),
}

impl From<RemoveTreeError> for io::Error {
    fn from(error: RemoveTreeError) -> io::Error {
        io::Error::other(error)
    }
}

/// Removes what `name` is in `parent`: a file, a link, or a folder with all that is in it. Nothing there is no error.
///
/// Refuses to cross a mount point, also one of a bind mount of the same file system. Read-only folders are no obstacle to their owner.
/// Nobody else may be writing to the tree; if somebody is, this fails or removes what they add, and still stays inside.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), RemoveTreeError> {
    if name.is_empty() || name == "." || name == ".." || name.as_bytes().contains(&b'/') {
        return Err(failed(name, RemoveTreeReason::InvalidName));
    }
    let mount = mount_id(parent).map_err(|errno| system(name, errno))?;
    match open_folder(parent, name, mount)? {
        None => unlink(parent, name, AtFlags::empty()),
        Some(folder) => {
            empty(folder, mount)?;
            unlink(parent, name, AtFlags::REMOVEDIR)
        }
    }
}

/// A folder that is being emptied.
struct Level {
    folder: Dir,
    /// Its name in the level above.
    name: OsString,
    /// Whether this pass over it changed anything: a folder may be left only after a pass that found nothing, since what a listing
    /// returns while entries go and come is up to the file system.
    changed: bool,
}

impl Level {
    fn new(folder: OwnedFd, name: OsString) -> Result<Level, RemoveTreeError> {
        let folder = Dir::new(folder).map_err(|errno| system(&name, errno))?;
        Ok(Level { folder, name, changed: false })
    }

    fn fd(&self) -> Result<BorrowedFd<'_>, RemoveTreeError> {
        self.folder.fd().map_err(|errno| system(&self.name, errno))
    }

    /// The next entry and whether it can be a folder, in this pass or a further one; `None` when the folder is empty.
    fn next(&mut self) -> Result<Option<(OsString, bool)>, RemoveTreeError> {
        loop {
            let Some(entry) = self.folder.read() else {
                if !std::mem::take(&mut self.changed) {
                    return Ok(None);
                }
                self.folder.rewind();
                continue;
            };
            let entry = entry.map_err(|errno| system(&self.name, errno))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.changed = true;
                let may_be_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                return Ok(Some((name.to_owned(), may_be_folder)));
            }
        }
    }
}

fn empty(top: OwnedFd, mount: u64) -> Result<(), RemoveTreeError> {
    let mut levels = vec![Level::new(top, OsString::from("."))?];
    let mut moved = 0;
    while let Some(level) = levels.last_mut() {
        let Some((name, may_be_folder)) = level.next()? else {
            let Some(done) = levels.pop() else { break };
            if let Some(above) = levels.last() {
                unlink(above.fd()?, &done.name, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let folder = if may_be_folder { open_folder(level.fd()?, &name, mount)? } else { None };
        match folder {
            None => unlink(level.fd()?, &name, AtFlags::empty())?,
            Some(folder) if levels.len() < MAX_OPEN => levels.push(Level::new(folder, name)?),
            Some(_) => move_to_top(&mut levels, &name, &mut moved)?,
        }
    }
    Ok(())
}

/// Moves a folder of the deepest level into the top folder, under a name that is free there.
fn move_to_top(levels: &mut [Level], name: &OsStr, moved: &mut u64) -> Result<(), RemoveTreeError> {
    let [top, .., deepest] = levels else { return Ok(()) };
    loop {
        let free = format!(".removing-{moved}");
        *moved += 1;
        match rustix::fs::renameat_with(deepest.fd()?, name, top.fd()?, &*free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => {
                top.changed = true;
                return other.map_err(|errno| system(name, errno));
            }
        }
    }
}

/// Opens `name` if it is a folder on this mount; `None` if it is anything else or not there.
fn open_folder(parent: BorrowedFd<'_>, name: &OsStr, mount: u64) -> Result<Option<OwnedFd>, RemoveTreeError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let handle = match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(None),
        Err(Errno::XDEV) => return Err(failed(name, RemoveTreeReason::MountPoint)),
        other => other.map_err(|errno| system(name, errno))?,
    };
    if mount_id(handle.as_fd()).map_err(|errno| system(name, errno))? != mount {
        return Err(failed(name, RemoveTreeReason::MountPoint));
    }
    open_for_removal(&handle).map(Some).map_err(|errno| system(name, errno))
}

/// Opens a folder for listing, after giving its owner the permissions that emptying it takes.
fn open_for_removal(handle: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(handle)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // An O_PATH fd cannot be given to fchmod; its link in procfs can be given to chmod. Root needs neither.
        let link = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(handle).to_string());
        match rustix::fs::chmod(&link, mode | Mode::RWXU) {
            Ok(()) | Err(Errno::PERM | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::openat(handle, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The mount's id (since Linux 5.8), not the device's: a bind mount of the same file system is another mount.
fn mount_id(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(stat.stx_mnt_id) }
}

fn unlink(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Result<(), RemoveTreeError> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A file that is a mount point of this namespace.
        Err(Errno::BUSY) => Err(failed(name, RemoveTreeReason::MountPoint)),
        Err(errno) => Err(system(name, errno)),
    }
}

fn failed(name: &OsStr, reason: RemoveTreeReason) -> RemoveTreeError {
    RemoveTreeError { name: name.to_owned(), reason }
}

fn system(name: &OsStr, errno: Errno) -> RemoveTreeError {
    failed(name, RemoveTreeReason::System(errno))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn remove(dir: &Path, name: &str) -> Result<(), RemoveTreeError> {
        remove_tree(File::open(dir).unwrap().as_fd(), OsStr::new(name))
    }

    #[test]
    fn a_link_is_removed_and_its_target_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kept/below")).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        symlink(dir.path().join("kept"), dir.path().join("tree/link")).unwrap();
        symlink("kept", dir.path().join("link")).unwrap();
        remove(dir.path(), "tree").unwrap();
        remove(dir.path(), "link").unwrap();
        assert!(dir.path().join("kept/below").exists());
        assert!(!dir.path().join("tree").exists() && fs::symlink_metadata(dir.path().join("link")).is_err());
    }

    #[test]
    fn wide_deep_and_closed_trees_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = File::open(dir.path()).unwrap().into();
        for _ in 0..3000 {
            deep = make_below(&deep, "d");
        }
        for number in 0..3000 {
            File::create(dir.path().join("d").join(number.to_string())).unwrap();
        }
        fs::create_dir_all(dir.path().join("d/closed/inner")).unwrap();
        fs::set_permissions(dir.path().join("d/closed/inner"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(dir.path().join("d/closed"), Permissions::from_mode(0o500)).unwrap();
        fs::create_dir(dir.path().join("d/.removing-0")).unwrap();
        remove(dir.path(), "d").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn make_below(parent: &OwnedFd, name: &str) -> OwnedFd {
        rustix::fs::mkdirat(parent, name, Mode::RWXU).unwrap();
        rustix::fs::openat(parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn only_the_name_of_one_entry_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["", ".", "..", "a/b", "/", "/tmp"] {
            assert!(
                matches!(remove(dir.path(), name).unwrap_err().reason, RemoveTreeReason::InvalidName),
                "{name}"
            );
        }
        assert!(dir.path().join("a/b").exists());
        remove(dir.path(), "not there").unwrap();
    }

    /// What is mounted already serves: nothing has to be mounted, and a name that is refused is not touched.
    #[test]
    fn a_mount_point_is_refused() {
        let root = File::open("/").unwrap();
        let mount = mount_id(root.as_fd()).unwrap();
        let error = open_folder(root.as_fd(), OsStr::new("proc"), mount).unwrap_err();
        assert!(matches!(error.reason, RemoveTreeReason::MountPoint), "{error}");
        let elsewhere = mount_id(File::open("/proc").unwrap().as_fd()).unwrap();
        assert_ne!(mount, elsewhere);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let parent = File::open(dir.path()).unwrap();
        let error = open_folder(parent.as_fd(), OsStr::new("a"), elsewhere).unwrap_err();
        assert!(matches!(error.reason, RemoveTreeReason::MountPoint), "the ids alone decide too: {error}");
    }
}
