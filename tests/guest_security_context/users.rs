//! Pods with users of their own (`hostUsers: false`): whose ids they have, for how long, and what is then different.

use std::fs;

use rustix::process::Signal;

use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, kill, process, wait_until};
use crate::job_with;

/// What users 0, 1, … of a process are on the host: the first, and how many.
fn ids(pid: u32) -> (u32, u32) {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/gid_map")).unwrap(), map);
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((words.len(), words[0]), (3, 0), "{map}");
    (words[1], words[2])
}

fn sleeper(name: &str) -> String {
    let spec = "hostUsers: false\nterminationGracePeriodSeconds: 1";
    ShellPod { name, script: "exec sleep 1000", spec, container: "" }.yaml()
}

/// Ends the container, and waits for its next run.
fn restart(node: &Node, pod: &str, pid: u32) -> u32 {
    kill(pid, Signal::KILL);
    node.wait_for("it runs again", |list| {
        list.pod(pod)?.container("main")?.running_pid().filter(|new| *new != pid)
    })
}

#[test]
fn a_pod_with_users_of_its_own_is_root_inside_only() {
    let node = Node::start(Options::default());
    let shared = node.base().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("of-root"), "").unwrap();
    let spec = format!(
        "hostUsers: false\nvolumes: [{{name: host, hostPath: {{path: {}}}}}, {{name: disk, emptyDir: {{}}}}, \
         {{name: memory, emptyDir: {{medium: Memory}}}}]",
        shared.display()
    );
    let mounts = "securityContext: {capabilities: {add: [NET_ADMIN, SYS_ADMIN]}}\nvolumeMounts: [{name: host, mountPath: /host}, {name: disk, mountPath: /disk}, {name: memory, \
                  mountPath: /memory}]";
    let script = "set -- $(cat /proc/self/uid_map); echo $1 $3; [ $2 -ge 65536 ] && echo apart; \
                  touch /disk/x /memory/x /host/made /new; stat -c %u /bin/busybox /disk/x /memory/x /host/of-root /new; \
                  hostname inner && ip link set lo down && mkdir /q && mount -t mqueue q /q && echo its own";
    let script = script.replace("$(", "$$(");
    let output = node.output_of(&job_with(&spec, mounts, &script));
    assert_eq!(output, "0 65536\napart\n0\n0\n0\n0\n0\nits own\n");
    let made = fs::metadata(shared.join("made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "its root's files are root's on a hostPath");
}

/// There are three ranges of this size.
const LARGE: &str = "userNamespaces: {idsPerPod: 1073741824}";

#[test]
fn no_two_pods_have_the_same_ids_and_those_of_a_pod_that_is_gone_are_free() {
    let node = Node::start(Options { config: LARGE, ..Options::default() });
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &sleeper(name)));
    let mut ranges = names.map(|name| ids(node.wait_running(name, "main")));
    let [_, of_b, _] = ranges;
    ranges.sort_unstable();
    assert_eq!(ranges, [65_536, 65_536 + (1 << 30), 65_536 + (2 << 30)].map(|first| (first, 1 << 30)));

    node.manifest("late.yaml", &sleeper("late"));
    let refusal = "all ranges of 1073741824 ids for user namespaces are in use";
    wait_until("the refusal", || node.node_log_text().contains(refusal).then_some(()));
    node.remove("b.yaml");
    node.wait_gone("b");
    assert_eq!(ids(node.wait_running("late", "main")), of_b);
}

#[test]
fn a_pod_keeps_its_ids_over_the_ends_of_podkeep() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &sleeper("web"));
    let mut pid = node.wait_running("web", "main");
    let (range, namespace) = (ids(pid), process::namespace(pid, "user"));
    assert!(range.0 >= 65_536 && range.1 == 65_536, "{range:?}");

    let worker = node.worker().unwrap();
    kill(worker, Signal::KILL);
    wait_until("there is a new worker", || node.worker().filter(|new| *new != worker));
    pid = restart(&node, "web", pid);
    assert_eq!((ids(pid), process::namespace(pid, "user")), (range, namespace));

    let (site, status) = node.end(Signal::USR1);
    assert!(status.success(), "{status}");
    // Nobody holds the namespace any more but the container, and then nobody.
    kill(pid, Signal::KILL);
    let node = Node::start_in(site);
    let new = node.wait_for("it runs again", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|new| *new != pid)
    });
    assert_eq!(ids(new), range);
}

#[test]
fn a_host_path_that_cannot_be_shown_as_anothers_is_refused_by_name() {
    let node = Node::start(Options::default());
    let pod = |path: &str| {
        let spec = format!("hostUsers: false\nvolumes: [{{name: host, hostPath: {{path: {path}}}}}]");
        job_with(&spec, "volumeMounts: [{name: host, mountPath: /host}]", "stat -c %u /host")
    };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    // Before kernel 6.3, tmpfs cannot either.
    let refused: &[_] = match kernel.starts_with("6.1.") {
        true => &[("/sys/fs/cgroup", "cgroup2"), ("/dev/shm", "tmpfs")],
        false => &[("/sys/fs/cgroup", "cgroup2")],
    };
    for (path, kind) in refused {
        node.manifest("job.yaml", &pod(path));
        let message = node.wait_for("the refusal", |list| {
            let main = list.pod("job")?.container("main")?;
            (!main.message().is_empty()).then(|| main.message().to_owned())
        });
        let sentence = format!(
            "open {path}: EINVAL (its file system, {kind}, cannot show its files as another user's on this kernel)"
        );
        assert!(message.contains(&sentence), "{message}");
        node.remove("job.yaml");
        node.wait_gone("job");
    }
    if refused.len() == 1 {
        assert_eq!(node.output_of(&pod("/dev/shm")), "0\n");
    }
}

#[test]
fn its_proc_can_be_without_masks_and_its_sysctls_are_set() {
    let node = Node::start(Options::default());
    let spec = "hostUsers: false\nsecurityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '7'}, \
                {name: kernel.shm_rmid_forced, value: '1'}]}";
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; \
                  grep -c ' /proc/' /proc/self/mountinfo; (echo 9 >/proc/sys/net/ipv4/ip_unprivileged_port_start) 2>&1; \
                  cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let look = |more: &str| {
        let container = format!("securityContext: {{capabilities: {{add: [NET_ADMIN]}}{more}}}");
        node.output_of(&job_with(spec, &container, script))
    };
    assert_eq!(look(", procMount: Unmasked"), "7\n1\n0\n9\n");
    let masked = look("");
    let lines: Vec<&str> = masked.lines().collect();
    assert!(lines[2].parse::<u32>().unwrap() > 5 && masked.contains("Read-only"), "{masked}");
    assert_eq!((lines[0], lines[1], *lines.last().unwrap()), ("7", "1", "7"), "{masked}");
}
