//! What containers write, and how it is read back.
//!
//! Run with `scripts/vm test guest_logs`; anywhere else these tests fail.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use harness::manifest::{ShellPod, job, shell_pod};
use harness::{Node, Options, kill, wait_until};
use rustix::process::Signal;

fn run_to_end(node: &Node, script: &str) {
    node.manifest("job.yaml", &job("job", script));
    assert_eq!(node.wait_terminated("job", "main"), ("Completed".to_owned(), 0));
}

/// The files of a container's logs, in order of their names.
fn log_files(node: &Node, pod: &str) -> Vec<PathBuf> {
    let list = node.list();
    let dir = list.pod(pod).unwrap().0["podkeep"]["logDir"].as_str().unwrap().to_owned();
    let entries = fs::read_dir(PathBuf::from(dir).join("main")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_stream_is_kept_in_order_and_whole_in_the_format_of_cri() {
    let node = Node::start(Options::default());
    run_to_end(
        &node,
        "echo one; sleep 1; echo two >&2; sleep 1; printf three; sleep 1; echo ' and four'; printf end",
    );
    assert_eq!(node.ask(&["logs", "job"]), "one\ntwo\nthree and four\nend");
    let files = log_files(&node, "job");
    let [file] = files.as_slice() else { panic!("one log, not {files:?}") };
    assert_eq!(file.file_name().unwrap(), "0.log");
    let text = fs::read_to_string(file).unwrap();
    let tags: Vec<_> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(time, rest)| {
            time.parse::<jiff::Timestamp>().unwrap();
            rest
        })
        .collect();
    assert_eq!(tags.first(), Some(&"stdout F one"));
    assert_eq!(tags.get(1), Some(&"stderr F two"));
    assert_eq!(tags.last(), Some(&"stdout P end"));
}

#[test]
fn tail_prints_the_last_lines_and_previous_the_run_before() {
    let node = Node::start(Options::default());
    let script = "for i in $(seq 1 200); do echo line $i; done; exit 1";
    let spec = "restartPolicy: OnFailure";
    let counted = "[ -e /n/1 ] && run=2 || run=1; touch /n/1; echo run $run; ";
    let script = format!("{counted}{script}");
    let spec = format!("{spec}\nvolumes: [{{name: shared, emptyDir: {{}}}}]");
    let container = "volumeMounts: [{name: shared, mountPath: /n}]";
    node.manifest("web.yaml", &ShellPod { name: "web", script: &script, spec: &spec, container }.yaml());
    node.wait_for("the second end", |list| {
        let main = list.pod("web")?.container("main")?;
        (main.restarts() == 1 && main.waiting() == Some("CrashLoopBackOff")).then_some(())
    });
    assert_eq!(node.ask(&["logs", "web", "--tail", "2"]), "line 199\nline 200\n");
    let first_line = |args: &[&str]| node.ask(args).lines().next().unwrap().to_owned();
    assert_eq!(first_line(&["logs", "web"]), "run 2");
    assert_eq!(first_line(&["logs", "--previous", "web-node1"]), "run 1");
    assert_eq!(first_line(&["logs", "default/web", "-c", "main"]), "run 2");
    let unknown = node.try_ask(&["logs", "web", "-c", "side"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn logs_are_rotated_by_size_and_read_back_over_the_rotations() {
    let config = "containerLogMaxSize: 4Ki\ncontainerLogMaxFiles: 3\n";
    let node = Node::start(Options { config, ..Options::default() });
    run_to_end(&node, "for i in $(seq 1 2000); do echo this is line number $i; done");
    let files = log_files(&node, "job");
    assert_eq!(files.len(), 3, "{files:?}");
    let sizes: Vec<_> = files.iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 4096), "{sizes:?}");
    let output = node.ask(&["logs", "job"]);
    let numbers: Vec<u32> =
        output.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    let first = numbers[0];
    assert!(first > 1, "the oldest lines are gone");
    assert_eq!(numbers, (first..=2000).collect::<Vec<_>>());
}

#[test]
fn follow_goes_on_over_a_restart_and_ends_with_the_pod() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", "echo up; exec sleep 1000"));
    let first = node.wait_running("web", "main");
    let mut follower = node.podkeep().args(["logs", "-f", "web"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "up");
    kill(first, Signal::KILL);
    assert_eq!(lines.next().unwrap(), "up");
    node.remove("web.yaml");
    assert_eq!(lines.next(), None);
    assert!(follower.wait().unwrap().success());
}

#[test]
fn the_logs_of_a_removed_pod_tell_why_it_died() {
    let node = Node::start(Options::default());
    run_to_end(&node, "echo last words");
    node.remove("job.yaml");
    node.wait_gone("job");
    wait_until("its last words", || (node.ask(&["logs", "job"]) == "last words\n").then_some(()));
}
