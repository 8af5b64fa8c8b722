//! The folder of `--image-dir`: layouts and archives that the node imports by itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::order;

/// A folder that images are put into.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
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
