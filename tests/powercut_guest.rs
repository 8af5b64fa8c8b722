//! The guest's part of the power cuts (`powercut.rs`): checks what the last cut left, then works until the next.
//!
//! `set-up` makes the disk that they begin with. Otherwise one boot; without `PODKEEP_CUT` it ends after the checks.

mod harness;
mod powercut_guest {
    pub mod asking;
    pub mod bringing;
    pub mod check;
    pub mod images;
    pub mod listing;
    pub mod notes;
    pub mod pods;
    pub mod registry;
    pub mod store;
    pub mod work;
}
#[path = "simulation/random.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod random;
#[path = "registry/server.rs"]
#[allow(dead_code, reason = "the tests of registries use more of it")]
mod server;

use std::fs;

use rustix::mount::{MountFlags, mount};

use harness::site::sample_image;
use harness::{Node, Options, Site};
use powercut_guest::notes::Notes;
use powercut_guest::store::StoreFolder;
use powercut_guest::{bringing, check, images, pods, work};

const BASE: &str = "/var/lib/powercut";

/// Those that the work brings.
const SAMPLES: [&str; 2] = ["layers", "threads"];

/// The image of a Pod that is there from the beginning, and stays.
const STEADY: u64 = images::SET_UP.start;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("set-up") {
        return set_up();
    }
    let notes = Notes::from_environment();
    let site = site();
    check::the_disk(&site, &notes);
    let expected =
        pods::expected(&site).unwrap_or_else(|damage| panic!("a saved manifest is damaged: {damage}"));
    // Nobody promises that the last one is whole.
    let _ = fs::remove_file(site.node_log());
    let node = Node::start_in(site);
    check::the_node(&node, &notes, &expected);
    let Ok(cut) = std::env::var("PODKEEP_CUT") else { return drop(node.stop()) };
    let seed = std::env::var("PODKEEP_SEED").expect("the other side gives it");
    println!("working");
    work::work(&node, seed.parse().unwrap(), cut.parse().unwrap(), &notes);
}

/// The node's folders. Its run folder is a tmpfs, as on a real machine.
fn site() -> Site {
    let site = Site::new(Options { images: Vec::new(), at: Some(BASE.into()), ..Options::default() });
    fs::create_dir_all(site.run()).unwrap();
    mount("tmpfs", site.run(), "tmpfs", MountFlags::empty(), None).unwrap();
    site
}

/// Lists what the images hold that later boots cannot make anew, and leaves a node that has run before, with one Pod to start.
fn set_up() {
    let scratch = Site::new(Options { images: Vec::new(), ..Options::default() });
    for name in SAMPLES {
        scratch.ask(&["load", sample_image(name).to_str().unwrap()]);
    }
    StoreFolder(scratch.root().join("images")).keep_listings();
    drop(scratch);

    let node = Node::start_in(site());
    images::SET_UP.for_each(|number| bringing::load(&node, &images::make(number).archive()));
    let site = node.stop();
    pods::place(&site, "steady", &pods::manifest("steady", &images::reference(STEADY), 0), true);
}
