//! How much of a disk a folder takes, with all that is in it.
//!
//! Containers write there meanwhile: the walk goes by fd, follows no link, crosses no mount and opens nothing but folders.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// What `st_blocks` counts in, whatever the file system's own blocks are (stat(2)).
const BLOCK: u64 = 512;

/// A folder is reached by a path from one that is open. Where that has become longer, the folder is held open for those
/// below it: no depth is out of reach (`PATH_MAX`), and few file descriptors are open at a time.
const LONGEST_PATH: usize = 1024;

/// Bytes of the disk that are taken, as du(1) counts them: no holes, hard links once, the folders themselves too. 0 if
/// there is no such folder. What goes away meanwhile, or cannot be read, is not counted.
///
/// # Errors
/// The folder itself cannot be read.
pub fn disk_usage(folder: &Path) -> rustix::io::Result<u64> {
    let top = match rustix::fs::open(folder, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        other => other?,
    };
    let mut walk = Walk::begin(&top)?;
    walk.list(top, None)?;
    walk.list_all();
    Ok(walk.blocks.saturating_mul(BLOCK))
}

/// Nothing is written for having been read.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_XDEV).union(ResolveFlags::NO_SYMLINKS);

struct Walk {
    device: (u32, u32),
    blocks: u64,
    /// Inodes of files with several names that have been counted.
    linked: BTreeSet<u64>,
    unlisted: Vec<Place>,
}

struct Place {
    base: Rc<OwnedFd>,
    /// From there, of folders only when it was seen.
    path: PathBuf,
}

impl Walk {
    fn begin(top: &OwnedFd) -> rustix::io::Result<Walk> {
        let own = rustix::fs::statx(top, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let device = (own.stx_dev_major, own.stx_dev_minor);
        Ok(Walk { device, blocks: own.stx_blocks, linked: BTreeSet::new(), unlisted: Vec::new() })
    }

    fn list_all(&mut self) {
        while let Some(place) = self.unlisted.pop() {
            let folder = rustix::fs::openat2(&*place.base, &place.path, FOLDER, Mode::empty(), INSIDE);
            // It was there a moment ago.
            let _ = folder.and_then(|folder| self.list(folder, Some(place)));
        }
    }

    /// Counts what is in an open folder; `place` is where it was found.
    fn list(&mut self, folder: OwnedFd, place: Option<Place>) -> rustix::io::Result<()> {
        let Place { base, path } = match place {
            Some(place) if place.path.as_os_str().len() <= LONGEST_PATH => place,
            _ => Place { base: Rc::new(rustix::io::fcntl_dupfd_cloexec(&folder, 0)?), path: PathBuf::new() },
        };
        let mut folder = Dir::new(folder)?;
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let Ok(found) = rustix::fs::statx(folder.fd()?, name, flags, StatxFlags::BASIC_STATS) else {
                continue;
            };
            if self.count(&found) && FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                self.unlisted.push(Place { base: Rc::clone(&base), path });
            }
        }
        Ok(())
    }

    /// Says whether it belongs to the folder: something else may be mounted there.
    fn count(&mut self, found: &Statx) -> bool {
        let is_here = (found.stx_dev_major, found.stx_dev_minor) == self.device;
        if !is_here || found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return false;
        }
        let is_folder = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        if is_folder || found.stx_nlink == 1 || self.linked.insert(found.stx_ino) {
            self.blocks = self.blocks.saturating_add(found.stx_blocks);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn write(path: &Path, bytes: u64) {
        fs::write(path, vec![1; bytes as usize]).unwrap();
    }

    /// As du(1) has it.
    fn expected(folder: &Path) -> u64 {
        let output = Command::new("du").args(["-s", "-B1"]).arg(folder).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn files_are_counted_as_they_lie_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let empty = disk_usage(dir.path()).unwrap();
        write(&at("plain"), MIB);
        let with_plain = disk_usage(dir.path()).unwrap();
        assert!((MIB..MIB + (64 << 10)).contains(&(with_plain - empty)), "{empty} {with_plain}");

        File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        fs::hard_link(at("plain"), at("again")).unwrap();
        symlink("/", at("root")).unwrap();
        symlink(at("plain"), at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::RWXU).unwrap();
        let with_others = disk_usage(dir.path()).unwrap();
        assert!(with_others - with_plain < 64 << 10, "{with_plain} {with_others}");
        fs::create_dir_all(at("a/b")).unwrap();
        write(&at("a/b/more"), MIB);
        fs::hard_link(at("a/b/more"), at("a/more")).unwrap();
        assert_eq!(disk_usage(dir.path()).unwrap(), expected(dir.path()));
    }

    #[test]
    fn what_lies_deeper_than_a_path_can_say_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut deepest = OwnedFd::from(File::open(dir.path()).unwrap());
        let name = "d".repeat(100);
        for _ in 0..200 {
            rustix::fs::mkdirat(&deepest, &*name, Mode::RWXU).unwrap();
            deepest = rustix::fs::openat(&deepest, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let file = rustix::fs::openat(&deepest, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        let before = disk_usage(dir.path()).unwrap();
        File::from(file).write_all(&vec![1; MIB as usize]).unwrap();
        let blocks =
            |name: &str| rustix::fs::statat(&deepest, name, AtFlags::empty()).unwrap().st_blocks as u64;
        assert!(blocks("f") >= MIB / BLOCK);
        assert_eq!(disk_usage(dir.path()).unwrap(), before + blocks("f") * BLOCK);
        crate::sys::remove_tree::remove_tree(File::open(dir.path()).unwrap().as_fd(), OsStr::new(&name))
            .unwrap();
    }

    /// What is mounted already serves.
    #[test]
    fn what_is_mounted_in_it_is_not_counted() {
        let root = OwnedFd::from(File::open("/").unwrap());
        let proc =
            rustix::fs::statx(&root, "proc", AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).unwrap();
        let mut walk = Walk::begin(&root).unwrap();
        let own = walk.blocks;
        assert!(!walk.count(&proc), "another file system");
        walk.device = (proc.stx_dev_major, proc.stx_dev_minor);
        assert!(!walk.count(&proc), "of a bind mount the device alone tells nothing");
        // Nor if it is mounted after it was seen.
        walk.unlisted.push(Place { base: Rc::new(root), path: PathBuf::from("proc") });
        walk.list_all();
        assert_eq!((walk.blocks, walk.unlisted.len()), (own, 0));
    }

    #[test]
    fn a_folder_that_goes_meanwhile_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk_usage(&dir.path().join("never")), Ok(0));
        symlink("/", dir.path().join("link")).unwrap();
        assert!(disk_usage(&dir.path().join("link")).is_err(), "no link is followed");

        fs::create_dir_all(dir.path().join("goes/below")).unwrap();
        fs::create_dir_all(dir.path().join("stays")).unwrap();
        write(&dir.path().join("stays/file"), MIB);
        let top = OwnedFd::from(File::open(dir.path()).unwrap());
        let mut walk = Walk::begin(&top).unwrap();
        walk.list(top, None).unwrap();
        assert_eq!(walk.unlisted.len(), 2);
        fs::remove_dir_all(dir.path().join("goes")).unwrap();
        walk.list_all();
        assert!(walk.unlisted.is_empty() && walk.blocks >= MIB / BLOCK);
    }
}
