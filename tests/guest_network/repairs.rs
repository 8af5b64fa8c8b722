//! What others do to the network of Pods is put right when the kernel tells of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::web::{addresses, asked_at, behind_port, host_name, ip, nft};
use crate::harness::{Node, Options, wait_until};
use crate::namespace::Namespace;

/// What is left of the timers that a process has set, in seconds.
fn timers(pid: u32) -> Vec<u64> {
    let process = Path::new("/proc").join(pid.to_string());
    let entries = fs::read_dir(process.join("fd")).unwrap().map(|entry| entry.unwrap());
    let is_timer = |path: &Path| fs::read_link(path).is_ok_and(|to| to == Path::new("anon_inode:[timerfd]"));
    let timers = entries.filter(|entry| is_timer(&entry.path()));
    let left = timers.map(|timer| {
        let info = fs::read_to_string(process.join("fdinfo").join(timer.file_name())).unwrap();
        let value = info.lines().find_map(|line| line.strip_prefix("it_value: (")).unwrap();
        value.split_once(',').unwrap().0.parse().unwrap()
    });
    left.collect()
}

/// Returns when the worker waits for no time that comes soon: what it does within the next minutes, somebody has told it.
fn await_rest(node: &Node) {
    let worker = node.worker().unwrap();
    wait_until("the loop rests", || {
        let timers = timers(worker);
        assert!(!timers.is_empty(), "the loop has another clock than this test knows");
        timers.into_iter().all(|left| left == 0 || left > 600).then_some(())
    });
}

#[test]
fn links_routes_and_rules_are_put_right_when_the_kernel_tells_and_by_no_clock() {
    let node = Node::start(Options { config: "fileCheckFrequency: 1h\n", ..Options::default() });
    node.manifest("web.yaml", &behind_port("web", "ports: [{containerPort: 80, hostPort: 8080}]"));
    node.wait_running("web", "main");
    let own = addresses(&node, "web");
    let mut ways: Vec<SocketAddr> = own.iter().map(|own| SocketAddr::new(*own, 80)).collect();
    ways.push((Ipv4Addr::LOCALHOST, 8080).into());
    wait_until("an answer", || asked_at(ways[0]));
    let host = Namespace::own();
    nft("table ip theirs { chain c { tcp dport 9 drop; }; }");
    let theirs = || host.nft(&["list", "table", "ip", "theirs"], "");
    let before = theirs();
    let link = "pk0acb0002";
    for harm in [
        &format!("ip link set {link} down"),
        &format!("ip link del {link}"),
        "ip route del 10.203.0.2",
        "ip -6 route flush proto 112",
        "ip addr del 10.203.0.1/32 dev lo",
        "nft delete table inet podkeep",
        "nft flush chain inet podkeep hostports",
        "nft flush map inet podkeep hostports4",
        "nft flush ruleset",
    ] {
        await_rest(&node);
        assert_eq!(theirs(), before);
        let (program, rest) = harm.split_once(' ').unwrap();
        host.run(program, &rest.split(' ').collect::<Vec<_>>(), "");
        for way in &ways {
            assert_eq!(wait_until(harm, || asked_at(*way)), host_name("web"), "{harm}");
        }
        let neighbours = host.run("ip", &["neigh"], "");
        assert!(own.iter().all(|ip| neighbours.contains(&ip.to_string())), "{harm}: {neighbours}");
    }

    // What others drop has the last word: it is named as long as it is there.
    nft("table ip theirs { chain passing { type filter hook forward priority 0; policy drop; }; }");
    let named = "network: another firewall drops: table ip theirs, chain passing: policy drop";
    node.wait_for(named, |list| list.to_string().contains(named).then_some(()));
    nft("delete table ip theirs");
    node.wait_for("it is gone", |list| (!list.to_string().contains(named)).then_some(()));
}

#[test]
fn what_a_take_over_could_not_do_is_done_when_nothing_stands_in_its_way_any_more() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &behind_port("web", "ports: [{containerPort: 80, hostPort: 8086}]"));
    node.wait_running("web", "main");
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 8086));
    wait_until("an answer", || asked_at(at));
    ip("route add 10.203.7.0/24 dev lo");
    node.wait_for_new_worker(node.kill_worker());
    node.wait_for("why not", |list| {
        let why = "network: the host has a route to 10.203.7.0/24, which lies in `podCIDR`";
        list.to_string().contains(why).then_some(())
    });
    // Nobody puts it back meanwhile.
    nft("delete table inet podkeep");
    ip("route del 10.203.7.0/24 dev lo");
    assert_eq!(wait_until("the port is back", || asked_at(at)), host_name("web"));
    node.wait_for("nothing is amiss", |list| (!list.to_string().contains("network:")).then_some(()));
    // And from then on as ever.
    nft("flush ruleset");
    wait_until("the port is back again", || asked_at(at));
}
