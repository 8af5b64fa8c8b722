//! The ports of the host that Pods want.

use crate::manifest::Pod;
use crate::network::firewall::HostPort;

/// The ports of the host that a Pod wants.
pub fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort> + '_ {
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    ports.filter_map(|port| {
        Some(HostPort {
            host_ip: port.host_ip,
            protocol: port.protocol,
            host_port: port.host_port?,
            container_port: port.container_port,
        })
    })
}

/// The same, each once.
pub fn distinct_host_ports(pod: &Pod) -> Vec<HostPort> {
    let mut ports: Vec<HostPort> = Vec::new();
    for port in host_ports(pod) {
        // Of an init container and one that runs later, the later one has it.
        ports.retain(|other| !is_same(other, &port));
        ports.push(port);
    }
    ports
}

/// Whether both stand for the same port of the same addresses.
fn is_same(one: &HostPort, other: &HostPort) -> bool {
    meets(one, other) && is_of_any_address(one) == is_of_any_address(other)
}

/// Whether both stand for the same port of an address, of one at least.
pub fn meets(one: &HostPort, other: &HostPort) -> bool {
    let at_one = one.host_ip == other.host_ip || is_of_any_address(one) || is_of_any_address(other);
    at_one && (one.host_port, one.protocol) == (other.host_port, other.protocol)
}

fn is_of_any_address(port: &HostPort) -> bool {
    port.host_ip.is_none_or(|ip| ip.is_unspecified())
}
