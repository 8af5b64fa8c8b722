//! Which images a container starts from, its own and those of its volumes: found in the store, or brought into it beside the loop, from
//! the image folder (`image_folder.rs`) or by a pull (`pulls.rs`).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use inotify::{Inotify, WatchMask};

use super::clock;
use super::image_folder::ImageFolder;
use super::pod_run::PodNumber;
use super::worker::{Done, Worker};
use crate::container::ResolvedUser;
use crate::container::user;
use crate::image::{self, Digest, Image, Reference, Store};
use crate::manifest::pod::{PullPolicy, VolumeKind};
use crate::manifest::{Container, Pod};
use crate::pod::event::Index;
use crate::pod::{Event, ImageProblem};

/// More than any `/etc/passwd` needs. Bytes.
const MAX_ACCOUNTS: usize = 4 << 20;

/// A container that waits for an image. It wants one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub pod: PodNumber,
    pub container: Index,
    pub wants: Wanted,
}

/// Which of a container's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Root,
    /// That of an image volume which it mounts, by its place in the Pod's volumes.
    Volume(usize),
}

impl Waiter {
    /// The name of the image, and when it is pulled.
    fn image(self, pod: &Pod) -> Option<(&str, PullPolicy)> {
        match self.wants {
            Wanted::Root => {
                pod.containers.get(self.container).map(|spec| (spec.image.as_str(), spec.pull_policy))
            }
            Wanted::Volume(place) => match &pod.volumes.get(place)?.kind {
                VolumeKind::Image { reference, pull_policy } => Some((reference, *pull_policy)),
                _ => None,
            },
        }
    }

    /// What it wants when it has this.
    fn next(self, pod: &Pod) -> Option<Waiter> {
        let from = match self.wants {
            Wanted::Root => 0,
            Wanted::Volume(place) => place + 1,
        };
        let mounts = &pod.containers.get(self.container)?.mounts;
        (from..pod.volumes.len())
            .filter(|place| mounts.iter().any(|mount| mount.volume == pod.volumes[*place].name))
            .map(|place| Waiter { wants: Wanted::Volume(place), ..self })
            .find(|waiter| waiter.image(pod).is_some())
    }
}

/// The store, the image folder and what is being brought from one to the other.
pub struct Images {
    store: Store,
    pub folder: Option<ImageFolder>,
    /// Tells of references and layers that were written into the store, by us or by `podkeep load`.
    pub store_watch: Inotify,
    /// Containers whose image may be among those that are being imported or mended.
    waiting: Vec<Waiter>,
    /// Images that were found damaged: tried once to mend, until something comes into the store.
    damaged: HashSet<Reference>,
    accounts: HashMap<Digest, Rc<Accounts>>,
    /// What was found, as long as nothing was written into the store: a container that is started again reads no record.
    found: HashMap<Reference, Arc<Image>>,
}

/// An image's `/etc/passwd` and `/etc/group`.
struct Accounts {
    passwd: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
}

impl Images {
    pub fn open(dir: &Path, folder: Option<&Path>, keep_blobs: bool) -> Result<Images> {
        let store = Store::open(dir)?.keep_blobs(keep_blobs);
        store.make_mount_points()?;
        let changes = WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        let store_watch = watch(store.refs_dir(), changes)?;
        let records = store.records_dir();
        let watches = store_watch.watches().add(records, changes);
        watches.with_context(|| format!("watch {}", records.display()))?;
        Ok(Images {
            store,
            folder: folder.map(ImageFolder::new),
            store_watch,
            waiting: Vec::new(),
            damaged: HashSet::new(),
            accounts: HashMap::new(),
            found: HashMap::new(),
        })
    }

    pub fn layers_dir(&self) -> &Path {
        self.store.layers_dir()
    }

    /// The numbers that a container's user stands for in its image.
    pub fn user(&mut self, image: &Image, container: &Container) -> Result<ResolvedUser> {
        let accounts = match self.accounts.get(&image.id) {
            Some(accounts) => Rc::clone(accounts),
            None => {
                let read = |path| self.store.read_file(image, path, MAX_ACCOUNTS);
                let accounts = Rc::new(Accounts { passwd: read("/etc/passwd")?, group: read("/etc/group")? });
                self.accounts.insert(image.id.clone(), Rc::clone(&accounts));
                accounts
            }
        };
        let security = &container.security;
        user::verify_non_root(&image.config.user, security)?;
        Ok(user::resolve(
            &image.config.user,
            security.run_as_user,
            security.run_as_group,
            accounts.passwd.as_deref(),
            accounts.group.as_deref(),
        )?)
    }

    /// Another handle on the store, for work beside the loop.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The image that a reference names now.
    pub fn find(&mut self, reference: &Reference) -> Result<Option<Arc<Image>>, image::Error> {
        // A layer that has gone from the disk is damage, which only the store finds and has mended.
        let is_there = |image: &&Arc<Image>| self.store.has_layers(image);
        if let Some(image) = self.found.get(reference).filter(is_there) {
            return Ok(Some(Arc::clone(image)));
        }
        self.store.make_mount_points()?;
        let image = self.store.find(reference)?.map(Arc::new);
        if let Some(image) = &image {
            self.found.insert(reference.clone(), Arc::clone(image));
        }
        Ok(image)
    }

    /// Forgets what was known of a store that has changed since; says whether it has.
    fn heed_store(&mut self) -> bool {
        let changed = drain(&mut self.store_watch);
        if changed {
            self.accounts.clear();
            self.found.clear();
            self.damaged.clear();
        }
        changed
    }

    /// The image that a container was started from, whatever its reference names by now.
    pub fn of_run(&self, container: &Container, id: &str) -> Result<Image> {
        Ok(self.store.load(container.image.parse::<Reference>()?, &id.parse::<Digest>()?)?)
    }

    fn missing_message(&self, reference: &Reference) -> String {
        let folder = self.folder.as_ref().map(|folder| format!(", nor in {}", folder.path().display()));
        let folder = folder.unwrap_or_default();
        self.with_failed_imports(format!(
            "image {reference} is not in the store{folder}, and imagePullPolicy is Never: bring it with `podkeep load` or `podkeep pull`"
        ))
    }

    /// Containers that have waited for an import, or for an image to be mended.
    pub fn take_waiting(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.waiting)
    }

    /// The image may be in a file that could not be imported.
    pub fn with_failed_imports(&self, mut message: String) -> String {
        for failure in self.folder.iter().flat_map(ImageFolder::failures) {
            message.push_str(&format!("; {failure}"));
        }
        message
    }
}

impl Worker {
    /// Looks for a container's images.
    pub fn find_image(&mut self, number: PodNumber, container: Index) {
        let Some(c) = self.pods.get_mut(&number).and_then(|run| run.containers.get_mut(container)) else {
            return;
        };
        let before = std::mem::take(&mut c.volumes);
        self.look_for(Waiter { pod: number, container, wants: Wanted::Root }, false);
        self.note_last_use(before.into_values().map(|image| image.id.clone()).collect());
    }

    /// Looks for one image; answers later where it may lie in the image folder, or a registry is asked. `is_not_in_folder`: as the folder was
    /// a moment ago.
    pub fn look_for(&mut self, waiter: Waiter, is_not_in_folder: bool) {
        let Some(run) = self.pods.get(&waiter.pod) else { return };
        let Some((text, policy)) = waiter.image(run.pod()) else { return };
        let reference = text.parse::<Reference>();
        // What came a moment ago counts, whether or not the loop has heard of it.
        self.images_arrived();
        let (problem, message) = match reference {
            Err(error) => (ImageProblem::InvalidName, error.to_string()),
            Ok(reference) => match self.images.find(&reference) {
                // What a digest names does not change: there is nothing to ask.
                Ok(Some(_)) if policy == PullPolicy::Always && reference.digest().is_none() => {
                    return self.ask_for_newer(reference, waiter);
                }
                Ok(Some(image)) => return self.tell_found(&[waiter], &image),
                Ok(None) => {
                    if self.waits_for_folder(waiter, is_not_in_folder) {
                        return;
                    }
                    if policy != PullPolicy::Never {
                        return self.pull_image(reference, waiter);
                    }
                    (ImageProblem::NeverPull, self.images.missing_message(&reference))
                }
                Err(error) if error.is_damage() && self.images.damaged.insert(reference.clone()) => {
                    log::warn!("{:#}", anyhow::Error::from(error));
                    self.images.waiting.push(waiter);
                    return self.mend_image(reference);
                }
                Err(error) if error.is_damage() && policy != PullPolicy::Never => {
                    return self.pull_image(reference, waiter);
                }
                Err(error) => (ImageProblem::Unreadable, format!("{:#}", anyhow::Error::from(error))),
            },
        };
        self.tell_missing(waiter, problem, message);
    }

    /// Lets a container wait for a look into the image folder, if one is due, or for what is being put there or imported from it.
    fn waits_for_folder(&mut self, waiter: Waiter, is_not_in_folder: bool) -> bool {
        let Some(folder) = self.images.folder.as_mut().filter(|folder| folder.answers()) else {
            return false;
        };
        if !is_not_in_folder {
            folder.wait(waiter);
            self.look_into_image_folder();
            return true;
        }
        if folder.is_importing() {
            self.images.waiting.push(waiter);
        } else if folder.may_settle(clock::now()) {
            folder.wait(waiter);
        } else {
            return false;
        }
        true
    }

    /// Tells a container that one of its images is not to be had.
    pub fn tell_missing(&mut self, waiter: Waiter, problem: ImageProblem, message: String) {
        let Waiter { pod: number, container, wants } = waiter;
        let Some(run) = self.pods.get_mut(&number) else { return };
        run.containers[container].lacks = Some(wants);
        let message = match wants {
            Wanted::Root => message,
            Wanted::Volume(place) => format!("volume {}: {message}", run.pod().volumes[place].name),
        };
        self.tell(number, Event::ImageMissing { container, problem, message });
    }

    /// Gives containers an image that is there, and looks for the next one that they want; those that have all are told.
    pub fn tell_found(&mut self, waiting: &[Waiter], image: &Arc<Image>) {
        let mut replaced = Vec::new();
        for waiter in waiting.iter().copied() {
            let Some(run) = self.pods.get_mut(&waiter.pod) else { continue };
            let c = &mut run.containers[waiter.container];
            let before = match waiter.wants {
                Wanted::Root => c.image.replace(Arc::clone(image)),
                Wanted::Volume(place) => c.volumes.insert(place, Arc::clone(image)),
            };
            replaced.extend(before.map(|image| image.id.clone()).filter(|before| *before != image.id));
            let image_id = c.image.as_ref().map_or_else(String::new, |image| image.id.to_string());
            match waiter.next(run.pod()) {
                Some(next) => self.look_for(next, false),
                None => {
                    self.tell(waiter.pod, Event::ImageReady { container: waiter.container, image_id });
                }
            }
        }
        self.note_last_use(replaced);
    }

    /// Makes again what an image lacks, beside the loop.
    fn mend_image(&mut self, reference: Reference) {
        let store = self.images.store.clone();
        self.imports.add(move || {
            let result = store.mend(&reference);
            Done::Mended { reference, result }
        });
    }

    /// Those that waited look again: for an image that is whole, or one that is missing.
    pub fn image_mended(&mut self, reference: Reference, result: Result<bool, image::Error>) {
        match result {
            Ok(true) => {
                log::info!("image {reference} was damaged and is mended");
                self.images.damaged.remove(&reference);
            }
            Ok(false) => log::warn!("image {reference} is damaged, and nothing is there to mend it from"),
            Err(error) => log::warn!("mend image {reference}: {:#}", anyhow::Error::from(error)),
        }
        let waiting = self.images.take_waiting();
        self.look_for_all(waiting);
    }

    pub fn look_for_all(&mut self, waiting: Vec<Waiter>) {
        for waiter in waiting {
            self.look_for(waiter, false);
        }
    }

    /// References were written into the store, or removed from it: containers whose image is there now need not wait for it.
    pub fn images_arrived(&mut self) {
        if !self.images.heed_store() {
            return;
        }
        let mut arrived = Vec::new();
        for (number, run) in &self.pods {
            for container in run.machine.without_image() {
                let wants = run.containers[container].lacks.unwrap_or(Wanted::Root);
                let waiter = Waiter { pod: *number, container, wants };
                let Some((text, _)) = waiter.image(run.pod()) else { continue };
                let reference = text.parse::<Reference>();
                if reference.is_ok_and(|reference| matches!(self.images.find(&reference), Ok(Some(_)))) {
                    arrived.push((*number, Event::ImageArrived { container }));
                }
            }
        }
        self.events.extend(arrived);
        self.end_needless_pulls();
    }
}

pub fn watch(dir: &Path, mask: WatchMask) -> Result<Inotify> {
    let inotify = Inotify::init().context("start inotify")?;
    inotify.watches().add(dir, mask).with_context(|| format!("watch {}", dir.display()))?;
    Ok(inotify)
}

/// What exactly happened does not matter: everything is looked at again. Says whether anything has.
pub fn drain(inotify: &mut Inotify) -> bool {
    let mut buffer = [0; 4096];
    let mut happened = false;
    while inotify.read_events(&mut buffer).is_ok_and(|mut events| events.next().is_some()) {
        happened = true;
    }
    happened
}
