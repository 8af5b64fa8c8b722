//! Limits that a container runs into, and what the node says and does then.
//!
//! Run with `scripts/vm test guest_limits`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;
#[path = "guest_limits/quotas.rs"]
mod quotas;

use std::fs;
use std::path::Path;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Census, Node, Options, kill, process, wait_until};
use rustix::process::Signal;

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

/// From a forgotten `Mi` on: what a process on its way to exec takes of the kernel's memory is its container's, so each of these
/// limits is met at another step, and the last ones by the program. The process shares the worker's memory, and whom the kernel
/// kills for want of memory takes all with it that share its own.
#[test]
fn a_limit_that_is_met_before_the_program_runs_does_not_reach_the_worker() {
    const LIMITS: [&str; 13] = [
        "128", "4Ki", "8Ki", "12Ki", "16Ki", "32Ki", "48Ki", "64Ki", "96Ki", "128Ki", "256Ki", "1Mi", "32Mi",
    ];
    let node = Node::start(Options::default());
    node.manifest("runs.yaml", &shell_pod("runs", "exec sleep 1000"));
    let runs = node.wait_running("runs", "main");
    let worker = node.worker();
    for spec in ["", "shareProcessNamespace: true", "hostUsers: false"] {
        let out_of_memory = || keyed("/podkeep/burstable", "memory.events", "oom");
        let before = out_of_memory();
        for (number, limit) in LIMITS.iter().enumerate() {
            let container = &format!("resources: {{limits: {{memory: {limit}}}}}");
            let spec = &format!("restartPolicy: Never\n{spec}");
            let pod = ShellPod { name: &format!("tiny{number}"), script: "exit 0", spec, container };
            node.manifest(&format!("tiny{number}.yaml"), &pod.yaml());
        }
        let mut ends = Vec::new();
        for (number, limit) in LIMITS.iter().enumerate() {
            let end = node.wait_for(&format!("the end of the Pod with {limit}"), |list| {
                let main = list.pod(&format!("tiny{number}"))?.container("main")?;
                let refused = (main.waiting() == Some("CreateContainerError"))
                    .then(|| ("CreateContainerError".to_owned(), -1));
                main.terminated().or(refused).map(|(reason, _)| (reason, main.message().to_owned()))
            });
            eprintln!("{spec} {limit}: {end:?}");
            ends.push(end);
        }
        assert_eq!(node.worker(), worker, "{spec}");
        assert!(out_of_memory() > before, "{spec}: no limit was met");
        let asks = |(_, message): &(String, String)| message.contains("memory limit too low to start it?");
        assert!(ends.iter().any(asks), "{ends:?}");
        assert_eq!(ends[LIMITS.len() - 1].0, "Completed", "{ends:?}");
        for number in 0..LIMITS.len() {
            node.remove(&format!("tiny{number}.yaml"));
        }
        for number in 0..LIMITS.len() {
            node.wait_gone(&format!("tiny{number}"));
        }
    }
    assert_eq!(node.wait_running("runs", "main"), runs);
    // And no thread is left waiting for a child.
    let worker = worker.unwrap();
    wait_until("one thread waits for the next start", || (clone_threads(worker) <= 1).then_some(()));
}

fn clone_threads(worker: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{worker}/task")).unwrap();
    let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")));
    names.filter(|name| name.as_ref().is_ok_and(|name| name.trim() == "podkeep-clone")).count()
}

/// A Pod whose cgroup was frozen while its container ran, and whose container was killed: its next process is born frozen.
struct Frozen {
    /// The container's cgroup.
    container: String,
    born: u32,
}

impl Frozen {
    fn make(node: &Node, pod: &str) -> Frozen {
        let first = node.wait_running(pod, "main");
        let container = process::cgroup(first);
        let mut frozen = Frozen { container, born: 0 };
        frozen.freeze("1");
        // SIGKILL thaws who gets it.
        kill(first, Signal::KILL);
        frozen.born = wait_until("the next one is born", || {
            process::in_cgroup(&frozen.container).into_iter().find(|pid| *pid != first)
        });
        frozen
    }

    fn freeze(&self, word: &str) {
        let dir = Path::new("/sys/fs/cgroup").join(self.container.trim_start_matches('/'));
        fs::write(dir.parent().unwrap().join("cgroup.freeze"), word).unwrap();
    }
}

/// A process on its way that its cgroup holds up says nothing, and nobody waits for it.
#[test]
fn a_start_in_a_frozen_pod_holds_up_no_other() {
    let node = Node::start(Options::default());
    let spec = "terminationGracePeriodSeconds: 1\nshareProcessNamespace: true";
    let cold = ShellPod { name: "cold", script: "exec sleep 1000", spec, container: "" };
    node.manifest("cold.yaml", &cold.yaml());
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let web = node.wait_running("web", "main");
    let cold = Frozen::make(&node, "cold");
    kill(web, Signal::KILL);
    wait_until("the other Pod runs again", || (node.wait_running("web", "main") != web).then_some(()));
    assert_eq!(node.list().pod("cold").unwrap().container("main").unwrap().running_pid(), None);

    // A worker that comes after this one knows of it.
    node.wait_for_new_worker(node.kill_worker());
    assert_eq!(process::in_cgroup(&cold.container), [cold.born]);
    cold.freeze("0");
    // It has nobody any more to say to that it is there, and comes to its program all the same: that it was killed once is all
    // that is counted.
    assert_eq!(node.wait_running("cold", "main"), cold.born);
    assert_eq!(process::in_cgroup(&cold.container), [cold.born]);
    assert_eq!(node.list().pod("cold").unwrap().container("main").unwrap().restarts(), 1);
}

#[test]
fn a_start_in_a_frozen_pod_can_be_given_up() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    node.manifest("cold.yaml", &shell_pod("cold", "exec sleep 1000"));
    Frozen::make(&node, "cold");
    node.remove("cold.yaml");
    node.wait_gone("cold");
    before.assert_again(|| Census::take_with(&node));
}

/// The least that a Pod may have of the CPU is 1 ms in 100, and a process on its way takes more than that. It comes to its program
/// when it comes: nobody waits for it.
#[test]
fn a_start_in_a_throttled_pod_holds_up_no_other() {
    let node = Node::start(Options::default());
    let spec = "terminationGracePeriodSeconds: 1";
    let container = "resources: {limits: {cpu: 1m}}";
    let slow = ShellPod { name: "slow", script: "exec sleep 1000", spec, container };
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let web = node.wait_running("web", "main");
    node.manifest("slow.yaml", &slow.yaml());
    let born = wait_until("it is born", || process::in_cgroup("/podkeep/burstable").first().copied());
    let container = process::cgroup(born);
    let pod = container.strip_suffix("/main").unwrap();
    let limit = |text: &str| {
        for group in [pod, &container] {
            let dir = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
            fs::write(dir.join("cpu.max"), text).unwrap();
        }
    };
    assert_eq!([pod, &container].map(|group| interface_file(group, "cpu.max")), ["1000 100000\n"; 2]);
    // A tenth of that, so that it cannot be there before the others, however slow they are.
    limit("1000 1000000");
    wait_until("it is throttled", || (keyed(pod, "cpu.stat", "nr_throttled") > 0).then_some(()));

    kill(web, Signal::KILL);
    wait_until("the other Pod runs again", || (node.wait_running("web", "main") != web).then_some(()));
    node.manifest("new.yaml", &shell_pod("new", "exec sleep 1000"));
    node.wait_running("new", "main");
    assert_eq!(node.list().pod("slow").unwrap().container("main").unwrap().running_pid(), None);
    assert_eq!(process::in_cgroup(&container), [born]);

    limit("max");
    assert_eq!(node.wait_running("slow", "main"), born);
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

/// What a Pod says of itself goes before the sums of its containers.
#[test]
fn a_pods_own_limits_are_its_groups_and_its_containers_have_theirs() {
    const MIB: u64 = 1 << 20;
    let node = Node::start(Options::default());
    let spec = "terminationGracePeriodSeconds: 1\nresources:\n  requests: {cpu: 500m, memory: 64Mi}\n  \
                limits: {cpu: 2, memory: 128Mi, hugepages-2Mi: 4Mi}";
    let container =
        "resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {memory: 48Mi, hugepages-2Mi: 2Mi}}";
    let side = "  - {name: side, image: 'busybox:1.35', command: [sleep, '1000']}\n";
    let web = ShellPod { name: "web", script: "exec sleep 1000", spec, container }.yaml() + side;
    node.manifest("web.yaml", &web);
    let pids = ["main", "side"].map(|name| node.wait_running("web", name));
    let [main, side] = pids.map(process::cgroup);
    let pod = main.strip_suffix("/main").unwrap();
    assert!(pod.starts_with("/podkeep/burstable/"), "{pod}");
    let limits = |group: &str| {
        let files = ["cpu.weight", "cpu.max", "memory.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"];
        files.map(|file| interface_file(group, file).trim().to_owned()).join(", ")
    };
    let bytes = |mib: u64| (mib * MIB).to_string();
    let [pages, page, all, own] = [4, 2, 128, 48].map(bytes);
    assert_eq!(limits(pod), format!("59, 200000 100000, {all}, {pages}, {pages}"));
    assert_eq!(limits(&main), format!("35, 200000 100000, {own}, {page}, {page}"));
    // Where a container names none, it has the Pod's, and so knows them.
    assert_eq!(limits(&side), format!("174, 200000 100000, {all}, {pages}, {pages}"));

    // What the Pod has asked for and its containers have not is shared equally among them.
    let memory = rustix::system::sysinfo().totalram as u64;
    let scores = pids.map(oom_score_adj);
    let expected = [32 + 16, 16].map(|mib| 1000 - (mib * MIB * 1000 / memory) as i32);
    assert_eq!(scores, expected);
    assert_ne!(scores[0], scores[1]);
}

fn oom_score_adj(pid: u32) -> i32 {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

#[test]
fn a_class_weighs_what_its_pods_ask_for_together() {
    let node = Node::start(Options::default());
    let weight = || number("/podkeep/burstable", "cpu.weight");
    let asking = |name, cpu: &str| {
        let container = format!("resources: {{requests: {{cpu: {cpu}}}}}");
        let spec = "terminationGracePeriodSeconds: 1";
        ShellPod { name, script: "exec sleep 1000", spec, container: &container }.yaml()
    };
    node.manifest("a.yaml", &asking("a", "400m"));
    node.wait_running("a", "main");
    let of_one = weight();
    node.manifest("b.yaml", &asking("b", "600m"));
    node.wait_running("b", "main");
    assert_eq!(weight(), 100, "one core, a weight of 1024 shares");
    node.remove("b.yaml");
    node.wait_gone("b");
    assert_eq!(weight(), of_one);
    node.remove("a.yaml");
    node.wait_gone("a");
    assert_eq!(weight(), 1, "nobody asks for anything");
}

#[test]
fn what_the_node_cannot_be_without_is_killed_last() {
    let node = Node::start(Options::default());
    let spec = "priorityClassName: system-node-critical";
    node.manifest(
        "dns.yaml",
        &ShellPod { name: "dns", script: "exec sleep 1000", spec, container: "" }.yaml(),
    );
    assert_eq!(oom_score_adj(node.wait_running("dns", "main")), -997);
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

/// The reason and the message of a Pod that has failed.
fn failure(node: &Node, name: &str) -> (String, String) {
    node.wait_for(&format!("{name} fails"), |list| {
        let pod = list.pod(name).filter(|pod| pod.phase() == "Failed")?;
        // It says so at once, and may still be ending.
        pod.container("main")?.terminated()?;
        Some((pod.0["status"]["reason"].as_str()?.to_owned(), pod.message().to_owned()))
    })
}

/// Beside one that stays within its limit.
#[test]
fn who_writes_more_to_the_disk_than_it_may_is_evicted_for_good() {
    let node = Node::start(Options { config: "volumeStatsAggPeriod: 100ms\n", ..Options::default() });
    let spec = "terminationGracePeriodSeconds: 1\nvolumes: [{name: data, emptyDir: {sizeLimit: 2Mi}}]";
    let mount = "volumeMounts: [{name: data, mountPath: /data}]";
    let limit = "resources: {limits: {ephemeral-storage: 2Mi}}";
    let write = "head -c 1000000 /dev/zero >/data/some; touch /data/wrote; exec sleep 1000";
    let neighbour =
        ShellPod { name: "neighbour", script: write, spec, container: &format!("{limit}\n{mount}") };
    node.manifest("neighbour.yaml", &neighbour.yaml());
    let runs = node.wait_running("neighbour", "main");

    let pod = |name, script, container| ShellPod { name, script, spec, container }.yaml();
    let lines = "yes $(head -c 1000 /dev/zero | tr '\\0' x) | head -n 3000; exec sleep 1000";
    let too_much = "head -c 3000000 /dev/zero >/data/big; exec sleep 1000";
    node.manifest("volume.yaml", &pod("volume", too_much, mount));
    node.manifest("layer.yaml", &pod("layer", "head -c 3000000 /dev/zero >/big; exec sleep 1000", limit));
    node.manifest("logs.yaml", &pod("logs", lines, limit));
    let evicted = |message: &str| ("Evicted".to_owned(), message.to_owned());
    assert_eq!(
        failure(&node, "volume"),
        evicted("Usage of EmptyDir volume \"data\" exceeds the limit \"2Mi\".")
    );
    let container = "Container main exceeded its local ephemeral storage limit \"2Mi\".";
    for name in ["layer", "logs"] {
        assert_eq!(failure(&node, name), evicted(container), "{name}");
    }
    let told = node.ask(&["events"]);
    assert_eq!(told.matches(" Evicted ").count(), 3, "{told}");

    // The disk has it back, and a new worker does not begin anew.
    let list = node.list();
    let folder = node.root().join("pods").join(list.pod("volume").unwrap().uid().replace('-', ""));
    wait_until("what it wrote is gone", || (!folder.join("volumes").exists()).then_some(()));
    node.wait_for_new_worker(node.kill_worker());
    assert_eq!(failure(&node, "volume").0, "Evicted");
    let list = node.list();
    assert_eq!(list.pod("volume").unwrap().container("main").unwrap().restarts(), 0);
    assert_eq!(list.pod("neighbour").unwrap().container("main").unwrap().running_pid(), Some(runs));
}

/// Nothing can be written into a file of huge pages: it is allocated, and mapped.
#[test]
fn an_empty_dir_of_huge_pages_has_as_many_as_its_limit_says() {
    let reserved = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    fs::write(reserved, "4").unwrap();
    assert_eq!(fs::read_to_string(reserved).unwrap(), "4\n", "the machine has memory in one piece");
    let node = Node::start(Options::default());
    let spec = "restartPolicy: Never\nsecurityContext: {runAsUser: 1000}\n\
                volumes: [{name: huge, emptyDir: {medium: HugePages-2Mi, sizeLimit: 4Mi}}]";
    let container = "resources: {limits: {memory: 64Mi, hugepages-2Mi: 6Mi}}\n\
                     volumeMounts: [{name: huge, mountPath: /huge}]";
    let script = "grep -o ' /huge hugetlbfs' /proc/mounts; grep -o 'pagesize=2M' /proc/mounts
        stat -c %a /huge; fallocate -l 4M /huge/a && echo two; fallocate -l 2M /huge/b 2>/dev/null || echo full";
    let output = node.output_of(&ShellPod { name: "job", script, spec, container }.yaml());
    assert_eq!(output, " /huge hugetlbfs\npagesize=2M\n777\ntwo\nfull\n");
    let mounted = || harness::census::mount_points().iter().any(|point| point.starts_with(node.base()));
    wait_until("it is unmounted", || (!mounted()).then_some(()));
    fs::write(reserved, "0").unwrap();
    assert_eq!(fs::read_to_string(reserved).unwrap(), "0\n", "no page is in use any more");
}
