//! When each image was used last, by a clock that nobody can set.
//!
//! The store counts the seconds that machines were on while they had it: the boot clock's (`CLOCK_BOOTTIME`), added up over reboots. A wall
//! clock that jumps makes no image old. What is lost in a power cut only makes images look younger.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::record::read_record;
use super::store::Lock;
use super::{Digest, Error};

/// A reading of this machine's boot clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// `/proc/sys/kernel/random/boot_id`; the clock begins again with another one.
    pub(super) boot: String,
    /// Since the boot.
    pub(super) seconds: u64,
}

impl Moment {
    pub(super) fn now() -> Result<Moment, Error> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let seconds = clock_gettime(ClockId::Boottime).tv_sec;
        Ok(Moment { boot: boot.trim().to_owned(), seconds: seconds.unsigned_abs() })
    }
}

/// `uses.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Uses {
    boot: String,
    /// Of that boot's clock, when `age` was brought up to date.
    seconds: u64,
    /// The store's own clock, in seconds.
    age: u64,
    /// Counts uses: two within one second are still in order.
    sequence: u64,
    images: BTreeMap<Digest, Use>,
    /// Partial downloads, and when each was first seen, by the store's clock.
    parts: BTreeMap<Digest, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    sequence: u64,
    /// The last use or, before the first, when it was first seen; by the store's clock.
    at: u64,
}

impl Uses {
    /// What is written down, brought up to `now`. A file that cannot be read is none: all images are new then.
    pub(super) fn read(file: &Path, now: &Moment) -> Result<Uses, Error> {
        let mut uses: Uses = read_record(file)?.unwrap_or_default();
        let before = if uses.boot == now.boot { uses.seconds } else { 0 };
        uses.age = uses.age.saturating_add(now.seconds.saturating_sub(before));
        uses.boot.clone_from(&now.boot);
        uses.seconds = now.seconds;
        Ok(uses)
    }

    /// Whole or absent; not synced, since what is lost only makes images younger.
    pub(super) fn write(&self, file: &Path, _: &Lock) -> Result<(), Error> {
        let aside = file.with_extension("new");
        let json = |source| Error::Json { what: file.display().to_string(), source };
        let bytes = serde_json::to_vec(self).map_err(json)?;
        fs::write(&aside, bytes).map_err(Error::io("write", &aside))?;
        fs::rename(&aside, file).map_err(Error::io("rename to", file))
    }

    pub(super) fn mark_used(&mut self, image: &Digest) {
        self.sequence += 1;
        self.images.insert(image.clone(), Use { sequence: self.sequence, at: self.age });
    }

    /// The image is there: if it is new here, its age begins now. Forget the others with [`Uses::forget_others`].
    pub(super) fn see(&mut self, image: &Digest) {
        if !self.images.contains_key(image) {
            self.mark_used(image);
        }
    }

    /// For how long a partial download has been lying there, in seconds.
    pub(super) fn age_of_part(&mut self, blob: &Digest) -> u64 {
        let first_seen = *self.parts.entry(blob.clone()).or_insert(self.age);
        self.age - first_seen
    }

    pub(super) fn forget_others(
        &mut self,
        is_image: impl Fn(&Digest) -> bool,
        is_part: impl Fn(&Digest) -> bool,
    ) {
        self.images.retain(|image, _| is_image(image));
        self.parts.retain(|part, _| is_part(part));
    }

    /// Images in the order of their last use have this rising.
    pub(super) fn order(&self, image: &Digest) -> u64 {
        self.images.get(image).map_or(self.sequence, |last| last.sequence)
    }

    /// Seconds since the image was used or, before the first use, seen.
    pub(super) fn unused_for(&self, image: &Digest) -> u64 {
        self.images.get(image).map_or(0, |last| self.age.saturating_sub(last.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, seconds: u64) -> Moment {
        Moment { boot: boot.to_owned(), seconds }
    }

    #[test]
    fn ages_add_up_over_reboots_and_order_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uses.json");
        let lock = Lock::for_tests();
        let [a, b] = ["a", "b"].map(|name| Digest::of(name.as_bytes()));
        let mut uses = Uses::read(&file, &at("first", 100)).unwrap();
        uses.see(&a);
        uses.see(&b);
        uses.mark_used(&a);
        assert!(uses.order(&b) < uses.order(&a));
        uses.write(&file, &lock).unwrap();

        let uses = Uses::read(&file, &at("first", 160)).unwrap();
        assert_eq!(uses.unused_for(&a), 60);
        uses.write(&file, &lock).unwrap();
        let uses = Uses::read(&file, &at("second", 5)).unwrap();
        assert_eq!((uses.unused_for(&a), uses.order(&a)), (65, 3));
    }

    #[test]
    fn a_file_that_cannot_be_read_makes_every_image_new() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uses.json");
        fs::write(&file, "{\"boot\":").unwrap();
        let mut uses = Uses::read(&file, &at("boot", 1_000_000)).unwrap();
        let image = Digest::of(b"image");
        uses.see(&image);
        assert_eq!(uses.unused_for(&image), 0);
    }
}
