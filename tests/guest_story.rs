//! The life of a Pod, from its manifest to nothing.
//!
//! Run with `scripts/vm test guest_story`; anywhere else these tests fail.

mod harness;

use std::fs::{self, File};
use std::path::Path;

use harness::manifest::{ShellPod, job, shell_pod};
use harness::{Census, List, Node, Options, kill, process};
use rustix::process::Signal;

const SLEEP: &str = "exec sleep 1000";

/// What tells one run of a container from another: the Pod's uid, restarts, PID.
type Run = (String, u64, u32);

fn run_of(list: &List, pod: &str) -> Option<Run> {
    let pod = list.pod(pod)?;
    let main = pod.container("main")?;
    Some((pod.uid().to_owned(), main.restarts(), main.running_pid()?))
}

/// Waits until the node has seen everything that was done to the folder so far.
fn settle(node: &Node) {
    node.manifest("sentinel.yaml", &shell_pod("sentinel", SLEEP));
    node.wait_running("sentinel", "main");
    node.remove("sentinel.yaml");
    node.wait_gone("sentinel");
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_manifest_becomes_a_process_and_leaves_nothing_when_it_is_removed() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    let pid = node.wait_running("web", "main");

    assert_eq!(process::parent(pid), node.keeper());
    assert_eq!(process::pids_by_namespace(pid)[1..], [1]);
    let list = node.list();
    let web = list.pod("web").unwrap();
    let cgroup = format!("/podkeep/besteffort/default_web-node1_{}/main", &web.uid()[..8]);
    assert_eq!(process::cgroup(pid), cgroup);
    assert_eq!(process::in_cgroup("/podkeep"), [pid]);
    assert_eq!((web.phase(), web.container("main").unwrap().restarts()), ("Running", 0));
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(process::namespace(pid, kind), process::namespace(node.keeper(), kind));
    }

    node.remove("web.yaml");
    node.wait_gone("web");
    before.assert_again(|| Census::take_with(&node));
}

#[test]
fn ps_shows_what_runs_and_with_a_what_has_ended_too() {
    let node = Node::start(Options::default());
    node.manifest("job.yaml", &job("job", "exit 7"));
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    node.wait_terminated("job", "main");
    let pid = node.wait_running("web", "main");
    let rows = |args: &[&str]| -> Vec<Vec<String>> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        node.ask(args).lines().map(words).collect()
    };
    let shown = rows(&["ps"]);
    assert_eq!(shown[0], ["CONTAINER", "POD", "IMAGE", "STATE", "EXIT", "RESTARTS", "AGE", "PID"]);
    let [_, web] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(web[..6], ["main", "web-node1", "busybox:1.35", "Running", "-", "0"]);
    assert_eq!(web[7], pid.to_string());

    let all = rows(&["ps", "-a"]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[1][..6], ["main", "job-node1", "busybox:1.35", "Error", "7", "0"]);
    assert_eq!(rows(&["-n", "other", "ps", "-a"]).len(), 1);
    let wide = node.ask(&["ps", "-o", "wide"]);
    assert!(wide.contains("/podkeep/besteffort/default_web-node1_"), "{wide}");
}

#[test]
fn a_killed_process_is_back_with_its_end_told() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", SLEEP));
    let first = node.wait_running("web", "main");
    let uid = node.list().pod("web").unwrap().uid().to_owned();
    kill(first, Signal::KILL);

    let second =
        node.wait_for("the second run", |list| run_of(list, "web").filter(|(_, restarts, _)| *restarts == 1));
    assert_eq!(second.0, uid);
    assert_ne!(second.2, first);
    let list = node.list();
    let last = list.pod("web").unwrap().container("main").unwrap().last();
    assert_eq!(last, Some(("Error".to_owned(), 137)));
    assert_eq!(process::in_cgroup("/podkeep"), [second.2]);
}

#[test]
fn an_edited_manifest_is_a_new_pod_that_starts_when_the_old_one_is_gone() {
    let shared = tempfile::tempdir().unwrap();
    let script = "if [ -e /shared/here ]; then echo overlap; else echo alone; fi; touch /shared/here
        trap 'sleep 1; rm /shared/here; exit 0' TERM; while :; do sleep 1000 & wait; done";
    let volumes = format!("volumes: [{{name: shared, hostPath: {{path: {}}}}}]", shared.path().display());
    let version = |label: &str| {
        let container = format!(
            "volumeMounts: [{{name: shared, mountPath: /shared}}]\nenv: [{{name: V, value: {label}}}]"
        );
        ShellPod { name: "web", script, spec: &volumes, container: &container }.yaml()
    };
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &version("one"));
    let (first_uid, _, first_pid) = node.wait_for("the first Pod", |list| run_of(list, "web"));
    harness::wait_until("the first Pod is there", || shared.path().join("here").exists().then_some(()));

    node.manifest("web.yaml", &version("two"));
    let (_, restarts, second_pid) =
        node.wait_for("the second Pod", |list| run_of(list, "web").filter(|(uid, ..)| *uid != first_uid));
    assert_eq!(restarts, 0);
    assert_ne!(second_pid, first_pid);
    harness::wait_until("the second Pod has spoken", || {
        let output = node.ask(&["logs", "web"]);
        (!output.is_empty()).then(|| assert_eq!(output, "alone\n"))
    });
    assert_eq!(process::status(first_pid, "PPid"), None, "the old process is still there");
}

#[test]
fn a_touch_a_comment_and_a_rename_restart_nothing() {
    let node = Node::start(Options::default());
    let manifest = shell_pod("web", SLEEP);
    node.manifest("web.yaml", &manifest);
    let run = node.wait_for("the Pod", |list| run_of(list, "web"));
    let still_there = |what: &str| {
        settle(&node);
        assert_eq!(run_of(&node.list(), "web").as_ref(), Some(&run), "after {what}");
    };

    let file = File::options().append(true).open(node.manifests().join("web.yaml")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    drop(file);
    still_there("a touch");
    node.manifest("web.yaml", &format!("# A comment\n{manifest}"));
    still_there("a comment");
    fs::rename(node.manifests().join("web.yaml"), node.manifests().join("shop.yml")).unwrap();
    still_there("a rename");
    assert_eq!(node.list().problems(), [""; 0]);
}

#[test]
fn a_broken_file_is_reported_and_its_pod_runs_on() {
    let node = Node::start(Options::default());
    let manifest = shell_pod("web", SLEEP);
    node.manifest("web.yaml", &manifest);
    let run = node.wait_for("the Pod", |list| run_of(list, "web"));

    node.manifest("web.yaml", &manifest.replace("image:", "imgae:"));
    let problem =
        node.wait_for("a problem", |list| list.problems().first().map(|problem| (*problem).to_owned()));
    let place = format!("{}:7:5: ", node.manifests().join("web.yaml").display());
    assert!(problem.starts_with(&place), "{problem}");
    assert!(problem.contains("imgae") && problem.contains("image"), "{problem}");
    assert_eq!(run_of(&node.list(), "web").as_ref(), Some(&run));

    node.manifest("web.yaml", &manifest);
    node.wait_for("no problem", |list| list.problems().is_empty().then_some(()));
    settle(&node);
    assert_eq!(run_of(&node.list(), "web"), Some(run));
}

#[test]
fn of_two_pods_with_one_name_the_first_stays() {
    let node = Node::start(Options::default());
    node.manifest("b.yaml", &shell_pod("web", SLEEP));
    let first = node.wait_for("the first", |list| run_of(list, "web"));
    node.manifest("a.yaml", &shell_pod("web", "sleep 2000"));
    let problem =
        node.wait_for("a problem", |list| list.problems().first().map(|problem| (*problem).to_owned()));
    let (a, b) = (node.manifests().join("a.yaml"), node.manifests().join("b.yaml"));
    let expected = format!(
        "{}: Pod default/web-node1 is already asked for by {}, which stays",
        a.display(),
        b.display()
    );
    assert_eq!(problem, expected);
    assert_eq!(run_of(&node.list(), "web").as_ref(), Some(&first));

    node.remove("b.yaml");
    node.wait_for("the second", |list| run_of(list, "web").filter(|(uid, ..)| *uid != first.0));
    assert_eq!(node.list().problems(), [""; 0]);
}

#[test]
fn a_list_and_several_documents_are_several_pods() {
    let as_item = |manifest: &str| {
        let (first, rest) = manifest.split_once('\n').unwrap();
        let rest: String = rest.lines().map(|line| format!("  {line}\n")).collect();
        format!("- {first}\n{rest}")
    };
    let items = as_item(&shell_pod("one", SLEEP)) + &as_item(&shell_pod("two", SLEEP));
    let node = Node::start(Options::default());
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    node.manifest("all.yaml", &format!("{list}---\n{}", shell_pod("three", SLEEP)));
    for name in ["one", "two", "three"] {
        node.wait_running(name, "main");
    }
    // One of them leaves the file, and the others take no notice.
    let runs = |list: &List| (run_of(list, "one"), run_of(list, "two"));
    let before = runs(&node.list());
    node.manifest("all.yaml", &list);
    node.wait_gone("three");
    assert_eq!(runs(&node.list()), before);
}

#[test]
fn containers_of_a_pod_share_its_network_and_live_on_their_own() {
    let node = Node::start(Options::default());
    let second = "  - {name: side, image: \"busybox:1.35\", command: [sleep, \"1000\"]}\n";
    node.manifest("web.yaml", &(shell_pod("web", SLEEP) + second));
    let main = node.wait_running("web", "main");
    let side = node.wait_running("web", "side");
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(process::namespace(main, kind), process::namespace(side, kind), "{kind}");
    }
    for kind in ["mnt", "pid"] {
        assert_ne!(process::namespace(main, kind), process::namespace(side, kind), "{kind}");
    }
    let (main_cgroup, side_cgroup) = (process::cgroup(main), process::cgroup(side));
    assert_eq!(main_cgroup.strip_suffix("/main"), side_cgroup.strip_suffix("/side"));

    kill(side, Signal::KILL);
    let second_side = node.wait_for("side is back", |list| {
        list.pod("web")?.container("side")?.running_pid().filter(|pid| *pid != side)
    });
    assert_eq!(process::namespace(second_side, "net"), process::namespace(main, "net"));
    assert_eq!(node.wait_running("web", "main"), main);
}

#[test]
fn sigterm_ends_every_pod_and_leaves_nothing() {
    let before = Census::take();
    let node = Node::start(Options::default());
    let spec = "terminationGracePeriodSeconds: 1
volumes: [{name: ram, emptyDir: {medium: Memory}}, {name: disk, emptyDir: {}}]";
    let container = "volumeMounts: [{name: ram, mountPath: /ram}, {name: disk, mountPath: /disk}]";
    let script = "date >/ram/date; date >/disk/date; exec sleep 1000";
    node.manifest("web.yaml", &ShellPod { name: "web", script, spec, container }.yaml());
    node.manifest("job.yaml", &job("job", "exit 3"));
    node.manifest("absent.yaml", &shell_pod("absent", SLEEP).replace("busybox", "absent"));
    node.wait_running("web", "main");
    node.wait_terminated("job", "main");
    node.wait_for("absent waits", |list| list.pod("absent")?.container("main")?.waiting().map(drop));

    let site = node.stop();
    before.assert_again(Census::take);
    assert_eq!(names_in(&site.run()), ["lock"]);
    for emptied in ["pods", "trash"] {
        assert_eq!(names_in(&site.root().join(emptied)), [""; 0], "in {emptied}");
    }
}
