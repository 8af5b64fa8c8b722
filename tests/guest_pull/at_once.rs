//! How many images a node fetches at a time: a registry answers nobody until all who may ask have asked, and the test has looked.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::builder::Layer;
use super::gate::Gate;
use super::harness::{Node, Options, wait_until};
use super::pod;
use super::registry_site::{Served, missing};
use super::server::{Request, Server};

const IMAGES: [&str; 3] = ["one", "two", "three"];

/// `one` of `/v2/one/manifests/1`
fn name_of(request: &Request) -> String {
    request.path.split('/').nth(2).unwrap().to_owned()
}

/// Wants three images, of which the node with this configuration must ask for so many and no more.
fn assert_at_once(config: &'static str, expected: usize) {
    let gate = Arc::new(Gate::of(expected + 1));
    let at_server = gate.clone();
    let served = IMAGES.map(|name| (name, Served::of_layers(&[Layer::new().file(name, "").finish()])));
    let server = Server::start(move |request| {
        let name = name_of(request);
        let image = served.iter().find(|(own, _)| *own == name);
        if at_server.pass(&name) { image.unwrap().1.answer(request) } else { missing() }
    });
    let node = Node::start(Options { config, ..Options::default() });
    let asked = || server.asked("").iter().map(name_of).collect::<BTreeSet<_>>().len();
    for name in IMAGES {
        let image = server.reference(&format!("{name}:1"));
        node.manifest(&format!("{name}.yaml"), &pod(name, &image, "IfNotPresent", 1));
    }
    wait_until("images are asked for", || (asked() >= expected).then_some(()));
    node.wait_for("every Pod", |list| IMAGES.iter().all(|name| list.pod(name).is_some()).then_some(()));
    // When this one has come all the way, the others have come as far as they can.
    node.manifest("local.yaml", &pod("local", "busybox:1.35", "Never", 1));
    node.wait_running("local", "main0");
    assert_eq!(asked(), expected, "{:#?}", server.asked(""));
    assert!(gate.pass("the test"));
    wait_until("all are there", || {
        let images = node.ask(&["images"]);
        IMAGES.iter().all(|name| images.contains(&server.reference(name))).then_some(())
    });
}

#[test]
fn images_are_fetched_one_by_one_if_nothing_is_said() {
    assert_at_once("", 1);
}

#[test]
fn all_images_are_fetched_at_once_without_serialize_image_pulls() {
    assert_at_once("serializeImagePulls: false\n", IMAGES.len());
}

#[test]
fn no_more_than_max_parallel_image_pulls_are_fetched_at_once() {
    assert_at_once("serializeImagePulls: false\nmaxParallelImagePulls: 2\n", 2);
}
