//! Namespaces of another container, joined by their paths.

use podkeep::container::{Mappings, Namespaces, user_namespace};
use podkeep::sys::spawner::Spawner;
use serde_json::json;

use crate::bench::{Bench, Running};
use crate::with_users;

/// A container that stays, and another one's `Spec` that joins its namespace of that kind.
fn joining(first: &mut Bench, kind: &str, name: &str) -> (Running, Bench) {
    let running = first.start("echo up; exec sleep 1000");
    running.wait_for("up");
    let mut second = Bench::new();
    second.remove_namespace(kind);
    let path = format!("/proc/{}/ns/{name}", running.pid());
    second.add_namespace(json!({"type": kind, "path": path}));
    (running, second)
}

fn of_the_host(running: &Running, name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{}/ns/{name}", running.pid())).unwrap();
    link.into_os_string().into_string().unwrap()
}

#[test]
fn a_user_namespace_by_its_path_has_the_maps_of_whoever_made_it() {
    let mut first = Bench::new();
    with_users(&mut first);
    let (running, mut second) = joining(&mut first, "user", "user");
    second.give_root_to(1_000_000);
    let output = second.run("readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u; hostname").success();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, [&of_the_host(&running, "user"), "0", "1000000", "65536", "0", "bench"], "{output}");
}

#[test]
fn a_cgroup_namespace_by_its_path_has_another_root() {
    let mut first = Bench::new();
    let (running, mut second) = joining(&mut first, "cgroup", "cgroup");
    let output = second.run("readlink /proc/self/ns/cgroup; cat /proc/self/cgroup").success();
    let expected = format!("{}\n0::/../{}", of_the_host(&running, "cgroup"), second.cgroup_name());
    assert_eq!(output, expected);
}

#[test]
fn a_time_namespace_by_its_path_has_its_offsets() {
    let mut first = Bench::new();
    first.add_namespace(json!({"type": "time"}));
    first.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let (running, mut second) = joining(&mut first, "time", "time");
    let output = second.run("readlink /proc/self/ns/time; cat /proc/uptime").success();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[0], of_the_host(&running, "time"));
    assert!(words[1].parse::<f64>().unwrap() > 1_000_000.0, "{output}");
}

/// Found here: the session was that of the process before it, so that none of these could have a terminal.
#[test]
fn who_is_cloned_inside_leads_a_session() {
    let session = "cut -d' ' -f6 /proc/self/stat";
    let mut bench = Bench::new();
    with_users(&mut bench);
    assert_eq!(bench.run(session).success(), "1");
    let mut bench = Bench::new();
    bench.add_namespace(json!({"type": "time"}));
    assert_eq!(bench.run(session).success(), "1");
}

/// What the node's worker does for a Pod with users of its own: the process that joins shares the test's memory.
#[test]
fn a_spawners_child_that_clones_another_allocates_nothing() {
    let spawner = Spawner::default();
    let mut bench = Bench::new();
    with_users(&mut bench);
    assert_eq!(bench.run_by(&spawner, "id -u; hostname"), "0\nbench\n");
}

#[test]
fn a_pause_process_is_made_without_allocating() {
    for users in [None, Some(Mappings::range(1_000_000, 65_536))] {
        let user = users.map(|mappings| user_namespace(&mappings).unwrap());
        let bench = Bench::new();
        let running = bench.pause(Namespaces { user, ..Namespaces::default() });
        assert_ne!(of_the_host(&running, "pid"), crate::own_namespace("pid"));
    }
}
