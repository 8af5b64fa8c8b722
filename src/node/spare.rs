//! Folders made ahead: on the way from a change to what it starts, a new folder costs the disk ten times what a rename does.
//!
//! There is one of each kind, made again a moment after it was taken. Where none is there, a new one is made in its place.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folders::{Folders, LAST_WORDS};
use super::name_files;

/// Nobody but root looks into a Pod's folder (as in the kubelet).
const POD_MODE: u32 = 0o750;
/// The root of an overlay has its upper folder's mode: everyone may look, as in every image.
const UPPER_MODE: u32 = 0o755;

/// The folder of spare folders.
#[derive(Clone, Debug)]
pub struct Spares(PathBuf);

impl Spares {
    pub fn new(folder: PathBuf) -> Spares {
        Spares(folder)
    }

    /// A Pod's folder; one that is there already stays as it is.
    pub fn pod(&self, place: &Path) -> Result<()> {
        self.take("pod", place, make_pod)
    }

    /// What one run of a container may write to: overlay's upper and work folders, and the file of its last words.
    pub fn run(&self, place: &Path) -> Result<()> {
        self.take("run", place, make_run)
    }

    fn take(&self, kind: &str, place: &Path, make: fn(&Path) -> io::Result<()>) -> Result<()> {
        // What is there is asked first: a rename would take the place of an empty folder.
        if !place.exists() && fs::rename(self.0.join(kind), place).is_ok() {
            return Ok(());
        }
        make(place).with_context(|| format!("make {}", place.display()))
    }

    /// Makes what was taken.
    pub fn fill(&self) -> Result<()> {
        for (kind, make) in [("pod", make_spare_pod as fn(&Path) -> io::Result<()>), ("run", make_run)] {
            let place = self.0.join(kind);
            // Under another name first: one that is taken is whole.
            let aside = self.0.join(format!("{kind}.new"));
            if !place.exists() {
                make(&aside)
                    .and_then(|()| fs::rename(&aside, &place))
                    .with_context(|| format!("make {}", place.display()))?;
            }
        }
        Ok(())
    }

    /// Removes all of them. No error if there is none.
    pub fn clear(&self) {
        for run in ["run", "run.new"].map(|run| self.0.join(run)) {
            // Gone already is as good, and one that holds anything is none of ours.
            let _ = fs::remove_file(run.join(LAST_WORDS));
            for folder in ["upper", "work", ""] {
                let _ = fs::remove_dir(run.join(folder));
            }
        }
        for pod in ["pod", "pod.new"].map(|pod| self.0.join(pod)) {
            for file in name_files(&pod) {
                let _ = fs::remove_file(file);
            }
            let _ = fs::remove_dir(pod);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn make_pod(place: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(POD_MODE).create(place)
}

/// With files that are written to when a container starts: who takes none of these makes them then.
fn make_spare_pod(place: &Path) -> io::Result<()> {
    make_pod(place)?;
    name_files(place).try_for_each(|file| File::create(file).map(drop))
}

fn name_files(pod: &Path) -> impl Iterator<Item = PathBuf> {
    name_files::ALL.into_iter().map(|name| Folders::name_file_in(pod, name))
}

fn make_run(place: &Path) -> io::Result<()> {
    for folder in ["upper", "work"] {
        DirBuilder::new().recursive(true).mode(UPPER_MODE).create(place.join(folder))?;
    }
    let words = File::create(place.join(LAST_WORDS))?;
    // Whatever the umask: any user of the container may write it.
    words.set_permissions(Permissions::from_mode(0o666))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_taken_is_there_whether_or_not_it_was_made_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path().join("spare"));
        spares.fill().unwrap();
        let made_ahead = fs::metadata(dir.path().join("spare/run")).unwrap().ino();
        for (run, ahead) in [("a", true), ("b", false)] {
            let place = dir.path().join(run);
            spares.run(&place).unwrap();
            assert_eq!(fs::metadata(&place).unwrap().ino() == made_ahead, ahead);
            assert_eq!(fs::metadata(place.join("upper")).unwrap().mode() & 0o7777, UPPER_MODE);
            assert!(place.join("work").is_dir());
            assert_eq!(fs::metadata(place.join(LAST_WORDS)).unwrap().mode() & 0o7777, 0o666);
        }
        for (pod, ahead) in [("c", 3), ("d", 0)] {
            let place = dir.path().join(pod);
            spares.pod(&place).unwrap();
            assert_eq!(fs::read_dir(&place).unwrap().count(), ahead);
        }
        spares.fill().unwrap();
        spares.clear();
        assert!(!dir.path().join("spare").exists());
    }

    #[test]
    fn a_pods_folder_that_is_there_keeps_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path().join("spare"));
        let place = dir.path().join("pod");
        spares.pod(&place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, POD_MODE);
        for name in [None, Some("kept")] {
            if let Some(name) = name {
                fs::write(place.join(name), "").unwrap();
            }
            let before = fs::metadata(&place).unwrap().ino();
            spares.fill().unwrap();
            spares.pod(&place).unwrap();
            assert_eq!(fs::metadata(&place).unwrap().ino(), before);
        }
        assert!(place.join("kept").exists());
    }
}
