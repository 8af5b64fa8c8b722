//! The folder of `--image-dir`: layouts and archives that the node imports by itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Error;
use crate::order;

/// A folder that images are put into.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What changes as long as somebody writes to an archive or a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    files: usize,
    bytes: u64,
    newest: Option<SystemTime>,
}

impl Version {
    /// Of a layout, with all its blobs: tools that copy folders may write `index.json` first, and nothing but a blob's size tells when the last
    /// one is whole.
    pub fn of(source: &Path) -> Version {
        let mut version = Version::default();
        version.add(source);
        for folder in [source.to_owned(), source.join("blobs/sha256")] {
            // An archive has none, and so has a layout that is just begun.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                version.add(&entry.path());
            }
        }
        version
    }

    fn add(&mut self, path: &Path) {
        let Ok(meta) = fs::metadata(path) else { return };
        self.files += 1;
        self.bytes = self.bytes.wrapping_add(meta.len());
        self.newest = self.newest.max(meta.modified().ok());
    }
}

impl Folder {
    /// Which folder stands there now: another one, if it was replaced or something was mounted over it.
    pub fn identity(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folders in it, which may become layouts.
    pub fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| !is_hidden(path) && path.is_dir()).collect()
    }

    /// What may be an image, sorted by name: OCI layouts, and files with an archive's ending. The folder itself, if it is a layout.
    ///
    /// Names that begin with a dot are left out: copying tools write there before they rename.
    pub fn candidates(&self) -> Result<Vec<PathBuf>, Error> {
        if is_layout(&self.path) {
            return Ok(vec![self.path.clone()]);
        }
        let mut candidates = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Error::io("list", &self.path))? {
            let path = entry.map_err(Error::io("list", &self.path))?.path();
            if !is_hidden(&path) && (is_layout(&path) || is_archive(&path)) {
                candidates.push(path);
            }
        }
        order::sort(&mut candidates);
        Ok(candidates)
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_layout(path: &Path) -> bool {
    path.join("index.json").is_file()
}

fn is_archive(path: &Path) -> bool {
    path.is_file() && path.to_str().is_some_and(|name| stem(name).is_some())
}

/// The name without an archive's ending; `None` if it has none.
pub(super) fn stem(name: &str) -> Option<&str> {
    const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"];
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_that_is_being_written_is_another_one_with_each_of_its_blobs_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        let mut versions = vec![Version::of(dir.path())];
        let mut changed = || {
            let version = Version::of(dir.path());
            assert!(!versions.contains(&version));
            assert_eq!(version, Version::of(dir.path()));
            versions.push(version);
        };
        fs::write(dir.path().join("index.json"), "{}").unwrap();
        changed();
        fs::create_dir_all(&blobs).unwrap();
        changed();
        for content in ["", "half", "half and half"] {
            fs::write(blobs.join("blob"), content).unwrap();
            changed();
        }
    }

    #[test]
    fn layouts_and_archives_are_candidates_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        for file in ["b.tar", "c.tar.zst", "notes.txt", ".d.tar", "e.tar.part"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/index.json"), "{}").unwrap();
        fs::create_dir_all(dir.path().join("folder.tar")).unwrap();
        let expected = ["a", "b.tar", "c.tar.zst"].map(|name| dir.path().join(name));
        assert_eq!(folder.candidates().unwrap(), expected);
        assert_eq!(Folder::new(dir.path().join("a")).candidates().unwrap(), [dir.path().join("a")]);
        assert!(Folder::new(dir.path().join("none")).candidates().is_err());
    }
}
