//! The resolver, asked by programs that others made, on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use podkeep::network::Ranges;
use podkeep::network::resolver::{Names, Place, Resolver};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);

/// Listens at a port of this address and has the Pods of 127.0.1.0/24.
fn resolver(ip: impl Into<IpAddr>, servers: &[SocketAddr]) -> (Resolver, SocketAddr) {
    let place = Place::open(SocketAddr::new(ip.into(), 0)).unwrap();
    let address = place.address();
    let ranges = Ranges::parse("127.0.1.0/24,fd00:203::/64").unwrap();
    let mut resolver = Resolver::new(vec![place], ranges, "c.local").unwrap();
    resolver.set_servers(servers);
    for number in 2..102 {
        let (name, host) = (format!("web-{number}"), format!("h{number}"));
        let addresses = [[127, 0, 1, number].into(), format!("fd00:203::{number:x}").parse().unwrap()];
        let names = Names {
            names: &[&name],
            namespace: "shop",
            host: Some((&host, "all.shop.svc.c.local")),
            addresses: &addresses,
            is_ready: true,
        };
        resolver.set_pod(number.into(), Some(&names));
    }
    (resolver, address)
}

/// Answers a program until it ends; what it has written.
#[track_caller]
fn answer(resolver: &mut Resolver, command: &mut Command) -> String {
    let begun = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    loop {
        let now = begun.elapsed();
        resolver.step(now).unwrap();
        let timeout = resolver.deadline().map(|at| at.saturating_sub(now).try_into().unwrap());
        let mut fds = [PollFd::new(resolver, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        poll(&mut fds, timeout.as_ref()).unwrap();
        if !fds[1].revents().is_empty() {
            break;
        }
    }
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// From a Pod's address, or from the machine's own, once.
#[track_caller]
fn dig(resolver: &mut Resolver, at: SocketAddr, words: &str) -> String {
    let mut command = Command::new("dig");
    let from = if at.is_ipv4() { "127.0.1.9" } else { "::1" };
    command.arg(format!("@{}", at.ip())).args(["-b", from, "-p", &at.port().to_string()]);
    command.args(["+tries=1", "+timeout=20", "+nocookie"]).args(words.split(' '));
    answer(resolver, &mut command)
}

#[test]
fn dig_finds_what_is_there_and_hears_what_is_not() {
    let (mut resolver, at) = resolver(NODE, &[]);
    let cases = [
        ("+short web-7.shop.pod.podkeep.internal", "127.0.1.7\n"),
        ("+short web-7.shop.pod.podkeep.internal AAAA", "fd00:203::7\n"),
        ("+short H7.all.shop.svc.C.local", "127.0.1.7\n"),
        ("+short -x 127.0.1.7", "h7.all.shop.svc.c.local.\n"),
        ("+short -x fd00:203::7", "h7.all.shop.svc.c.local.\n"),
        ("+short -x 127.0.0.54", ""),
        ("+short podkeep.internal NS", "ns.podkeep.internal.\n"),
        ("+short ns.podkeep.internal", "127.0.0.54\n"),
        ("c.local SOA", "ns.podkeep.internal. hostmaster.podkeep.internal."),
        (
            "web-7.shop.pod.podkeep.internal",
            "flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1",
        ),
        ("web-7.shop.pod.podkeep.internal MX", "status: NOERROR"),
        ("web-7.shop.pod.podkeep.internal MX", "QUERY: 1, ANSWER: 0, AUTHORITY: 1"),
        ("shop.pod.podkeep.internal", "status: NOERROR"),
        ("web-1.shop.pod.podkeep.internal", "status: NXDOMAIN"),
        ("web-1.shop.pod.podkeep.internal", "pod.podkeep.internal.\t5\tIN\tSOA"),
        ("+edns=1 +noednsnegotiation web-7.shop.pod.podkeep.internal", "status: BADVERS"),
        ("+dnssec web-7.shop.pod.podkeep.internal", "flags: do; udp: 1232"),
        ("+noedns web-7.shop.pod.podkeep.internal", "ADDITIONAL: 0"),
        ("+opcode=2 web-7.shop.pod.podkeep.internal", "status: NOTIMP"),
        ("version.bind CH TXT", "status: REFUSED"),
        ("podkeep.internal AXFR", "Transfer failed"),
        ("web-7.shop.pod.podkeep.internal ANY", "127.0.1.7"),
        ("example.com", "status: SERVFAIL"),
        // All of them at once: too long for a packet, so dig asks again over TCP.
        ("all.shop.svc.c.local", "Truncated, retrying in TCP mode"),
        ("all.shop.svc.c.local", "QUERY: 1, ANSWER: 100"),
        ("+ignore all.shop.svc.c.local", "flags: qr aa tc rd ra"),
        ("+tcp web-7.shop.pod.podkeep.internal", "127.0.1.7"),
    ];
    assert_said(&mut resolver, at, &cases);
    // A connection of dig's is over with it.
    assert_eq!(resolver.deadline(), None);
}

#[test]
fn over_ipv6_the_same_is_said() {
    let (mut resolver, at) = resolver(Ipv6Addr::LOCALHOST, &[]);
    let cases = [
        ("+short web-7.shop.pod.podkeep.internal", "127.0.1.7\n"),
        ("+short web-7.shop.pod.podkeep.internal AAAA", "fd00:203::7\n"),
        ("+short -x fd00:203::7", "h7.all.shop.svc.c.local.\n"),
        ("-x fd00:203::1", "status: NXDOMAIN"),
        ("+short ns.podkeep.internal AAAA", "::1\n"),
        ("web-1.shop.pod.podkeep.internal AAAA", "status: NXDOMAIN"),
        ("all.shop.svc.c.local AAAA", "Truncated, retrying in TCP mode"),
        ("all.shop.svc.c.local AAAA", "QUERY: 1, ANSWER: 100"),
    ];
    assert_said(&mut resolver, at, &cases);
    assert_eq!(resolver.deadline(), None);
}

/// What is asked, and what dig writes among others.
#[track_caller]
fn assert_said(resolver: &mut Resolver, at: SocketAddr, cases: &[(&str, &str)]) {
    for (words, expected) in cases {
        let said = dig(resolver, at, words);
        let is_there =
            if words.starts_with("+short") { said.ends_with(expected) } else { said.contains(expected) };
        assert!(is_there, "dig {words}: no {expected:?} in:\n{said}");
        assert!(!said.contains("malformed") && !said.contains("WARNING: Message"), "dig {words}:\n{said}");
    }
}

#[test]
fn busybox_finds_both_kinds_of_addresses() {
    // It has no say in where it asks from: it is the machine itself.
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (mut resolver, at) = resolver(ip, &[]);
        let ask = |resolver: &mut Resolver, name: &str| {
            answer(resolver, Command::new("busybox").args(["nslookup", name, &at.to_string()]))
        };
        let said = ask(&mut resolver, "web-7.shop.pod.podkeep.internal");
        assert!(said.contains("Address: 127.0.1.7") && said.contains("Address: fd00:203::7"), "{said}");
        let said = ask(&mut resolver, "web-1.shop.pod.podkeep.internal");
        assert!(said.contains("can't find web-1.shop.pod.podkeep.internal: NXDOMAIN"), "{said}");
    }
}

#[test]
fn what_is_not_ours_is_asked_of_another_server() {
    assert_passes_on(NODE.into(), Ipv4Addr::LOCALHOST.into());
}

#[test]
fn what_is_not_ours_is_asked_of_another_server_over_ipv6() {
    assert_passes_on(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
}

/// A resolver at one address, with the host's server at another.
#[track_caller]
fn assert_passes_on(node: IpAddr, upstream: IpAddr) {
    // Another resolver is the host's server, on a thread of its own: it knows a Pod of another domain.
    let place = Place::open((upstream, 0).into()).unwrap();
    let upstream = place.address();
    let mut other =
        Resolver::new(vec![place], Ranges::parse("127.0.2.0/24").unwrap(), "site.example").unwrap();
    for number in 2..102 {
        let host = format!("h{number}");
        let addresses = [[127, 0, 2, number].into()];
        let names = Names {
            names: &[],
            namespace: "x",
            host: Some((&host, "many.site.example")),
            addresses: &addresses,
            is_ready: true,
        };
        other.set_pod(number.into(), Some(&names));
    }
    let end = UdpSocket::bind("127.0.0.1:0").unwrap();
    let over = end.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let mut fds = [PollFd::new(&other, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                if !fds[1].revents().is_empty() {
                    break;
                }
                other.step(Duration::ZERO).unwrap();
            }
        });
        let (mut resolver, at) = resolver(node, &[upstream]);
        let short = dig(&mut resolver, at, "+short h7.many.site.example");
        let missing = dig(&mut resolver, at, "h1.many.site.example");
        let many = dig(&mut resolver, at, "many.site.example");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"over", over).unwrap();
        assert_eq!(short, "127.0.2.7\n");
        assert!(
            missing.contains("status: NXDOMAIN") && missing.contains("site.example.\t\t5\tIN\tSOA"),
            "{missing}"
        );
        assert!(many.contains("retrying in TCP mode") && many.contains("ANSWER: 100"), "{many}");
        assert_eq!(resolver.deadline(), None);
    });
}
