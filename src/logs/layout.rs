//! Names on disk: `<namespace>_<name>_<uid>/<container>/<restart>.log` and its rotated files.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::manifest::Uid;
use crate::order;

use super::Error;

/// The folder of a Pod's logs, as the kubelet names it. Neither a namespace nor a name can hold a `_`.
pub fn pod_log_dir(root: &Path, namespace: &str, name: &str, uid: &Uid) -> PathBuf {
    root.join(format!("{namespace}_{name}_{uid}"))
}

/// The folder of one container's logs.
pub fn container_log_dir(pod_log_dir: &Path, container: &str) -> PathBuf {
    pod_log_dir.join(container)
}

/// A Pod's folder found on disk: of the Pod that runs, or of one that had its name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFolder {
    pub uid: Uid,
    pub path: PathBuf,
    /// When something was last written into one of its logs.
    pub modified: SystemTime,
}

/// All folders of Pods of this name, the most recently written first.
///
/// # Errors
/// [`Error::Path`] if `root` is there and cannot be listed.
pub fn folders_of(root: &Path, namespace: &str, name: &str) -> Result<Vec<PodFolder>, Error> {
    let prefix = format!("{namespace}_{name}_");
    let mut found = Vec::new();
    for (entry, file_name) in list(root)? {
        let Some(uid) = file_name.strip_prefix(&prefix).and_then(Uid::parse) else { continue };
        found.push(PodFolder { uid, modified: last_written(&entry), path: entry });
    }
    order::sort_by(&mut found, |a, b| b.modified.cmp(&a.modified).then_with(|| a.path.cmp(&b.path)));
    Ok(found)
}

/// The newest modification time of a Pod's folder, its containers' folders and their files.
pub(super) fn last_written(pod: &Path) -> SystemTime {
    let mut newest = modified(pod);
    for (container, _) in list(pod).unwrap_or_default().into_iter().filter(|(path, _)| is_folder(path)) {
        newest = newest.max(modified(&container));
        for (file, _) in list(&container).unwrap_or_default() {
            newest = newest.max(modified(&file));
        }
    }
    newest
}

/// A link to a folder is none.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Entries whose name is UTF-8 (all of ours are); a missing folder is an empty one.
pub(super) fn list(dir: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::path("list", dir))?,
    };
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.map_err(Error::path("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((entry.path(), name));
        }
    }
    Ok(entries)
}

/// Makes a folder and the missing ones above it, each with mode 0755 whatever the umask.
pub(super) fn make_dirs(dir: &Path) -> Result<(), Error> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or(error).map_err(Error::path("make folder", dir))?;
            make_dirs(parent)?;
            return make_dirs_once(dir);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.map_err(Error::path("make folder", dir))?,
    }
    open_to_all(dir)
}

fn make_dirs_once(dir: &Path) -> Result<(), Error> {
    fs::create_dir(dir).map_err(Error::path("make folder", dir))?;
    open_to_all(dir)
}

fn open_to_all(dir: &Path) -> Result<(), Error> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(Error::path("set the mode of", dir))
}

/// One file of a container's folder. They sort in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    pub restart: u32,
    pub rotation: Rotation,
    pub path: PathBuf,
}

/// Rotated files sort before the current one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rotation {
    Rotated(Stamp),
    Current,
}

/// What is appended to a rotated file's name: `YYYYMMDD-HHMMSS` as the kubelet does, then `.<sequence>` if there
/// was one in that second already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub second: String,
    pub sequence: u32,
}

impl Stamp {
    fn parse(text: &str) -> Option<Stamp> {
        let (second, sequence) = match text.split_once('.') {
            None => (text, 0),
            Some((second, sequence)) => (second, sequence.parse().ok()?),
        };
        let well_formed = second.len() == 15
            && second.bytes().enumerate().all(|(i, b)| if i == 8 { b == b'-' } else { b.is_ascii_digit() });
        well_formed.then(|| Stamp { second: second.to_owned(), sequence })
    }

    /// The stamp for a file rotated at `second`, after those that exist: later than all of them even if two fall
    /// into one second or the clock went back.
    pub fn after(newest: Option<&Stamp>, second: String) -> Stamp {
        match newest {
            Some(newest) if newest.second.cmp(&second) != Ordering::Less => {
                Stamp { second: newest.second.clone(), sequence: newest.sequence + 1 }
            }
            _ => Stamp { second, sequence: 0 },
        }
    }
}

/// The path of a log file.
pub(super) fn log_path(dir: &Path, restart: u32, rotation: &Rotation) -> PathBuf {
    dir.join(match rotation {
        Rotation::Current => format!("{restart}.log"),
        Rotation::Rotated(Stamp { second, sequence: 0 }) => format!("{restart}.log.{second}"),
        Rotation::Rotated(Stamp { second, sequence }) => format!("{restart}.log.{second}.{sequence}"),
    })
}

fn parse_file_name(name: &str) -> Option<(u32, Rotation)> {
    let (restart, rest) = name.split_once(".log")?;
    let rotation = match rest.strip_prefix('.') {
        Some(stamp) => Rotation::Rotated(Stamp::parse(stamp)?),
        None if rest.is_empty() => Rotation::Current,
        None => return None,
    };
    // Only what `log_path` writes: `007.log` and `+7.log` are not ours.
    let restart: u32 = restart.parse().ok().filter(|number: &u32| number.to_string() == restart)?;
    Some((restart, rotation))
}

/// All log files of a container's folder, in the order in which they were written; what has another name (a
/// kubelet's `.gz`, say) is left out.
pub(super) fn log_files(dir: &Path) -> Result<Vec<LogFile>, Error> {
    let mut files: Vec<LogFile> = list(dir)?
        .into_iter()
        .filter_map(|(path, name)| {
            parse_file_name(&name).map(|(restart, rotation)| LogFile { restart, rotation, path })
        })
        .collect();
    order::sort(&mut files);
    Ok(files)
}

/// Whether a folder's name is one that [`pod_log_dir`] gives; if so, the Pod's uid.
pub(super) fn uid_of_folder(name: &OsStr) -> Option<Uid> {
    let mut parts = name.to_str()?.split('_');
    let (Some(_), Some(_), Some(uid), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    Uid::parse(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_were_written() {
        let stamp = |second: &str, sequence| Rotation::Rotated(Stamp { second: second.into(), sequence });
        for rotation in [Rotation::Current, stamp("20260102-030405", 0), stamp("20260102-030405", 12)] {
            let path = log_path(Path::new("/x"), 7, &rotation);
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            assert_eq!(parse_file_name(name), Some((7, rotation)));
        }
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in
            ["x.log", "007.log", "+7.log", "7.log.gz", "7.log.20260102-030405.gz", "7.logs", "7.log.", ""]
        {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
        for name in ["a_b", "a_b_c", "a_b_c_0123456789abcdef0123456789abcdef"] {
            assert_eq!(uid_of_folder(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn files_sort_in_the_order_of_writing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let names = [
            "2.log",
            "10.log",
            "2.log.20260101-000000",
            "2.log.20260101-000000.2",
            "2.log.20260101-000000.10",
        ];
        for name in names {
            fs::write(dir.path().join(name), "").expect("write");
        }
        let sorted: Vec<_> = log_files(dir.path())
            .expect("list")
            .into_iter()
            .map(|file| file.path.file_name().unwrap_or_default().to_owned())
            .collect();
        let expected = [
            "2.log.20260101-000000",
            "2.log.20260101-000000.2",
            "2.log.20260101-000000.10",
            "2.log",
            "10.log",
        ];
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_stamp_is_later_than_all_before_it() {
        let old = Stamp { second: "20260101-000005".into(), sequence: 3 };
        for now in ["20260101-000004", "20260101-000005", "20260101-000006"] {
            assert!(Stamp::after(Some(&old), now.into()) > old, "{now}");
        }
    }
}
