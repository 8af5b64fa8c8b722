//! The links themselves, without a node: each test in a host of its own, which is a network namespace.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use podkeep::network::netlink::Socket;
use podkeep::network::{Addresses, NODE, Ranges, Slot, forwarding, links};
use podkeep::sys::namespace::{self, Tour};
use podkeep::sys::step::Step;
use serde_json::Value;

const OWNER: &str = "podkeep of /run/here";

/// A network namespace with its loopback up.
fn namespace() -> OwnedFd {
    namespace::make(libc::CLONE_NEWNET as u64, &[Step::RaiseLoopback]).unwrap().net.unwrap()
}

/// Does something inside of a namespace, on a thread of its own.
fn inside<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let within = move || {
            let mut tour = Tour::default();
            tour.enter(Some(namespace.as_fd())).unwrap();
            work()
        };
        scope.spawn(within).join().unwrap()
    })
}

struct Host {
    namespace: OwnedFd,
    ranges: Ranges,
}

struct Pod {
    namespace: OwnedFd,
    addresses: Addresses,
}

impl Host {
    fn new(ranges: &str) -> Host {
        let host = Host { namespace: namespace(), ranges: Ranges::parse(ranges).unwrap() };
        inside(&host.namespace, || {
            links::add_node(&Socket::route().unwrap(), &host.ranges, OWNER).unwrap();
            forwarding::turn_on(&host.ranges).unwrap();
        });
        host
    }

    fn connect(&self, slot: u32) -> Pod {
        let pod = Pod { namespace: namespace(), addresses: self.ranges.addresses(Slot(slot)) };
        let in_pod = inside(&pod.namespace, || Socket::route().unwrap());
        let node = self.ranges.addresses(NODE);
        inside(&self.namespace, || {
            let host = Socket::route().unwrap();
            let namespace = pod.namespace.as_raw_fd() as u32;
            let settings = links::Settings { owner: OWNER, is_reached_from_loopback: true };
            links::connect(&host, &in_pod, namespace, node, pod.addresses, settings).unwrap();
        });
        pod
    }

    /// Its links, routes and neighbours.
    fn traces(&self) -> [Value; 4] {
        [&["link"][..], &["-4", "route"], &["-6", "route"], &["neigh"]].map(|what| self.ip(what))
    }

    /// What iproute2 says in the host.
    fn ip(&self, arguments: &[&str]) -> Value {
        ip(&self.namespace, arguments)
    }
}

fn ip(namespace: &OwnedFd, arguments: &[&str]) -> Value {
    inside(namespace, || {
        let output = Command::new("ip").args(["-j", "-d"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    })
}

/// Who asks is answered with the address that is seen of it.
fn asks(from: &OwnedFd, to: &OwnedFd, address: IpAddr) -> SocketAddr {
    let listener = inside(to, || TcpListener::bind((address, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut connection, peer) = listener.accept().unwrap();
        write!(connection, "{peer}").unwrap();
    });
    let mut answer = String::new();
    inside(from, || TcpStream::connect(at).unwrap().read_to_string(&mut answer).unwrap());
    answering.join().unwrap();
    answer.parse().unwrap()
}

#[test]
fn a_pod_the_host_and_other_pods_reach_each_other_by_their_own_addresses() {
    for ranges in ["10.203.0.0/16,fd00:203::/64", "10.203.0.0/16", "fd00:203::/64"] {
        let host = Host::new(ranges);
        let (one, other) = (host.connect(2), host.connect(300));
        let node = host.ranges.addresses(NODE);
        let ends =
            [(&host.namespace, node), (&one.namespace, one.addresses), (&other.namespace, other.addresses)];
        for (from, own) in ends {
            for (to, address) in ends {
                for (own, address) in own.iter().zip(address.iter()) {
                    assert_eq!(asks(from, to, address).ip(), own, "{ranges}: {own} to {address}");
                }
            }
        }
    }
}

#[test]
fn what_iproute_shows_of_a_pod_is_what_it_was_given() {
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    let pod = host.connect(2);
    let [link] =
        host.ip(&["link", "show", "dev", "pk0acb0002"]).as_array().cloned().unwrap().try_into().unwrap();
    assert_eq!((&link["ifalias"], &link["linkinfo"]["info_kind"]), (&OWNER.into(), &"veth".into()));
    let of = |list: Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of(host.ip(&["-4", "route", "show", "proto", "112"]), "dst"), ["10.203.0.2"]);
    assert_eq!(of(host.ip(&["-4", "route", "show", "proto", "112"]), "prefsrc"), ["10.203.0.1"]);
    assert_eq!(of(host.ip(&["-6", "route", "show", "proto", "112"]), "dst"), ["fd00:203::2"]);
    let inside = |arguments: &[&str]| ip(&pod.namespace, arguments);
    let addresses = inside(&["addr", "show", "dev", "eth0"]);
    let addresses = &addresses[0]["addr_info"];
    // No third one: nothing was made of the hardware's address.
    assert_eq!(of(addresses.clone(), "local"), ["10.203.0.2", "fd00:203::2"], "{addresses}");
    assert_eq!(of(inside(&["-4", "route", "show"]), "dst"), ["default", "10.203.0.1"]);
    assert_eq!(of(inside(&["-6", "route", "show", "default"]), "gateway"), ["fd00:203::1"]);
    let setting = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/pk0acb0002/{name}");
        self::inside(&host.namespace, || std::fs::read_to_string(path).unwrap())
    };
    let names = ["rp_filter", "route_localnet", "forwarding", "accept_redirects"];
    assert_eq!(names.map(setting), ["1\n", "1\n", "1\n", "0\n"]);
}

/// A setting of the network of a namespace, and what it becomes if `to` says so.
fn sysctl(namespace: &OwnedFd, name: &str, to: Option<&str>) -> String {
    let path = format!("/proc/sys/net/{name}");
    inside(namespace, || {
        to.iter().for_each(|to| fs::write(&path, to).unwrap());
        fs::read_to_string(&path).unwrap().trim().to_owned()
    })
}

#[test]
fn a_pod_is_no_router_of_the_hosts_whatever_links_begin_with() {
    for (ranges, setting, value) in [
        ("10.203.0.0/16,fd00:203::/64", "accept_ra", "0"),
        ("fd00:203::/64", "accept_ra", "0"),
        ("10.203.0.0/16", "disable_ipv6", "1"),
    ] {
        let host = Host::new(ranges);
        sysctl(&host.namespace, "ipv6/conf/default/accept_ra", Some("2"));
        let name = links::name(host.connect(2).addresses);
        assert_eq!(sysctl(&host.namespace, &format!("ipv6/conf/{name}/{setting}"), None), value, "{ranges}");
    }
}

#[test]
fn a_host_that_becomes_a_router_keeps_its_own_routes_and_one_that_was_stays_as_it_is() {
    let accepts =
        |namespace: &OwnedFd, link: &str| sysctl(namespace, &format!("ipv6/conf/{link}/accept_ra"), None);
    for (was_router, becomes) in [("0", "2"), ("1", "1")] {
        let namespace = namespace();
        ip(&namespace, &["link", "add", "eth7", "type", "veth", "peer", "name", "eth8"]);
        ip(&namespace, &["link", "add", "pk0acb0009", "type", "veth", "peer", "name", "eth9"]);
        sysctl(&namespace, "ipv6/conf/all/forwarding", Some(was_router));
        sysctl(&namespace, "ipv6/conf/eth8/accept_ra", Some("0"));
        let ranges = Ranges::parse("10.203.0.0/16,fd00:203::/64").unwrap();
        let changes = inside(&namespace, || forwarding::turn_on(&ranges).unwrap());
        assert_eq!(accepts(&namespace, "eth7"), becomes, "{changes:?}");
        assert_eq!(accepts(&namespace, "eth8"), "0", "it did not take any before");
        assert_eq!(accepts(&namespace, "pk0acb0009"), "1", "it leads to a Pod");
        assert_eq!(accepts(&namespace, "default"), "1", "what links to come begin with is the host's own");
        assert_eq!(sysctl(&namespace, "ipv6/conf/all/forwarding", None), "1");
        let said = |name: &str| changes.iter().filter(|words| words.contains(name)).count();
        let is_new = usize::from(was_router == "0");
        assert_eq!(["ip_forward", "all/forwarding", "eth7"].map(said), [1, is_new, is_new], "{changes:?}");
        assert_eq!(inside(&namespace, || forwarding::turn_on(&ranges).unwrap()), [""; 0]);
    }
}

#[test]
fn a_link_that_goes_takes_everything_with_it() {
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    let before = host.traces();
    let pod = host.connect(2);
    let name = links::name(pod.addresses);
    let found = inside(&host.namespace, || links::list(&Socket::route().unwrap()).unwrap());
    assert!(found.iter().any(|link| link.name == name && link.owner == OWNER), "{found:?}");
    inside(&host.namespace, || {
        let socket = Socket::route().unwrap();
        links::remove(&socket, &name).unwrap();
        links::remove(&socket, &name).expect("it is gone already");
    });
    let after = host.traces();
    assert_eq!(after, before);
    // Its end in the Pod went too, and it can be joined once more.
    assert_eq!(ip(&pod.namespace, &["link"]).as_array().unwrap().len(), 1);
    host.connect(2);
    host.connect(2);
}

#[test]
fn a_node_finds_its_own_address_again_and_leaves_anothers_alone() {
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    host.connect(2);
    inside(&host.namespace, || {
        let socket = Socket::route().unwrap();
        links::add_node(&socket, &host.ranges, OWNER).unwrap();
        for (ranges, is_free) in [("10.203.0.0/16", false), ("10.202.0.0/16", true), ("10.204.0.0/16", true)]
        {
            let added = links::add_node(&socket, &Ranges::parse(ranges).unwrap(), "podkeep of /run/there");
            assert_eq!(added.is_ok(), is_free, "{ranges}");
            if let Err(error) = added {
                let error = error.to_string();
                assert!(error.ends_with("belongs to \"podkeep of /run/here\""), "{error}");
            }
        }
    });
    let ours = |text: &str| host.ip(&["addr", "show", "dev", "lo"]).to_string().contains(text);
    assert!(ours("10.203.0.1") && ours("fd00:203::1"));
    inside(&host.namespace, || {
        let socket = Socket::route().unwrap();
        assert!(links::remove_node(&socket, &host.ranges).unwrap());
        assert!(!links::remove_node(&socket, &host.ranges).unwrap(), "they are gone already");
    });
    assert!(!ours("10.203.0.1") && !ours("fd00:203::1") && ours("10.204.0.1"));
}

/// 100 times; 1,000 times with `PODKEEP_LONG=1`.
#[test]
fn many_links_come_and_go_and_leave_nothing() {
    let times = if std::env::var_os("PODKEEP_LONG").is_some() { 1000 } else { 100 };
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    let before = host.traces();
    for number in 0..times {
        let pod = host.connect(2 + number % 7);
        // Every other one goes with its namespace, in the kernel's own time: the next of that address finds it, or not.
        if number % 2 == 0 {
            let remove = || links::remove(&Socket::route().unwrap(), &links::name(pod.addresses)).unwrap();
            inside(&host.namespace, remove);
        }
    }
    (2..9).for_each(|slot| {
        let name = links::name(host.ranges.addresses(Slot(slot)));
        inside(&host.namespace, || links::remove(&Socket::route().unwrap(), &name).unwrap());
    });
    assert_eq!(host.traces(), before);
}

#[test]
fn a_range_in_which_the_host_has_a_network_is_refused() {
    for (network, range, is_free) in [
        ("10.203.7.0/24", "10.203.0.0/16", false),
        ("10.203.0.0/16", "10.203.0.0/16", false),
        ("fd00:203::/80", "fd00:203::/64", false),
        // Many sites route all of it somewhere: what is nearer counts.
        ("10.0.0.0/8", "10.203.0.0/16", true),
        ("10.204.0.0/16", "10.203.0.0/16", true),
        ("fd00:203::/48", "fd00:203::/64", true),
    ] {
        let namespace = namespace();
        ip(&namespace, &["route", "add", network, "dev", "lo"]);
        let ranges = Ranges::parse(range).unwrap();
        let added = inside(&namespace, || links::add_node(&Socket::route().unwrap(), &ranges, OWNER));
        assert_eq!(added.is_ok(), is_free, "{network} {range}: {added:?}");
        if let Err(error) = added {
            assert!(error.to_string().contains(network), "{error}");
        }
    }
}
