//! The links themselves, without a node: each test in a host of its own, which is a network namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use podkeep::manifest::pod::Protocol;
use podkeep::network::firewall::{HostPort, Ingress, add, remove, table};
use podkeep::network::netlink::Socket;
use podkeep::network::{NODE, Ranges, forwarding, links};
use serde_json::Value;

use crate::host::{Host, OWNER};
use crate::namespace::{Namespace, assert_same};

/// Who asks is answered with the address that is seen of it.
fn asks(from: &Namespace, to: &Namespace, address: IpAddr) -> SocketAddr {
    let listener = to.inside(|| TcpListener::bind((address, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut connection, peer) = listener.accept().unwrap();
        write!(connection, "{peer}").unwrap();
    });
    let mut answer = String::new();
    from.inside(|| TcpStream::connect(at).unwrap().read_to_string(&mut answer).unwrap());
    answering.join().unwrap();
    answer.parse().unwrap()
}

#[test]
fn a_pod_the_host_and_other_pods_reach_each_other_by_their_own_addresses() {
    for ranges in ["10.203.0.0/16,fd00:203::/64", "10.203.0.0/16", "fd00:203::/64"] {
        let host = Host::new(ranges);
        let (one, other) = (host.connect(2), host.connect(300));
        let node = host.ranges.addresses(NODE);
        let ends: [(&Namespace, _); 3] =
            [(&host, node), (&one.namespace, one.addresses), (&other.namespace, other.addresses)];
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
        host.show(&["link", "show", "dev", "pk0acb0002"]).as_array().cloned().unwrap().try_into().unwrap();
    assert_eq!((&link["ifalias"], &link["linkinfo"]["info_kind"]), (&OWNER.into(), &"veth".into()));
    let of = |list: Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of(host.show(&["-4", "route", "show", "proto", "112"]), "dst"), ["10.203.0.2"]);
    assert_eq!(of(host.show(&["-4", "route", "show", "proto", "112"]), "prefsrc"), ["10.203.0.1"]);
    assert_eq!(of(host.show(&["-6", "route", "show", "proto", "112"]), "dst"), ["fd00:203::2"]);
    let addresses = pod.namespace.show(&["addr", "show", "dev", "eth0"]);
    let addresses = &addresses[0]["addr_info"];
    // No third one: nothing was made of the hardware's address.
    assert_eq!(of(addresses.clone(), "local"), ["10.203.0.2", "fd00:203::2"], "{addresses}");
    assert_eq!(of(pod.namespace.show(&["-4", "route", "show"]), "dst"), ["default", "10.203.0.1"]);
    assert_eq!(of(pod.namespace.show(&["-6", "route", "show", "default"]), "gateway"), ["fd00:203::1"]);
    let names = ["rp_filter", "route_localnet", "forwarding", "accept_redirects"];
    let settings = names.map(|name| host.setting(&format!("ipv4/conf/pk0acb0002/{name}")));
    assert_eq!(settings, ["1", "1", "1", "0"]);
}

#[test]
fn a_pod_is_no_router_of_the_hosts_whatever_links_begin_with() {
    for (ranges, setting, value) in [
        ("10.203.0.0/16,fd00:203::/64", "accept_ra", "0"),
        ("fd00:203::/64", "accept_ra", "0"),
        ("10.203.0.0/16", "disable_ipv6", "1"),
    ] {
        let host = Host::new(ranges);
        host.set("ipv6/conf/default/accept_ra", "2");
        let name = host.connect(2).link();
        assert_eq!(host.setting(&format!("ipv6/conf/{name}/{setting}")), value, "{ranges}");
    }
}

#[test]
fn a_host_that_becomes_a_router_keeps_its_own_routes_and_one_that_was_stays_as_it_is() {
    let accepts =
        |namespace: &Namespace, link: &str| namespace.setting(&format!("ipv6/conf/{link}/accept_ra"));
    for (was_router, becomes) in [("0", "2"), ("1", "1")] {
        let namespace = Namespace::new();
        namespace.ip("link add eth7 type veth peer name eth8\nlink add pk0acb0009 type veth peer name eth9");
        namespace.set("ipv6/conf/all/forwarding", was_router);
        namespace.set("ipv6/conf/eth8/accept_ra", "0");
        let ranges = Ranges::parse("10.203.0.0/16,fd00:203::/64").unwrap();
        let changes = namespace.inside(|| forwarding::turn_on(&ranges).unwrap());
        assert_eq!(accepts(&namespace, "eth7"), becomes, "{changes:?}");
        assert_eq!(accepts(&namespace, "eth8"), "0", "it did not take any before");
        assert_eq!(accepts(&namespace, "pk0acb0009"), "1", "it leads to a Pod");
        assert_eq!(accepts(&namespace, "default"), "1", "what links to come begin with is the host's own");
        assert_eq!(namespace.setting("ipv6/conf/all/forwarding"), "1");
        let said = |name: &str| changes.iter().filter(|words| words.contains(name)).count();
        let is_new = usize::from(was_router == "0");
        assert_eq!(["ip_forward", "all/forwarding", "eth7"].map(said), [1, is_new, is_new], "{changes:?}");
        assert_eq!(namespace.inside(|| forwarding::turn_on(&ranges).unwrap()), [""; 0]);
    }
}

#[test]
fn a_link_that_goes_takes_everything_with_it() {
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    let before = host.traces();
    let pod = host.connect(2);
    let found = host.inside(|| links::list(&Socket::route().unwrap()).unwrap());
    assert!(found.iter().any(|link| link.name == pod.link() && link.owner == OWNER), "{found:?}");
    host.disconnect(2);
    host.disconnect(2);
    assert_same(&host.traces(), &before);
    // Its end in the Pod went too, and it can be joined once more.
    assert_eq!(pod.namespace.show(&["link"]).as_array().unwrap().len(), 1);
    host.connect(2);
    host.connect(2);
}

#[test]
fn a_node_finds_its_own_address_again_and_leaves_anothers_alone() {
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    host.connect(2);
    host.inside(|| {
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
    let ours = |text: &str| host.show(&["addr", "show", "dev", "lo"]).to_string().contains(text);
    assert!(ours("10.203.0.1") && ours("fd00:203::1"));
    host.inside(|| {
        let socket = Socket::route().unwrap();
        assert!(links::remove_node(&socket, &host.ranges).unwrap());
        assert!(!links::remove_node(&socket, &host.ranges).unwrap(), "they are gone already");
    });
    assert!(!ours("10.203.0.1") && !ours("fd00:203::1") && ours("10.204.0.1"));
}

/// With addresses, routes, a host port and limits on who may reach them: 30 times; 1,000 times with `PODKEEP_LONG=1`.
#[test]
fn many_pods_come_and_go_and_leave_the_host_as_it_was() {
    let times = if std::env::var_os("PODKEEP_LONG").is_some() { 1000 } else { 30 };
    let host = Host::new("10.203.0.0/16,fd00:203::/64");
    let firewall = host.firewall();
    firewall.commit(table(&host.ranges)).unwrap();
    let all = || [host.traces(), host.settings()].concat();
    let before = all();
    for number in 0..times {
        let slot = 2 + number % 7;
        let pod = host.connect(slot);
        let port = HostPort {
            host_ip: None,
            protocol: Protocol::Tcp,
            host_port: 8000 + slot as u16,
            container_port: 80,
        };
        let rules = pod.rules(std::slice::from_ref(&port), Ingress::HostPort);
        firewall.commit(add(&rules)).unwrap();
        if number == 0 {
            assert!(host.nft(&["list", "map", "inet", "podkeep", "ingress6"], "").contains("fd00:203::2"));
        }
        firewall.commit(remove(&rules)).unwrap();
        // Every other one goes with its namespace, in the kernel's own time: the next of that address finds it, or not.
        if number % 2 == 0 {
            host.disconnect(slot);
        }
    }
    (2..9).for_each(|slot| host.disconnect(slot));
    assert_same(&all(), &before);
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
        let namespace = Namespace::new();
        namespace.ip(&format!("route add {network} dev lo"));
        let ranges = Ranges::parse(range).unwrap();
        let added = namespace.inside(|| links::add_node(&Socket::route().unwrap(), &ranges, OWNER));
        assert_eq!(added.is_ok(), is_free, "{network} {range}: {added:?}");
        if let Err(error) = added {
            assert!(error.to_string().contains(network), "{error}");
        }
    }
}
