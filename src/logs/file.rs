//! The log file of one run of a container: append, rotate.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::cri::MAX_PIECE;
use super::layout::{Rotation, Stamp, log_files, log_path, make_dirs};
use super::{Lost, Policy};

/// A record is never longer: content, and a head that has room for a longer one of another program.
const MAX_RECORD: u64 = MAX_PIECE as u64 + 256;

/// `<restart>.log` of a container, which both of its streams share.
///
/// podkeep is the file's only writer; an administrator may empty or remove
/// it at any time.
#[derive(Debug)]
pub struct ContainerLog {
    dir: PathBuf,
    restart: u32,
    policy: Policy,
    path: PathBuf,
    current: Option<Current>,
    /// Lines lost since the last that was written.
    pub(super) lost: Option<Lost>,
}

#[derive(Debug)]
struct Current {
    file: File,
    inode: u64,
    /// Up to here the file holds whole records.
    length: u64,
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub inode: u64,
    pub offset: u64,
    /// Bytes until the file must be rotated; `None` if it never is.
    pub room: Option<u64>,
}

impl ContainerLog {
    /// Touches no disk yet.
    pub(super) fn new(dir: &Path, restart: u32, policy: Policy) -> ContainerLog {
        let path = log_path(dir, restart, &Rotation::Current);
        ContainerLog { dir: dir.to_owned(), restart, policy, path, current: None, lost: None }
    }

    /// The current file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file before there is a line for it: a log that is empty is one. An error is met again with the first
    /// line, and counted there.
    pub fn begin(&mut self) {
        let _ = self.end();
    }

    /// The folder that it lies in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the file if need be and finds its end.
    pub(super) fn end(&mut self) -> io::Result<End> {
        let current = match self.checked()? {
            Some(current) => current,
            None => {
                make_dirs(&self.dir).map_err(super::Error::into_io)?;
                Current::open(&self.path)?
            }
        };
        let current = self.current.insert(current);
        let room = self.policy.max_size.map(|max| max.get().saturating_sub(current.length));
        Ok(End { inode: current.inode, offset: current.length, room })
    }

    /// The file that is open, if nobody removed it.
    fn checked(&mut self) -> io::Result<Option<Current>> {
        let Some(mut current) = self.current.take() else { return Ok(None) };
        Ok(current.still_there()?.then_some(current))
    }

    /// Appends with one write. After an error nothing of it is left in the file.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        current.append(records)
    }

    /// Renames the current file, makes a new one and removes the oldest beyond the number to keep. `second` is the
    /// time in the form of [`Stamp`].
    pub(super) fn rotate(&mut self, second: &str) -> io::Result<()> {
        let mut rotated = self.rotated()?;
        let newest = rotated.last().map(|(stamp, _)| stamp);
        let stamp = Rotation::Rotated(Stamp::after(newest, second.to_owned()));
        let to = log_path(&self.dir, self.restart, &stamp);
        renameat_with(CWD, &self.path, CWD, &to, RenameFlags::NOREPLACE)?;
        self.current = None;
        if let Rotation::Rotated(stamp) = stamp {
            rotated.push((stamp, to));
        }
        let keep = usize::try_from(self.policy.max_files.saturating_sub(1)).unwrap_or(usize::MAX);
        let surplus = rotated.len().saturating_sub(keep);
        for (_, path) in &rotated[..surplus] {
            // What stays is counted again at the next rotation; no line is lost for it.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// This run's rotated files, oldest first.
    fn rotated(&self) -> io::Result<Vec<(Stamp, PathBuf)>> {
        let files = log_files(&self.dir).map_err(super::Error::into_io)?;
        Ok(files
            .into_iter()
            .filter(|file| file.restart == self.restart)
            .filter_map(|file| match file.rotation {
                Rotation::Rotated(stamp) => Some((stamp, file.path)),
                Rotation::Current => None,
            })
            .collect())
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Current> {
        let file = options().create(true).mode(0o640).open(path)?;
        let meta = file.metadata()?;
        let length = whole_records(&file, meta.len())?;
        if length < meta.len() {
            // Left by a power cut, or by the end of keeper and worker at once.
            file.set_len(length)?;
        }
        Ok(Current { file, inode: meta.ino(), length })
    }

    /// Opens the file that a journal names, cut back to where it ended before the batch.
    fn reopen(path: &Path, inode: u64, offset: u64) -> io::Result<Current> {
        let file = options().open(path)?;
        let meta = file.metadata()?;
        // If somebody put another file there, nothing of ours stands in it.
        let length = if meta.ino() == inode { offset.min(meta.len()) } else { meta.len() };
        file.set_len(length)?;
        Ok(Current { file, inode: meta.ino(), length })
    }

    /// False if somebody removed the file. If somebody emptied it, goes on from there.
    fn still_there(&mut self) -> io::Result<bool> {
        let meta = self.file.metadata()?;
        if meta.len() > self.length {
            // What a failed write left and could not be undone at the time.
            self.file.set_len(self.length)?;
        }
        self.length = self.length.min(meta.len());
        Ok(meta.nlink() > 0)
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(records, self.length) {
            // If this fails too, `still_there` tries again before the next write.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += records.len() as u64;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

/// The length of the file without a record at its end that has no newline.
fn whole_records(file: &File, length: u64) -> io::Result<u64> {
    let start = length.saturating_sub(MAX_RECORD);
    let mut end = vec![0; usize::try_from(length - start).unwrap_or_default()];
    file.read_exact_at(&mut end, start)?;
    let kept = end.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline as u64 + 1);
    Ok(start + kept)
}

/// Writes a batch again that a killed worker may have written in part.
pub(super) fn rewrite(path: &Path, inode: u64, offset: u64, records: &[u8]) -> io::Result<()> {
    Current::reopen(path, inode, offset)?.append(records)
}

#[cfg(test)]
impl ContainerLog {
    /// Lets the file be another, whatever its name.
    pub(super) fn write_to(&mut self, path: &str) {
        let file = options().open(path).expect("open");
        self.current = Some(Current { file, inode: 0, length: 0 });
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;

    #[test]
    fn what_a_failed_write_left_is_taken_back() {
        let file = File::from(memfd_create("log", MemfdFlags::ALLOW_SEALING).expect("memfd"));
        file.write_all_at(&[0; 4096], 0).expect("write");
        // The first 4,000 bytes can be written, then the file would have to grow.
        fcntl_add_seals(&file, SealFlags::GROW).expect("seal");
        let mut current = Current { file, inode: 0, length: 96 };
        let error = current.append(&[b'x'; 5000]).expect_err("the file is sealed");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!((current.length, current.file.metadata().expect("stat").len()), (96, 96));
    }
}
