//! What is going on when the power goes: images come, Pods come, change and go, containers die.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::images;
use super::notes::{self, Notes};
use super::pods;
use crate::harness::site::sample_image;
use crate::harness::{self, Node, Site};
use crate::random::Random;

/// Nobody waits as long with a cut.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Small ones: the others would take the emulated machine longer than most cuts leave it.
const SAMPLES: [(&str, &str); 2] = [("layers", "layers:1"), ("threads", "threads:1")];

/// How an image comes to the node.
#[derive(Clone, Copy)]
enum Way {
    Load,
    Folder,
}

/// Works until the power goes.
pub fn work(node: &Node, seed: u64, cut: u64, notes: &Notes) {
    let (arrived, arrivals) = channel();
    thread::scope(|scope| {
        let site: &Site = node;
        let images = scope.spawn(move || bring_images(site, Random::new(seed), cut, notes, &arrived));
        let mut pods = PodsAtWork::new(node, Random::new(!seed), notes);
        let begin = Instant::now();
        while !images.is_finished() {
            assert!(begin.elapsed() < TOO_LONG, "the power did not go");
            pods.change_one(&arrivals);
        }
    });
}

fn bring_images(site: &Site, mut random: Random, cut: u64, notes: &Notes, arrived: &Sender<u64>) {
    let mut samples = SAMPLES.to_vec();
    samples.retain(|(_, reference)| !notes.loaded.contains(*reference));
    for number in cut * 100.. {
        if let Some((name, reference)) = samples.pop().filter(|_| random.one_in(3)) {
            site.ask(&["load", sample_image(name).to_str().expect("a name of ours")]);
            notes::loaded(reference);
        }
        let image = images::make(number);
        notes::begun(number);
        match random.pick(&[Way::Load, Way::Load, Way::Folder]) {
            Way::Load => {
                load(site, &image.archive());
                notes::loaded(&image.reference);
                // The Pods' side ends with the machine.
                let _ = arrived.send(number);
            }
            Way::Folder => drop_into_folder(site, number, &image.archive()),
        }
        thread::sleep(Duration::from_millis(random.below(200)));
    }
}

/// The archive lies in memory: nothing but podkeep writes to the disk.
pub fn load(site: &Site, archive: &[u8]) {
    let file = Path::new("/tmp/image.tar");
    fs::write(file, archive).unwrap();
    site.ask(&["load", file.to_str().expect("a name of ours")]);
}

/// For podkeep to find by itself. Put there with care: a torn archive would be another's fault.
fn drop_into_folder(site: &Site, number: u64, archive: &[u8]) {
    let aside = site.base().join("aside").join("image");
    fs::write(&aside, archive).unwrap();
    File::open(&aside).unwrap().sync_all().unwrap();
    fs::rename(&aside, site.images().join(format!("{number}.tar"))).unwrap();
    File::open(site.images()).unwrap().sync_all().unwrap();
}

struct PodsAtWork<'a> {
    node: &'a Node,
    random: Random,
    /// Images that a Pod can have.
    images: Vec<u64>,
    /// Another one with every manifest: the same content would be the same Pod.
    version: u64,
}

impl<'a> PodsAtWork<'a> {
    fn new(node: &'a Node, mut random: Random, notes: &Notes) -> PodsAtWork<'a> {
        let numbers = notes.loaded.iter().filter_map(|name| name.strip_prefix("made:")?.parse().ok());
        let mut images: Vec<u64> = numbers.collect();
        images.sort_unstable();
        PodsAtWork { node, version: random.below(1 << 40), random, images }
    }

    fn change_one(&mut self, arrivals: &Receiver<u64>) {
        self.images.extend(arrivals.try_iter());
        let name = self.random.pick(&pods::NAMES);
        match self.random.below(8) {
            0 => drop(fs::remove_file(pods::file_of(self.node, name))),
            1 => kill(self.node, name),
            _ if self.images.is_empty() => {}
            way => {
                self.version += 1;
                let manifest = pods::manifest(name, self.random.pick(&self.images), self.version);
                pods::place(self.node, name, &manifest, way % 2 == 0);
            }
        }
        thread::sleep(Duration::from_millis(self.random.below(500)));
    }
}

/// Ends a container, if it runs, from outside.
fn kill(node: &Node, name: &str) {
    let list = node.list();
    let pid = list.pod(name).and_then(|pod| pod.container("main")?.running_pid());
    pid.into_iter().for_each(|pid| harness::kill(pid, Signal::KILL));
}
