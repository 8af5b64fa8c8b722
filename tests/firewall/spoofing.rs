//! What a Pod that may do with its own network what it likes sends in the name of others: real packets, with our rules and without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::site::{NODE4, NODE6, Site};
use crate::host::{Pod, WORLD4, WORLD6};
use crate::namespace::Namespace;
use crate::talk::{dial_udp, serve_udp};

/// Of nobody whom anybody knows.
const NOBODY4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const NOBODY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 9);

/// Somebody who is sent to, by both kinds of addresses; whatever comes is noted.
struct Target {
    addresses: [IpAddr; 2],
    socket: UdpSocket,
}

impl Target {
    fn new(namespace: &Namespace, addresses: [IpAddr; 2]) -> Target {
        let socket = namespace.inside(|| UdpSocket::bind("[::]:7000").unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Target { addresses, socket }
    }

    /// What so many datagrams say.
    fn heard(&self, count: usize) -> Vec<String> {
        let mut all: Vec<String> = (0..count)
            .map(|_| {
                let mut said = [0; 64];
                let count = self.socket.recv(&mut said).unwrap();
                String::from_utf8(said[..count].to_vec()).unwrap()
            })
            .collect();
        all.sort();
        all
    }
}

/// Sends from this address of the Pod's, which the datagram names, to all targets of its family but itself.
fn send(pod: &Pod, from: IpAddr, targets: &[Target]) -> Vec<usize> {
    let socket = pod.namespace.inside(|| UdpSocket::bind((from, 0)).unwrap());
    let mut sent = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let to = target.addresses[usize::from(from.is_ipv6())];
        if to != from {
            socket.send_to(from.to_string().as_bytes(), (to, 7000)).unwrap();
            sent.push(number);
        }
    }
    sent
}

/// The same from addresses that are others'; how many each target was sent.
fn send_as_others(pod: &Pod, others: &[IpAddr], targets: &[Target]) -> Vec<Vec<String>> {
    let mut sent = vec![Vec::new(); targets.len()];
    for from in others {
        pod.namespace.ip(&format!("addr add {from} dev eth0"));
        pod.namespace.await_addresses();
        for number in send(pod, *from, targets) {
            sent[number].push(from.to_string());
        }
        let length = if from.is_ipv4() { 32 } else { 128 };
        pod.namespace.ip(&format!("addr del {from}/{length} dev eth0"));
    }
    sent.iter_mut().for_each(|sent| sent.sort());
    sent
}

#[test]
fn a_pod_sends_by_its_own_addresses_alone() {
    let site = Site::new();
    let (pod, other) = (site.pod(2), site.pod(3));
    // It would keep out those of IPv4, were it not that distributions loosen it.
    for links in ["all", &pod.link()] {
        site.node.set(&format!("ipv4/conf/{links}/rp_filter"), "0");
    }
    pod.namespace.set("ipv6/conf/eth0/accept_dad", "0");
    let targets = [
        Target::new(&site.node, [NODE4.into(), NODE6.into()]),
        Target::new(&other.namespace, other.both()),
        Target::new(&site.world, [WORLD4.into(), WORLD6.into()]),
    ];
    let others: Vec<IpAddr> = other
        .both()
        .into_iter()
        .chain([WORLD4.into(), WORLD6.into(), NOBODY4.into(), NOBODY6.into()])
        .collect();

    send_as_others(&pod, &others, &targets);
    // What comes after them is all that comes.
    let own = pod.both();
    own.iter().for_each(|own| drop(send(&pod, *own, &targets)));
    let mut expected = own.map(|own| own.to_string());
    expected.sort();
    for target in &targets {
        assert_eq!(target.heard(2), expected);
    }

    // It is our rules that keep them out.
    site.node.nft(&["flush", "chain", "inet", "podkeep", "martians"], "");
    let sent = send_as_others(&pod, &others, &targets);
    for (target, sent) in targets.iter().zip(sent) {
        assert_eq!(target.heard(sent.len()), sent);
    }
}

/// An advertisement of a router that wants to be everybody's, with a network of its own (RFC 4861, 4.2 and 4.6.2).
fn advertisement() -> Vec<u8> {
    // Type, no code, checksum (the kernel's to make), hops, flags, lifetime of half an hour, two times that are not said.
    let mut packet = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    // A prefix of 64 bits, for addresses and on this link, for an hour.
    packet.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    packet.extend(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 1, 0, 0, 0, 0).octets());
    packet
}

/// To all that hear it at the Pod's link.
fn advertise(pod: &Pod) {
    pod.namespace.inside(|| {
        let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6);
        let socket = UdpSocket::from(raw.unwrap());
        rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let link = rustix::net::netdevice::name_to_index(&socket, "eth0").unwrap();
        socket.send_to(&advertisement(), SocketAddrV6::new(everybody, 0, 0, link)).unwrap();
    });
}

/// CVE-2020-13401.
#[test]
fn no_pod_is_a_router_of_the_hosts() {
    let site = Site::new();
    let pod = site.pod(2);
    serve_udp(&site.node, 7000);
    pod.namespace.set("ipv6/conf/eth0/accept_dad", "0");
    pod.namespace.ip("addr add fe80::2/64 dev eth0");
    pod.namespace.await_addresses();
    let state = || {
        // The second is seen after the first one, whatever the kernel does beside us.
        for _ in 0..2 {
            advertise(&pod);
            dial_udp(&pod.namespace, NODE6, 7000);
        }
        let routes = site.node.run("ip", &["-6", "route", "show", "table", "all"], "");
        routes + &site.node.run("ip", &["-6", "addr"], "")
    };
    // The link might listen, as others may have set it.
    site.node.set(&format!("ipv6/conf/{}/accept_ra", pod.link()), "2");
    let kept = state();
    assert!(!kept.contains("via fe80::2 ") && !kept.contains("2001:db8:bad:1:"), "{kept}");
    site.node.nft(&["flush", "chain", "inet", "podkeep", "martians"], "");
    let is_taken =
        |state: &String| state.contains("default via fe80::2 ") && state.contains("2001:db8:bad:1:");
    assert!((0..100).map(|_| state()).any(|state| is_taken(&state)), "it is our rules that keep it out");
}
