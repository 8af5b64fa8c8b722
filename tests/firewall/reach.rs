//! Who reaches whom: real connections between Pods, the node and the world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use podkeep::manifest::pod::Protocol;
use podkeep::network::firewall::{HostPort, Ingress, add, remove};

use super::site::{NODE4, NODE6, Site};
use crate::host::{Pod, UPLINK4, UPLINK6, WORLD4, WORLD6};
use crate::namespace::Namespace;
use crate::talk::{
    ask_udp, dial, dial_udp, is_closed, is_closed_udp, sctp, sctp_heard, sctp_init, serve_tcp, serve_udp,
    serve_udp_as, udp_client,
};

const LOOPBACK4: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub fn tcp_port(host_ip: Option<IpAddr>, host_port: u16, container_port: u16) -> HostPort {
    HostPort { host_ip, protocol: Protocol::Tcp, host_port, container_port }
}

/// A Pod that says on port 80, TCP and UDP, who has come.
fn server(site: &Site, slot: u32) -> Pod {
    let pod = site.pod(slot);
    serve_tcp(&pod.namespace, 80);
    serve_udp(&pod.namespace, 80);
    pod
}

/// One port for TCP and UDP: 8080.
fn host_ports(host_ip: Option<IpAddr>) -> [HostPort; 2] {
    let tcp = tcp_port(host_ip, 8080, 80);
    [tcp, HostPort { protocol: Protocol::Udp, ..tcp }]
}

#[test]
fn host_ports_are_reached_from_everywhere() {
    let site = Site::new();
    let (pod, other) = (server(&site, 2), site.pod(3));
    let ports = host_ports(None);
    site.firewall.commit(add(&pod.rules(&ports, Ingress::All))).unwrap();
    for dial in [dial::<IpAddr>, dial_udp::<IpAddr>] {
        // The Pod sees who it is that comes.
        assert_eq!(dial(&site.world, UPLINK4.into(), 8080), WORLD4);
        assert_eq!(dial(&site.world, UPLINK6.into(), 8080), WORLD6);
        assert_eq!(dial(&other.namespace, UPLINK4.into(), 8080), other.v4());
        assert_eq!(dial(&other.namespace, UPLINK6.into(), 8080), other.v6());
        assert_eq!(dial(&other.namespace, NODE4.into(), 8080), other.v4());
        assert_eq!(dial(&other.namespace, NODE6.into(), 8080), other.v6());
        assert_eq!(dial(&site.node, UPLINK4.into(), 8080), UPLINK4);
        assert_eq!(dial(&site.node, UPLINK6.into(), 8080), UPLINK6);
        assert_eq!(dial(&site.node, NODE4.into(), 8080), NODE4);
        // From the loopback, and from the Pod itself, as from the node.
        assert_eq!(dial(&site.node, LOOPBACK4.into(), 8080), NODE4);
        assert_eq!(dial(&pod.namespace, UPLINK4.into(), 8080), NODE4);
        assert_eq!(dial(&pod.namespace, UPLINK6.into(), 8080), NODE6);
        // And by its own address and port.
        assert_eq!(dial(&site.world, pod.v4().into(), 80), WORLD4);
        assert_eq!(dial(&site.node, pod.v6().into(), 80), NODE6);
    }
    for port in [80, 8081] {
        assert!(is_closed(&site.world, UPLINK4, port));
        assert!(is_closed(&site.world, UPLINK6, port));
    }
    site.firewall.commit(remove(&pod.rules(&ports, Ingress::All))).unwrap();
    assert!(is_closed(&site.world, UPLINK4, 8080));
    assert!(is_closed_udp(&site.world, UPLINK6, 8080));
}

#[test]
fn who_listens_on_the_loopback_of_ipv6_is_reached_there() {
    let site = Site::new();
    let pod = server(&site, 2);
    site.firewall.commit(add(&pod.rules(&host_ports(None), Ingress::All))).unwrap();
    assert!(is_closed(&site.node, Ipv6Addr::LOCALHOST, 8080));
    serve_tcp(&site.node, 8080);
    assert_eq!(dial(&site.node, Ipv6Addr::LOCALHOST, 8080), Ipv6Addr::LOCALHOST);
}

#[test]
fn a_host_ip_is_the_only_one_that_is_reached() {
    let site = Site::new();
    let (first, second, third) = (server(&site, 2), server(&site, 3), server(&site, 4));
    // One port for three Pods: of one address each, and of all others.
    let [of_loopback, of_uplink] = [IpAddr::from(LOOPBACK4), UPLINK6.into()].map(|ip| host_ports(Some(ip)));
    site.firewall.commit(add(&first.rules(&of_loopback, Ingress::All))).unwrap();
    site.firewall.commit(add(&second.rules(&of_uplink, Ingress::All))).unwrap();
    for dial in [dial::<IpAddr>, dial_udp::<IpAddr>] {
        assert_eq!(dial(&site.node, LOOPBACK4.into(), 8080), NODE4);
        assert_eq!(dial(&site.world, UPLINK6.into(), 8080), WORLD6);
        assert_eq!(dial(&first.namespace, UPLINK6.into(), 8080), first.v6());
        assert_eq!(dial(&second.namespace, UPLINK6.into(), 8080), NODE6, "itself");
    }
    for is_closed in [is_closed::<IpAddr>, is_closed_udp::<IpAddr>] {
        assert!(is_closed(&site.world, UPLINK4.into(), 8080));
        assert!(is_closed(&site.node, UPLINK4.into(), 8080));
        assert!(is_closed(&first.namespace, NODE6.into(), 8080));
    }

    site.firewall.commit(add(&third.rules(&host_ports(None), Ingress::None))).unwrap();
    assert_eq!(dial(&site.node, LOOPBACK4, 8080), NODE4, "still the first");
    assert!(is_closed(&site.world, UPLINK4, 8080), "the third, which wants nobody");
    site.firewall.commit(remove(&first.rules(&of_loopback, Ingress::All))).unwrap();
    assert!(is_closed(&site.node, LOOPBACK4, 8080), "the third now");
}

/// One socket that sends without a pause, as a sender of logs does: the kernel takes all of it for one connection.
#[test]
fn who_sends_udp_all_the_time_is_sent_to_the_pod_that_is_there() {
    let site = Site::new();
    let (first, second) = (site.pod(2), site.pod(3));
    serve_udp_as(&first.namespace, 81, "first");
    serve_udp_as(&second.namespace, 81, "second");
    serve_udp_as(&site.node, 8080, "node");
    for to in [IpAddr::from(UPLINK4), UPLINK6.into()] {
        let port = HostPort { protocol: Protocol::Udp, ..tcp_port(Some(to), 8080, 81) };
        let sender = udp_client(&site.world, to, 8080);
        let ask = || ask_udp(&sender);
        let change = |comes: bool, pod: &Pod| {
            let rules = pod.rules(std::slice::from_ref(&port), Ingress::All);
            site.firewall.commit(if comes { add(&rules) } else { remove(&rules) }).unwrap();
            site.node.inside(|| site.firewall.forget_udp(&rules)).unwrap();
        };
        assert_eq!(ask(), "node");
        change(true, &first);
        assert_eq!(ask(), "first");
        change(false, &first);
        change(true, &second);
        assert_eq!(ask(), "second");
        change(false, &second);
        assert_eq!(ask(), "node");
    }
}

#[test]
fn an_association_of_sctp_goes_to_the_pod_whoever_begins_it() {
    let site = Site::new();
    let (pod, other) = (site.pod(2), site.pod(3));
    let sctp_port = |host_ip, host_port, container_port| HostPort {
        protocol: Protocol::Sctp,
        ..tcp_port(host_ip, host_port, container_port)
    };
    let ports = [sctp_port(None, 9899, 80), sctp_port(Some(UPLINK6.into()), 9898, 81)];
    site.firewall.commit(add(&pod.rules(&ports, Ingress::HostPort))).unwrap();
    let hears = [IpAddr::from(pod.v4()), pod.v6().into()].map(|own| sctp(&pod.namespace, own));
    let begins = |from: &Namespace, to: IpAddr, port: u16| {
        let socket = sctp(from, to);
        socket.connect((to, 0)).unwrap();
        socket.send(&sctp_init(5000, port)).unwrap();
    };
    let heard = |to: IpAddr| sctp_heard(&hears[usize::from(to.is_ipv6())]);
    // Who begins it by which address, and as whom the Pod sees it.
    let cases: [(&Namespace, IpAddr, IpAddr); 9] = [
        (&site.world, UPLINK4.into(), WORLD4.into()),
        (&site.world, UPLINK6.into(), WORLD6.into()),
        (&other.namespace, UPLINK4.into(), other.v4().into()),
        (&other.namespace, UPLINK6.into(), other.v6().into()),
        (&site.node, UPLINK4.into(), UPLINK4.into()),
        (&site.node, UPLINK6.into(), UPLINK6.into()),
        (&site.node, LOOPBACK4.into(), NODE4.into()),
        (&pod.namespace, UPLINK4.into(), NODE4.into()),
        (&pod.namespace, UPLINK6.into(), NODE6.into()),
    ];
    for (from, to, seen) in cases {
        begins(from, to, 9899);
        assert_eq!(heard(to), (seen, 80), "by {to}");
    }
    // At its own `hostIP` alone: what is heard by IPv4 came later.
    begins(&site.world, UPLINK4.into(), 9898);
    begins(&site.world, UPLINK6.into(), 9898);
    begins(&other.namespace, UPLINK4.into(), 9899);
    assert_eq!(heard(UPLINK6.into()), (WORLD6.into(), 81));
    assert_eq!(heard(UPLINK4.into()), (other.v4().into(), 80));
}

#[test]
fn what_leaves_for_the_world_comes_from_the_node_and_what_stays_does_not() {
    let site = Site::new();
    let (pod, other) = (site.pod(2), server(&site, 3));
    serve_tcp(&site.world, 80);
    serve_udp(&site.world, 80);
    serve_tcp(&site.node, 7000);
    for dial in [dial::<IpAddr>, dial_udp::<IpAddr>] {
        assert_eq!(dial(&pod.namespace, WORLD4.into(), 80), UPLINK4);
        assert_eq!(dial(&pod.namespace, WORLD6.into(), 80), UPLINK6);
        assert_eq!(dial(&pod.namespace, other.v4().into(), 80), pod.v4());
        assert_eq!(dial(&pod.namespace, other.v6().into(), 80), pod.v6());
    }
    for node in [IpAddr::from(NODE4), UPLINK4.into()] {
        assert_eq!(dial(&pod.namespace, node, 7000), pod.v4());
    }
    for node in [IpAddr::from(NODE6), UPLINK6.into()] {
        assert_eq!(dial(&pod.namespace, node, 7000), pod.v6());
    }
}

/// CVE-2020-8558. Packets arrive while they are being sent, one after the other: what has not come before the next one does not come.
#[test]
fn the_loopback_of_the_node_is_closed_to_those_outside() {
    let site = Site::new();
    let pod = site.pod(2);
    // An address of the loopback that who sends does not keep to himself, and one that is the Pod's own.
    let (inner, own) = (Ipv4Addr::new(127, 1, 2, 3), Ipv4Addr::new(127, 9, 9, 9));
    for (from, via) in [(&pod.namespace, NODE4), (&site.world, UPLINK4)] {
        from.ip(&format!("route del local 127.0.0.0/8 dev lo table local\nroute add {inner} via {via}"));
        from.set("ipv4/conf/eth0/route_localnet", "1");
    }
    pod.namespace.ip(&format!("addr add {own}/32 dev eth0"));
    // What would keep out one of them; and what somebody else may have turned on for all.
    site.node.set(&format!("ipv4/conf/{}/rp_filter", pod.link()), "0");
    site.node.set("ipv4/conf/uplink/route_localnet", "1");
    let server = site.node.inside(|| UdpSocket::bind(("0.0.0.0", 7000)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let send = |namespace: &Namespace, from: Ipv4Addr, to: Ipv4Addr| {
        let client = namespace.inside(|| UdpSocket::bind((from, 0)).unwrap());
        client.send_to(&to.octets(), (to, 7000)).unwrap();
    };
    let received = || {
        let mut to = [0; 4];
        let (_, from) = server.recv_from(&mut to).unwrap();
        (from.ip(), Ipv4Addr::from(to))
    };
    let forbidden =
        [(&site.world, WORLD4, inner), (&pod.namespace, pod.v4(), inner), (&pod.namespace, own, NODE4)];
    forbidden.iter().for_each(|(namespace, from, to)| send(namespace, *from, *to));
    let allowed = [(&site.world, WORLD4, UPLINK4), (&pod.namespace, pod.v4(), NODE4)];
    for (namespace, from, to) in allowed {
        send(namespace, from, to);
        assert_eq!(received(), (from.into(), to));
    }
    // It is our rules that keep them out.
    site.node.nft(&["flush", "chain", "inet", "podkeep", "martians"], "");
    for (namespace, from, to) in forbidden {
        send(namespace, from, to);
        assert_eq!(received(), (from.into(), to));
    }
}

/// Who tries, and who gets through: the world, the node, another Pod; each by the Pod's address and by a host port.
fn who_reaches(site: &Site, pod: &Pod, other: &Pod) -> Vec<&'static str> {
    let from: [(&Namespace, [&'static str; 2]); 3] = [
        (&site.world, ["world", "world by hostPort"]),
        (&site.node, ["node", "node by hostPort"]),
        (&other.namespace, ["Pod", "Pod by hostPort"]),
    ];
    let mut through = Vec::new();
    for (from, names) in from {
        for (name, port) in names.into_iter().zip([80, 8080]) {
            let to: [IpAddr; 2] = if port == 80 { pod.both() } else { [UPLINK4.into(), UPLINK6.into()] };
            let closed = to.map(|to| [is_closed(from, to, port), is_closed_udp(from, to, port)]);
            assert!(closed.iter().flatten().all(|is| *is == closed[0][0]), "{name}: {closed:?}");
            if !closed[0][0] {
                through.push(name);
            }
        }
    }
    through
}

#[track_caller]
fn assert_reached_by(ingress: Ingress, expected: &[&str]) {
    let site = Site::new();
    let (pod, other) = (server(&site, 2), server(&site, 3));
    serve_tcp(&site.world, 80);
    serve_udp(&site.world, 80);
    let ports = host_ports(None);
    let rules = pod.rules(&ports, ingress);
    site.firewall.commit(add(&rules)).unwrap();
    assert_eq!(who_reaches(&site, &pod, &other), expected);
    // What the Pod begins itself is answered.
    for to in [IpAddr::from(WORLD4), WORLD6.into(), other.v4().into(), other.v6().into()] {
        dial(&pod.namespace, to, 80);
        dial_udp(&pod.namespace, to, 80);
    }
    // The one beside it is open.
    dial(&site.world, other.v4(), 80);
}

#[test]
fn ingress_all_lets_everybody_in() {
    assert_reached_by(
        Ingress::All,
        &["world", "world by hostPort", "node", "node by hostPort", "Pod", "Pod by hostPort"],
    );
}

#[test]
fn ingress_none_lets_nobody_in() {
    assert_reached_by(Ingress::None, &[]);
}

#[test]
fn ingress_hostport_lets_in_whoever_comes_by_one() {
    assert_reached_by(Ingress::HostPort, &["world by hostPort", "node by hostPort", "Pod by hostPort"]);
}

#[test]
fn ingress_pods_lets_in_pods_only() {
    assert_reached_by(Ingress::Pods, &["Pod", "Pod by hostPort"]);
}
