//! Images come, by every way there is, and go again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::asking::{ask, try_ask};
use super::check::listed_images;
use super::images::{self, MadeImage};
use super::listing::digest;
use super::notes::{self, Notes, Presence};
use super::pods;
use super::registry::Registry;
use crate::harness::site::sample_image;
use crate::harness::{Site, wait_until};
use crate::random::Random;

/// Small ones: the others would take the emulated machine longer than most cuts leave it.
const SAMPLES: [(&str, &str); 2] = [("layers", "layers:1"), ("threads", "threads:1")];

/// The references of the images that are there, as podkeep said. While somebody holds them, no image goes and no manifest comes.
pub type There = Mutex<BTreeSet<String>>;

pub fn there(notes: &Notes) -> There {
    Mutex::new(notes.images(Presence::There).cloned().collect())
}

/// Whoever brings images and removes them.
pub struct Images<'a> {
    site: &'a Site,
    random: Random,
    there: &'a There,
    registry: Registry,
    /// Its number is the next one's.
    next: u64,
    begun: Vec<u64>,
    samples: Vec<(&'static str, &'static str)>,
}

impl<'a> Images<'a> {
    /// Numbers from `first` on are new.
    pub fn new(site: &'a Site, random: Random, first: u64, notes: &Notes, there: &'a There) -> Images<'a> {
        let mut samples = SAMPLES.to_vec();
        samples.retain(|(_, reference)| !there.lock().unwrap().contains(*reference));
        let begun = notes.begun.iter().copied().collect();
        Images { site, random, there, registry: Registry::start(), next: first, begun, samples }
    }

    pub fn bring_or_remove_one(&mut self) {
        match self.random.below(16) {
            0..4 => self.load(),
            4..7 => self.pull(),
            7 => self.drop_into_folder(),
            8..12 => self.remove(),
            12..14 => self.prune(),
            _ => self.save(),
        }
    }

    fn load(&mut self) {
        if let Some((name, reference)) = self.samples.pop().filter(|_| self.random.one_in(3)) {
            notes::image(reference, Presence::MayBe);
            self.site.ask(&["load", sample_image(name).to_str().expect("a name of ours")]);
            self.is_there(reference);
        }
        let image = self.new_image();
        let names = images::names(image.number);
        names.iter().for_each(|name| notes::image(name, Presence::MayBe));
        load(self.site, &image.archive());
        names.iter().for_each(|name| self.is_there(name));
    }

    /// A new one, or one that somebody has begun to bring: what came of it is gone on with.
    fn pull(&mut self) {
        let image = match self.begun.as_slice() {
            [_, ..] if self.random.one_in(3) => images::make(self.random.pick(&self.begun)),
            _ => self.new_image(),
        };
        let reference = self.registry.offer(&image);
        if !self.there().contains(&reference) {
            notes::image(&reference, Presence::MayBe);
        }
        self.site.ask(&["pull", "--quiet", &reference]);
        self.is_there(&reference);
    }

    /// For podkeep to find by itself. Put there with care: a torn archive would be another's fault.
    fn drop_into_folder(&mut self) {
        let image = self.new_image();
        let aside = self.site.base().join("aside").join("image");
        fs::write(&aside, image.archive()).unwrap();
        File::open(&aside).unwrap().sync_all().unwrap();
        fs::rename(&aside, self.site.images().join(format!("{}.tar", image.number))).unwrap();
        File::open(self.site.images()).unwrap().sync_all().unwrap();
    }

    /// By its name, unless podkeep says that it is needed. Mostly it has another one, so that nothing goes but a name: no layer whose
    /// removal is synced.
    fn remove(&mut self) {
        let mut there = self.settled();
        let mut unnamed = self.unnamed(&there);
        if !self.random.one_in(4) && unnamed.iter().any(|name| has_another_name(name, &there)) {
            unnamed.retain(|name| has_another_name(name, &there));
        }
        let Some(reference) = self.one_of(&unnamed) else { return };
        notes::image(reference, Presence::MayBe);
        let output = try_ask(self.site, &["rmi", reference]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            there.remove(reference);
            notes::image(reference, Presence::Gone);
        } else {
            assert!(said.contains("is needed by"), "{said}");
            notes::image(reference, Presence::There);
        }
    }

    /// All that no Pod needs.
    fn prune(&mut self) {
        let mut there = self.settled();
        let unnamed = self.unnamed(&there);
        unnamed.iter().for_each(|reference| notes::image(reference, Presence::MayBe));
        ask(self.site, &["prune"]);
        let left = listed_images(self.site);
        for reference in unnamed {
            if left.contains(&reference) {
                notes::image(&reference, Presence::There);
            } else {
                there.remove(&reference);
                notes::image(&reference, Presence::Gone);
            }
        }
        assert!(
            there.iter().all(|reference| left.contains(reference)),
            "a manifest names it, and it was removed"
        );
    }

    /// What is written out is what came in.
    fn save(&mut self) {
        let there: Vec<String> = self.there().iter().cloned().collect();
        let Some(reference) = self.one_of(&there) else { return };
        let file = "/tmp/saved.tar";
        self.site.ask(&["save", reference, "-o", file]);
        let mut archive = tar::Archive::new(File::open(file).unwrap());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            let Ok(name) = path.strip_prefix("blobs/sha256") else { continue };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert_eq!(Path::new(&digest(&bytes)), name);
            blobs += 1;
        }
        assert!(blobs >= 3, "a layer, a configuration and a manifest");
    }

    fn new_image(&mut self) -> MadeImage {
        let image = images::make(self.next);
        notes::begun(self.next);
        self.begun.push(self.next);
        self.next += 1;
        image
    }

    fn is_there(&self, reference: &str) {
        notes::image(reference, Presence::There);
        self.there().insert(reference.to_owned());
    }

    fn there(&self) -> MutexGuard<'a, BTreeSet<String>> {
        self.there.lock().unwrap()
    }

    /// What is there, once podkeep knows of every manifest which image it needs.
    fn settled(&self) -> MutexGuard<'a, BTreeSet<String>> {
        let there = self.there();
        wait_until("podkeep knows the manifests", || pods::are_known(self.site).then_some(()));
        there
    }

    fn one_of<'b>(&mut self, references: &'b [String]) -> Option<&'b str> {
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        (!references.is_empty()).then(|| self.random.pick(&references))
    }

    fn unnamed(&self, there: &BTreeSet<String>) -> Vec<String> {
        let named = pods::named_images(self.site);
        there.iter().filter(|reference| !named.contains(*reference)).cloned().collect()
    }
}

fn has_another_name(reference: &str, there: &BTreeSet<String>) -> bool {
    let number = images::number(reference);
    number.is_some() && there.iter().any(|other| other != reference && images::number(other) == number)
}

/// The archive lies in memory: nothing but podkeep writes to the disk.
pub fn load(site: &Site, archive: &[u8]) {
    let file = Path::new("/tmp/image.tar");
    fs::write(file, archive).unwrap();
    site.ask(&["load", file.to_str().expect("a name of ours")]);
}
