//! A folder of manifests, or one manifest in its folder: when to list, look, retry, and what to tell in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags};

use super::file::{self, Found, Outcome, Stamp};
use super::known::{Known, State};
use super::watch::{Heard, Watch};
use super::{Change, FolderError, OpenError, REMOVAL_DELAY};
use crate::order;

/// A rescan more often than this would be polling.
const SHORTEST_RESCAN: Duration = Duration::from_secs(1);

/// A folder of manifests, or one manifest, kept under watch.
#[derive(Debug)]
pub struct Source {
    /// Absolute.
    folder: PathBuf,
    names: Names,
    watch: Watch,
    files: BTreeMap<OsString, Known>,
    /// Those that are not [`State::Quiet`]: with a thousand files, nearly all are.
    restless: BTreeSet<OsString>,
    rescan_every: Duration,
    next_rescan: Duration,
    /// What the folder was last reported to suffer from.
    trouble: Option<String>,
    /// The folder's file system was unmounted: an empty directory is what lay beneath it.
    unmounted: bool,
    listed: Listed,
}

/// Which files of the folder are manifests.
#[derive(Debug)]
enum Names {
    /// `*.yaml`, `*.yml` and `*.json`, none that is hidden.
    Manifests,
    Only(OsString),
}

/// How far the first complete listing has come.
#[derive(Debug)]
enum Listed {
    NotYet,
    /// Told then, so that a file that is just being replaced is not missing from it.
    Due(Duration),
    Told,
}

/// Whether a file with the stamp that it had before is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reread {
    Always,
    /// The rescan of an idle folder reads nothing.
    Changed,
}

impl Source {
    /// Starts to watch `path`. Nothing is read before the first [`Source::step`], which is due at once.
    ///
    /// A path that is no folder, or that is missing and ends as a manifest does (`.yaml`, `.yml`, `.json`), is a single
    /// file; its parent is then the folder that is watched, for this one name. `rescan_every` is `fileCheckFrequency`,
    /// at least a second.
    ///
    /// # Errors
    /// When inotify cannot be started (usually `fs.inotify.max_user_instances`) or a relative path cannot be made
    /// absolute; never because `path` is missing.
    pub fn open(path: &Path, rescan_every: Duration, now: Duration) -> Result<Source, OpenError> {
        let absolute =
            std::path::absolute(path).map_err(|source| OpenError::Path { path: path.to_owned(), source })?;
        let (folder, names) = split(&absolute);
        let watch = Watch::new(folder.clone())
            .map_err(|source| OpenError::Inotify { path: path.to_owned(), source })?;
        Ok(Source {
            folder,
            names,
            watch,
            files: BTreeMap::new(),
            restless: BTreeSet::new(),
            rescan_every: rescan_every.max(SHORTEST_RESCAN),
            next_rescan: now,
            trouble: None,
            unmounted: false,
            listed: Listed::NotYet,
        })
    }

    /// Readable when something happened. Put it into the loop's epoll set, level-triggered, for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }

    /// When [`Source::step`] shall be called at the latest, whether or not the fd is readable.
    pub fn deadline(&self) -> Duration {
        let listing = match self.listed {
            Listed::Due(at) => Some(at),
            Listed::NotYet | Listed::Told => None,
        };
        let files = self.restless().filter_map(|(_, known)| known.state.due());
        files.chain(listing).fold(self.next_rescan, Duration::min)
    }

    fn restless(&self) -> impl Iterator<Item = (&OsString, &Known)> {
        self.restless.iter().filter_map(|name| self.files.get_key_value(name))
    }

    /// Takes what inotify has to say, does what is due, and tells what came of it.
    pub fn step(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let heard = self.hear();
        // What lies beneath an unmounted file system is believed when it is not empty.
        let doubted = self.unmounted && !heard.names.is_empty();
        if heard.everything || doubted || now >= self.next_rescan {
            self.compare(Reread::Changed, now, &mut changes);
        }
        // Also after comparing everything: an event for a file says more than its stamp, which a quick writer can
        // leave as it was (the kernel's file times advance by 1 to 10 ms).
        self.look_at(heard.names, now, &mut changes);
        self.do_what_is_due(now, &mut changes);
        changes
    }

    /// Compares the whole folder now and reads every file again (`SIGHUP`).
    pub fn rescan(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        self.hear();
        self.compare(Reread::Always, now, &mut changes);
        self.do_what_is_due(now, &mut changes);
        changes
    }

    fn hear(&mut self) -> Heard {
        let names = &self.names;
        let heard = self.watch.hear(|name| names.contains(name));
        self.unmounted |= heard.unmounted;
        heard
    }

    /// Watches what is there now, lists it and looks at every file.
    fn compare(&mut self, reread: Reread, now: Duration, changes: &mut Vec<Change>) {
        self.next_rescan = now + self.rescan_every;
        let armed = self.watch.arm();
        let (folder, names) = match self.list() {
            Ok(listing) => listing,
            Err(error) => return self.folder_trouble(error, changes),
        };
        match armed {
            Ok(()) => self.folder_is_back(changes),
            Err(source) => {
                let error = FolderError::Unwatched { folder: self.folder.clone(), source };
                self.report_folder(error, changes);
            }
        }
        let known: Vec<_> = self.files.keys().cloned().collect();
        for name in names.iter().chain(known.iter().filter(|name| !names.contains(*name))) {
            self.look(folder.as_fd(), name, reread, now, changes);
        }
        if let Listed::NotYet = self.listed {
            self.listed = Listed::Due(now + REMOVAL_DELAY);
        }
    }

    fn list(&mut self) -> Result<(OwnedFd, BTreeSet<OsString>), FolderError> {
        let failed = |source: io::Error| FolderError::Io { folder: self.folder.clone(), source };
        let folder = self.open_folder().map_err(failed)?;
        let mut names = BTreeSet::new();
        let mut empty = true;
        for entry in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            empty &= name == "." || name == "..";
            if self.names.contains(&name) {
                names.insert(name);
            }
        }
        if self.unmounted && empty {
            return Err(FolderError::Unmounted { folder: self.folder.clone() });
        }
        self.unmounted = false;
        Ok((folder, names))
    }

    /// Opened for each use and not kept: an open directory would keep its file system from being unmounted.
    fn open_folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.folder, flags, Mode::empty())?)
    }

    /// Nothing can be said of any file until the folder is back; then all are compared.
    fn folder_trouble(&mut self, error: FolderError, changes: &mut Vec<Change>) {
        for name in std::mem::take(&mut self.restless) {
            if let Some(known) = self.files.get_mut(&name) {
                known.is_out_of_sight();
            }
        }
        if let Listed::Due(_) = self.listed {
            self.listed = Listed::NotYet;
        }
        self.report_folder(error, changes);
    }

    fn report_folder(&mut self, error: FolderError, changes: &mut Vec<Change>) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            self.trouble = Some(text);
            changes.push(Change::FolderUnreadable { error });
        }
    }

    fn folder_is_back(&mut self, changes: &mut Vec<Change>) {
        if self.trouble.take().is_some() {
            changes.push(Change::FolderBack);
        }
    }

    fn look_at(&mut self, names: BTreeSet<OsString>, now: Duration, changes: &mut Vec<Change>) {
        if names.is_empty() {
            return;
        }
        let Ok(folder) = self.open_folder() else {
            return self.compare(Reread::Changed, now, changes);
        };
        for name in &names {
            self.look(folder.as_fd(), name, Reread::Always, now, changes);
        }
    }

    fn do_what_is_due(&mut self, now: Duration, changes: &mut Vec<Change>) {
        let is_due = |known: &Known| known.state.due().is_some_and(|at| at <= now);
        let due =
            order::set(self.restless().filter(|(_, known)| is_due(known)).map(|(name, _)| name.clone()));
        // A file that is missing is looked for once more; what is found is read before anything is said to be gone.
        self.look_at(due, now, changes);
        self.tell_gone(now, changes);
        self.tell_listed(now, changes);
    }

    fn tell_gone(&mut self, now: Duration, changes: &mut Vec<Change>) {
        let waiting: Vec<_> = self
            .restless()
            .filter_map(|(_, known)| match known.state {
                State::Waiting { at, stamp, .. } => Some((at, stamp)),
                State::Quiet | State::Missing { .. } => None,
            })
            .collect();
        let Source { folder, files, restless, .. } = self;
        restless.retain(|name| {
            let Some(known) = files.get_mut(name) else { return false };
            let State::Missing { at } = &mut known.state else { return true };
            if *at > now {
                return true;
            }
            // Renamed, and the new name is not read yet: its `Read` has to come first.
            let renamed = |stamp: &Stamp| known.stamp.is_some_and(|old| old.same_inode(stamp));
            if let Some((retry, _)) = waiting.iter().find(|(_, stamp)| renamed(stamp)) {
                *at = (now + REMOVAL_DELAY).max(*retry);
                return true;
            }
            if known.told {
                changes.push(Change::Gone { file: folder.join(name) });
            }
            files.remove(name);
            false
        });
    }

    fn tell_listed(&mut self, now: Duration, changes: &mut Vec<Change>) {
        if !matches!(self.listed, Listed::Due(at) if at <= now) {
            return;
        }
        self.listed = Listed::Told;
        let mut files = Vec::new();
        for (name, known) in &mut self.files {
            known.told = true;
            files.push(self.folder.join(name));
        }
        changes.push(Change::Listed { files });
    }

    fn look(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        reread: Reread,
        now: Duration,
        changes: &mut Vec<Change>,
    ) {
        self.examine(folder, name, reread, now, changes);
        match self.files.get(name).map(|known| known.state) {
            None | Some(State::Quiet) => {
                self.restless.remove(name);
            }
            Some(State::Waiting { .. } | State::Missing { .. }) => {
                self.restless.insert(name.to_owned());
            }
        }
    }

    fn examine(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        reread: Reread,
        now: Duration,
        changes: &mut Vec<Change>,
    ) {
        let path = || self.folder.join(name);
        let found = file::find(folder, name, path);
        if let Found::Missing = found {
            if let Some(known) = self.files.get_mut(name) {
                known.is_missing(now);
            }
            return;
        }
        let known = self.files.entry(name.to_owned()).or_default();
        let outcome = match found {
            Found::File(stamp) if reread == Reread::Changed && known.is_as_read(stamp) => {
                known.state = State::Quiet;
                return;
            }
            Found::Not(error) => Outcome::Failed(error),
            Found::File(_) | Found::Missing => file::read(folder, name, known.rested(now), path),
        };
        match outcome {
            Outcome::Whole { bytes, stamp } => changes.extend(known.is_whole(bytes, stamp, path)),
            Outcome::BeingWritten(stamp) => {
                changes.extend(known.is_being_written(stamp, now, self.rescan_every, path));
            }
            Outcome::Unsettled(stamp) => known.is_unsettled(stamp, now),
            Outcome::Missing => known.is_missing(now),
            Outcome::Failed(error) => changes.extend(known.has_failed(error, path)),
        }
    }
}

impl Names {
    fn contains(&self, name: &OsStr) -> bool {
        match self {
            Names::Manifests => is_manifest(name),
            Names::Only(only) => name == only,
        }
    }
}

/// Whether a file of this name in a folder is read: `*.yaml`, `*.yml`, `*.json`, not beginning with a dot.
pub fn is_manifest(name: &OsStr) -> bool {
    let suffixes = [".yaml", ".yml", ".json"];
    let bytes = name.as_bytes();
    !bytes.starts_with(b".") && suffixes.iter().any(|suffix| bytes.ends_with(suffix.as_bytes()))
}

/// The folder to watch, and which of its files.
fn split(path: &Path) -> (PathBuf, Names) {
    let single = match path.metadata() {
        Ok(metadata) => !metadata.is_dir(),
        Err(_) => path.file_name().is_some_and(is_manifest),
    };
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if single => (folder.to_owned(), Names::Only(name.to_owned())),
        _ => (path.to_owned(), Names::Manifests),
    }
}
