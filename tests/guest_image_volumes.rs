//! Images as volumes: what a container sees of them, how they come, and how long they stay.
//!
//! Run with `scripts/vm test guest_image_volumes`; anywhere else these tests fail.

#[path = "images/builder.rs"]
#[allow(dead_code)]
mod builder;
mod harness;

use std::fs;

use builder::{Layer, Layout, MANIFEST};
use harness::manifest::ShellPod;
use harness::{Node, Options, wait_until};
use rustix::process::Signal;
use serde_json::json;
use tar::EntryType;

/// What the first container says of its volumes.
const LOOK: &str = "cat /data/etc/a /data/etc/b /one/file; ls /data/dir; stat -c %u:%g /data/etc/a; \
    touch /data/x 2>&1; touch /one/x 2>&1; /data/program 2>&1; /one/program 2>&1; grep -c ' /\\(data\\|one\\) overlay ro,' /proc/mounts";
const SEEN: [&str; 10] = [
    "a of the top",
    "b",
    "file",
    "stays",
    "0:0",
    "touch: /data/x: Read-only file system",
    "touch: /one/x: Read-only file system",
    "sh: /data/program: Permission denied",
    "sh: /one/program: Permission denied",
    "2",
];

fn program(layer: Layer) -> Layer {
    layer.entry(EntryType::Regular, "program", "", 0o755, b"#!/bin/sh\necho it runs\n")
}

/// `data:1` of two layers, of which the upper one removes a file, and `one:1` of one; `content` makes them others.
fn load_images(node: &Node, content: &str) {
    let dir = node.base().join(format!("layout-{content}"));
    let mut layout = Layout::at(&dir);
    let below = program(Layer::new().folder("etc").file("etc/a", "a\n").file("etc/b", "b\n").folder("dir"));
    let below = below.file("dir/gone", "").file("dir/stays", "").finish();
    let top = Layer::new()
        .folder("etc")
        .file("etc/a", &format!("{content}\n"))
        .folder("dir")
        .file("dir/.wh.gone", "");
    let layers: Vec<_> = [below, top.finish()].map(|layer| (layer.clone(), layer)).into();
    let data = layout.image(&layers, json!({}));
    layout.name("data:1", data);
    let one = program(Layer::new().file("file", "file\n")).finish();
    let one = layout.image(&[(one.clone(), one)], json!({}));
    layout.name("one:1", one);
    node.ask(&["load", layout.write().to_str().unwrap()]);
}

/// Volumes `data` and `one`, and where the container mounts them.
fn with_volumes<'a>(name: &'a str, script: &'a str, spec: &'a str) -> String {
    let volumes = "volumes: [{name: data, image: {reference: 'data:1'}}, {name: one, image: {reference: 'one:1'}}]\n\
        terminationGracePeriodSeconds: 0\n";
    let mounts = "volumeMounts: [{name: data, mountPath: /data}, {name: one, mountPath: /one}]\n";
    ShellPod { name, script, spec: &format!("{volumes}{spec}"), container: mounts }.yaml()
}

fn waiting(node: &Node, reason: &str) -> String {
    node.wait_for(reason, |list| {
        let main = list.pod("web")?.container("main")?;
        (main.waiting()? == reason).then(|| main.message().to_owned())
    })
}

#[test]
fn layers_are_shown_as_one_and_nobody_can_write_or_run_what_is_in_them() {
    let node = Node::start(Options::default());
    load_images(&node, "a of the top");
    for users in ["", "hostUsers: false\n"] {
        let spec = format!("restartPolicy: Never\n{users}");
        let output = node.output_of(&with_volumes("job", LOOK, &spec));
        assert_eq!(output.lines().collect::<Vec<_>>(), SEEN, "{users}");
    }
    let host = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!host.contains("overlay"), "the host sees no mount of it: {host}");
}

/// The example of Kubernetes (`pods/image-volumes-subpath.yaml`), with an image of the same files, and beyond it.
#[test]
fn a_part_of_an_image_is_mounted_alone() {
    let node = Node::start(Options::default());
    let mut layout = Layout::at(&node.base().join("artifact"));
    let below =
        Layer::new().folder("dir").file("dir/file", "old").file("dir/gone", "").file("file", "2\n").finish();
    let top = program(Layer::new().folder("dir").file("dir/file", "1\n").file("dir/.wh.gone", ""));
    let top = top.symlink("link", "dir").symlink("out", "/etc").symlink("up", "../..").finish();
    let image = layout.image(&[below, top].map(|layer| (layer.clone(), layer)), json!({}));
    layout.name("artifact:v2", image);
    node.ask(&["load", layout.write().to_str().unwrap()]);

    let volume = "volumes: [{name: volume, image: {reference: 'artifact:v2', pullPolicy: IfNotPresent}}]\n";
    let mounts = "env: [{name: WHICH, value: dir}]
volumeMounts:
- {name: volume, mountPath: /volume, subPath: dir}
- {name: volume, mountPath: /whole}
- {name: volume, mountPath: /which, subPathExpr: $(WHICH)}
- {name: volume, mountPath: /linked, subPath: link}
- {name: volume, mountPath: /etc/one, subPath: dir/file}
- {name: volume, mountPath: /bin/program, subPath: program}
";
    let script = "cat /volume/file /whole/dir/file /whole/file /which/file /linked/file /etc/one; ls -A /volume
        stat -c '%a %u:%g %F' /volume /etc/one; touch /volume/x 2>&1; { echo >/etc/one; } 2>&1; /bin/program 2>&1
        grep -c ' /\\(volume\\|which\\|linked\\|etc/one\\) overlay ro,[^ ]*noexec' /proc/mounts; true";
    let pod = |name: &str, spec: &str, container: &str| {
        let spec = format!("terminationGracePeriodSeconds: 0\nrestartPolicy: Never\n{spec}{volume}");
        ShellPod { name, script, spec: &spec, container }.yaml()
    };
    let seen = "1\n1\n2\n1\n1\n1\nfile\n755 0:0 directory\n644 0:0 regular file\n\
        touch: /volume/x: Read-only file system\nsh: can't create /etc/one: Read-only file system\n\
        sh: /bin/program: Permission denied\n4\n";
    for users in ["", "hostUsers: false\n"] {
        assert_eq!(node.output_of(&pod("job", users, mounts)), seen, "{users}");
    }
    for (sub_path, expected) in
        [("none", "ENOENT"), ("out", "EXDEV"), ("up", "EXDEV"), ("dir/file/x", "ENOTDIR")]
    {
        let mounts = format!("volumeMounts: [{{name: volume, mountPath: /volume, subPath: {sub_path}}}]\n");
        node.manifest("web.yaml", &pod("web", "", &mounts));
        let message = waiting(&node, "CreateContainerConfigError");
        assert!(message.contains(expected), "{sub_path}: {message}");
        node.remove("web.yaml");
        node.wait_gone("web");
    }
    let host = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!host.contains("overlay"), "the host sees no mount of it: {host}");
}

#[test]
fn a_container_waits_for_the_image_of_a_volume() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &with_volumes("web", "exec sleep 1000", ""));
    let message = waiting(&node, "ErrImagePull");
    assert!(message.starts_with("volume data: pull data:1: "), "{message}");
    load_images(&node, "a of the top");
    node.wait_running("web", "main");
    node.remove("web.yaml");
    node.wait_gone("web");

    let never =
        with_volumes("web", "exec sleep 1000", "").replace("'one:1'", "'absent:1', pullPolicy: Never");
    node.manifest("web.yaml", &never);
    let message = waiting(&node, "ErrImageNeverPull");
    assert!(message.starts_with("volume one: image absent:1 is not in the store"), "{message}");
    // Who does not mount a volume does not wait for its image.
    node.manifest("web.yaml", &never.replace(", {name: one, mountPath: /one}", ""));
    node.wait_running("web", "main");
}

#[test]
fn what_is_mounted_stays_though_its_name_is_another_images_and_the_worker_is_a_new_one() {
    let node = Node::start(Options::default());
    load_images(&node, "first");
    let script = "trap 'cat /data/etc/a; exit 1' TERM; while :; do sleep 0.1; done";
    node.manifest("web.yaml", &with_volumes("web", script, ""));
    let pid = node.wait_running("web", "main");
    let first = digest_of(&node, "data:1");
    load_images(&node, "second");
    assert_ne!(digest_of(&node, "data:1"), first);

    let worker = node.worker().unwrap();
    harness::kill(worker, Signal::KILL);
    wait_until("a new worker", || node.worker().filter(|new| *new != worker));
    node.wait_for("the Pod", |list| list.pod("web").map(|_| ()));
    let pruned = node.ask(&["prune"]);
    assert!(!pruned.contains(&first[..12]), "{pruned}");
    harness::kill(pid, Signal::TERM);
    let log = || node.ask(&["logs", "--previous", "web"]);
    node.wait_for("the next run", |list| (list.pod("web")?.container("main")?.restarts() == 1).then_some(()));
    node.wait_running("web", "main");
    assert_eq!(log().trim(), "first");
    // The next run has what the name means now; then nobody needs the first any more.
    let pruned = node.ask(&["prune"]);
    assert!(pruned.contains(&first[..12]), "{pruned}");
    assert!(node.ask(&["images"]).lines().any(|line| line.starts_with("data:1") && line.contains("web")));
}

#[test]
fn an_artifact_is_a_volume_of_files_and_no_containers_image() {
    let node = Node::start(Options::default());
    let mut layout = Layout::at(&node.base().join("artifact"));
    let config = layout.typed_blob("application/vnd.oci.empty.v1+json", b"{}");
    let mut layer = layout.typed_blob("application/octet-stream", b"weights\n");
    layer["annotations"] = json!({"org.opencontainers.image.title": "model/a.bin"});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = layout.typed_blob(MANIFEST, manifest.to_string().as_bytes());
    layout.name("model:1", manifest);
    node.ask(&["load", layout.write().to_str().unwrap()]);

    let spec = "restartPolicy: Never\nvolumes: [{name: v, image: {reference: 'model:1'}}]\n";
    let container = "volumeMounts: [{name: v, mountPath: /v}]\n";
    let script = "cat /v/model/a.bin; stat -c '%A %u' /v/model/a.bin; rm /v/model/a.bin 2>&1; true";
    for users in ["", "hostUsers: false\n"] {
        let spec = format!("{spec}{users}");
        let output = node.output_of(&ShellPod { name: "job", script, spec: &spec, container }.yaml());
        let expected = "weights\n-rw-r--r-- 0\nrm: can't remove '/v/model/a.bin': Read-only file system\n";
        assert_eq!(output, expected, "{users}");
    }
    let web = ShellPod { name: "web", script: "true", spec: "", container: "" }.yaml();
    node.manifest("web.yaml", &web.replace("busybox:1.35", "model:1"));
    let message = waiting(&node, "CreateContainerConfigError");
    assert_eq!(message, "image model:1 is an artifact, which has nothing to run: it can be a volume");
}

/// The beginning of an image's ID, as `podkeep images` shows it.
fn digest_of(node: &Node, name: &str) -> String {
    let images = node.ask(&["images"]);
    let line = images.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{images}"));
    line.split_whitespace().nth(1).unwrap().to_owned()
}
