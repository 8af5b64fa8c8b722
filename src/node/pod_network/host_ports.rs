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

/// Whether both stand for the same port of the same addresses, of one family at least.
fn is_same(one: &HostPort, other: &HostPort) -> bool {
    let families = one.host_ip.zip(other.host_ip);
    let is_of_two_families = families.is_some_and(|(one, other)| one.is_ipv4() != other.is_ipv4());
    meets(one, other) && !is_of_two_families && is_of_any_address(one) == is_of_any_address(other)
}

/// Whether both stand for the same port of an address, of one at least.
pub fn meets(one: &HostPort, other: &HostPort) -> bool {
    let at_one = one.host_ip == other.host_ip || is_of_any_address(one) || is_of_any_address(other);
    at_one && (one.host_port, one.protocol) == (other.host_port, other.protocol)
}

fn is_of_any_address(port: &HostPort) -> bool {
    port.host_ip.is_none_or(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::decode;
    use crate::manifest::pod::Protocol;

    fn pod(ports: &str) -> Pod {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: c, image: i, ports: [{ports}]}}]}}}}"
        );
        decode(Path::new("a.yaml"), text.as_bytes(), "n").unwrap().pods.remove(0)
    }

    fn at(host_ip: &str) -> HostPort {
        HostPort { host_ip: host_ip.parse().ok(), protocol: Protocol::Tcp, host_port: 80, container_port: 80 }
    }

    #[test]
    fn two_pods_meet_at_a_port_of_one_address_and_whoever_has_all_meets_everybody() {
        let cases = [
            ("", "", true),
            ("", "192.0.2.1", true),
            ("0.0.0.0", "192.0.2.1", true),
            ("::", "", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "2001:db8::1", false),
        ];
        for (one, other, do_meet) in cases {
            let (one, other) = (at(one), at(other));
            assert_eq!((meets(&one, &other), meets(&other, &one)), (do_meet, do_meet), "{one:?} {other:?}");
        }
        assert!(!meets(&at(""), &HostPort { protocol: Protocol::Udp, ..at("") }));
        assert!(!meets(&at(""), &HostPort { host_port: 81, ..at("") }));
    }

    #[test]
    fn a_port_of_all_addresses_of_each_family_is_two_ports() {
        let both = pod(
            "{containerPort: 84, hostPort: 80, hostIP: 0.0.0.0}, {containerPort: 86, hostPort: 80, hostIP: '::'}, \
             {containerPort: 87, hostPort: 80, hostIP: 192.0.2.1}",
        );
        let ports: Vec<u16> = distinct_host_ports(&both).iter().map(|port| port.container_port).collect();
        assert_eq!(ports, [84, 86, 87]);
        let again = pod("{containerPort: 84, hostPort: 80}, {containerPort: 86, hostPort: 80, hostIP: '::'}");
        let ports: Vec<u16> = distinct_host_ports(&again).iter().map(|port| port.container_port).collect();
        assert_eq!(ports, [86], "the later one has it");
    }
}
