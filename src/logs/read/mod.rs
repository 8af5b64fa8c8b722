//! Reading back: the lines of a container's run over its rotated files, the last few, and those to come.
//!
//! The logs are read while they are written and rotated. What tells files apart is the inode, not the name: a reader
//! goes on with the file that follows its own in the order of writing, whatever the two are called by then.

mod files;
mod follow;
mod join;
mod tail;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::manifest::{PodId, Uid};
use crate::order;

use files::Files;
use join::Joiner;

pub use follow::{Followed, Follower};
pub use tail::last_output;

use super::layout::{PodFolder, container_log_dir, folders_of, is_folder, list, log_files, pod_log_dir};
use super::{Error, Stream, cri};

/// A line of a container, its parts joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// RFC 3339, of the line's first part.
    pub time: String,
    pub stream: Stream,
    /// Which run of the container wrote it.
    pub restart: u32,
    /// Without the newline.
    pub bytes: Vec<u8>,
    /// False for a line that its writer never ended, and for all but the last piece of a line over 1 MiB.
    pub terminated: bool,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start,
    /// The last so many lines.
    Tail(usize),
}

/// One run of a container whose log is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The container's folder.
    pub dir: PathBuf,
    pub restart: u32,
}

/// Which of a container's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last that has a log, running or ended.
    Latest,
    /// The one before; the last one of the Pod that had this name before if this Pod has none.
    Previous,
}

/// Finds a run's log; `None` if there is none. Without `uid`, the Pod is the one whose logs were written to last.
///
/// # Errors
/// [`Error::Path`] if a folder cannot be listed.
pub fn find(
    root: &Path,
    pod: &PodId,
    uid: Option<&Uid>,
    container: &str,
    which: Which,
) -> Result<Option<Run>, Error> {
    let mut folders = folders_of(root, &pod.namespace, &pod.name)?;
    if let Some(uid) = uid {
        // The Pod's own folder is the newest there is, even if an old one was written to since.
        folders.retain(|folder| folder.uid != *uid);
        let path = pod_log_dir(root, &pod.namespace, &pod.name, uid);
        folders.insert(0, PodFolder { uid: uid.clone(), path, modified: SystemTime::UNIX_EPOCH });
    }
    let mut folders = folders.iter().map(|folder| runs(&container_log_dir(&folder.path, container)));
    let mut own = folders.next().transpose()?.unwrap_or_default().into_iter();
    if which == Which::Latest {
        return Ok(own.next());
    }
    match own.nth(1) {
        Some(run) => Ok(Some(run)),
        None => Ok(folders.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next()),
    }
}

/// Newest first.
fn runs(dir: &Path) -> Result<Vec<Run>, Error> {
    let mut restarts: Vec<u32> = log_files(dir)?.into_iter().map(|file| file.restart).collect();
    restarts.dedup();
    Ok(restarts.into_iter().rev().map(|restart| Run { dir: dir.to_owned(), restart }).collect())
}

/// The names of the containers that have logs in a Pod's folder.
///
/// # Errors
/// [`Error::Path`] if the folder is there and cannot be listed.
pub fn containers(pod_log_dir: &Path) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> =
        list(pod_log_dir)?.into_iter().filter(|(path, _)| is_folder(path)).map(|(_, name)| name).collect();
    order::sort(&mut names);
    Ok(names)
}

/// Reads one run up to where its log ended when reading began: an iterator of entries.
pub struct Reader {
    lines: Lines,
    done: bool,
}

impl Reader {
    /// # Errors
    /// [`Error::Path`] if a file cannot be opened or read.
    pub fn open(dir: &Path, restart: u32, from: From) -> Result<Reader, Error> {
        let end = files::end_of(dir, restart)?;
        let mut lines = Lines::open(dir, restart, from)?;
        lines.files.stop_after(restart, end);
        Ok(Reader { lines, done: false })
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.next() {
            Ok(None) if !self.done => {
                self.done = true;
                self.lines.flush();
                self.lines.next().transpose()
            }
            other => other.transpose(),
        }
    }
}

/// Entries in the order in which they end.
struct Lines {
    files: Files,
    joiner: Joiner,
    ready: VecDeque<Entry>,
    /// Lines before the first that is wanted.
    skip: usize,
}

impl Lines {
    fn open(dir: &Path, restart: u32, from: From) -> Result<Lines, Error> {
        let (files, skip) = match from {
            From::Start => (Files::new(dir, restart), 0),
            From::Tail(wanted) => tail::start(dir, restart, wanted)?,
        };
        Ok(Lines { files, joiner: Joiner::default(), ready: VecDeque::new(), skip })
    }

    /// `None`: nothing more for now.
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                if self.skip == 0 {
                    return Ok(Some(entry));
                }
                self.skip -= usize::from(entry.terminated);
                continue;
            }
            let Some((restart, line)) = self.files.next_line()? else { return Ok(None) };
            // What is no record was not written by podkeep: nobody can say whose output it is.
            if let Some(record) = cri::parse(line) {
                self.joiner.add(restart, record, &mut self.ready);
            }
        }
    }

    /// Makes entries of lines that were not ended.
    fn flush(&mut self) {
        self.joiner.flush(&mut self.ready);
    }
}

#[cfg(test)]
mod tests;
