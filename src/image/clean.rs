//! Removing images that nobody needs: all of them, those unused for long, or as many as it takes to have room on the disk again.
//!
//! Names go first, then what no name leads to: a crash in between leaves only what the next clean-up removes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::inventory::{Inventory, digests_in};
use super::record::{LayerRecord, ReferenceRecord, sync_dir};
use super::store::Lock;
use super::uses::{Moment, Uses};
use super::writer_folder::{WriterFolder, pins};
use super::{Digest, Error, Reference, Store};
use crate::order;

/// A partial download that nobody has gone on with for so long is not waited for any more. Seconds.
const STALE_PART: u64 = 24 * 60 * 60;

/// What must stay, besides the images that the image folder brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Images that containers run from, or are about to.
    pub images: BTreeSet<Digest>,
    /// What manifests ask for.
    pub references: BTreeSet<Reference>,
}

/// Which images a clean-up removes. The fields are the `imageGC…` ones of a `KubeletConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// An image that was used, or first seen, less long ago stays.
    pub minimum_age: Duration,
    /// One that has been unused for longer goes. `None`: age alone is no reason.
    pub maximum_age: Option<Duration>,
    /// Per cent of the file system: where it is as full as the first, images go until it is only as full as the second. `None`: never.
    pub thresholds: Option<(u8, u8)>,
}

impl Policy {
    /// The kubelet's defaults: 85 %, 80 %, two minutes, and no greatest age.
    pub fn kubelet() -> Policy {
        Policy { minimum_age: Duration::from_secs(120), maximum_age: None, thresholds: Some((85, 80)) }
    }

    /// Everything that is not needed, at once.
    pub fn all_unused() -> Policy {
        Policy { minimum_age: Duration::ZERO, maximum_age: Some(Duration::ZERO), thresholds: None }
    }
}

/// What a clean-up removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The one unused for longest first.
    pub images: Vec<CleanedImage>,
    /// Spare copies of layers and partial downloads that went without their images.
    pub spare_copies: u64,
    /// Bytes of all of it.
    pub bytes: u64,
    /// Bytes that are still lacking to the lower threshold, since everything else is needed.
    pub lacking: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanedImage {
    pub references: Vec<Reference>,
    pub id: Digest,
    /// Bytes that no other image shares.
    pub bytes: u64,
}

/// The file system of the store, in bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    capacity: u64,
    available: u64,
}

impl Store {
    /// Writes down that containers are started from these images. Not needed before the start; blocks for a moment.
    pub fn mark_used(&self, images: &[Digest]) -> Result<(), Error> {
        let lock = self.lock()?;
        let mut uses = Uses::read(self.uses_file(), &Moment::now()?)?;
        for image in images {
            uses.mark_used(image);
        }
        uses.write(self.uses_file(), &lock)
    }

    /// Whether [`Store::clean`] may find something to do, as far as that can be told without reading the records.
    pub fn may_need_cleaning(&self, policy: &Policy) -> Result<bool, Error> {
        let is_full = match policy.thresholds {
            Some(thresholds) => lacking(self.room()?, thresholds) > 0,
            None => false,
        };
        Ok(is_full || policy.maximum_age.is_some() || !digests_in(&self.folders().parts)?.is_empty())
    }

    /// Removes what the policy does not want and nobody needs; with `dry_run` only says what that would be.
    ///
    /// What is in use, named, of the image folder, or being brought by another process at this moment stays, however full the disk is.
    pub fn clean(&self, policy: &Policy, keep: &Keep, dry_run: bool) -> Result<Cleaned, Error> {
        let lock = self.lock()?;
        let cleaned = self.clean_at(&lock, policy, keep, self.room()?, &Moment::now()?, dry_run);
        // Layers were moved aside; removing them takes its time, and nobody has to wait for it.
        drop(lock);
        cleaned.map(|(cleaned, _)| cleaned)
    }

    /// Takes a reference away, and the image with it if that was its last and nobody needs it. `None` if there is no such reference.
    ///
    /// # Errors
    /// Also when something to be kept is known by no other name, and when it came from the image folder and lies there still.
    pub fn remove(&self, reference: &Reference, keep: &Keep) -> Result<Option<CleanedImage>, Error> {
        let lock = self.lock()?;
        let inventory = Inventory::read(self)?;
        let Some(record) = inventory.references.iter().find(|record| record.is_named_by(reference)) else {
            return Ok(None);
        };
        verify_unneeded(&inventory, record, keep)?;
        let id = record.id.clone();
        let before = Sizes::of(self, &inventory);
        self.remove_references(&[record])?;
        let is_last = inventory.references_of(&id).len() == 1;
        let bytes = if is_last && !keep.images.contains(&id) { before.only_in(&inventory, &id) } else { 0 };
        let trash = self.sweep(&lock, keep)?;
        drop(lock);
        drop(trash);
        Ok(Some(CleanedImage { references: vec![record.reference.clone()], id, bytes }))
    }

    fn room(&self) -> Result<Room, Error> {
        let root = &self.folders().root;
        let stat = rustix::fs::statvfs(root).map_err(Error::io("examine the file system of", root))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Room { capacity: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
    }

    fn clean_at(
        &self,
        lock: &Lock,
        policy: &Policy,
        keep: &Keep,
        room: Room,
        now: &Moment,
        dry_run: bool,
    ) -> Result<(Cleaned, Option<WriterFolder>), Error> {
        let inventory = Inventory::read(self)?;
        let mut uses = Uses::read(self.uses_file(), now)?;
        for id in inventory.images.keys() {
            uses.see(id);
        }
        let mut plan = Plan::new(self, &inventory);
        let lacking = policy.thresholds.map_or(0, |thresholds| lacking(room, thresholds));
        self.plan_parts(&mut plan, &mut uses, lacking > 0)?;
        let unneeded = unneeded(&inventory, keep, policy, &uses);
        let too_old =
            |id: &&&Digest| policy.maximum_age.is_some_and(|age| uses.unused_for(id) >= age.as_secs());
        unneeded.iter().filter(too_old).for_each(|id| plan.remove_image(id));
        plan.free_blobs(&in_order(&inventory, &uses), lacking);
        for id in &unneeded {
            if plan.cleaned.bytes >= lacking {
                break;
            }
            plan.remove_image(id);
        }
        plan.cleaned.lacking = lacking.saturating_sub(plan.cleaned.bytes);
        if dry_run {
            return Ok((plan.cleaned, None));
        }
        let trash = self.carry_out(lock, &plan, keep)?;
        let is_there = |id: &Digest| inventory.images.contains_key(id) && !plan.gone.contains(id);
        uses.forget_others(is_there, |part| self.part_file(part).exists());
        uses.write(self.uses_file(), lock)?;
        Ok((plan.cleaned, trash))
    }

    /// Partial downloads that nobody holds: stale ones or, where room is needed, all.
    fn plan_parts(&self, plan: &mut Plan<'_>, uses: &mut Uses, all: bool) -> Result<(), Error> {
        for digest in digests_in(&self.folders().parts)? {
            let stale = uses.age_of_part(&digest) >= STALE_PART;
            let path = self.part_file(&digest);
            let Ok(file) = File::open(&path) else { continue };
            let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_free && (stale || all) {
                plan.add_spare(file.metadata().map_or(0, |meta| meta.len()));
                plan.parts.push((path, file));
            }
        }
        Ok(())
    }

    fn carry_out(&self, lock: &Lock, plan: &Plan<'_>, keep: &Keep) -> Result<Option<WriterFolder>, Error> {
        let goes = |record: &&ReferenceRecord| plan.gone.contains(&record.id);
        self.remove_references(&plan.inventory.references.iter().filter(goes).collect::<Vec<_>>())?;
        for blob in &plan.blobs {
            remove_file(&self.blob_file(blob))?;
        }
        for (part, _) in &plan.parts {
            remove_file(part)?;
        }
        self.sweep(lock, keep)
    }

    fn remove_references(&self, records: &[&ReferenceRecord]) -> Result<(), Error> {
        for record in records {
            remove_file(&self.reference_record(&record.reference))?;
        }
        if records.is_empty() { Ok(()) } else { sync_dir(&self.folders().refs) }
    }

    /// Removes what no reference leads to, nor an image that is to be kept, nor a living writer. Layers go into the folder that is
    /// returned, which is emptied when it is dropped.
    fn sweep(&self, lock: &Lock, keep: &Keep) -> Result<Option<WriterFolder>, Error> {
        let inventory = Inventory::read(self)?;
        if !inventory.is_whole {
            return Ok(None);
        }
        let folders = self.folders();
        let mut images: HashSet<&Digest> = inventory.references.iter().map(|record| &record.id).collect();
        images.extend(&keep.images);
        let mut layers: HashSet<Digest> = pins(self)?;
        layers.extend(images.iter().filter_map(|id| inventory.images.get(*id)).flatten().cloned());
        let manifests: HashSet<&Digest> =
            inventory.references.iter().flat_map(|record| &record.manifests).collect();
        let kept_records = inventory.layers.iter().filter(|(diff_id, _)| layers.contains(*diff_id));
        let blobs: HashSet<&Digest> =
            kept_records.flat_map(|(_, record)| record.blobs()).map(|blob| &blob.digest).collect();

        remove_others(&folders.configs, |id| images.contains(id))?;
        remove_others(&folders.diffs, |diff_id| layers.contains(diff_id))?;
        sync_dir(&folders.diffs)?;
        remove_others(&folders.listings, |diff_id| layers.contains(diff_id))?;
        remove_others(&folders.manifests, |digest| manifests.contains(digest))?;
        remove_others(&folders.blobs, |digest| blobs.contains(digest))?;
        self.forget_replaced(lock, &inventory, keep)?;
        self.move_orphans(lock)
    }
}

impl Store {
    /// What layers were before they were mended goes when no container can have it mounted.
    fn forget_replaced(&self, lock: &Lock, inventory: &Inventory, keep: &Keep) -> Result<(), Error> {
        let in_use: HashSet<&Digest> =
            keep.images.iter().filter_map(|id| inventory.images.get(id)).flatten().collect();
        for (diff_id, record) in &inventory.layers {
            let is_there = || self.layer_record(diff_id).exists();
            if !record.replaced.is_empty() && !in_use.contains(diff_id) && is_there() {
                let record = LayerRecord { replaced: Vec::new(), ..record.clone() };
                self.put_layer_record(lock, diff_id, &record)?;
            }
        }
        Ok(())
    }
}

fn verify_unneeded(inventory: &Inventory, record: &ReferenceRecord, keep: &Keep) -> Result<(), Error> {
    let reference = Box::new(record.reference.clone());
    if let Some(path) = inventory.file_in_folder(&reference) {
        return Err(Error::InFolder { reference, path: path.to_owned() });
    }
    let is_another = |other: &&ReferenceRecord| other.reference != record.reference;
    let has_another = |named: &Reference| {
        inventory.references.iter().filter(is_another).any(|other| other.is_named_by(named))
    };
    match keep.references.iter().find(|named| record.is_named_by(named) && !has_another(named)) {
        Some(named) => Err(Error::Named { reference, named: Box::new(named.clone()) }),
        None => Ok(()),
    }
}

/// Bytes that have to be freed.
fn lacking(room: Room, (high, low): (u8, u8)) -> u64 {
    let percent = |part: u64| (u128::from(part) * 100).checked_div(u128::from(room.capacity)).unwrap_or(0);
    let used = 100 - percent(room.available).min(100);
    if used < u128::from(high) {
        return 0;
    }
    let wanted = u128::from(room.capacity) * u128::from(100 - low.min(100)) / 100;
    u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(room.available)
}

/// Images that may go, the one unused for longest first.
fn unneeded<'a>(inventory: &'a Inventory, keep: &Keep, policy: &Policy, uses: &Uses) -> Vec<&'a Digest> {
    let pinned = inventory.pinned();
    let named = |record: &&ReferenceRecord| {
        pinned.contains(&record.reference) || keep.references.iter().any(|kept| record.is_named_by(kept))
    };
    let named: HashSet<&Digest> =
        inventory.references.iter().filter(named).map(|record| &record.id).collect();
    let mut images = in_order(inventory, uses);
    images.retain(|id| {
        !keep.images.contains(*id)
            && !named.contains(id)
            && uses.unused_for(id) >= policy.minimum_age.as_secs()
    });
    images
}

fn in_order<'a>(inventory: &'a Inventory, uses: &Uses) -> Vec<&'a Digest> {
    let mut images: Vec<&Digest> = inventory.images.keys().collect();
    order::sort_by_key(&mut images, |id| uses.order(id));
    images
}

/// Bytes of each layer, and of its blobs that are there.
struct Sizes {
    layers: HashMap<Digest, (u64, u64)>,
}

impl Sizes {
    fn of(store: &Store, inventory: &Inventory) -> Sizes {
        let blob = |digest: &Digest| fs::metadata(store.blob_file(digest)).map_or(0, |meta| meta.len());
        let size = |(diff_id, record): (&Digest, &LayerRecord)| {
            (diff_id.clone(), (record.size, record.blobs().map(|record| blob(&record.digest)).sum()))
        };
        Sizes { layers: inventory.layers.iter().map(size).collect() }
    }

    fn only_in(&self, inventory: &Inventory, id: &Digest) -> u64 {
        let users = inventory.users();
        let layers: HashSet<&Digest> = inventory.images.get(id).into_iter().flatten().collect();
        let own = layers.into_iter().filter(|layer| users.get(*layer) == Some(&1));
        own.filter_map(|layer| self.layers.get(layer)).map(|(tree, blob)| tree + blob).sum()
    }
}

/// What is to go, and what that frees.
struct Plan<'a> {
    inventory: &'a Inventory,
    sizes: Sizes,
    users: HashMap<&'a Digest, usize>,
    gone: HashSet<&'a Digest>,
    blobs: HashSet<Digest>,
    /// With the lock that keeps downloads away until they are gone.
    parts: Vec<(PathBuf, File)>,
    cleaned: Cleaned,
}

impl<'a> Plan<'a> {
    fn new(store: &Store, inventory: &'a Inventory) -> Plan<'a> {
        Plan {
            inventory,
            sizes: Sizes::of(store, inventory),
            users: inventory.users(),
            gone: HashSet::new(),
            blobs: HashSet::new(),
            parts: Vec::new(),
            cleaned: Cleaned::default(),
        }
    }

    fn add_spare(&mut self, bytes: u64) {
        self.cleaned.spare_copies += bytes;
        self.cleaned.bytes += bytes;
    }

    /// Spare copies are the first to go: no container needs them.
    fn free_blobs(&mut self, images: &[&Digest], wanted: u64) {
        let inventory = self.inventory;
        for layer in images.iter().filter_map(|id| inventory.images.get(*id)).flatten() {
            if self.cleaned.bytes >= wanted {
                return;
            }
            let Some(record) = inventory.layers.get(layer) else { continue };
            let Some((_, size)) = self.sizes.layers.get_mut(layer) else { continue };
            let size = std::mem::take(size);
            self.blobs.extend(record.blobs().map(|blob| blob.digest.clone()));
            self.add_spare(size);
        }
    }

    fn remove_image(&mut self, id: &'a Digest) {
        if !self.gone.insert(id) {
            return;
        }
        let mut bytes = 0;
        let layers: HashSet<&Digest> = self.inventory.images.get(id).into_iter().flatten().collect();
        for layer in layers {
            let left = self.users.get_mut(layer).map_or(0, |users| {
                *users -= 1;
                *users
            });
            if left == 0 {
                bytes += self.sizes.layers.get(layer).map_or(0, |(tree, blob)| tree + blob);
            }
        }
        self.cleaned.bytes += bytes;
        let references = self.inventory.references_of(id);
        self.cleaned.images.push(CleanedImage { references, id: id.clone(), bytes });
    }
}

fn remove_others(folder: &Path, stays: impl Fn(&Digest) -> bool) -> Result<(), Error> {
    for digest in digests_in(folder)?.into_iter().filter(|digest| !stays(digest)) {
        // Some end with `.json`.
        for name in [digest.hex().to_owned(), format!("{}.json", digest.hex())] {
            remove_file(&folder.join(name))?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", path)),
    }
}

#[cfg(test)]
mod tests;
