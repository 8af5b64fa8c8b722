//! CVE-2025-52565 and its kin: a terminal is made where a volume lies over `/dev` or `/dev/pts`, and what lies there is not
//! what it is called.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options};
use crate::oci;

/// A file of the host that nothing may ever be written to, nor mounted on.
const VICTIM: &str = "/var/tmp/victim";

/// What can lie at a name where a device is expected.
const IMPOSTORS: [&str; 4] = ["a file", "a fifo", "a link to the victim", "a link out of the root"];

fn put(impostor: &str, at: &Path) {
    let _ = fs::remove_file(at);
    match impostor {
        "a file" => fs::write(at, "").unwrap(),
        "a fifo" => {
            rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap()
        }
        "a link to the victim" => symlink("/host/victim", at).unwrap(),
        "a link out of the root" => symlink(format!("/proc/1/root/../../../..{VICTIM}"), at).unwrap(),
        _ => panic!("{impostor}"),
    }
}

fn make_victim() {
    fs::create_dir_all("/var/tmp").unwrap();
    fs::write(VICTIM, "the host's\n").unwrap();
}

fn mounts_of_the_host() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn assert_untouched(mounts: &str) {
    assert_eq!(fs::read_to_string(VICTIM).unwrap(), "the host's\n");
    assert!(fs::symlink_metadata(VICTIM).unwrap().is_file());
    assert_eq!(mounts_of_the_host(), mounts);
}

#[test]
fn exec_makes_no_terminal_of_what_only_is_called_ptmx() {
    make_victim();
    let volume = tempfile::tempdir().unwrap();
    let node = Node::start(Options::default());
    let spec = format!(
        "terminationGracePeriodSeconds: 1\nvolumes: [{{name: pts, hostPath: {{path: {}}}}}, \
         {{name: host, hostPath: {{path: /var/tmp}}}}]",
        volume.path().display()
    );
    let container = "volumeMounts: [{name: pts, mountPath: /dev/pts}, {name: host, mountPath: /host}]";
    node.manifest(
        "web.yaml",
        &ShellPod { name: "web", script: "exec sleep 1000", spec: &spec, container }.yaml(),
    );
    node.wait_running("web", "main");
    let mounts = mounts_of_the_host();
    for impostor in IMPOSTORS {
        put(impostor, &volume.path().join("ptmx"));
        let said = node.try_ask(&["exec", "-t", "web", "--", "true"]);
        let error = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(125), "{impostor}: {error}");
        assert!(error.contains("open a terminal: E"), "{impostor}: {error}");
        assert_untouched(&mounts);
    }
    assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 1, "nothing was made beside it");
    // The container is none the worse for it.
    assert_eq!(node.ask(&["exec", "web", "--", "echo", "there"]), "there\n");
}

/// A container with a terminal, and two volumes: one at `place`, and the victim's folder.
fn bundle(volume: &Path, place: &str) -> oci::Bench {
    let mut bench = oci::Bench::new();
    bench.script("tty; exec sh -c 'tty < /dev/console'");
    bench.config["process"]["terminal"] = json!(true);
    let bind = |source: &Path, at: &str| json!({"destination": at, "type": "bind", "source": source, "options": ["bind"]});
    let mounts = bench.config["mounts"].as_array_mut().unwrap();
    let taken = mounts.iter().position(|mount| mount["destination"] == place).unwrap();
    mounts[taken] = bind(volume, place);
    mounts.push(bind(Path::new("/var/tmp"), "/host"));
    bench
}

#[test]
fn a_container_gets_no_terminal_of_what_only_is_called_ptmx_or_console() {
    make_victim();
    let mounts = mounts_of_the_host();
    for impostor in IMPOSTORS {
        let volume = tempfile::tempdir().unwrap();
        put(impostor, &volume.path().join("ptmx"));
        let bench = bundle(volume.path(), "/dev/pts");
        bench.run("web").fails_with(1, "open a terminal: E");
        assert_untouched(&mounts);
    }
    for impostor in IMPOSTORS.into_iter().filter(|impostor| impostor.contains("link")) {
        let volume = tempfile::tempdir().unwrap();
        put(impostor, &volume.path().join("console"));
        let bench = bundle(volume.path(), "/dev");
        bench.run("web").fails_with(1, "open a terminal: ELOOP");
        assert_untouched(&mounts);
    }
}

/// The terminal is mounted over it, in the container only.
#[test]
fn a_file_of_a_volume_that_is_called_console_stays_what_it_is() {
    make_victim();
    let mounts = mounts_of_the_host();
    let volume = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::hard_link(VICTIM, volume.path().join("console")).unwrap();
    let bench = bundle(volume.path(), "/dev");
    let shown = bench.run("web").ok();
    assert_eq!(shown.replace('\r', ""), "/dev/pts/0\n/dev/console");
    assert_untouched(&mounts);
}
