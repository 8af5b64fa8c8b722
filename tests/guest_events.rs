//! What people are told of Pods' lives: which events, how often, and for how long they are kept.
//!
//! Run with `scripts/vm test guest_events`; anywhere else these tests fail.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use harness::manifest::{job, shell_pod};
use harness::{Node, Options, Site, wait_until};
use serde_json::Value;

/// Type, reason, message and count of a Pod's events, oldest first.
fn events(node: &Site, pod: &str) -> Vec<(String, String, String, u64)> {
    let list: Value = serde_json::from_str(&node.ask(&["events", pod, "-o", "json"])).unwrap();
    assert_eq!(list["kind"], "EventList");
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    let event = |event: &Value| {
        (text(event, "type"), text(event, "reason"), text(event, "message"), event["count"].as_u64().unwrap())
    };
    list["items"].as_array().unwrap().iter().map(event).collect()
}

fn of(kind: &str, reason: &str, message: &str, count: u64) -> (String, String, String, u64) {
    (kind.to_owned(), reason.to_owned(), message.to_owned(), count)
}

#[test]
fn a_life_is_told_in_the_kubelets_words() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let first = node.wait_running("web", "main");
    harness::kill(first, rustix::process::Signal::KILL);
    node.wait_for("its successor", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|pid| *pid != first)
    });
    let present = of("Normal", "Pulled", "Container image \"busybox:1.35\" already present on machine", 2);
    let started = of("Normal", "Started", "Started container main", 2);
    assert_eq!(events(&node, "web"), [present.clone(), started.clone()]);
    node.remove("web.yaml");
    node.wait_gone("web");
    // They outlive their Pod.
    let killing = of("Normal", "Killing", "Stopping container main", 1);
    assert_eq!(events(&node, "web-node1"), [present, started, killing]);
    let table = node.ask(&["events", "default/web"]);
    assert!(table.starts_with("LAST SEEN"), "{table}");
    assert_eq!(table.lines().filter(|line| line.contains("pod/web-node1")).count(), 3, "{table}");
    assert!(events(&node, "other").is_empty());
}

#[test]
fn what_goes_wrong_is_a_warning_with_its_reason() {
    let node = Node::start(Options::default());
    node.manifest("crash.yaml", &shell_pod("crash", "exit 3"));
    node.manifest("typo.yaml", &job("typo", "").replace(r#"["sh","-c",""]"#, "[slep, \"1000\"]"));
    node.manifest(
        "gone.yaml",
        &shell_pod("gone", "").replace("image: busybox:1.35", "image: busibox:1\n    imagePullPolicy: Never"),
    );
    let warning = |pod: &str, reason: &str, part: &str| {
        wait_until("the warning", || {
            let all = events(&node, pod);
            all.iter()
                .any(|(kind, r, message, _)| kind == "Warning" && r == reason && message.contains(part))
                .then_some(())
        });
    };
    warning("crash", "BackOff", "Back-off restarting failed container main in pod crash-node1_default(");
    warning("typo", "Failed", "execute slep: ENOENT");
    warning("gone", "ErrImageNeverPull", "is not present with pull policy of Never");
    // Of a Pod that runs on: its manifest is broken, and another one wants its name.
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    node.wait_running("web", "main");
    node.manifest("copy.yaml", &shell_pod("web", "exec sleep 2000"));
    warning("web", "FailedValidation", "copy.yaml: Pod default/web-node1 is already asked for by");
    node.manifest("web.yaml", "kind: [");
    warning("web", "FailedValidation", "web.yaml: its last good version stays: default/web-node1");
    assert!(node.ask(&["describe", "web"]).contains("its last good version stays"));
}

#[test]
fn events_outlive_the_worker_and_the_node_and_are_watched_over_both() {
    let node = Node::start(Options::default());
    let mut watching = node.podkeep().args(["events", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |part: &str| lines.find(|line| line.contains(part)).expect("the watcher ended");
    node.manifest("a.yaml", &shell_pod("a", "exec sleep 1000"));
    next("pod/a-node1");
    next("Started container main");
    // Who watches is told a moment before the end of the turn, when it is kept for the next worker.
    wait_until("it is kept", || {
        let files = [node.run(), node.root()].map(|folder| fs::read_to_string(folder.join("events.jsonl")));
        files.into_iter().flatten().any(|text| text.contains("Started container main")).then_some(())
    });
    harness::kill(node.worker().expect("a worker"), rustix::process::Signal::KILL);
    node.manifest("b.yaml", &shell_pod("b", "exec sleep 1000"));
    assert!(next("Started container main").contains("pod/b-node1"));
    assert_eq!(events(&node, "a").len(), 2);
    let site = node.stop();
    watching.wait().unwrap();
    assert_eq!(events(&site, "b").last().unwrap().1, "Killing", "read from the file");
}
