//! What nft says of our table is what stands in `tests/firewall/*.nft`; and what nft makes of such a file is what we have made, to the last
//! expression.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podkeep::manifest::pod::Protocol;
use podkeep::network::firewall::{HostPort, Ingress, Pod, add, remove, table};
use podkeep::network::{Ranges, Slot};

use super::site::ranges;
use crate::host::{UPLINK4, UPLINK6};
use crate::namespace::Namespace;

/// One of each kind.
fn ports() -> Vec<HostPort> {
    let port = |host_ip: Option<IpAddr>, protocol, host_port, container_port| HostPort {
        host_ip,
        protocol,
        host_port,
        container_port,
    };
    vec![
        port(None, Protocol::Tcp, 8080, 80),
        port(None, Protocol::Udp, 5353, 53),
        port(None, Protocol::Sctp, 9899, 9),
        port(Some(Ipv4Addr::UNSPECIFIED.into()), Protocol::Tcp, 8084, 84),
        port(Some(Ipv6Addr::UNSPECIFIED.into()), Protocol::Tcp, 8086, 86),
        port(Some(UPLINK4.into()), Protocol::Tcp, 8443, 443),
        port(Some(UPLINK6.into()), Protocol::Udp, 8443, 443),
    ]
}

/// Four Pods on such a node, each with another idea of who may reach it, and the first with host ports.
fn pods<'a>(ranges: &Ranges, ports: &'a [HostPort]) -> Vec<Pod<'a>> {
    let ingress = [Ingress::All, Ingress::None, Ingress::HostPort, Ingress::Pods];
    let pod = |(ingress, slot): (Ingress, u32)| Pod {
        addresses: ranges.addresses(Slot(slot)),
        ports: if slot == 2 { ports } else { &[] },
        ingress,
    };
    ingress.into_iter().zip(2..).map(pod).collect()
}

#[track_caller]
fn assert_golden(ranges: &str, golden: &str) {
    let ranges = Ranges::parse(ranges).unwrap();
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    let ports = ports();
    let mut messages = table(&ranges);
    messages.extend(pods(&ranges, &ports).iter().flat_map(add));
    ours.firewall().commit(messages).unwrap();
    assert_eq!(ours.nft(&["list", "table", "inet", "podkeep"], ""), golden);

    theirs.nft(&["-f", "-"], golden);
    assert_eq!(as_the_kernel_has_it(&ours), as_the_kernel_has_it(&theirs));
}

/// The expressions of the rules, as the kernel gives them out.
fn as_the_kernel_has_it(namespace: &Namespace) -> String {
    let listed = namespace.nft(&["--debug=netlink", "list", "table", "inet", "podkeep"], "");
    let expressions: Vec<&str> = listed.lines().filter(|line| line.starts_with("  [")).collect();
    assert!(expressions.len() > 40, "{listed}");
    expressions.join("\n")
}

#[test]
fn nft_shows_and_makes_the_same_table() {
    assert_golden("10.203.0.0/16,fd0c:0:0:1::/64", include_str!("both.nft"));
}

#[test]
fn a_node_without_ipv6_has_nothing_for_it() {
    assert_golden("10.203.0.0/16", include_str!("ipv4.nft"));
}

#[test]
fn a_node_without_ipv4_has_nothing_for_it() {
    assert_golden("fd0c:0:0:1::/64", include_str!("ipv6.nft"));
}

#[test]
fn a_range_need_not_end_at_a_byte() {
    let golden = include_str!("both.nft")
        .replace("10.203.0.0/16", "10.203.0.0/20")
        .replace("fd0c:0:0:1::/64", "fd0c:0:0:1::/66");
    assert_golden("10.203.0.0/20,fd0c:0:0:1::/66", &golden);
}

#[test]
fn pods_come_and_go_without_a_trace_and_others_are_left_alone() {
    let namespace = Namespace::new();
    let firewall = namespace.firewall();
    let other = "table ip podkeep {\n\tchain theirs {\n\t\tcounter packets 0 bytes 0 drop\n\t}\n}\n";
    namespace.nft(&["-f", "-"], other);
    firewall.commit(table(&ranges())).unwrap();
    let listed = || namespace.nft(&["list", "ruleset"], "");
    let empty = listed();
    assert!(empty.contains(other), "{empty}");

    let ports = ports();
    for pod in pods(&ranges(), &ports) {
        firewall.commit(add(&pod)).unwrap();
        assert_ne!(listed(), empty, "{pod:?}");
        firewall.commit(remove(&pod)).unwrap_or_else(|error| panic!("{pod:?}: {error}"));
        assert_eq!(listed(), empty, "{pod:?}");
        // Again, and all of it anew.
        firewall.commit(add(&pod)).unwrap();
        firewall.commit(table(&ranges())).unwrap();
        assert_eq!(listed(), empty, "{pod:?}");
    }
    drop(firewall);
    let left = listed();
    assert!(left.starts_with(other) && !left.contains("table inet podkeep_"), "{left}");
}

#[test]
fn a_thousand_pods_are_put_in_place_by_one_transaction() {
    let namespace = Namespace::new();
    let firewall = namespace.firewall();
    let port = |number: u16| HostPort {
        host_ip: None,
        protocol: Protocol::Tcp,
        host_port: 10000 + number,
        container_port: 80,
    };
    let ports: Vec<[HostPort; 1]> = (0..1000).map(|number| [port(number)]).collect();
    let pods = ports.iter().zip(2..).map(|(ports, slot)| Pod {
        addresses: ranges().addresses(Slot(slot)),
        ports,
        ingress: Ingress::HostPort,
    });
    let mut whole = table(&ranges());
    whole.extend(pods.flat_map(|pod| add(&pod)));
    for _ in 0..2 {
        firewall.commit(whole.clone()).unwrap();
        let listed = namespace.nft(&["list", "map", "inet", "podkeep", "hostports4"], "");
        assert_eq!(listed.matches("tcp . ").count(), 1000);
        assert!(listed.contains("tcp . 10999 : 10.203.3.233 . 80"), "{listed}");
    }
    // Where all of it is refused, each message for itself, the first one is the reason.
    namespace.nft(&["delete", "table", "inet", "podkeep"], "");
    let error = firewall.commit(whole.split_off(table(&ranges()).len())).unwrap_err();
    let podkeep::network::firewall::Error::Changed(refusal) = &error else { panic!("{error}") };
    assert_eq!(refusal.index, 1, "{error}");
}
