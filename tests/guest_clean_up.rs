//! Images that the node removes by itself, and those that it keeps.
//!
//! Run with `scripts/vm test guest_clean_up`; anywhere else these tests fail.

mod harness;

use std::time::Duration;

use harness::manifest::job;
use harness::site::{Site, sample_image};
use harness::{Node, Options, wait_until};
use podkeep::image::{Keep, Policy, Store};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// A Pod that runs from an image with a shell.
fn sleeper(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: main, image: \"{image}\", command: [sleep, \"1000\"]}}]\n"
    )
}

fn load(site: &Site, sample: &str) {
    site.ask(&["load", sample_image(sample).to_str().unwrap()]);
}

fn await_removal(node: &Node, image: &str) -> String {
    wait_until("the image is removed", || {
        let images = node.ask(&["images"]);
        (!images.contains(image)).then_some(images)
    })
}

/// Who uses an image, by `podkeep images -o json`.
fn used_by(node: &Node, image: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&node.ask(&["images", "-o", "json"])).unwrap();
    let images = list["images"].as_array().unwrap();
    let found = images.iter().find(|one| one["repoTags"][0] == image).expect("the image is there");
    serde_json::from_value(found["usedBy"].clone()).unwrap()
}

#[test]
fn a_full_disk_costs_images_that_nobody_needs_and_no_others() {
    let config = "imageGCHighThresholdPercent: 1\nimageGCLowThresholdPercent: 0\nimageMinimumGCAge: 0s\n\
                  fileCheckFrequency: 1s\n";
    let site = Site::new(Options { images: vec!["busybox"], config, ..Options::default() });
    for sample in ["layers", "redis", "threads"] {
        load(&site, sample);
    }
    site.manifest("web.yaml", &sleeper("web", "layers:1"));
    // It has ended, and may be run again.
    site.manifest("done.yaml", &job("done", "true").replace("busybox:1.35", "threads:1"));
    let node = Node::start_in(site);
    let pid = node.wait_running("web", "main");
    let images = await_removal(&node, "redis");
    for kept in ["busybox:1.35", "layers:1", "threads:1"] {
        assert!(images.contains(kept), "{kept}: {images}");
    }
    assert_eq!(node.wait_running("web", "main"), pid);
    assert_eq!(used_by(&node, "layers:1"), ["default/web-node1"]);
    assert_eq!(node.ask(&["prune", "--dry-run"]), "would free 0B\n");
    wait_until("the log says so", || {
        let log = node.node_log_text();
        (log.contains("removed image") && log.contains("is too full")).then_some(())
    });
    assert_eq!(node.ask(&["images", "--verify"]), "every image is whole\n");
}

#[test]
fn an_image_that_has_been_unused_for_too_long_goes_and_one_that_was_just_used_stays() {
    let config = "imageGCHighThresholdPercent: 100\nimageMinimumGCAge: 0s\nimageMaximumGCAge: 1s\n\
                  fileCheckFrequency: 1s\n";
    let site = Site::new(Options { images: Vec::new(), config, ..Options::default() });
    for sample in ["layers", "busybox"] {
        load(&site, sample);
    }
    let node = Node::start_in(site);
    node.manifest("old.yaml", &sleeper("old", "layers:1"));
    node.manifest("web.yaml", &sleeper("web", "busybox:1.35"));
    node.wait_running("old", "main");
    node.wait_running("web", "main");
    node.remove("old.yaml");
    node.wait_gone("old");
    // The clean-up of the next life knows when it was used last.
    let node = Node::start_in(node.stop());
    let images = await_removal(&node, "layers:1");
    assert!(images.contains("busybox:1.35"), "{images}");
    node.wait_running("web", "main");
}

/// Nodes without a battery for their clock start in the past, and leap when they hear the time.
#[test]
fn a_wall_clock_that_jumps_years_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.import(&sample_image("busybox")).unwrap();
    let id = store.list().unwrap().remove(0).id;
    store.mark_used(&[id]).unwrap();
    let hour = Duration::from_secs(3600);
    let policy = Policy { minimum_age: hour, maximum_age: Some(hour), thresholds: Some((0, 0)) };
    let now = clock_gettime(ClockId::Realtime);
    let year = 365 * 24 * 3600;
    for years in [10, -20, 0] {
        let tv_sec = now.tv_sec + years * year;
        clock_settime(ClockId::Realtime, Timespec { tv_sec, ..now }).unwrap();
        assert_eq!(store.clean(&policy, &Keep::default(), false).unwrap().images, [], "{years} years");
    }
    let young = Policy { minimum_age: Duration::ZERO, ..policy };
    assert_eq!(store.clean(&young, &Keep::default(), false).unwrap().images.len(), 1, "it could have gone");
}
