//! The way of a node in the field: a registry with a certificate of its owner's authority and a password, and images for many platforms.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::builder::{INDEX, Layer, Layout, architecture, gzip};
use super::harness::site::{Site, sample_image};
use super::harness::{Node, Options};
use super::registry::{RIGHT, Registry, docker_config};
use super::{pod, pod_with_secret};

/// A layer, compressed and not.
type Tar = (Vec<u8>, Vec<u8>);

/// The layer of the sample image, which umoci has made.
fn busybox() -> Tar {
    let mut layout = sample_image("busybox");
    layout.set_extension("");
    let read = |digest: &Value| {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::read(layout.join("blobs/sha256").join(digest)).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&read(&index["manifests"][0]["digest"])).unwrap();
    let blob = read(&manifest["layers"][0]["digest"]);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut plain).unwrap();
    (blob, plain)
}

fn layer(number: &str) -> Tar {
    let plain = Layer::new().file("number", number).finish();
    (gzip(&plain), plain)
}

/// An index of what is for another machine, of what only newer processors run, and last of what is for this one.
fn index_of(layout: &Layout, right: &[Tar]) -> Value {
    let entry = |layers: &[Tar], architecture: &str, variant: Option<&str>| {
        let mut manifest = layout.image_for(layers, json!({"Env": ["PATH=/bin"]}), architecture);
        manifest["platform"] = json!({"os": "linux", "architecture": architecture, "variant": variant});
        manifest
    };
    let own = architecture();
    let wrong = [layer("wrong")];
    let manifests = [entry(&wrong, "s390x", None), entry(&wrong, own, Some("v99")), entry(right, own, None)];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    layout.typed_blob(INDEX, index.to_string().as_bytes())
}

/// A small image and one of twenty layers.
fn layout(at: &Path) -> PathBuf {
    let mut layout = Layout::at(at);
    let small = [busybox(), layer("small")];
    layout.name("small", index_of(&layout, &small));
    let others = (1..20).map(|number| layer(&number.to_string()));
    let twenty: Vec<Tar> = std::iter::once(busybox()).chain(others).collect();
    layout.name("team/twenty", index_of(&layout, &twenty));
    layout.write()
}

#[test]
fn images_for_many_platforms_come_over_tls_with_a_pods_secret_and_with_the_nodes_password() {
    let mut registry = Registry::new();
    registry.start();
    let layout = layout(&registry.dir.path().join("layout"));
    registry.push_from(&layout, "small");
    registry.push_from(&layout, "team/twenty");
    registry.lock_with_tls();

    let site = Site::new(Options { images: Vec::new(), ..Options::default() });
    site.trust(&registry.name(), &registry.authority());
    // The node is let in for one team's images only: for the others it needs the Pod's Secret.
    fs::create_dir_all(site.root()).unwrap();
    let password = docker_config(&registry.reference("team"), RIGHT);
    fs::write(site.root().join("config.json"), password).unwrap();
    let node = Node::start_in(site);
    node.manifest("secret.yaml", &registry.secret(RIGHT));
    let small = registry.reference("small");
    node.manifest("small.yaml", &pod_with_secret("small", &small, "IfNotPresent"));
    node.manifest("twenty.yaml", &pod("twenty", &registry.reference("team/twenty"), "IfNotPresent", 1));
    for (pod, number) in [("small", "small"), ("twenty", "19")] {
        node.wait_running(pod, "main0");
        assert_eq!(node.ask(&["exec", pod, "--", "cat", "/number"]), number);
    }
    // Two indexes and two manifests, two configurations, and the layers: busybox, which both have, a small one, and nineteen.
    let requests = registry.requests();
    let asked = |part: &str| {
        let gotten = requests.iter().filter(|asked| asked.starts_with("GET") && asked.contains(part));
        gotten.collect::<BTreeSet<_>>().len()
    };
    assert_eq!((asked("/manifests/"), asked("/blobs/")), (4, 23), "{requests:#?}");
}
