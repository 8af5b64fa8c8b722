//! Who may reach a Pod: `podkeep.io/ingress`, as a manifest says it.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use super::web::{addresses, asked_from_host, behind_port, host_name, server, url, with_ingress};
use super::world::World;
use crate::harness::{Node, Options, wait_until};
use crate::host::{UPLINK4, UPLINK6};

#[test]
fn who_may_reach_a_pod_is_its_annotations_to_say() {
    let world = World::new();
    let node = Node::start(Options::default());
    node.manifest("asks.yaml", &server("asks"));
    // Who reaches it: the host by its address, the world by its port, another Pod by its address, and by its port.
    let cases = [
        ("none", [false; 4]),
        ("hostport", [false, true, false, true]),
        ("pods", [false, false, true, true]),
        ("all", [true; 4]),
    ];
    for (port, (ingress, _)) in (9090..).zip(cases) {
        let manifest = behind_port(ingress, &format!("ports: [{{containerPort: 80, hostPort: {port}}}]"));
        node.manifest(&format!("{ingress}.yaml"), &with_ingress(&manifest, ingress));
    }
    node.wait_running("asks", "main");
    let asks = |from: &str, at: SocketAddr| {
        // busybox's own `-T` ends in a SIGSEGV.
        let command = ["exec", from, "--", "timeout", "3", "wget", "-q", "-O", "-", &url(at)];
        node.try_ask(&command).status.success()
    };
    let reached = |port: u16, ingress: &str, own: IpAddr, uplink: IpAddr| {
        let from_world = world.asks((uplink, port).into());
        assert!(from_world.iter().all(|said| *said == host_name(ingress)));
        [
            asked_from_host(own).is_some(),
            from_world.is_some(),
            asks("asks", (own, 80).into()),
            asks("asks", (uplink, port).into()),
        ]
    };
    // All at once: who is not let in waits for seconds.
    thread::scope(|scope| {
        for (port, (ingress, expected)) in (9090..).zip(cases) {
            node.wait_running(ingress, "main");
            let uplinks = [IpAddr::from(UPLINK4), UPLINK6.into()];
            let own = addresses(&node, ingress);
            // As its own probes would see.
            wait_until("it listens", || asks(ingress, (own[0], 80).into()).then_some(()));
            for (own, uplink) in own.into_iter().zip(uplinks) {
                let reached = &reached;
                scope.spawn(move || {
                    assert_eq!(reached(port, ingress, own, uplink), expected, "{ingress}: {own}");
                });
            }
        }
    });
}
