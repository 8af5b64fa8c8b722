//! The life of a Pod, from its manifest to nothing.
//!
//! Run with `scripts/vm test guest_story`; anywhere else these tests fail.

mod harness;

use harness::manifest::shell_pod;
use harness::{Census, Node, Options, process};

#[test]
fn a_manifest_becomes_a_process_and_leaves_nothing_when_it_is_removed() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    node.manifest("web.yaml", &shell_pod("web", "echo up; exec sleep 1000"));
    let pid = node.wait_running("web", "main");

    assert_eq!(process::parent(pid), node.keeper());
    assert_eq!(process::pids_by_namespace(pid)[1..], [1]);
    let uid = node.list().pod("web").unwrap().uid()[..8].to_owned();
    assert_eq!(process::cgroup(pid), format!("/podkeep/besteffort/default_web-node1_{uid}/main"));

    node.remove("web.yaml");
    node.wait_gone("web");
    before.assert_again(|| Census::take_with(&node));
}
