//! A host in a network namespace of its own, Pods that are joined to it as podkeep joins them, and a world around it.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use podkeep::network::netlink::Socket;
use podkeep::network::{Addresses, NODE, Ranges, Slot, firewall, forwarding, links};

use super::namespace::Namespace;

pub const OWNER: &str = "podkeep of /run/here";

/// The host's addresses towards the world, and the world's own.
pub const UPLINK4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const WORLD4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// A namespace with the node's own addresses in it.
pub struct Host {
    namespace: Namespace,
    pub ranges: Ranges,
}

/// A Pod's namespace, and its addresses.
pub struct Pod {
    pub namespace: Namespace,
    pub addresses: Addresses,
}

impl Host {
    pub fn new(ranges: &str) -> Host {
        let host = Host { namespace: Namespace::new(), ranges: Ranges::parse(ranges).unwrap() };
        host.inside(|| {
            links::add_node(&Socket::route().unwrap(), &host.ranges, OWNER).unwrap();
            forwarding::turn_on(&host.ranges).unwrap();
        });
        host
    }

    /// A Pod in this slot that the firewall does not know of yet. One that has it already loses its link.
    pub fn connect(&self, slot: u32) -> Pod {
        let pod = Pod { namespace: Namespace::new(), addresses: self.ranges.addresses(Slot(slot)) };
        let in_pod = pod.namespace.inside(|| Socket::route().unwrap());
        let node = self.ranges.addresses(NODE);
        self.inside(|| {
            let host = Socket::route().unwrap();
            let settings = links::Settings { owner: OWNER, is_reached_from_loopback: true };
            links::connect(&host, &in_pod, pod.namespace.descriptor(), node, pod.addresses, settings)
                .unwrap();
        });
        pod
    }

    /// Takes away the link of whoever is in this slot.
    pub fn disconnect(&self, slot: u32) {
        let name = links::name(self.ranges.addresses(Slot(slot)));
        self.inside(|| links::remove(&Socket::route().unwrap(), &name).unwrap());
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Pod {
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses.v4.expect("a host with IPv4")
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.addresses.v6.expect("a host with IPv6")
    }

    pub fn both(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// What the host calls its link.
    pub fn link(&self) -> String {
        links::name(self.addresses)
    }

    pub fn rules<'a>(
        &self,
        ports: &'a [firewall::HostPort],
        ingress: firewall::Ingress,
    ) -> firewall::Pod<'a> {
        firewall::Pod { addresses: self.addresses, ports, ingress }
    }
}

/// A namespace at the other end of a link of the host's, `uplink`, that knows nothing of Pods.
pub fn world(host: &Namespace) -> Namespace {
    let world = Namespace::new();
    host.ip(&format!("link add uplink type veth peer name eth0 netns {}", world.path()));
    host.set("ipv6/conf/uplink/accept_dad", "0");
    world.set("ipv6/conf/eth0/accept_dad", "0");
    host.ip(&format!(
        "addr add {UPLINK4}/24 dev uplink
         addr add {UPLINK6}/64 dev uplink
         link set uplink up"
    ));
    world.ip(&format!(
        "addr add {WORLD4}/24 dev eth0
         addr add {WORLD6}/64 dev eth0
         link set eth0 up"
    ));
    host.await_addresses();
    world.await_addresses();
    world
}
