//! What is known of the boots before. It goes out through a virtio port and comes back with the next boot, so
//! that nothing is written to the disk, and no write to it made to last, for the sake of the test.

use std::collections::{HashMap, HashSet};

/// Images that this boot or one before it brought, and what a Pod had reached when it was last looked at.
#[derive(Debug, Default)]
pub struct Notes {
    /// Begun: may be there, wholly or not at all.
    pub begun: HashSet<u64>,
    /// Loaded, as podkeep said: must be there.
    pub loaded: HashSet<String>,
    /// By uid: restarts that were saved, and lines of its emptyDir that were synced.
    pub reached: HashMap<String, Reached>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    pub restarts: u64,
    pub lines: usize,
}

impl Notes {
    pub fn from_environment() -> Notes {
        let mut notes = Notes::default();
        let text = std::env::var("PODKEEP_NOTES").expect("the other side gives it");
        text.lines().for_each(|line| notes.read(line));
        notes
    }

    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["begun", number] => drop(self.begun.insert(number.parse().expect("a number"))),
            ["loaded", reference] => drop(self.loaded.insert(reference.to_owned())),
            ["reached", uid, restarts, lines] => {
                let restarts = restarts.parse().expect("a number");
                let reached = Reached { restarts, lines: lines.parse().expect("a number") };
                self.reached.insert(uid.to_owned(), reached);
            }
            _ => panic!("no such note: {line}"),
        }
    }
}

pub fn begun(number: u64) {
    println!("note begun {number}");
}

pub fn loaded(reference: &str) {
    println!("note loaded {reference}");
}

pub fn reached(uid: &str, Reached { restarts, lines }: Reached) {
    println!("note reached {uid} {restarts} {lines}");
}
