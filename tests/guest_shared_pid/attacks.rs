//! What containers may not do to PID 1, nor by way of it.

use std::fs;

use super::{SHARED, inside, kill, pause, pids, process, try_inside, wait_until, web};
use rustix::process::Signal;

/// Lines of `/proc/1` that lead to a process's files and memory: refused, each.
const REACH: &str = "for f in exe root cwd; do readlink /proc/1/$f && echo REACHED $f; done; \
                     for f in environ maps auxv mem; do head -c 1 /proc/1/$f >/dev/null && echo REACHED $f; done; \
                     ls /proc/1/root/ && echo REACHED root; \
                     [ -z \"$(ls /proc/1/fd)\" ] || echo REACHED fd";

fn assert_out_of_reach(container: &str, users: &str) {
    let node = web(&format!("{users}{SHARED}"), container);
    let seen = inside(&node, REACH);
    assert!(!seen.contains("REACHED"), "{users}{container}:\n{seen}");
}

#[test]
fn a_containers_root_does_not_reach_what_pid_1_has() {
    assert_out_of_reach("", "");
    assert_out_of_reach("securityContext: {runAsUser: 65535, runAsGroup: 65535}", "");
    // Capabilities of the Pod's own user namespace are none over it: it belongs to root outside.
    assert_out_of_reach(
        "securityContext: {capabilities: {add: [SYS_PTRACE, SYS_ADMIN]}}",
        "hostUsers: false\n",
    );
}

#[test]
fn there_is_nothing_of_the_host_behind_pid_1_even_for_who_may_trace() {
    let node = web(SHARED, "securityContext: {capabilities: {add: [SYS_PTRACE]}}");
    let seen = inside(&node, "readlink /proc/1/exe; ls /proc/1/fd | wc -l; ls -A /proc/1/root/ | wc -l");
    assert_eq!(seen, "/memfd:podkeep-pause (deleted)\n0\n0\n");
    for attack in ["echo x >/proc/1/root/x", "echo x >/proc/1/exe", "echo x >>/proc/1/exe"] {
        assert!(!try_inside(&node, attack).status.success(), "{attack}");
    }
    let network = inside(&node, "cat /proc/1/net/dev");
    let interfaces = network.lines().filter(|line| line.contains(':')).count();
    assert_eq!(interfaces, 2, "the Pod's loopback and its link:\n{network}");
}

#[test]
fn no_signal_from_inside_ends_or_stops_it_and_none_but_sigkill_from_outside() {
    let node = web(SHARED, "");
    let (before, pause) = (pids(&node), pause());
    inside(&node, "for s in $(seq 1 64); do kill -$s 1; done; true");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::CHILD] {
        kill(pause, signal);
    }
    assert_eq!(process::status(pause, "State").as_deref(), Some("S (sleeping)"));
    // Nothing is kept for later either.
    assert_eq!(process::status(pause, "ShdPnd").as_deref(), Some("0000000000000000"));
    // Stopped from outside, it still reaps: the kernel does.
    kill(pause, Signal::STOP);
    inside(&node, "sleep 0 & sleep 0 &");
    wait_until("they are reaped", || process::children(pause).is_empty().then_some(()));
    kill(pause, Signal::CONT);
    assert_eq!(pids(&node), before);
}

#[test]
fn it_has_no_right_no_file_and_hardly_any_memory() {
    let _node = web(SHARED, "");
    let pause = pause();
    let status = |field: &str| process::status(pause, field).unwrap();
    let none = "0000000000000000";
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(set), none, "{set}");
    }
    assert_eq!(status("Uid"), "65535\t65535\t65535\t65535");
    assert_eq!(status("Gid"), "65535\t65535\t65535\t65535");
    assert_eq!(
        (status("Groups").as_str(), status("NoNewPrivs").as_str(), status("Seccomp").as_str()),
        ("", "1", "2")
    );
    assert_eq!(fs::read_to_string(format!("/proc/{pause}/oom_score_adj")).unwrap().trim(), "-998");
    for folder in ["fd", "root"] {
        assert_eq!(fs::read_dir(format!("/proc/{pause}/{folder}/")).unwrap().count(), 0, "{folder}");
    }
    // The counters of `status` are too coarse for so little (kernel 6.1).
    let rollup = fs::read_to_string(format!("/proc/{pause}/smaps_rollup")).unwrap();
    let kib = |field: &str| -> u32 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let charged =
        fs::read_to_string(format!("/sys/fs/cgroup{}/memory.current", process::cgroup(pause))).unwrap();
    let memory = ["Rss", "Anonymous"].map(|field| (field, kib(field)));
    println!("{memory:?} KiB; page tables {}; memory.current {}", status("VmPTE"), charged.trim());
    assert!(kib("Anonymous") <= 16 && kib("Rss") <= 32, "{memory:?}");
}
