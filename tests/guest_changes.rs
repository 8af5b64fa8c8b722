//! What is asked for while something else is still under way, and what stands in the way of a start.
//!
//! Run with `scripts/vm test guest_changes`; anywhere else these tests fail.

mod harness;

use std::fs::{self, File};
use std::io::Write;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Census, Node, Options, process, wait_until};

const SLEEP: &str = "exec sleep 1000";

/// A Pod that takes two seconds to end, and says which version it is.
fn slow(version: &str) -> String {
    let script = "echo $VERSION; trap 'sleep 2; exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    let container = format!("env: [{{name: VERSION, value: {version}}}]");
    ShellPod { name: "slow", script, spec: "terminationGracePeriodSeconds: 30", container: &container }.yaml()
}

/// Waits until the Pod `slow` has said that it is of this version.
fn wait_version(node: &Node, version: &str) {
    let expected = format!("{version}\n");
    wait_until(version, || (node.try_ask(&["logs", "slow"]).stdout == expected.as_bytes()).then_some(()));
}

fn wait_terminating(node: &Node) {
    node.wait_for("slow is being ended", |list| list.pod("slow")?.terminating().then_some(()));
}

#[test]
fn a_pod_whose_file_comes_back_while_it_ends_is_started_again() {
    let node = Node::start(Options::default());
    node.manifest("slow.yaml", &slow("one"));
    wait_version(&node, "one");
    let first = node.wait_running("slow", "main");
    node.remove("slow.yaml");
    wait_terminating(&node);
    node.manifest("slow.yaml", &slow("one"));
    node.wait_for("it runs again", |list| {
        let slow = list.pod("slow")?;
        slow.container("main")?.running_pid().filter(|pid| *pid != first && !slow.terminating())
    });
    assert_eq!(process::status(first, "PPid"), None);
}

#[test]
fn of_two_edits_while_the_old_pod_ends_only_the_last_is_started() {
    let node = Node::start(Options::default());
    node.manifest("slow.yaml", &slow("one"));
    wait_version(&node, "one");
    node.manifest("slow.yaml", &slow("two"));
    wait_terminating(&node);
    node.manifest("slow.yaml", &slow("three"));
    wait_version(&node, "three");
    let folders = fs::read_dir(node.logs()).unwrap().count();
    assert_eq!(folders, 2, "logs of the first and the third version");
}

#[test]
fn an_edit_back_to_what_it_was_while_the_pod_ends_starts_it_anew() {
    let node = Node::start(Options::default());
    node.manifest("slow.yaml", &slow("one"));
    wait_version(&node, "one");
    let first = node.wait_running("slow", "main");
    node.manifest("slow.yaml", &slow("two"));
    wait_terminating(&node);
    node.manifest("slow.yaml", &slow("one"));
    node.wait_for("version one runs again", |list| {
        let slow = list.pod("slow")?;
        slow.container("main")?.running_pid().filter(|pid| *pid != first && !slow.terminating())
    });
}

#[test]
fn a_file_that_is_being_written_is_not_read() {
    let node = Node::start(Options::default());
    let manifest = slow("whole");
    let half = manifest.len() / 2;
    let mut file = File::create(node.manifests().join("slow.yaml")).unwrap();
    file.write_all(&manifest.as_bytes()[..half]).unwrap();
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    node.wait_running("web", "main");
    assert_eq!(node.list().problems(), [""; 0]);
    assert!(node.list().pod("slow").is_none());
    file.write_all(&manifest.as_bytes()[half..]).unwrap();
    drop(file);
    wait_version(&node, "whole");
    assert_eq!(node.list().problems(), [""; 0]);
}

#[test]
fn a_folder_of_manifests_that_goes_away_takes_no_pod_with_it() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    let pid = node.wait_running("web", "main");
    let aside = node.base().join("manifests-aside");
    fs::rename(node.manifests(), &aside).unwrap();
    wait_until("the node has noticed", || node.node_log_text().contains("stays as it is").then_some(()));
    assert_eq!(node.wait_running("web", "main"), pid);
    fs::rename(&aside, node.manifests()).unwrap();
    node.manifest("more.yaml", &shell_pod("more", SLEEP));
    node.wait_running("more", "main");
    assert_eq!(node.wait_running("web", "main"), pid);
    node.remove("web.yaml");
    node.wait_gone("web");
}

#[test]
fn a_host_path_of_the_wrong_kind_is_told_and_tried_again() {
    let host = tempfile::tempdir().unwrap();
    let data = host.path().join("data");
    let spec = format!("volumes: [{{name: data, hostPath: {{path: {}, type: Directory}}}}]", data.display());
    let container = "volumeMounts: [{name: data, mountPath: /data}]";
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    node.manifest("web.yaml", &ShellPod { name: "web", script: SLEEP, spec: &spec, container }.yaml());
    let message = node
        .wait_for("a message", |list| list.pod("web")?.0["status"]["message"].as_str().map(str::to_owned));
    assert!(message.contains(data.to_str().unwrap()), "{message}");
    assert_eq!(node.list().pod("web").unwrap().phase(), "Pending");
    fs::create_dir(&data).unwrap();
    node.wait_running("web", "main");
    node.remove("web.yaml");
    node.wait_gone("web");
    before.assert_again(|| Census::take_with(&node));
    assert!(data.is_dir());
}

#[test]
fn a_second_podkeep_on_the_same_folders_is_refused() {
    let node = Node::start(Options::default());
    let second = node.podkeep().arg("run").args(node.run_args()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let sentence = format!(
        "another podkeep works on {}: stop it, or give this one its own --root-dir and --run-dir, and its own \
         cgroupRoot and podLogsDir in its --config",
        node.root().display()
    );
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains(&sentence), "{stderr}");
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    node.wait_running("web", "main");
}

#[test]
fn a_pod_that_is_removed_before_it_runs_leaves_nothing() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    for _ in 0..10 {
        node.manifest("web.yaml", &shell_pod("web", SLEEP));
        node.wait_for("web is known", |list| list.pod("web").map(drop));
        node.remove("web.yaml");
    }
    node.wait_gone("web");
    before.assert_again(|| Census::take_with(&node));
}
