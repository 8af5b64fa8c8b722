//! Limits that a container runs into, and what the node says and does then.
//!
//! Run with `scripts/vm test guest_limits`; anywhere else these tests fail.

mod harness;

use std::fs;
use std::path::Path;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Census, Node, Options, process, wait_until};

fn interface_file(cgroup: &str, file: &str) -> String {
    let dir = Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
    fs::read_to_string(dir.join(file)).unwrap()
}

/// A number of a cgroup's interface file.
fn number(cgroup: &str, file: &str) -> u64 {
    interface_file(cgroup, file).trim().parse().unwrap()
}

/// A number of an interface file that has a key in each line.
fn keyed(cgroup: &str, file: &str, key: &str) -> u64 {
    let text = interface_file(cgroup, file);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
}

#[test]
fn who_takes_more_memory_than_its_limit_is_oom_killed() {
    let node = Node::start(Options::default());
    let limit = "resources: {limits: {memory: 32Mi}}";
    // `tail` keeps everything until the end of its input.
    let first = ShellPod {
        name: "own",
        script: "exec tail /dev/zero",
        spec: "restartPolicy: Never",
        container: limit,
    };
    node.manifest("own.yaml", &first.yaml());
    let child = ShellPod { name: "child", script: "tail /dev/zero; sleep 1000", ..first };
    node.manifest("child.yaml", &child.yaml());
    let tmpfs = ShellPod { name: "shm", script: "cat /dev/zero >/dev/shm/big", ..first };
    node.manifest("shm.yaml", &tmpfs.yaml());
    let expected = ("OOMKilled".to_owned(), 137);
    assert_eq!(node.wait_terminated("own", "main"), expected);
    // The whole container goes, and not only its hungriest process (`memory.oom.group`).
    assert_eq!(node.wait_terminated("child", "main"), expected);
    assert_eq!(node.wait_terminated("shm", "main"), expected);
}

/// Whatever the kernel ends for want of memory before exec, it must not be the worker: no such child shares its memory.
#[test]
fn a_limit_that_is_met_before_the_program_runs_does_not_reach_the_worker() {
    let node = Node::start(Options::default());
    node.manifest("runs.yaml", &shell_pod("runs", "exec sleep 1000"));
    node.wait_running("runs", "main");
    let worker = node.worker();
    // A forgotten `Mi`.
    let limit = "resources: {limits: {memory: 128}}";
    let pod = ShellPod { name: "tiny", script: "exit 0", spec: "restartPolicy: Never", container: limit };
    node.manifest("tiny.yaml", &pod.yaml());
    node.wait_for("it has failed", |list| {
        let main = list.pod("tiny")?.container("main")?;
        (main.waiting() == Some("CreateContainerError") || main.terminated().is_some()).then_some(())
    });
    assert_eq!(node.worker(), worker);
}

#[test]
fn a_container_of_which_a_neighbour_was_oom_killed_runs_on() {
    let node = Node::start(Options::default());
    let side = r#"  - name: side
    image: busybox:1.35
    command: [sh, -c, "exec tail /dev/zero"]
    resources: {limits: {memory: 32Mi}}
"#;
    node.manifest("web.yaml", &(shell_pod("web", "exec sleep 1000") + side));
    let main = node.wait_running("web", "main");
    let last = node.wait_for("side was killed", |list| list.pod("web")?.container("side")?.last());
    assert_eq!(last, ("OOMKilled".to_owned(), 137));
    let list = node.list();
    let state = list.pod("web").unwrap().container("main").unwrap();
    assert_eq!((state.running_pid(), state.restarts()), (Some(main), 0));
}

#[test]
fn a_fork_bomb_stops_at_the_limit_and_its_pod_can_be_removed() {
    const LIMIT: u64 = 60;
    let node = Node::start(Options { config: "podPidsLimit: 60\n", ..Options::default() });
    let before = Census::take_with(&node);
    node.manifest("bomb.yaml", &shell_pod("bomb", "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000"));
    let pid = node.wait_running("bomb", "main");
    let container = process::cgroup(pid);
    let pod = container.strip_suffix("/main").unwrap();
    // Kernels before 6.11 count in the cgroup that forks, later ones where the limit stands.
    let hits = || keyed(pod, "pids.events", "max") + keyed(&container, "pids.events", "max");
    wait_until("the limit is reached", || (hits() > 0).then_some(()));
    assert_eq!(number(pod, "pids.max"), LIMIT);
    assert!(number(pod, "pids.current") <= LIMIT);
    // The others go on, and the node answers.
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    node.wait_running("web", "main");
    node.remove("web.yaml");
    node.remove("bomb.yaml");
    node.wait_gone("bomb");
    node.wait_gone("web");
    before.assert_again(|| Census::take_with(&node));
}

#[test]
fn the_processor_is_shared_out() {
    let node = Node::start(Options::default());
    let container = "resources: {limits: {cpu: 100m}}";
    let busy = ShellPod { name: "busy", script: "while :; do :; done", spec: "", container };
    node.manifest("busy.yaml", &busy.yaml());
    let pid = node.wait_running("busy", "main");
    let cgroup = process::cgroup(pid);
    assert!(
        cgroup.starts_with("/podkeep/guaranteed/") || cgroup.starts_with("/podkeep/burstable/"),
        "{cgroup}"
    );
    let throttled = || keyed(&cgroup, "cpu.stat", "nr_throttled");
    wait_until("it is throttled", || (throttled() > 0).then_some(()));
}

#[test]
fn beyond_max_pods_a_pod_waits_for_a_place() {
    let node = Node::start(Options { config: "maxPods: 1\n", ..Options::default() });
    node.manifest("one.yaml", &shell_pod("one", "exec sleep 1000"));
    node.wait_running("one", "main");
    node.manifest("two.yaml", &shell_pod("two", "exec sleep 1000"));
    let problem =
        node.wait_for("a problem", |list| list.problems().first().map(|problem| (*problem).to_owned()));
    let file = node.manifests().join("two.yaml");
    let sentence =
        "Pod default/two-node1 waits: OutOfpods, maxPods allows 1; it starts when another one is gone";
    assert_eq!(problem, format!("{}: {sentence}", file.display()));
    node.remove("one.yaml");
    node.wait_running("two", "main");
    assert_eq!(node.list().problems(), [""; 0]);
}
