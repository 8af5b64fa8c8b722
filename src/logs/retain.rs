//! What becomes of the logs of Pods and runs that are gone: kept for a while, so that `--previous` can tell why they
//! died, then removed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat};

use crate::manifest::Uid;
use crate::order;

use super::Error;
use super::layout::{is_folder, last_written, list, log_files, uid_of_folder};

/// How long the logs of a Pod that is gone are kept: over a weekend.
pub const MAX_AGE: Duration = Duration::from_secs(72 * 3600);

/// How much disk all logs of Pods that are gone may use together: a few Pods that filled their files (10 MiB, five
/// files a container, by default). Bytes.
pub const MAX_BYTES: u64 = 256 << 20;

/// What [`sweep`] did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Folders that are gone now.
    pub removed: Vec<PathBuf>,
    /// Folders that could not be removed; they are tried again at the next sweep.
    pub failed: Vec<Error>,
    /// When the next of the folders that stay gets too old; `None` if none will. Call again then, and when a Pod goes.
    pub next: Option<SystemTime>,
}

/// A folder of a Pod that is gone.
struct Dead {
    path: PathBuf,
    modified: SystemTime,
    /// On disk.
    bytes: u64,
}

/// Removes the folders of Pods that are gone and too old, then the oldest ones until the rest is within `max_bytes`.
///
/// Only folders named `<namespace>_<name>_<uid>` are looked at, with a uid as podkeep (and the kubelet, for static
/// Pods) makes them. It reads and deletes: call it on a thread, not in the loop.
///
/// # Errors
/// [`Error::Path`] if `root` is there and cannot be listed.
pub fn sweep(
    root: &Path,
    alive: &dyn Fn(&Uid) -> bool,
    max_age: Duration,
    max_bytes: u64,
    now: SystemTime,
) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut kept_bytes = 0;
    for dead in dead_folders(root, alive)? {
        let expires = dead.modified.checked_add(max_age);
        if expires.is_none_or(|expires| expires > now) && kept_bytes + dead.bytes <= max_bytes {
            kept_bytes += dead.bytes;
            // The oldest of them comes last.
            swept.next = expires;
            continue;
        }
        // Whatever is older goes too.
        kept_bytes = kept_bytes.max(max_bytes);
        match remove_pod_folder(&dead.path) {
            Ok(()) => swept.removed.push(dead.path),
            Err(source) => {
                swept.failed.push(Error::Path { action: "remove old logs", path: dead.path, source });
            }
        }
    }
    Ok(swept)
}

/// Newest first.
fn dead_folders(root: &Path, alive: &dyn Fn(&Uid) -> bool) -> Result<Vec<Dead>, Error> {
    let mut dead: Vec<Dead> = list(root)?
        .into_iter()
        .filter(|(_, name)| uid_of_folder(name.as_ref()).is_some_and(|uid| !alive(&uid)))
        .filter(|(path, _)| is_folder(path))
        .map(|(path, _)| Dead { modified: last_written(&path), bytes: bytes_on_disk(&path), path })
        .collect();
    order::sort_by_key(&mut dead, |folder| std::cmp::Reverse(folder.modified));
    Ok(dead)
}

fn bytes_on_disk(pod: &Path) -> u64 {
    let containers = list(pod).unwrap_or_default().into_iter().filter(|(path, _)| is_folder(path));
    let files = containers.flat_map(|(container, _)| list(&container).unwrap_or_default());
    // st_blocks counts 512 bytes on every file system.
    files.filter_map(|(file, _)| fs::symlink_metadata(file).ok()).map(|meta| meta.blocks() * 512).sum()
}

/// Removes the files of all runs of a container but `current` and the one before it.
///
/// # Errors
/// [`Error::Path`] if the folder cannot be listed or a file not removed.
pub fn prune_restarts(dir: &Path, current: u32) -> Result<(), Error> {
    let files = log_files(dir)?;
    let previous = files.iter().map(|file| file.restart).filter(|&restart| restart < current).max();
    for file in files.iter().filter(|file| file.restart < current && Some(file.restart) != previous) {
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(Error::path("remove old log", &file.path))?,
        }
    }
    Ok(())
}

/// Removes files and one level of folders: the tree is never deeper. Follows no link and leaves no device.
fn remove_pod_folder(path: &Path) -> io::Result<()> {
    let pod = open_folder(CWD, path.as_os_str().as_bytes())?;
    let device = fstat(&pod)?.st_dev;
    for (name, is_folder) in names(&pod)? {
        if is_folder {
            let container = open_folder(&pod, &name)?;
            if fstat(&container)?.st_dev != device {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            for (file, _) in names(&container)? {
                unlinkat(&container, file.as_slice(), AtFlags::empty())?;
            }
            unlinkat(&pod, name.as_slice(), AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(&pod, name.as_slice(), AtFlags::empty())?;
        }
    }
    fs::remove_dir(path)
}

fn open_folder(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// The names in a folder, and which are folders themselves.
fn names(dir: &OwnedFd) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_owned(), entry.file_type() == FileType::Directory));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::super::pod_log_dir;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Logs {
        root: tempfile::TempDir,
        now: SystemTime,
    }

    impl Logs {
        fn new() -> Logs {
            Logs { root: tempfile::tempdir().expect("a temporary folder"), now: SystemTime::now() }
        }

        /// A Pod that wrote 8 KiB, last so many hours ago.
        fn pod(&self, digit: u32, hours: u32) -> (Uid, PathBuf) {
            let uid = Uid::parse(&digit.to_string().repeat(32)).expect("a uid");
            let pod = pod_log_dir(self.root.path(), "ns", "web", &uid);
            fs::create_dir_all(pod.join("app")).expect("make");
            let path = pod.join("app/0.log");
            fs::write(&path, [b'x'; 8192]).expect("write");
            for path in [&path, &pod.join("app"), &pod] {
                File::open(path)
                    .and_then(|file| file.set_modified(self.now - HOUR * hours))
                    .expect("set time");
            }
            (uid, pod)
        }

        fn sweep(&self, alive: &[&Uid], max_bytes: u64) -> Swept {
            let alive = |uid: &Uid| alive.contains(&uid);
            sweep(self.root.path(), &alive, 10 * HOUR, max_bytes, self.now).expect("sweep")
        }
    }

    #[test]
    fn what_is_too_old_goes_and_what_lives_stays() {
        let logs = Logs::new();
        let (alive, living) = logs.pod(1, 100);
        let (_, old) = logs.pod(2, 11);
        let (_, young) = logs.pod(3, 9);
        let swept = logs.sweep(&[&alive], u64::MAX);
        assert_eq!(swept.removed, [old]);
        assert!(swept.failed.is_empty() && living.exists() && young.exists());
        assert_eq!(swept.next, Some(logs.now + HOUR));
    }

    #[test]
    fn what_is_too_much_goes_oldest_first() {
        let logs = Logs::new();
        let pods: Vec<PathBuf> = (1..=4).map(|hours| logs.pod(hours, hours).1).collect();
        let swept = logs.sweep(&[], 2 * 8192);
        assert_eq!(swept.removed, pods[2..]);
        assert!(pods[0].exists() && pods[1].exists());
    }

    #[test]
    fn links_are_not_followed_and_foreign_folders_are_left_alone() {
        let logs = Logs::new();
        let (_, pod) = logs.pod(1, 11);
        let outside = logs.root.path().join("outside");
        fs::create_dir(&outside).expect("make");
        fs::write(outside.join("precious"), "").expect("write");
        symlink(&outside, pod.join("link")).expect("link");
        symlink(&outside, logs.root.path().join(format!("ns_x_{}", "9".repeat(32)))).expect("link");
        let swept = logs.sweep(&[], 0);
        assert_eq!(swept.removed, [pod]);
        assert!(swept.failed.is_empty());
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn the_run_before_is_kept_even_if_a_number_is_missing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["0.log", "0.log.20260101-000000", "3.log", "3.log.20260101-000000", "5.log", "6.log"] {
            fs::write(dir.path().join(name), "").expect("write");
        }
        prune_restarts(dir.path(), 5).expect("prune");
        let kept: Vec<u32> = log_files(dir.path()).expect("list").iter().map(|file| file.restart).collect();
        assert_eq!(kept, [3, 3, 5, 6]);
    }
}
