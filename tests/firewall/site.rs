//! A node with its uplink, its table, and a world that knows the way to its Pods.

use std::net::{Ipv4Addr, Ipv6Addr};

use podkeep::network::Ranges;
use podkeep::network::firewall::{self, Firewall};

use crate::host::{self, Host, Pod, UPLINK4, UPLINK6};
use crate::namespace::Namespace;

pub const NODE4: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd0c, 0, 0, 1, 0, 0, 0, 1);

const RANGES: &str = "10.203.0.0/16,fd0c:0:0:1::/64";

pub fn ranges() -> Ranges {
    Ranges::parse(RANGES).unwrap()
}

/// The node with its uplink, and the world at the other end.
pub struct Site {
    pub node: Host,
    pub world: Namespace,
    pub firewall: Firewall,
}

impl Site {
    /// With the table in place, and no Pod.
    pub fn new() -> Site {
        let node = Host::new(RANGES);
        let world = host::world(&node);
        world.ip(&format!(
            "route add 10.203.0.0/16 via {UPLINK4}
             route add fd0c:0:0:1::/64 via {UPLINK6}"
        ));
        let firewall = node.firewall();
        firewall.commit(firewall::table(&ranges())).unwrap();
        Site { node, world, firewall }
    }

    /// A Pod in this slot, from 2 on, that the firewall does not know of yet.
    pub fn pod(&self, slot: u32) -> Pod {
        self.node.connect(slot)
    }
}
