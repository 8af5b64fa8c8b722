//! The files of a run, and of those after it, as one stream of raw lines that survives rotation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::Error;
use super::super::layout::log_files;

/// How much is read at once. Bytes.
pub(super) const BLOCK: usize = 64 * 1024;

/// A longer line is none of podkeep's: it is handed on in pieces, which do not parse. Bytes.
const MAX_RAW_LINE: usize = 1 << 20;

/// A file in a listing; they are listed in the order in which they were written.
pub(super) struct Listed {
    pub restart: u32,
    pub path: PathBuf,
    pub inode: u64,
}

/// The files of all runs from `restart` on. What vanishes meanwhile is left out.
pub(super) fn listing(dir: &Path, restart: u32) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    for file in log_files(dir)?.into_iter().filter(|file| file.restart >= restart) {
        match file.path.symlink_metadata() {
            Ok(meta) if meta.is_file() => {
                listed.push(Listed { restart: file.restart, path: file.path, inode: meta.ino() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::path("look at log", &file.path)(error)),
        }
    }
    Ok(listed)
}

/// A file that is open, whatever its name is by now.
pub(super) struct Open {
    pub file: File,
    pub restart: u32,
    pub inode: u64,
    pub length: u64,
    path: PathBuf,
}

impl Open {
    /// `None` if something else has that name by now, or nothing.
    pub fn listed(listed: &Listed) -> Result<Option<Open>, Error> {
        let action = || Error::path("open log", &listed.path);
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(&listed.path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(action())?,
        };
        let meta = file.metadata().map_err(action())?;
        let (path, restart, inode) = (listed.path.clone(), listed.restart, listed.inode);
        Ok((meta.ino() == inode).then(|| Open { file, restart, inode, length: meta.len(), path }))
    }

    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(Error::path("read log", &self.path)),
            }
        }
    }
}

/// Where a run's log ends now: the inode of its newest file, and its length.
pub(super) fn end_of(dir: &Path, restart: u32) -> Result<Option<(u64, u64)>, Error> {
    let Some(newest) = listing(dir, restart)?.into_iter().rfind(|file| file.restart == restart) else {
        return Ok(None);
    };
    Ok(newest.path.metadata().ok().map(|meta| (meta.ino(), meta.len())))
}

/// How far to read.
#[derive(Clone, Copy)]
enum Scope {
    /// Into all later runs, as they come.
    Onwards,
    /// One run, up to this length of the file with this inode, or to its last file if that one is gone.
    Until { restart: u32, end: Option<(u64, u64)> },
}

pub(super) struct Files {
    dir: PathBuf,
    /// Runs before this one do not count.
    first: u32,
    scope: Scope,
    open: Option<Open>,
    /// What of the open file has been read into `buffer`.
    offset: u64,
    buffer: Vec<u8>,
    /// What of `buffer` has been handed out.
    used: usize,
}

impl Files {
    /// From the start of the run's oldest file.
    pub fn new(dir: &Path, restart: u32) -> Files {
        Files {
            dir: dir.to_owned(),
            first: restart,
            scope: Scope::Onwards,
            open: None,
            offset: 0,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// From the middle of a file.
    pub fn at(dir: &Path, open: Open, offset: u64) -> Files {
        Files { offset, first: open.restart, open: Some(open), ..Files::new(dir, 0) }
    }

    /// Reads nothing of later runs, and nothing beyond `end` as [`end_of`] gives it.
    pub fn stop_after(&mut self, restart: u32, end: Option<(u64, u64)>) {
        self.scope = Scope::Until { restart, end };
    }

    /// The next whole line without its newline, and the run it is from; `None` if there is none now.
    pub fn next_line(&mut self) -> Result<Option<(u32, &[u8])>, Error> {
        let mut searched = self.used;
        let end = loop {
            if let Some(newline) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                break searched + newline;
            }
            if self.buffer.len() - self.used > MAX_RAW_LINE {
                break self.buffer.len() - 1;
            }
            searched = self.buffer.len() - self.used;
            if !self.fill()? {
                let Some(next) = self.successor()? else { return Ok(None) };
                // Written between our last read and the look that found it rotated.
                if !self.fill()? {
                    self.switch_to(next);
                    searched = 0;
                }
            }
        };
        let line = self.used..end;
        self.used = end + 1;
        let restart = self.open.as_ref().map_or(self.first, |open| open.restart);
        Ok(Some((restart, &self.buffer[line])))
    }

    /// Moves what is not handed out to the front of the buffer and appends to it; false at the end of the file.
    fn fill(&mut self) -> Result<bool, Error> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let Some(open) = &self.open else { return Ok(false) };
        let room = self.bytes_to_end(open.inode).min(BLOCK);
        let kept = self.buffer.len();
        self.buffer.resize(kept + room, 0);
        let read = open.read_at(&mut self.buffer[kept..], self.offset);
        self.buffer.truncate(kept + read.as_ref().map_or(0, |&count| count));
        let count = read?;
        self.offset += count as u64;
        Ok(count > 0)
    }

    fn bytes_to_end(&self, inode: u64) -> usize {
        match self.scope {
            Scope::Until { end: Some((last, length)), .. } if last == inode => {
                usize::try_from(length.saturating_sub(self.offset)).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    fn switch_to(&mut self, next: Open) {
        self.open = Some(next);
        self.offset = 0;
        // At most a record without its end, which nobody will end any more.
        self.buffer.clear();
    }

    /// Opens the file after the one that is open. The look before and the one after must agree, or a rotation
    /// between listing and opening would make us skip a file.
    fn successor(&self) -> Result<Option<Open>, Error> {
        loop {
            let Some(listed) = self.after_ours()? else { return Ok(None) };
            let Some(open) = Open::listed(&listed)? else { continue };
            if self.after_ours()?.is_some_and(|listed| listed.inode == open.inode) {
                return Ok(Some(open));
            }
        }
    }

    fn after_ours(&self) -> Result<Option<Listed>, Error> {
        let mut listed = listing(&self.dir, self.open.as_ref().map_or(self.first, |open| open.restart))?;
        if let Scope::Until { restart, end } = self.scope {
            if self.open.as_ref().zip(end).is_some_and(|(open, (last, _))| open.inode == last) {
                return Ok(None);
            }
            listed.retain(|file| file.restart == restart);
        }
        let ours =
            self.open.as_ref().and_then(|open| listed.iter().position(|file| file.inode == open.inode));
        // Ours is not there any more if it was the oldest and made room: then all that is there comes after it.
        Ok(listed.into_iter().nth(ours.map_or(0, |position| position + 1)))
    }
}
