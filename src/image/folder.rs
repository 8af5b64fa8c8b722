//! The folder of `--image-dir`: layouts and archives that the node imports by itself.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::stamp::{Rest, SETTLE_TIME, Sight, Stamp};
use super::{Error, Store};
use crate::order;

/// A folder that images are put into.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What of a folder was not imported yet when it was last looked at: as what it was seen, and since when, in time since boot.
#[derive(Debug, Default)]
pub struct Sightings(HashMap<PathBuf, (Stamp, Duration)>);

/// What may be an image and was not imported as it is.
#[derive(Debug)]
pub struct NewSource {
    pub path: PathBuf,
    pub stamp: Stamp,
    pub rest: Rest,
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

    /// What may be an image and was not imported as it is, sorted by name. `now`: time since boot, and what the wall clock says.
    pub fn new_sources(
        &self,
        store: &Store,
        sightings: &mut Sightings,
        now: (Duration, SystemTime),
    ) -> Result<Vec<NewSource>, Error> {
        let mut before = std::mem::take(&mut sightings.0);
        let mut sources = Vec::new();
        for path in self.candidates()? {
            // What has gone since it was listed, or is not whole, comes again when that has changed.
            let Ok(sight) = Sight::of(&path) else { continue };
            let stamp = sight.stamp;
            if store.is_imported_as(&path, &stamp).unwrap_or(false) {
                continue;
            }
            let seen = before.remove(&path).filter(|(before, _)| *before == stamp);
            let (_, since) = *sightings.0.entry(path.clone()).or_insert(seen.unwrap_or((stamp, now.0)));
            let rest = sight.rest(now.0 >= since + SETTLE_TIME, now.1);
            sources.push(NewSource { path, stamp, rest });
        }
        Ok(sources)
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
    use std::io::Write;

    use super::*;

    /// A folder and a store, and what a look finds after so many milliseconds: what each new source's state is.
    struct World {
        dir: tempfile::TempDir,
        store: Store,
        sightings: Sightings,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("store")).unwrap();
            fs::create_dir(dir.path().join("images")).unwrap();
            World { dir, store, sightings: Sightings::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("images").join(name)
        }

        fn look(&mut self, milliseconds: u64, wall: SystemTime) -> Vec<Rest> {
            let now = (Duration::from_millis(milliseconds), wall);
            let folder = Folder::new(self.dir.path().join("images"));
            let sources = folder.new_sources(&self.store, &mut self.sightings, now).unwrap();
            sources.iter().map(|source| source.rest).collect()
        }
    }

    /// A clock that stands before all files' times, and one that stands behind them.
    const EARLY: SystemTime = SystemTime::UNIX_EPOCH;
    fn late() -> SystemTime {
        SystemTime::now() + Duration::from_secs(3600)
    }

    #[test]
    fn a_layout_is_left_alone_until_it_has_been_the_same_for_a_second_and_nobody_writes_it() {
        let mut world = World::new();
        let blobs = world.path("web/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        assert_eq!(world.look(0, EARLY), [], "no layout yet");
        fs::write(world.path("web/index.json"), "{}").unwrap();
        assert_eq!(world.look(100, EARLY), [Rest::Changing]);
        assert_eq!(world.look(1000, EARLY), [Rest::Changing]);
        let mut blob = fs::File::create(blobs.join("blob")).unwrap();
        assert_eq!(world.look(1100, EARLY), [Rest::Changing], "a file more");
        blob.write_all(b"half").unwrap();
        assert_eq!(world.look(2200, EARLY), [Rest::Changing], "and some bytes");
        assert_eq!(world.look(3200, EARLY), [Rest::Open]);
        drop(blob);
        assert_eq!(world.look(3300, EARLY), [Rest::Still]);
        assert_eq!(world.look(9999, EARLY), [Rest::Still], "until it is imported");
    }

    #[test]
    fn a_layout_that_lay_there_before_is_not_waited_for() {
        let mut world = World::new();
        fs::create_dir(world.path("web")).unwrap();
        fs::write(world.path("web/index.json"), "{}").unwrap();
        assert_eq!(world.look(0, late()), [Rest::Still]);
    }

    #[test]
    fn an_archive_is_still_as_soon_as_nobody_writes_it() {
        let mut world = World::new();
        let mut archive = fs::File::create(world.path("web.tar")).unwrap();
        assert_eq!(world.look(0, EARLY), [Rest::Changing]);
        archive.write_all(b"half").unwrap();
        assert_eq!(world.look(1000, EARLY), [Rest::Changing]);
        assert_eq!(world.look(2000, EARLY), [Rest::Open]);
        assert_eq!(world.look(2000, late()), [Rest::Open]);
        drop(archive);
        assert_eq!(world.look(2001, EARLY), [Rest::Still]);
        fs::write(world.path("web.tar"), "another").unwrap();
        assert_eq!(world.look(2002, EARLY), [Rest::Still]);
        fs::write(world.path("web.tar"), "").unwrap();
        assert_eq!(world.look(2003, EARLY), [Rest::Changing], "it may have been created a moment ago");
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
