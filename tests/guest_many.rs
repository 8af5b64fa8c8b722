//! Many Pods at once: they come up, live and go, and the machine is as it was.
//!
//! Run with `scripts/vm test guest_many`; anywhere else these tests fail.

mod harness;

use std::collections::BTreeSet;
use std::fs;

use harness::manifest::ShellPod;
use harness::{Census, Node, Options, process, wait_until};

const PODS: usize = 30;

fn name(number: usize) -> String {
    format!("pod-{number}")
}

fn manifest(number: usize) -> String {
    let spec = "terminationGracePeriodSeconds: 1
volumes: [{name: ram, emptyDir: {medium: Memory}}, {name: disk, emptyDir: {}}]";
    let container = "volumeMounts: [{name: ram, mountPath: /ram}, {name: disk, mountPath: /disk}]";
    let script = "date >/ram/date; date >/disk/date; date >/date; exec sleep 1000";
    ShellPod { name: &name(number), script, spec, container }.yaml()
}

/// Waits until all run; their PIDs.
fn wait_all_running(node: &Node) -> BTreeSet<u32> {
    node.wait_for("all Pods run", |list| {
        (0..PODS).map(|number| list.pod(&name(number))?.container("main")?.running_pid()).collect()
    })
}

/// Open files of the keeper and the worker.
fn open_files(node: &Node) -> [usize; 2] {
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    [node.keeper(), node.worker().expect("the worker is there")].map(count)
}

#[test]
fn thirty_pods_come_and_go_and_leave_nothing() {
    let machine = Census::take();
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    let mut open_after_first = None;
    for _round in 0..2 {
        (0..PODS).for_each(|number| node.manifest(&format!("{number}.yaml"), &manifest(number)));
        let pids = wait_all_running(&node);
        assert_eq!(pids.len(), PODS);
        assert_eq!(BTreeSet::from_iter(process::in_cgroup("/podkeep")), pids);
        for pid in &pids {
            assert_eq!(process::parent(*pid), node.keeper());
        }
        let networks: BTreeSet<_> = pids.iter().map(|pid| process::namespace(*pid, "net")).collect();
        assert_eq!(networks.len(), PODS);

        (0..PODS).for_each(|number| node.remove(&format!("{number}.yaml")));
        node.wait_for("all Pods are gone", |list| list.pods().next().is_none().then_some(()));
        before.assert_again(|| Census::take_with(&node));
        // An asker of a moment ago may still be counted; what is left open by thirty Pods is more than that.
        let [keeper, worker] = *open_after_first.get_or_insert_with(|| open_files(&node));
        wait_until("no more files are open than after the first round", || {
            let now = open_files(&node);
            (now[0] <= keeper && now[1] <= worker).then_some(())
        });
    }
    let site = node.stop();
    machine.assert_again(Census::take);
    drop(site);
}

#[test]
fn a_file_of_thirty_pods_is_stopped_with_podkeep() {
    let machine = Census::take();
    let node = Node::start(Options::default());
    let all: Vec<String> = (0..PODS).map(manifest).collect();
    node.manifest("all.yaml", &all.join("---\n"));
    wait_all_running(&node);
    let site = node.stop();
    machine.assert_again(Census::take);
    drop(site);
}
