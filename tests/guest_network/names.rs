//! Pods find each other by name, and everybody else as the host does; on nodes of either family of addresses, and of both.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::thread;

use rustix::process::Signal;

use super::web::{addresses, behind_port, clear_host, host_name, server, url};
use super::world::World;
use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, kill, wait_until};
use crate::host::{UPLINK4, UPLINK6};

/// A server of the host's, for everything that is no Pod, at this address: it knows `dns.site` alone.
fn serve_names(at: &str) -> thread::JoinHandle<()> {
    fs::write("/etc/resolv.conf", format!("nameserver {at}\n")).unwrap();
    let socket = UdpSocket::bind((at, 53)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            let is_known = answer[12..].starts_with(b"\x03dns\x04site\x00\x00\x01");
            answer[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
            // What was added to the question (EDNS) is not answered.
            answer[10..12].copy_from_slice(&[0, 0]);
            answer.truncate(12 + 10 + 4);
            if is_known {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    })
}

/// What busybox finds out in a Pod.
fn look(node: &Node, from: &str, name: &str) -> String {
    let found = node.try_ask(&["exec", from, "--", "nslookup", name]);
    String::from_utf8_lossy(&found.stdout).into_owned() + &String::from_utf8_lossy(&found.stderr)
}

#[test]
fn pods_find_each_other_by_name_and_everybody_else_as_the_host_does() {
    serve_names("127.0.0.53");
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &server("web"));
    let named = "hostname: first\nsubdomain: db\nterminationGracePeriodSeconds: 0";
    let script = "exec sleep 1000";
    let manifest = |name| ShellPod { name, script, spec: named, container: "" }.yaml();
    node.manifest("one.yaml", &manifest("one"));
    for pod in ["web", "one"] {
        node.wait_running(pod, "main");
    }
    let (web, one) = (addresses(&node, "web"), addresses(&node, "one"));
    let is_found = |from: &str, name: &str, all: &[IpAddr]| {
        let answer = look(&node, from, name);
        assert!(all.iter().all(|ip| answer.contains(&ip.to_string())), "{name}: {answer}");
    };
    is_found("one", "web.default.pod.podkeep.internal", &web);
    is_found("web", "first.db.default.svc", &one);
    is_found("web", "db.default.svc", &one);
    is_found("one", "dns.site", &["192.0.2.7".parse().unwrap()]);
    // By a short name, as programs do it: through the search list.
    let url = "http://web/name";
    assert_eq!(
        node.ask(&["exec", "one", "--", "wget", "-q", "-O", "-", url]),
        format!("{}\n", host_name("web"))
    );
    let resolv = node.ask(&["exec", "one", "--", "cat", "/etc/resolv.conf"]);
    assert!(
        resolv.contains("search default.pod.podkeep.internal pod.podkeep.internal default.svc svc\n"),
        "{resolv}"
    );
    assert!(resolv.contains("nameserver 10.203.0.1\n"), "{resolv}");

    kill(node.worker().unwrap(), Signal::KILL);
    wait_until("a new worker knows them too", || {
        look(&node, "one", "web.default.pod.podkeep.internal").contains(&web[0].to_string()).then_some(())
    });
    fs::remove_file(node.manifests().join("web.yaml")).unwrap();
    node.wait_gone("web");
    let gone = look(&node, "one", "web.default.pod.podkeep.internal");
    assert!(gone.contains("NXDOMAIN"), "{gone}");
}

#[test]
fn pods_of_a_node_with_one_family_find_each_other_and_are_found() {
    // Over IPv6, whichever family Pods have.
    serve_names("::1");
    let world = World::new();
    let families = [
        ("podCIDR: fd00:203::/64\n", "fd00:203::1", IpAddr::from(UPLINK6)),
        ("podCIDR: 10.203.0.0/16\n", "10.203.0.1", UPLINK4.into()),
    ];
    for (config, gateway, uplink) in families {
        clear_host();
        let node = Node::start(Options { config, ..Options::default() });
        node.manifest("web.yaml", &behind_port("web", "ports: [{containerPort: 80, hostPort: 8080}]"));
        node.manifest("asks.yaml", &server("asks"));
        for pod in ["web", "asks"] {
            node.wait_running(pod, "main");
        }
        let [web] = addresses(&node, "web").try_into().expect("one family");
        let resolv = node.ask(&["exec", "asks", "--", "cat", "/etc/resolv.conf"]);
        assert!(resolv.contains(&format!("nameserver {gateway}\n")), "{resolv}");
        assert_eq!(resolv.matches("nameserver").count(), 1, "{resolv}");
        for (name, answer) in [
            ("web.default.pod.podkeep.internal", &*web.to_string()),
            (&web.to_string(), "web.default.pod.podkeep.internal"),
            ("dns.site", "192.0.2.7"),
            ("nobody.default.pod.podkeep.internal", "NXDOMAIN"),
        ] {
            let found = look(&node, "asks", name);
            assert!(found.contains(answer), "{name}: {found}");
        }
        let says = format!("{}\n", host_name("web"));
        assert_eq!(node.ask(&["exec", "asks", "--", "wget", "-q", "-O", "-", "http://web/name"]), says);
        // By its host port from the world, and from itself.
        let at = (uplink, 8080).into();
        assert_eq!(world.asks(at), Some(host_name("web")));
        assert_eq!(node.ask(&["exec", "web", "--", "wget", "-q", "-O", "-", &url(at)]), says);
        node.stop();
    }
}
