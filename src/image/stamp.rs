//! Whether an archive or a layout is still what it was, and whether somebody is still writing it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::sys::lease::{Writers, writers};

/// How long what nobody can say more about must have been the same, as for manifests.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);

/// What changes when an archive or a layout is written again, replaced or added to.
///
/// Of a layout, with all its blobs: tools that copy folders may write `index.json` first, and nothing but a blob's size tells when the last
/// one is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Of the archive, or of the layout's `index.json`, which every tool replaces when it adds an image.
    device: u64,
    inode: u64,
    /// Records of earlier versions have none: what they stand for is imported again.
    #[serde(default)]
    files: u64,
    /// Bytes of all files.
    size: u64,
    /// Seconds and nanoseconds of the last change of a content.
    modified: (i64, i64),
}

/// Whether a source may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Still,
    /// It was another one less than [`SETTLE_TIME`] ago.
    Changing,
    /// It has been the same for a while, but somebody has it open for writing.
    Open,
}

/// A source as it is now.
pub(super) struct Sight {
    pub(super) stamp: Stamp,
    is_layout: bool,
    files: Vec<PathBuf>,
    /// When a file was last written, or its owner, mode or name changed: nobody can set that time.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(source: &Path) -> io::Result<Stamp> {
        Sight::of(source).map(|sight| sight.stamp)
    }
}

impl Sight {
    pub(super) fn of(source: &Path) -> io::Result<Sight> {
        let is_layout = source.is_dir();
        let first = if is_layout { source.join("index.json") } else { source.to_owned() };
        let meta = fs::metadata(&first)?;
        let (device, inode, changed) = (meta.dev(), meta.ino(), (meta.ctime(), meta.ctime_nsec()));
        let stamp = Stamp { device, inode, files: 0, size: 0, modified: (i64::MIN, 0) };
        let mut sight = Sight { stamp, is_layout, files: Vec::new(), changed };
        sight.add(first, &meta);
        let blobs = if is_layout { fs::read_dir(source.join("blobs/sha256")) } else { return Ok(sight) };
        match blobs {
            // It is just begun.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            blobs => {
                for blob in blobs? {
                    let path = blob?.path();
                    // One that has gone since it was listed is seen to have gone next time.
                    let Ok(meta) = fs::metadata(&path) else { continue };
                    sight.add(path, &meta);
                }
            }
        }
        Ok(sight)
    }

    fn add(&mut self, file: PathBuf, meta: &Metadata) {
        let stamp = &mut self.stamp;
        stamp.files += 1;
        stamp.size = stamp.size.wrapping_add(meta.len());
        stamp.modified = stamp.modified.max((meta.mtime(), meta.mtime_nsec()));
        self.changed = self.changed.max((meta.ctime(), meta.ctime_nsec()));
        if meta.is_file() {
            self.files.push(file);
        }
    }

    /// `has_been_so`: the stamp has been the same for [`SETTLE_TIME`]. `now`: what the wall clock says. It may be wrong: then what has rested
    /// for long may have to rest for [`SETTLE_TIME`] once more.
    pub(super) fn rest(&self, has_been_so: bool, now: SystemTime) -> Rest {
        let writers = self.writers();
        // A layout is no file that somebody could have open all the time. A file that was created a moment ago is empty, and counts as unopened
        // for an instant.
        if writers == Writers::None && !self.is_layout && self.stamp.size > 0 {
            return Rest::Still;
        }
        match writers {
            _ if !has_been_so && !self.is_older_than_settling(now) => Rest::Changing,
            Writers::Some => Rest::Open,
            Writers::None | Writers::Unknown => Rest::Still,
        }
    }

    fn is_older_than_settling(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_1970 = Duration::new(seconds.max(0).unsigned_abs(), nanoseconds as u32);
        let changed = SystemTime::UNIX_EPOCH + since_1970;
        now.duration_since(changed).is_ok_and(|age| age >= SETTLE_TIME)
    }

    /// Who has any of the files open for writing.
    fn writers(&self) -> Writers {
        let mut all = Writers::None;
        for file in &self.files {
            match open(file).map_or(Writers::Unknown, writers) {
                Writers::Some => return Writers::Some,
                Writers::Unknown => all = Writers::Unknown,
                Writers::None => {}
            }
        }
        all
    }
}

/// Without waiting for whoever writes to the FIFO that may stand there by now.
fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_that_is_being_written_is_another_one_with_each_of_its_blobs_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        assert!(Stamp::of(dir.path()).is_err(), "no layout yet");
        let mut stamps = Vec::new();
        let mut changed = || {
            let stamp = Stamp::of(dir.path()).unwrap();
            assert!(!stamps.contains(&stamp));
            assert_eq!(stamp, Stamp::of(dir.path()).unwrap());
            stamps.push(stamp);
        };
        fs::write(dir.path().join("index.json"), "{}").unwrap();
        changed();
        fs::create_dir_all(&blobs).unwrap();
        for content in ["", "half", "half and half"] {
            fs::write(blobs.join("blob"), content).unwrap();
            changed();
        }
        fs::write(dir.path().join("other"), "{}").unwrap();
        fs::rename(dir.path().join("other"), dir.path().join("index.json")).unwrap();
        changed();
    }

    #[test]
    fn a_record_of_an_earlier_version_is_of_another_source() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("web.tar");
        fs::write(&archive, "x").unwrap();
        let stamp = Stamp::of(&archive).unwrap();
        let mut record = serde_json::to_value(stamp).unwrap();
        assert_eq!(serde_json::from_value::<Stamp>(record.clone()).unwrap(), stamp);
        record.as_object_mut().unwrap().remove("files");
        assert_ne!(serde_json::from_value::<Stamp>(record).unwrap(), stamp);
    }
}
