//! Images that the node pulls from Debian's `docker-registry`, and what it does when that is gone, silent or of another mind.
//!
//! Run with `scripts/vm test guest_pull`; anywhere else these tests fail.
//! Guest: --root debian

#[path = "guest_pull/at_once.rs"]
mod at_once;
#[path = "images/builder.rs"]
#[allow(dead_code, reason = "another test's builder")]
mod builder;
#[path = "registry/certificates.rs"]
mod certificates;
#[path = "registry/gate.rs"]
mod gate;
mod harness;
#[path = "guest_pull/real_parts.rs"]
mod real_parts;
#[path = "guest_pull/registry.rs"]
mod registry;
#[path = "registry/site.rs"]
#[allow(dead_code, reason = "another test's images")]
mod registry_site;
#[path = "registry/server.rs"]
#[allow(dead_code, reason = "another test's server")]
mod server;

use std::fs;

use harness::{Node, Options, is_written, wait_until};
use registry::{RIGHT, Registry, WRONG, listener};
use rustix::process::Signal;

fn node() -> Node {
    Node::start(Options { images: Vec::new(), ..Options::default() })
}

/// A Pod of containers `main0`, `main1`, … of one image.
fn pod(name: &str, image: &str, policy: &str, containers: usize) -> String {
    let container = |number| {
        format!(
            "  - {{name: main{number}, image: \"{image}\", imagePullPolicy: {policy}, command: [sleep, \"1000\"]}}\n"
        )
    };
    let containers: String = (0..containers).map(container).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n{containers}"
    )
}

/// Waits until `main0` waits for this reason; what is said of it.
fn wait_waiting(node: &Node, pod: &str, reason: &str) -> String {
    node.wait_for(reason, |list| {
        let main = list.pod(pod)?.container("main0")?;
        (main.waiting()? == reason).then(|| main.message().to_owned())
    })
}

/// Waits until `main0` waits and this is part of the reason; all that is said of it.
fn wait_message(node: &Node, pod: &str, part: &str) -> String {
    node.wait_for(part, |list| {
        let main = list.pod(pod)?.container("main0")?;
        (main.waiting().is_some() && main.message().contains(part)).then(|| main.message().to_owned())
    })
}

/// Kills what runs in `main0`, and waits for the next run.
fn run_again(node: &Node, pod: &str) {
    let restarts = |node: &Node| node.list().pod(pod).unwrap().container("main0").unwrap().restarts();
    let before = restarts(node);
    harness::kill(node.wait_running(pod, "main0"), Signal::KILL);
    node.wait_for("the next run", |list| {
        let main = list.pod(pod)?.container("main0")?;
        (main.restarts() > before && main.running_pid().is_some()).then_some(())
    });
}

fn image_id(node: &Node, pod: &str) -> String {
    node.list().pod(pod).unwrap().container("main0").unwrap().status["imageID"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_store_lacks_is_pulled_once_for_all_that_want_it() {
    let (registry, node) = (Registry::with_busybox(), node());
    let image = registry.reference("busybox:1");
    node.manifest("one.yaml", &pod("one", &image, "IfNotPresent", 2));
    node.manifest("two.yaml", &pod("two", &image, "Always", 1));
    for (pod, container) in [("one", "main0"), ("one", "main1"), ("two", "main0")] {
        node.wait_running(pod, container);
    }
    let requests = registry.requests();
    let fetched = requests.iter().filter(|asked| asked.starts_with("GET") && asked.contains("/blobs/"));
    assert_eq!(fetched.count(), 2, "one layer and one configuration: {requests:#?}");
    assert!(node.ask(&["images"]).contains(&image));
    // What is there already costs no request.
    registry.forget_requests();
    node.manifest("three.yaml", &pod("three", &image, "IfNotPresent", 1));
    node.wait_running("three", "main0");
    assert_eq!(registry.requests(), Vec::<String>::new());
}

#[test]
fn an_image_that_cannot_be_pulled_is_waited_for_until_it_is_loaded() {
    let (mut registry, node) = (Registry::with_busybox(), node());
    let image = registry.reference("busybox:1");
    let archive = node.base().join("busybox.tar");
    node.ask(&["pull", "--quiet", &image]);
    node.ask(&["save", &image, "-o", archive.to_str().unwrap()]);
    node.ask(&["rmi", &image]);
    registry.stop();
    node.manifest("web.yaml", &pod("web", &image, "IfNotPresent", 1));
    let first = wait_waiting(&node, "web", "ErrImagePull");
    let later = wait_waiting(&node, "web", "ImagePullBackOff");
    for message in [first, later] {
        assert!(message.starts_with(&format!("pull {image}: ")), "{message}");
        assert!(message.contains("onnection refused"), "{message}");
    }
    assert!(node.ask(&["ps", "--all"]).contains("ImagePullBackOff"));
    node.ask(&["load", archive.to_str().unwrap()]);
    node.wait_running("web", "main0");
}

#[test]
fn always_asks_at_each_start_and_takes_what_is_newer() {
    let (registry, node) = (Registry::with_busybox(), node());
    let image = registry.reference("busybox:1");
    node.manifest("web.yaml", &pod("web", &image, "Always", 1));
    node.wait_running("web", "main0");
    let first = image_id(&node, "web");
    registry.forget_requests();
    run_again(&node, "web");
    assert_eq!(registry.requests(), ["HEAD /v2/busybox/manifests/1"]);
    assert_eq!(image_id(&node, "web"), first);

    registry.push("nginx", "busybox:1");
    harness::kill(node.wait_running("web", "main0"), Signal::KILL);
    node.wait_for("the newer image", |list| {
        let id = list.pod("web")?.container("main0")?.status["imageID"].as_str()?.to_owned();
        (id != first).then_some(())
    });
}

#[test]
fn always_runs_from_the_store_when_the_registry_is_gone_and_when_it_refuses_only_from_the_image_folder() {
    let (mut registry, node) = (Registry::with_busybox(), node());
    let image = registry.reference("busybox:1");
    node.manifest("web.yaml", &pod("web", &image, "Always", 1));
    node.wait_running("web", "main0");
    registry.stop();
    run_again(&node, "web");
    let log = node.node_log_text();
    assert!(log.contains("starting from the image that is in the store"), "{log}");
    assert!(log.contains(&format!("pull {image}: ")) && log.contains("onnection refused"), "{log}");
    node.remove("web.yaml");
    node.wait_gone("web");

    // It takes connections and is silent.
    let silent = listener(registry.port);
    node.manifest("web.yaml", &pod("web", &image, "Always", 1));
    node.wait_running("web", "main0");
    drop(silent);
    node.remove("web.yaml");
    node.wait_gone("web");

    fs::remove_dir_all(registry.data()).unwrap();
    registry.start();
    node.manifest("web.yaml", &pod("web", &image, "Always", 1));
    let message = wait_waiting(&node, "web", "ErrImagePull");
    assert!(message.contains("does not have"), "{message}");

    // Whoever put it there has decided (ADR 14), for as long as it lies there.
    let (archive, place) = (node.base().join("busybox.tar"), node.images().join("busybox.tar"));
    node.ask(&["save", &image, "-o", archive.to_str().unwrap()]);
    fs::rename(&archive, &place).unwrap();
    node.wait_running("web", "main0");
    run_again(&node, "web");
    fs::remove_file(&place).unwrap();
    harness::kill(node.wait_running("web", "main0"), Signal::KILL);
    wait_message(&node, "web", "does not have");
}

#[test]
fn never_asks_no_registry() {
    let (registry, node) = (Registry::with_busybox(), node());
    let image = registry.reference("busybox:1");
    node.manifest("web.yaml", &pod("web", &image, "Never", 1));
    let message = wait_waiting(&node, "web", "ErrImageNeverPull");
    assert!(message.contains(&image) && message.contains("podkeep pull"), "{message}");
    assert_eq!(registry.requests(), Vec::<String>::new());
    node.ask(&["pull", "--quiet", &image]);
    node.wait_running("web", "main0");
}

#[test]
fn a_pod_that_is_removed_ends_its_pull() {
    let registry = Registry::new();
    let config = "serializeImagePulls: false\n";
    let node = Node::start(Options { images: Vec::new(), config, ..Options::default() });
    let _silent = listener(registry.port);
    let image = registry.reference("busybox:1");
    node.manifest("one.yaml", &pod("one", &image, "IfNotPresent", 1));
    node.manifest("two.yaml", &pod("two", &image, "IfNotPresent", 1));
    wait_until("the pull has begun", || node.node_log_text().contains("pulling image").then_some(()));
    node.wait_for("both Pods", |list| list.pod("one").and(list.pod("two")).map(|_| ()));
    node.remove("one.yaml");
    node.wait_gone("one");
    assert!(!node.node_log_text().contains("nobody waits"), "the other one does");
    node.remove("two.yaml");
    node.wait_gone("two");
    let log = node.node_log_text();
    assert!(log.contains("nobody waits") && log.matches("pulling image").count() == 1, "{log}");
}

/// [`pod`] with `imagePullSecrets`.
fn pod_with_secret(name: &str, image: &str, policy: &str) -> String {
    pod(name, image, policy, 1).replace("spec:\n", "spec:\n  imagePullSecrets: [{name: regcred}]\n")
}

#[test]
fn a_secret_opens_a_registry_and_is_written_nowhere() {
    let (registry, node) = (Registry::locked(), node());
    let image = registry.reference("busybox:1");
    node.manifest("secret.yaml", &registry.secret(RIGHT));
    node.manifest("web.yaml", &pod_with_secret("web", &image, "Always"));
    node.wait_running("web", "main0");
    run_again(&node, "web");
    // Who is not let in does not run from what another one's Secret brought, when asked to ask.
    node.manifest("other.yaml", &pod("other", &image, "Always", 1));
    let message = wait_waiting(&node, "other", "ErrImagePull");
    assert!(message.contains("none are known for it"), "{message}");
    node.remove("web.yaml");
    node.wait_gone("web");

    let manifest = node.manifests().join("secret.yaml");
    assert!(is_written(&node.manifests(), &[RIGHT]), "what is looked for can be found");
    let site = node.stop();
    fs::remove_file(manifest).unwrap();
    assert!(!is_written(site.base(), &[RIGHT, "sesame"]));
}

#[test]
fn a_pod_waits_for_its_secret_and_starts_when_the_right_one_comes() {
    let (registry, node) = (Registry::locked(), node());
    let image = registry.reference("busybox:1");
    node.manifest("web.yaml", &pod_with_secret("web", &image, "IfNotPresent"));
    let message = wait_waiting(&node, "web", "ErrImagePull");
    assert!(message.contains("Secret default/regcred of imagePullSecrets is not there"), "{message}");
    // Of the back-off, the second step is the longer one: it would outlast the test's patience.
    node.manifest("secret.yaml", &registry.secret(WRONG));
    let message = wait_message(&node, "web", "check the credentials");
    assert!(!message.contains("is not there") && !message.contains("wrong"), "{message}");
    node.manifest("secret.yaml", &registry.secret(RIGHT));
    node.wait_running("web", "main0");
}

#[test]
fn pulls_with_different_secrets_are_told_apart() {
    let (registry, node) = (Registry::locked(), node());
    let image = registry.reference("busybox:1");
    let of_team = |text: String| text.replace("metadata: {", "metadata: {namespace: team, ");
    node.manifest(
        "open.yaml",
        &format!("{}\n---\n{}", registry.secret(RIGHT), pod_with_secret("web", &image, "Always")),
    );
    node.manifest("closed.yaml", &of_team(pod_with_secret("closed", &image, "Always")));
    node.wait_running("web", "main0");
    // It fails before the image is there, and again when it has come.
    wait_message(&node, "closed", "Secret team/regcred of imagePullSecrets is not there");
}
