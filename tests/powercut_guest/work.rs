//! What is going on when the power goes: images come and go, Pods come, change and go, containers die.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::asking;
use super::bringing::{self, Images, There};
use super::images;
use super::notes::Notes;
use super::pods;
use crate::harness::{self, Node, Site};
use crate::random::Random;

/// Nobody waits as long with a cut.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Works until the power goes.
pub fn work(node: &Node, seed: u64, cut: u64, notes: &Notes) {
    let there = bringing::there(notes);
    thread::scope(|scope| {
        let (site, there): (&Site, &There) = (node, &there);
        let images = scope.spawn(move || bring_images(site, seed, cut, notes, there));
        let mut random = Random::new(!seed);
        let mut pods = PodsAtWork { node, version: random.below(1 << 40), random, there };
        let begin = Instant::now();
        while !images.is_finished() {
            assert!(begin.elapsed() < TOO_LONG, "the power did not go");
            pods.change_one();
        }
    });
}

fn bring_images(site: &Site, seed: u64, cut: u64, notes: &Notes, there: &There) {
    let mut pauses = Random::new(seed ^ 1);
    let mut images = Images::new(site, Random::new(seed), cut * 100, notes, there);
    loop {
        images.bring_or_remove_one();
        thread::sleep(Duration::from_millis(pauses.below(200)));
    }
}

struct PodsAtWork<'a> {
    node: &'a Node,
    random: Random,
    there: &'a There,
    /// Another one with every manifest: the same content would be the same Pod.
    version: u64,
}

impl PodsAtWork<'_> {
    fn change_one(&mut self) {
        let name = self.random.pick(&pods::NAMES);
        match self.random.below(8) {
            0 => drop(fs::remove_file(pods::file_of(self.node, name))),
            1 => kill(self.node, name),
            way => self.place(name, way % 2 == 0),
        }
        thread::sleep(Duration::from_millis(self.random.below(500)));
    }

    /// A manifest of an image that is there, and stays until podkeep knows that it is needed.
    fn place(&mut self, name: &str, with_care: bool) {
        let there = self.there.lock().unwrap();
        let made = there.iter().map(String::as_str).filter(|name| images::number(name).is_some());
        let made: Vec<&str> = made.collect();
        if made.is_empty() {
            return;
        }
        self.version += 1;
        let manifest = pods::manifest(name, self.random.pick(&made), self.version);
        pods::place(self.node, name, &manifest, with_care);
    }
}

/// Ends a container, if it runs, from outside.
fn kill(node: &Node, name: &str) {
    let list = asking::list(node);
    let pid = list.pod(name).and_then(|pod| pod.container("main")?.running_pid());
    pid.into_iter().for_each(|pid| harness::kill(pid, Signal::KILL));
}
