//! Images that the node removes by itself, and those that it keeps.
//!
//! Run with `scripts/vm test guest_clean_up`; anywhere else these tests fail.

mod harness;

use harness::manifest::job;
use harness::site::{Site, sample_image};
use harness::{Node, Options, wait_until};

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
