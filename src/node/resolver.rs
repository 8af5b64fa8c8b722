//! The resolver that Pods ask for names: what it knows of them, and when it goes on.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::clock;
use super::name_files::host_dns;
use super::pod_run::{Key, PodNumber};
use super::poller::Interest;
use super::worker::Worker;
use crate::network;
use crate::network::resolver::{Names, Place, Resolver};
use crate::pod::BootTime;

const PORT: u16 = 53;
/// Where the host says whom to ask: looked at again when somebody asks after it has changed.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The node's own, where it has one.
#[derive(Default)]
pub struct NodeResolver {
    resolver: Option<Resolver>,
    /// Change time and inode of the host's file when it was read.
    read_of: Option<(i64, i64, u64)>,
    /// Why there is none was said.
    is_told: bool,
}

impl NodeResolver {
    pub fn deadline(&self) -> Option<BootTime> {
        self.resolver.as_ref().and_then(Resolver::deadline).map(BootTime::from)
    }

    /// Whether Pods can ask it.
    pub fn is_there(&self) -> bool {
        self.resolver.is_some()
    }
}

impl Worker {
    /// Where Pods ask the resolver: at the node's addresses.
    pub fn addresses_of_resolver(&self) -> Vec<IpAddr> {
        if self.resolver.is_there() { self.node_addresses() } else { Vec::new() }
    }

    /// Opens the resolver, unless it is there, or none is wanted. The next Pod tries again where that failed: another one listens there,
    /// or a child on its way to exec still has the last worker's socket.
    pub fn open_resolver(&mut self) {
        if self.resolver.is_there() || self.options.config.dns.cluster_dns.is_some() {
            return;
        }
        let Some(network) = &self.network else { return };
        let places = self.node_addresses().into_iter().map(|ip| Place::open(SocketAddr::new(ip, PORT)));
        let domain = &self.options.config.dns.cluster_domain;
        let opened = places
            .collect::<std::io::Result<_>>()
            .and_then(|places| Resolver::new(places, network.ranges(), domain))
            .and_then(|resolver| {
                self.poller.add(&resolver, Interest::Readable, Key::Resolver)?;
                Ok(resolver)
            });
        match opened {
            Ok(resolver) => {
                self.resolver = NodeResolver { resolver: Some(resolver), ..NodeResolver::default() };
                let numbers: Vec<_> = self.pods.keys().copied().collect();
                numbers.into_iter().for_each(|number| self.name_pod(number));
            }
            Err(error) if !std::mem::replace(&mut self.resolver.is_told, true) => {
                log::warn!(
                    "Pods do not find each other by name: listen on port {PORT} of the node's address: {error}"
                );
            }
            Err(_) => {}
        }
    }

    /// Makes what is known of a Pod what is true of it now.
    pub fn name_pod(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get(&number) else { return };
        let addresses = self.addresses_of_pod(run);
        let Some(resolver) = &mut self.resolver.resolver else { return };
        if addresses.is_empty() {
            return resolver.set_pod(number.0, None);
        }
        let pod = run.pod();
        let whole = pod.id.name.as_str();
        let written = whole.strip_suffix(&format!("-{}", pod.node_name.to_lowercase())).unwrap_or(whole);
        let domain = network::domain(pod, &self.options.config.dns.cluster_domain);
        let names = Names {
            names: &[written, whole],
            namespace: &pod.id.namespace,
            host: pod.hostname.as_deref().zip(domain.as_deref()),
            addresses: &addresses,
            is_ready: run.machine.is_ready(),
        };
        resolver.set_pod(number.0, Some(&names));
    }

    /// Lets the resolver go on with what has come.
    pub fn resolve(&mut self) {
        self.heed_servers();
        let Some(resolver) = &mut self.resolver.resolver else { return };
        if let Err(error) = resolver.step(clock::now().since_boot()) {
            log::error!("Pods do not find names any more: {error}");
            self.resolver.resolver = None;
        }
    }

    pub fn pass_time_of_resolver(&mut self, now: BootTime) {
        if self.resolver.deadline().is_some_and(|at| at <= now) {
            self.resolve();
        }
    }

    /// Reads the host's servers again where its file has changed.
    fn heed_servers(&mut self) {
        let Some(resolver) = &mut self.resolver.resolver else { return };
        let stamp = Path::new(RESOLV_CONF).metadata().ok();
        let stamp = Some(stamp.map_or((0, 0, 0), |meta| (meta.ctime(), meta.ctime_nsec(), meta.ino())));
        if stamp == self.resolver.read_of {
            return;
        }
        self.resolver.read_of = stamp;
        // The host's own resolver is reached from here, where it is not from a Pod.
        match host_dns(&self.options.config.dns.resolv_conf, true) {
            Ok(dns) => {
                let servers: Vec<_> = dns.iter().flat_map(|dns| dns.addresses()).collect();
                let servers: Vec<_> = servers.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect();
                resolver.set_servers(&servers);
            }
            Err(error) => log::warn!("whom to ask for names: {error:#}"),
        }
    }
}
