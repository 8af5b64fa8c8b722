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

/// A Pod that sleeps, with further lines for its metadata, its spec and its container.
fn sleeper(name: &str, metadata: &str, spec: &str, container: &str) -> String {
    let yaml = ShellPod { name, script: SLEEP, spec, container }.yaml();
    yaml.replace(&format!("{{name: {name}}}"), &format!("{{name: {name}{metadata}}}"))
}

fn wait_problem(node: &Node, part: &str) {
    let has =
        |list: &harness::List| list.problems().iter().any(|problem| problem.contains(part)).then_some(());
    node.wait_for(part, has);
}

#[test]
fn what_runs_is_replaced_only_by_what_can_be_prepared() {
    let host = tempfile::tempdir().unwrap();
    let data = host.path().join("data");
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    let first = node.wait_running("web", "main");

    // The image is nowhere.
    let no_image = shell_pod("web", SLEEP).replace("busybox:1.35", "nowhere:1\n    imagePullPolicy: Never");
    node.manifest("web.yaml", &no_image);
    wait_problem(&node, "image nowhere:1 is not in the store");
    let message = node.list().pod("web").unwrap().0["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("its new version cannot be prepared"), "{message}");
    assert_eq!(node.list().pods().count(), 1);

    // A hostPath of the wrong type.
    let spec = format!("volumes: [{{name: data, hostPath: {{path: {}, type: Directory}}}}]", data.display());
    let mounts = "volumeMounts: [{name: data, mountPath: /data}]";
    node.manifest("web.yaml", &sleeper("web", "", &spec, mounts));
    wait_problem(&node, data.to_str().unwrap());

    // What is running is the same all the while, also for a new worker, which finds out anew what is wrong.
    harness::kill(node.worker().unwrap(), rustix::process::Signal::KILL);
    wait_problem(&node, data.to_str().unwrap());
    assert_eq!(node.wait_running("web", "main"), first);

    fs::create_dir(&data).unwrap();
    node.wait_for("the new version runs", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|pid| *pid != first)
    });
    assert_eq!(node.list().problems(), [""; 0]);
    assert!(node.list().pod("web").unwrap().0["status"]["message"].is_null());
}

#[test]
fn recreate_stops_the_old_version_whatever_becomes_of_the_new_one() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    let first = node.wait_running("web", "main");
    let container = "imagePullPolicy: Never";
    let manifest = sleeper("web", ", annotations: {podkeep.io/update: recreate}", "", container);
    node.manifest("web.yaml", &manifest.replace("busybox:1.35", "nowhere:1"));
    node.wait_for("it waits for its image", |list| {
        (list.pod("web")?.container("main")?.waiting()? == "ErrImageNeverPull").then_some(())
    });
    assert_eq!(process::status(first, "PPid"), None);
}

#[test]
fn a_pod_comes_after_those_it_names_and_ends_before_them() {
    let node = Node::start(Options::default());
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 1000 & wait $!; done";
    let probe = "readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}";
    let spec = "terminationGracePeriodSeconds: 20";
    let first = ShellPod { name: "db", script, spec, container: probe }.yaml();
    let second =
        sleeper("web", ", annotations: {podkeep.io/after: db}", "terminationGracePeriodSeconds: 1", "");
    node.manifest("all.yaml", &format!("{second}---\n{first}"));
    let db = node.wait_running("db", "main");
    wait_problem(&node, "it starts after default/db");
    assert!(node.list().pod("web").is_none());
    node.ask(&["exec", "db", "--", "touch", "/tmp/ready"]);
    node.wait_running("web", "main");
    assert_eq!(node.list().problems(), [""; 0]);

    // It does not heed the stop signal, and takes its second; the other one runs on until it is gone.
    node.remove("all.yaml");
    node.wait_for("the one that came second is gone first", |list| {
        let db_ends = list.pod("db").is_none_or(|pod| pod.terminating());
        assert!(list.pod("web").is_none() || !db_ends, "the one that came first ends first");
        list.pod("web").is_none().then_some(())
    });
    node.wait_gone("db");
    assert_eq!(process::status(db, "PPid"), None);
}
