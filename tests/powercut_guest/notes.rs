//! What is known of the boots before. It goes out through a virtio port and comes back with the next boot, so
//! that nothing is written to the disk, and no write to it made to last, for the sake of the test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::images;

/// Images that this boot or one before it brought, and what a Pod had reached when it was last looked at.
#[derive(Debug)]
pub struct Notes {
    /// Numbers of images that somebody began to bring: their layers may be there, wholly or not at all.
    pub begun: BTreeSet<u64>,
    /// By reference.
    pub images: BTreeMap<String, Presence>,
    /// By uid: restarts that were saved, and what was synced of its emptyDir.
    pub reached: HashMap<String, Reached>,
    /// By the Pod's name: the version of its manifest that podkeep had saved for good; `None` where it had forgotten it.
    pub saved: HashMap<String, Option<String>>,
    /// By the Pod's name: its `survival.json`, which lasts, and the restarts in it.
    pub survives: HashMap<String, (String, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// podkeep said that it has brought it.
    There,
    /// podkeep was bringing or removing it.
    MayBe,
    /// podkeep said that it has removed it.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    pub restarts: u64,
    /// Bytes of the file in its emptyDir, and their digest.
    pub length: usize,
    pub digest: String,
}

impl Notes {
    pub fn from_environment() -> Notes {
        let mut notes = Notes::of_the_first_boot();
        let text = std::env::var("PODKEEP_NOTES").expect("the other side gives it");
        text.lines().for_each(|line| notes.read(line));
        notes
    }

    /// What the disk is set up with.
    fn of_the_first_boot() -> Notes {
        let there = images::SET_UP.flat_map(images::names).map(|name| (name, Presence::There));
        let (begun, images) = (images::SET_UP.collect(), there.collect());
        Notes { begun, images, reached: HashMap::new(), saved: HashMap::new(), survives: HashMap::new() }
    }

    /// The references that have to be there, or must not be.
    pub fn images(&self, presence: Presence) -> impl Iterator<Item = &String> {
        self.images.iter().filter(move |(_, is)| **is == presence).map(|(reference, _)| reference)
    }

    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["begun", number] => drop(self.begun.insert(number.parse().expect("a number"))),
            ["image", reference, word] => {
                let presences = [Presence::There, Presence::MayBe, Presence::Gone];
                let presence = presences.into_iter().find(|presence| presence.word() == word);
                self.images.insert(reference.to_owned(), presence.expect("one of them"));
            }
            ["reached", uid, restarts, length, digest] => {
                let number = |word: &str| word.parse().expect("a number");
                let (restarts, length) = (number(restarts), number(length) as usize);
                let reached = Reached { restarts, length, digest: digest.to_owned() };
                self.reached.insert(uid.to_owned(), reached);
            }
            ["saved", name, version] => drop(self.saved.insert(name.to_owned(), Some(version.to_owned()))),
            ["forgotten", name] => drop(self.saved.insert(name.to_owned(), None)),
            ["survives", name, path, restarts] => {
                let survival = (path.to_owned(), restarts.parse().expect("a number"));
                self.survives.insert(name.to_owned(), survival);
            }
            ["changing", name] => {
                self.saved.remove(name);
                self.survives.remove(name);
            }
            _ => panic!("no such note: {line}"),
        }
    }
}

impl Presence {
    fn word(self) -> &'static str {
        match self {
            Presence::There => "there",
            Presence::MayBe => "may-be",
            Presence::Gone => "gone",
        }
    }
}

pub fn begun(number: u64) {
    println!("note begun {number}");
}

pub fn image(reference: &str, presence: Presence) {
    println!("note image {reference} {}", presence.word());
}

pub fn reached(uid: &str, Reached { restarts, length, digest }: &Reached) {
    println!("note reached {uid} {restarts} {length} {digest}");
}

/// What podkeep keeps of this manifest, for good.
pub fn saved(name: &str, version: Option<&str>) {
    match version {
        Some(version) => println!("note saved {name} {version}"),
        None => println!("note forgotten {name}"),
    }
}

/// The restarts that are saved of a Pod, for good.
pub fn survives(name: &str, path: &Path, restarts: u64) {
    println!("note survives {name} {} {restarts}", path.display());
}

/// Nobody knows any more what podkeep keeps of this manifest.
pub fn changing(name: &str) {
    println!("note changing {name}");
}
