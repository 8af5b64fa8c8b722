//! The inotify side of a source: which directories are watched, and what their events mean.
//!
//! Two directories are watched: the folder, for its files, and the nearest directory above it that exists, for the
//! folder itself being made, removed or replaced. Events are only hints of where to look.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Events are read into this much memory at a time, and this many times in one go, so that a storm of events delays
/// nobody else on the loop: what is left makes the descriptor readable again.
const BUFFER_BYTES: usize = 16 << 10;
const READS_PER_STEP: usize = 16;

/// How often the way down to the folder is walked anew because it changed under our feet, before the next event or
/// rescan has to do.
const ARM_TRIES: usize = 8;

/// What the events since the last time come down to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Names in the folder that something happened to.
    pub(super) names: BTreeSet<OsString>,
    /// The folder itself changed, or events were lost: everything must be compared.
    pub(super) everything: bool,
    /// The file system that held the folder was unmounted.
    pub(super) unmounted: bool,
}

#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    /// Absolute.
    folder: PathBuf,
    folder_watch: Option<WatchDescriptor>,
    above: Option<Above>,
}

/// The nearest existing directory above the folder.
#[derive(Debug)]
struct Above {
    watch: WatchDescriptor,
    /// The next name on the way down to the folder; its own name when only the folder is missing, or nothing.
    next: OsString,
}

impl Watch {
    pub(super) fn new(folder: PathBuf) -> io::Result<Watch> {
        Ok(Watch { inotify: Inotify::init()?, folder, folder_watch: None, above: None })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches what is there now, and drops the watches on what was there before. Does nothing where nothing changed
    /// (inotify gives the same descriptor for the same directory). Call it before listing the folder, so that nothing
    /// can happen unseen between the two.
    ///
    /// # Errors
    /// When the folder cannot be watched; what is above it is watched as far as possible.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for _ in 0..ARM_TRIES {
            let next = self.watch_above();
            outcome = self.watch_folder();
            // What was made between the two calls has given no event.
            let made_meanwhile = || next.as_deref().is_some_and(|next| next.symlink_metadata().is_ok());
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::NotFound && made_meanwhile() => continue,
                _ => break,
            }
        }
        outcome
    }

    /// Returns the path of the first thing below the watched directory on the way to the folder.
    fn watch_above(&mut self) -> Option<PathBuf> {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut next = self.folder.clone();
        let mut found = None;
        while let (Some(parent), Some(name)) = (next.parent(), next.file_name()) {
            if let Ok(watch) = self.add(parent, mask) {
                found = Some(Above { watch, next: name.to_owned() });
                break;
            }
            next = parent.to_owned();
        }
        let old = std::mem::replace(&mut self.above, found);
        self.drop_watch(old.map(|above| above.watch));
        self.above.is_some().then_some(next)
    }

    fn watch_folder(&mut self) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            // A symbolic or hard link gives nothing else. A file that is being created is still open for writing, or
            // empty, and is not read.
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let folder = self.folder.clone();
        let added = self.add(&folder, mask);
        let (new, outcome) = match added {
            Ok(watch) => (Some(watch), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let old = std::mem::replace(&mut self.folder_watch, new);
        self.drop_watch(old);
        outcome
    }

    /// `MASK_ADD`, because both watches may be on one directory (`manifests -> .`) and must not undo each other.
    fn add(&mut self, path: &Path, mask: WatchMask) -> io::Result<WatchDescriptor> {
        self.inotify.watches().add(path, mask | WatchMask::ONLYDIR | WatchMask::MASK_ADD)
    }

    /// Ends a watch that is in no use any more.
    fn drop_watch(&mut self, old: Option<WatchDescriptor>) {
        let Some(old) = old else { return };
        if !self.is_folder(&old) && !self.is_above(&old) {
            // Fails when the directory is gone and the kernel has dropped the watch itself.
            let _ = self.inotify.watches().remove(old);
        }
    }

    fn is_folder(&self, watch: &WatchDescriptor) -> bool {
        self.folder_watch.as_ref() == Some(watch)
    }

    fn is_above(&self, watch: &WatchDescriptor) -> bool {
        self.above.as_ref().is_some_and(|above| above.watch == *watch)
    }

    /// Takes the events that are there, keeping only the names that `wanted` says yes to.
    pub(super) fn hear(&mut self, wanted: impl Fn(&OsStr) -> bool) -> Heard {
        let mut heard = Heard::default();
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..READS_PER_STEP {
            let events: Vec<_> = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events.map(|event| event.to_owned()).collect(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Never seen; the comparison of everything replaces what could not be read.
                Err(_) => {
                    heard.everything = true;
                    break;
                }
            };
            for event in events {
                self.take(event, &wanted, &mut heard);
            }
        }
        heard
    }

    fn take(&mut self, event: inotify::EventOwned, wanted: impl Fn(&OsStr) -> bool, heard: &mut Heard) {
        let itself = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT;
        let in_folder = self.is_folder(&event.wd);
        let above = self.is_above(&event.wd);
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            heard.everything = true;
        }
        if (in_folder || above) && event.mask.intersects(itself) {
            heard.everything = true;
            heard.unmounted |= in_folder && event.mask.contains(EventMask::UNMOUNT);
        }
        let Some(name) = event.name else { return };
        if above && self.above.as_ref().is_some_and(|above| above.next == name) {
            heard.everything = true;
        }
        if in_folder && wanted(&name) {
            heard.names.insert(name);
        }
    }
}
