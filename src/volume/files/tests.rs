//! The writer against a folder: what readers see, when it writes, and what an interruption leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A volume, and its owner: who runs the test, as nobody else may give files to others.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new() -> Volume {
        Volume(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, files: &[(&str, u32, &str)]) -> io::Result<()> {
        let folder = OpenFile::open(self.0.path()).unwrap();
        let file = |mode, text: &str| File { mode, bytes: Cow::Owned(text.as_bytes().to_vec()) };
        let files = files.iter().map(|(path, mode, text)| (*path, file(*mode, text))).collect();
        write(folder.as_fd(), &files, own())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn data(&self) -> String {
        fs::read_link(self.path(DATA)).unwrap().to_str().unwrap().to_owned()
    }

    /// All that is in the volume's folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn own() -> Owner {
    Owner { user: rustix::process::geteuid().as_raw(), fs_group: None }
}

#[test]
fn files_are_links_through_the_folder_that_counts() {
    let volume = Volume::new();
    volume.write(&[("a", 0o400, "1"), ("d/e/b", 0o644, "2"), ("d/c", 0o777, ""), (".h", 0, "")]).unwrap();
    assert_eq!(volume.names(), ["..1.4", DATA, ".h", "a", "d"]);
    assert_eq!(volume.data(), "..1.4");
    for (name, target) in [("a", "..data/a"), ("d", "..data/d"), (".h", "..data/.h")] {
        assert_eq!(fs::read_link(volume.path(name)).unwrap().to_str().unwrap(), target);
    }
    assert_eq!([volume.read("a"), volume.read("d/e/b"), volume.read("d/c")], ["1", "2", ""]);
    let mode = |name| fs::metadata(volume.path(name)).unwrap().mode() & 0o7777;
    let modes = ["a", "d/e/b", "d/c", ".h", "d", "d/e", DATA].map(mode);
    assert_eq!(modes, [0o400, 0o644, 0o777, 0, 0o755, 0o755, 0o755]);
}

#[test]
fn a_group_may_read_and_what_lies_below_is_its_own() {
    let volume = Volume::new();
    let folder = OpenFile::open(volume.0.path()).unwrap();
    let group = rustix::process::getegid().as_raw();
    let owner = Owner { fs_group: Some(group), ..own() };
    let file = |mode| File { mode, bytes: Cow::Borrowed(b"" as &[u8]) };
    write(folder.as_fd(), &[("a", file(0o400)), ("d/b", file(0o640))].into(), owner).unwrap();
    let mode = |name| fs::metadata(volume.path(name)).unwrap().mode() & 0o7777;
    let modes = ["a", "d/b", "d", DATA].map(mode);
    assert_eq!(modes, [0o440, 0o640, 0o2755, 0o2755]);
}

#[test]
fn nothing_is_written_where_nothing_changes_and_everything_else_is_a_change() {
    let volume = Volume::new();
    let mut last = String::new();
    let mut changes = |files: &[(&str, u32, &str)]| {
        volume.write(files).unwrap();
        std::mem::replace(&mut last, volume.data()) != volume.data()
    };
    assert!(changes(&[]));
    assert!(!changes(&[]));
    assert!(changes(&[("a", 0o644, "x"), ("d/b", 0o644, "y")]));
    assert!(!changes(&[("a", 0o644, "x"), ("d/b", 0o644, "y")]));
    for change in [
        &[("a", 0o644, "X"), ("d/b", 0o644, "y")][..],
        &[("a", 0o644, "X"), ("d/b", 0o600, "y")],
        &[("a", 0o644, "X "), ("d/b", 0o600, "y")],
        &[("a", 0o644, "X"), ("d/c", 0o600, "y")],
        &[("a", 0o644, "X")],
        &[("a/b", 0o644, "X")],
        &[("a", 0o644, "X")],
    ] {
        assert!(changes(change), "{change:?}");
        assert!(!changes(change), "{change:?}");
        let names = volume.names().into_iter().filter(|name| !name.starts_with("..")).collect::<Vec<_>>();
        let wanted: std::collections::BTreeSet<_> = change.iter().map(|(path, ..)| top_of(path)).collect();
        assert_eq!(names, wanted.into_iter().collect::<Vec<_>>());
        assert_eq!(volume.names().len(), names.len() + 2, "the old folder is gone: {:?}", volume.names());
    }
}

#[test]
fn what_an_interruption_has_left_goes_and_nothing_of_it_is_shown() {
    let volume = Volume::new();
    volume.write(&[("a", 0o644, "1"), ("b", 0o644, "1")]).unwrap();
    // Killed while it filled the next folder, and before it named it.
    fs::create_dir(volume.path("..2.1")).unwrap();
    fs::write(volume.path("..2.1/a"), "half").unwrap();
    symlink("..2.1", volume.path(NEXT_DATA)).unwrap();
    volume.write(&[("a", 0o644, "2")]).unwrap();
    assert_eq!(volume.names(), ["..3.1", DATA, "a"]);
    assert_eq!(volume.read("a"), "2");
    // Killed between the new `..data` and the names.
    fs::remove_file(volume.path("a")).unwrap();
    symlink("..data/old", volume.path("old")).unwrap();
    fs::create_dir(volume.path("..1.1")).unwrap();
    volume.write(&[("a", 0o644, "2")]).unwrap();
    assert_eq!(volume.names(), ["..3.1", DATA, "a"], "and without another folder");
    // What is no folder of ours is not looked into.
    for target in ["/etc", "..", "..3.1/..", "..9.1", "a"] {
        fs::remove_file(volume.path(DATA)).unwrap();
        symlink(target, volume.path(DATA)).unwrap();
        volume.write(&[("a", 0o644, "2")]).unwrap();
        assert_eq!(volume.read("a"), "2", "{target}");
    }
    assert!(fs::metadata("/etc/hostname").is_ok());
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let volume = Volume::new();
    for path in ["", "/a", "../a", "a/../../b", "..data", "a//b"] {
        assert_eq!(volume.write(&[(path, 0o644, "")]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert!(volume.names().is_empty());
}

#[test]
fn a_full_disk_leaves_what_was_shown() {
    let volume = Volume::new();
    volume.write(&[("a", 0o644, "1")]).unwrap();
    // No part of a path may be that long, but the kernel alone knows of it: the rules allow 255.
    let long = "é".repeat(127) + "x";
    volume.write(&[(&long, 0o644, "1")]).unwrap();
    // A file in the place of a folder fails half way.
    volume.write(&[("a", 0o644, "1"), ("a/b", 0o644, "2")]).unwrap_err();
    assert_eq!(volume.names().len(), 3, "{:?}", volume.names());
    assert_eq!(volume.read(&long), "1");
}

/// Two files that always say the same are read, through one `..data`, while they are written again and again.
#[test]
fn readers_see_all_of_the_old_or_all_of_the_new() {
    let volume = Volume::new();
    let text = |n: u32| format!("{n:06}").repeat(2000);
    let write = |n| volume.write(&[("a", 0o644, &text(n)), ("d/b", 0o644, &text(n))]).unwrap();
    write(0);
    let (over, seen) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The volume is never without one that counts.
                let Ok(folder) = rustix::fs::open(volume.path(DATA), FOLDER, Mode::empty()) else {
                    // It was removed between the look at the link and the opening.
                    assert!(fs::read_link(volume.path(DATA)).is_ok());
                    continue;
                };
                let read = |name| {
                    let mut text = String::new();
                    let file = rustix::fs::openat(&folder, name, OFlags::RDONLY, Mode::empty());
                    file.ok().map(|file| OpenFile::from(file).read_to_string(&mut text).unwrap())?;
                    Some(text)
                };
                let (Some(a), Some(b)) = (read("a"), read("d/b")) else { continue };
                assert_eq!((a.len(), &a), (12_000, &b));
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 1.. {
            write(n);
            if n >= 200 && seen.load(Ordering::Relaxed) >= 100 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

#[test]
fn the_folder_of_a_volume_is_everybodys_as_an_empty_dir_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uid/v");
    // An older podkeep may have made it otherwise.
    for mode in [0o777, 0o1777, 0o1777] {
        make_folder(&path, mode, own()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
    symlink("/", dir.path().join("uid/link")).unwrap();
    make_folder(&dir.path().join("uid/link"), 0o777, own()).unwrap_err();
}
