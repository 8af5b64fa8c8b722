//! What is going on when the power goes: images come and go, Pods come, change and go, containers die.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::asking;
use super::bringing::{self, Images, There};
use super::images;
use super::notes::{self, Notes};
use super::pods;
use super::store::whole_json;
use crate::harness::{self, Node, Site, process, wait_until};
use crate::random::Random;

/// Nobody waits as long with a cut.
const TOO_LONG: Duration = Duration::from_secs(120);

/// A thread of podkeep that does what is slow. It ends when nothing is left to do.
const TASK: &str = "podkeep-task";

/// Works until the power goes.
pub fn work(node: &Node, seed: u64, cut: u64, notes: &Notes) {
    let there = bringing::there(notes);
    // Files that the cut took back have been read anew.
    pods::NAMES.into_iter().for_each(notes::changing);
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
            0 => self.remove(name),
            1 => kill(self.node, name),
            way => self.place(name, way % 2 == 0),
        }
        if self.random.one_in(4) {
            self.see_saved(name);
        }
        thread::sleep(Duration::from_millis(self.random.below(500)));
    }

    fn remove(&self, name: &str) {
        notes::changing(name);
        let _ = fs::remove_file(pods::file_of(self.node, name));
    }

    /// Waits until podkeep has saved or forgotten the manifest as it is now, and synced that: no thread has anything to do. The same of
    /// the Pod's restarts, if they are saved already.
    fn see_saved(&self, name: &str) {
        let Ok(version) = pods::version_in_folder(self.node, name) else { return };
        wait_until("podkeep has saved a manifest", || {
            let is_saved = pods::saved_version(self.node, name).is_ok_and(|saved| saved == version);
            (is_saved && self.is_at_rest()).then_some(())
        });
        notes::saved(name, version.as_deref());
        let Some(path) = version.and_then(|version| pods::survival(self.node, name, &version)) else {
            return;
        };
        if let Ok(saved) = whole_json(&path)
            && self.is_at_rest()
        {
            notes::survives(name, &path, pods::restarts_in(&saved));
        }
    }

    fn is_at_rest(&self) -> bool {
        self.node.worker().is_some_and(|worker| process::threads(worker).iter().all(|thread| thread != TASK))
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
        notes::changing(name);
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
