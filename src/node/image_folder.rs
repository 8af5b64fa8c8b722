//! The image folder: what is put there is imported. It may lie on a server that does not answer, so it is looked into beside the loop.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use inotify::{Inotify, WatchMask, Watches};

use super::clock;
use super::images::{Waiter, drain, watch};
use super::pod_run::Key;
use super::poller::{Interest, Registration};
use super::tasks::OneAtATime;
use super::worker::{Done, Worker};
use crate::image::{self, Folder, NewSource, Rest, SETTLE_TIME, Sightings, Stamp, Store};
use crate::order;
use crate::pod::BootTime;

/// Of the image folder and of each folder in it.
const NEW_FILES: WatchMask = WatchMask::CLOSE_WRITE.union(WatchMask::MOVED_TO).union(WatchMask::CREATE);

/// How long containers wait for a look into the folder, and for what changes in it to come to rest, before they go on without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which folder it is: [`Folder::identity`].
type Identity = (u64, u64);

pub struct ImageFolder {
    folder: Folder,
    /// `None` while the folder is not there.
    watched: Option<Watched>,
    looking: OneAtATime,
    /// The look that is under way is not waited for any longer then.
    patience: Option<BootTime>,
    /// The look that is under way was not waited for any longer.
    is_silent: bool,
    /// When what changes may have come to rest.
    look_at: Option<BootTime>,
    /// Since when something has changed whenever it was looked at.
    changes_since: Option<BootTime>,
    /// When it is looked at next whether that is still the folder, and whether what could not be imported has changed.
    revisit_at: Option<BootTime>,
    sightings: Sightings,
    /// Whether something was seen that did not rest.
    is_unsettled: bool,
    importing: HashSet<PathBuf>,
    /// What of the folder could not be imported: as what it was, and why.
    failed: HashMap<PathBuf, (Stamp, String)>,
    /// Containers whose image may be in the folder: they wait for the next look, or for the one that is under way.
    before_look: Vec<Waiter>,
    in_look: Vec<Waiter>,
}

/// Tells of files in the image folder.
struct Watched {
    inotify: Inotify,
    registration: Registration,
    folder: Identity,
}

/// What a look into the folder found.
pub struct Look {
    /// What tells of files in it, if it is another folder than the one that was watched.
    watch: Option<(Inotify, Identity)>,
    sightings: Sightings,
    /// `None`: there was no reason to list it.
    new: Option<Result<Vec<NewSource>, image::Error>>,
}

impl ImageFolder {
    pub fn new(path: &Path) -> ImageFolder {
        ImageFolder {
            folder: Folder::new(path),
            watched: None,
            looking: OneAtATime::default(),
            patience: None,
            is_silent: false,
            look_at: None,
            changes_since: None,
            revisit_at: None,
            sightings: Sightings::default(),
            is_unsettled: false,
            importing: HashSet::new(),
            failed: HashMap::new(),
            before_look: Vec::new(),
            in_look: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn is_importing(&self) -> bool {
        !self.importing.is_empty()
    }

    /// Whether what is in it can be waited for.
    pub fn answers(&self) -> bool {
        !self.is_silent
    }

    /// Whether something is being put there that a container should wait for, and a look is due at which it may rest.
    pub fn may_settle(&self, now: BootTime) -> bool {
        self.look_at.is_some() && self.changes_since.is_some_and(|since| now < since + PATIENCE)
    }

    /// Lets a container wait for the next look.
    pub fn wait(&mut self, waiter: Waiter) {
        self.before_look.push(waiter);
    }

    /// Why files of the folder are no images here, sorted.
    pub fn failures(&self) -> Vec<&String> {
        let mut failures: Vec<&String> = self.failed.values().map(|(_, why)| why).collect();
        order::sort(&mut failures);
        failures
    }

    pub fn deadline(&self) -> Option<BootTime> {
        self.patience.into_iter().chain(self.look_at).min()
    }

    /// What is to be imported of that which a look has found. What still changes is left alone, and what failed as it is.
    fn take_in(&mut self, mut new: Vec<NewSource>, now: BootTime) -> Vec<NewSource> {
        self.failed.retain(|path, _| new.iter().any(|source| source.path == *path));
        new.retain(|source| {
            let failed = self.failed.get(&source.path);
            !self.importing.contains(&source.path) && failed.is_none_or(|(stamp, _)| *stamp != source.stamp)
        });
        self.is_unsettled = new.iter().any(|source| source.rest != Rest::Still);
        let changes = new.iter().any(|source| source.rest == Rest::Changing);
        self.look_at = changes.then(|| now + SETTLE_TIME);
        self.changes_since = changes.then(|| self.changes_since.unwrap_or(now));
        new.retain(|source| source.rest == Rest::Still);
        self.importing.extend(new.iter().map(|source| source.path.clone()));
        new
    }
}

impl Worker {
    /// Looks for what is new in the image folder.
    pub fn look_into_image_folder(&mut self) {
        self.begin_look(true);
    }

    /// Something was put into the image folder.
    pub fn image_folder_changed(&mut self) {
        let watched = self.images.folder.as_mut().and_then(|folder| folder.watched.as_mut());
        if let Some(watched) = watched {
            drain(&mut watched.inotify);
        }
        self.look_into_image_folder();
    }

    /// `lists`: also if it is the folder that is watched.
    fn begin_look(&mut self, lists: bool) {
        let Some(folder) = &mut self.images.folder else { return };
        if !folder.looking.may_begin() {
            return;
        }
        let now = clock::now();
        folder.in_look.append(&mut folder.before_look);
        folder.look_at = None;
        folder.patience = Some(now + PATIENCE);
        folder.revisit_at = Some(now + self.options.config.file_check_frequency);
        let watched = folder.watched.as_ref().map(|watched| (watched.folder, watched.inotify.watches()));
        let sightings = std::mem::take(&mut folder.sightings);
        let (folder, store) = (folder.folder.clone(), self.images.store());
        self.looks.add(move || Done::LookedIntoFolder(look(&folder, &store, watched, sightings, lists)));
    }

    /// A look into the image folder has ended: what is new is imported, each file by itself.
    pub fn image_folder_looked_into(&mut self, found: Look) {
        if let Some((inotify, identity)) = found.watch {
            self.watch_image_folder(inotify, identity);
        }
        let Some(folder) = &mut self.images.folder else { return };
        let again = folder.looking.ended();
        (folder.patience, folder.is_silent) = (None, false);
        folder.sightings = found.sightings;
        let new = match found.new {
            None => Vec::new(),
            Some(Ok(new)) => folder.take_in(new, clock::now()),
            Some(Err(error)) => {
                log::warn!("{:#}", anyhow::Error::from(error));
                Vec::new()
            }
        };
        let waiting = std::mem::take(&mut folder.in_look);
        for NewSource { path, stamp, .. } in new {
            let store = self.images.store();
            self.imports.add(move || {
                let result = store.import_from_folder(&path).map(|imported| imported.len());
                Done::Imported { source: path, stamp, result }
            });
        }
        self.go_on_without_folder(waiting);
        if again {
            self.look_into_image_folder();
        }
    }

    fn watch_image_folder(&mut self, inotify: Inotify, identity: Identity) {
        let Some(folder) = &mut self.images.folder else { return };
        if let Some(old) = folder.watched.take() {
            self.poller.remove(&old.inotify, old.registration);
        }
        match self.poller.add(&inotify, Interest::Readable, Key::ImageFolder) {
            Ok(registration) => folder.watched = Some(Watched { inotify, registration, folder: identity }),
            Err(error) => log::warn!("watch {}: {error}", folder.path().display()),
        }
    }

    /// An import has ended: those that waited look again.
    pub fn imported(&mut self, source: &Path, stamp: Stamp, result: Result<usize, image::Error>) {
        let Some(folder) = &mut self.images.folder else { return };
        folder.importing.remove(source);
        match result {
            Ok(images) => {
                folder.failed.remove(source);
                log::info!("imported {images} image(s) from {}", source.display());
            }
            Err(error) => {
                let message = format!("{:#}", anyhow::Error::from(error));
                log::warn!("{message}");
                folder.failed.insert(source.to_owned(), (stamp, message));
            }
        }
        // It may have changed meanwhile, unnoticed because it was being imported.
        self.look_into_image_folder();
        let waiting = self.images.take_waiting();
        self.go_on_without_folder(waiting);
    }

    /// When it is time: looks whether what changed has come to rest; now and then, when the loop is awake anyway, at what no event tells of
    /// (another folder in this one's place, a layout that is complete by now); and waits no longer for a folder that does not answer.
    pub fn pass_time_of_image_folder(&mut self, now: BootTime) {
        let Some(folder) = &mut self.images.folder else { return };
        let is_due = |at: Option<BootTime>| at.is_some_and(|at| at <= now);
        if is_due(folder.patience) {
            (folder.patience, folder.is_silent) = (None, true);
            let mut waiting = std::mem::take(&mut folder.in_look);
            waiting.append(&mut folder.before_look);
            log::warn!(
                "{} has not answered for {} s: images that are not in the store are pulled meanwhile",
                folder.path().display(),
                PATIENCE.as_secs()
            );
            waiting.append(&mut self.images.take_waiting());
            return self.go_on_without_folder(waiting);
        }
        if is_due(folder.look_at) {
            return self.look_into_image_folder();
        }
        if folder.revisit_at.is_none_or(|at| at <= now) && !folder.is_silent {
            let lists = !folder.failed.is_empty() || folder.is_unsettled;
            self.begin_look(lists);
        }
    }

    /// What these containers want was looked for in the folder.
    fn go_on_without_folder(&mut self, waiting: Vec<Waiter>) {
        for waiter in waiting {
            self.look_for(waiter, true);
        }
    }
}

/// `watched`: which folder is watched, and with what.
fn look(
    folder: &Folder,
    store: &Store,
    watched: Option<(Identity, Watches)>,
    mut sightings: Sightings,
    lists: bool,
) -> Look {
    let there = folder.identity();
    let is_another = there != watched.as_ref().map(|(identity, _)| *identity);
    if !lists && (!is_another || there.is_none()) {
        return Look { watch: None, sightings, new: None };
    }
    let mut own = None;
    // Watched before it is listed: what comes later is told.
    if let Some(identity) = there.filter(|_| is_another) {
        own = watch(folder.path(), NEW_FILES).ok().map(|inotify| (inotify, identity));
    }
    let watches = own.as_ref().map(|(inotify, _)| inotify.watches());
    if let Some(mut watches) = watches.or(watched.map(|(_, watches)| watches)) {
        // What becomes a layout is a folder at first: its `index.json` comes later. One that has gone meanwhile needs no watch, and one that
        // is watched already stays so.
        folder.folders().into_iter().for_each(|layout| drop(watches.add(layout, NEW_FILES)));
    }
    let now = (clock::now().since_boot(), SystemTime::now());
    let new = folder.new_sources(store, &mut sightings, now);
    Look { watch: own, sightings, new: Some(new) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_being_copied_is_waited_for_but_not_for_ever() {
        let stamp: Stamp =
            serde_json::from_str(r#"{"device": 1, "inode": 2, "size": 3, "modified": [4, 5]}"#).unwrap();
        let mut folder = ImageFolder::new(Path::new("/none"));
        let at = |seconds: u64| BootTime::from_nanos(seconds * 1_000_000_000);
        let mut looked = |rest, now| {
            folder.take_in(vec![NewSource { path: "/none/a.tar".into(), stamp, rest }], now);
            folder.may_settle(now)
        };
        assert!(looked(Rest::Changing, at(1)) && looked(Rest::Changing, at(10)));
        assert!(!looked(Rest::Changing, at(11)), "whoever can be pulled is pulled");
        assert!(!looked(Rest::Open, at(12)), "that may take for ever");
        assert!(looked(Rest::Changing, at(20)), "another one");
        assert!(!looked(Rest::Still, at(21)), "it is imported");
    }
}
