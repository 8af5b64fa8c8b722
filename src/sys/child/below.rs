//! A part of a volume, found by descriptor: other containers of the volume may exchange what lies in it for links meanwhile
//! (CVE-2017-1002101, CVE-2021-25741).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fchmod, fchown, fstat, mkdirat, open as open_path};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::sys::inroot::{self, Links};
use crate::sys::step::Below;

/// Of the volume's mode, what folders in it have too (`getMode`, `doSafeMakeDir` of the kubelet).
const PASSED_ON: u32 = 0o777 | libc::S_ISGID;

/// What is found is below the volume at that moment, and what the descriptor leads to stays the same from then on.
pub(super) fn open(volume: &CStr, below: &Below) -> Result<OwnedFd, Errno> {
    let volume = open_path(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match (find(volume.as_fd(), below.path()), below.owner) {
        (Err(Errno::NOENT), Some(owner)) => make(volume.as_fd(), below, owner),
        (found, _) => found,
    }
}

fn find(volume: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    inroot::open(volume, path, OFlags::PATH, Links::Stay)
}

/// Makes the folders that are missing, one after the other, each in the descriptor of the one before.
fn make(volume: BorrowedFd<'_>, below: &Below, owner: u32) -> Result<OwnedFd, Errno> {
    let mode = fstat(volume)?.st_mode & PASSED_ON;
    let mut found = find(volume, c".")?;
    for path in &below.prefixes {
        found = match find(volume, path) {
            Err(Errno::NOENT) => match make_folder(found.as_fd(), last_part(path)?, mode, owner) {
                // Another container has made it just now, or it is a link that leads nowhere.
                Err(Errno::EXIST) => find(volume, path).map_err(|errno| match errno {
                    Errno::NOENT => Errno::LOOP,
                    errno => errno,
                })?,
                made => made?,
            },
            found => found?,
        };
    }
    Ok(found)
}

fn make_folder(parent: BorrowedFd<'_>, name: &CStr, mode: u32, owner: u32) -> Result<OwnedFd, Errno> {
    mkdirat(parent, name, Mode::RWXU)?;
    let folder = inroot::open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Links::Refuse)?;
    // With that bit, the group comes from the folder around it.
    let group = (mode & libc::S_ISGID == 0).then_some(Gid::from_raw(owner));
    fchown(&folder, Some(Uid::from_raw(owner)), group)?;
    fchmod(&folder, Mode::from_raw_mode(mode))?;
    Ok(folder)
}

fn last_part(path: &CStr) -> Result<&CStr, Errno> {
    let bytes = path.to_bytes_with_nul();
    let begin = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    CStr::from_bytes_with_nul(&bytes[begin..]).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, DirBuilder};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    fn below(path: &str, makes: bool) -> Below {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let prefixes = ends.map(|end| CString::new(&path[..end]).unwrap()).collect();
        Below { prefixes, owner: makes.then(|| rustix::process::getuid().as_raw()) }
    }

    fn open_in(volume: &Path, path: &str, makes: bool) -> Result<OwnedFd, Errno> {
        open(&CString::new(volume.as_os_str().as_bytes()).unwrap(), &below(path, makes))
    }

    fn is(fd: &OwnedFd, path: &Path) -> bool {
        let (found, wanted) = (fstat(fd).unwrap(), fs::metadata(path).unwrap());
        (found.st_dev, found.st_ino) == (wanted.dev(), wanted.ino())
    }

    #[test]
    fn links_are_followed_inside_and_never_out() {
        let dir = tempfile::tempdir().unwrap();
        let [volume, outside] = ["volume", "outside"].map(|name| dir.path().join(name));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(volume.join("a/file"), "").unwrap();
        for (name, to) in [
            ("inside", "a/b"),
            ("around", "a/../a/file"),
            ("up", "../outside"),
            ("host", outside.to_str().unwrap()),
            ("absolute", volume.join("a").to_str().unwrap()),
            ("magic", "/proc/self/root"),
            ("nowhere", "none"),
            ("circle", "circle"),
        ] {
            symlink(to, volume.join(name)).unwrap();
        }
        assert!(is(&open_in(&volume, "inside", false).unwrap(), &volume.join("a/b")));
        assert!(is(&open_in(&volume, "around", false).unwrap(), &volume.join("a/file")));
        for makes in [false, true] {
            for path in ["up", "up/x", "host", "host/x", "absolute", "magic", "magic/tmp"] {
                assert_eq!(open_in(&volume, path, makes).unwrap_err(), Errno::XDEV, "{path}");
            }
            assert_eq!(open_in(&volume, "circle/x", makes).unwrap_err(), Errno::LOOP);
            assert_eq!(open_in(&volume, "a/file/x", makes).unwrap_err(), Errno::NOTDIR);
            assert_eq!(open_in(&volume.join("a/file"), "x", makes).unwrap_err(), Errno::NOTDIR);
        }
        assert_eq!(open_in(&volume, "nowhere/x", true).unwrap_err(), Errno::LOOP);
        assert_eq!(open_in(&volume, "none/x", false).unwrap_err(), Errno::NOENT);
        assert_eq!(
            fs::read_dir(&outside).unwrap().count() + fs::read_dir(volume.join("a/b")).unwrap().count(),
            0
        );
    }

    #[test]
    fn what_is_made_has_the_mode_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o2770, 0o750] {
            let volume = dir.path().join(format!("{mode:o}"));
            DirBuilder::new().mode(0o700).create(&volume).unwrap();
            DirBuilder::new().mode(0o711).create(volume.join("there")).unwrap();
            fs::set_permissions(&volume, fs::Permissions::from_mode(mode | 0o1000)).unwrap();
            let made = open_in(&volume, "there/a/b", true).unwrap();
            let mode_of = |path: &str| fs::metadata(volume.join(path)).unwrap().mode() & 0o7777;
            assert_eq!(["there", "there/a", "there/a/b"].map(mode_of), [0o711, mode, mode]);
            assert!(is(&made, &volume.join("there/a/b")));
            assert!(is(&open_in(&volume, "there/a/b", true).unwrap(), &volume.join("there/a/b")));
        }
    }

    /// CVE-2017-1002101, CVE-2021-25741.
    #[test]
    fn a_folder_that_is_exchanged_for_a_link_meanwhile_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let [volume, outside] = ["volume", "outside"].map(|name| dir.path().join(name));
        fs::create_dir_all(volume.join("folder")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink("../outside", volume.join("link")).unwrap();
        let (folder, link, over) = (volume.join("folder"), volume.join("link"), AtomicBool::new(false));
        let (mut seen, mut escaped, mut unexpected) = ([0; 2], false, None);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            // Until both have been met often.
            while seen[0].min(seen[1]) < 300 {
                match open_in(&volume, &format!("folder/{}/x", seen[0]), true) {
                    Ok(_) => seen[0] += 1,
                    Err(Errno::XDEV) => seen[1] += 1,
                    // It was no folder and became one between two looks.
                    Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {}
                    Err(errno) => unexpected = Some(errno),
                }
                escaped = fs::read_dir(&outside).unwrap().count() != 0;
                if escaped || unexpected.is_some() {
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(!escaped, "something appeared outside of the volume");
        assert_eq!(unexpected, None);
    }
}
