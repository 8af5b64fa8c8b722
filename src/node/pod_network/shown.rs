//! What people are told of a Pod's network.

use std::net::{IpAddr, SocketAddr};

use super::network::{Member, Network};
use crate::network::firewall::{HostPort, TABLE};
use crate::node::pod_run::PodRun;

impl Network {
    /// What the firewall has of a Pod, in words; nothing as long as it is not in it.
    pub fn rules_of(&self, run: &PodRun) -> Vec<String> {
        let Some(member) = self.member(run).filter(|_| run.namespaces.net.is_some()) else {
            return Vec::new();
        };
        if self.firewall.get().is_none() {
            return vec!["none: there is no firewall".to_owned()];
        }
        let mut rules = vec![format!("table inet {TABLE}: in place")];
        rules.extend(member.ports.iter().filter_map(|port| host_port(&member, port)));
        rules.push(format!("ingress: {}", member.ingress.as_str()));
        rules.push(format!("masquerade: from {} to elsewhere", self.ranges));
        rules
    }

    /// What of its network a Pod has to do without, in words.
    pub fn troubles_of(&self, run: &PodRun) -> Vec<String> {
        let Some(lease) = run.lease else { return Vec::new() };
        let v6 = if !lease.is_v4_only && self.lacks_v6 {
            Some("network: this host has IPv6 off by now: the Pod is reached by IPv4 alone")
        } else if lease.is_v4_only && self.ranges.v6().is_some() {
            Some("network: no address of IPv6: the host had it off when the Pod began")
        } else {
            None
        };
        v6.map(str::to_owned).into_iter().chain(self.troubles()).collect()
    }
}

/// `192.0.2.1:8080/TCP → 10.203.0.2:80`; none where the Pod has no address of the host address' family.
fn host_port(member: &Member, port: &HostPort) -> Option<String> {
    let host = port.host_ip.map_or_else(
        || format!("*:{}", port.host_port),
        |ip| SocketAddr::new(ip, port.host_port).to_string(),
    );
    let is_of_family = |ip: &IpAddr| port.host_ip.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
    let own = member.addresses.iter().filter(is_of_family);
    let own: Vec<_> = own.map(|ip| SocketAddr::new(ip, port.container_port).to_string()).collect();
    (!own.is_empty()).then(|| format!("{host}/{} → {}", port.protocol.as_str(), own.join(", ")))
}
