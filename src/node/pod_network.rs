//! Addresses for Pods that are not on the host's network: which one each has, and its link.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::pod_run::PodNumber;
use super::worker::Worker;
use crate::config::PodNetwork;
use crate::network::netlink::Socket;
use crate::network::{Addresses, NODE, Ranges, Slot, forwarding, links};
use crate::sys::namespace::Tour;

/// IPv4 addresses of Pods where the configuration says nothing: none of the ranges that others take by default.
const USUAL_V4: &str = "10.203.0.0/16";

/// The network that this node's Pods share. Made when the first one needs it: nothing of the host is changed for Pods that run on its
/// network.
#[derive(Debug)]
pub struct Network {
    ranges: Ranges,
    /// What our links are told by, among those of another podkeep.
    owner: String,
    /// Whether the host is ready for links.
    is_ready: Mutex<bool>,
}

/// A Pod's place in it.
#[derive(Clone, Debug)]
pub struct Place {
    network: Arc<Network>,
    slot: Slot,
}

impl Network {
    /// `None` where the configuration wants none.
    pub fn open(config: &PodNetwork, run_dir: &Path) -> Option<Arc<Network>> {
        let wanted = match config {
            PodNetwork::Loopback => return None,
            PodNetwork::Usual => usual_ranges(),
            PodNetwork::Ranges(ranges) => *ranges,
        };
        let ranges = if forwarding::has_v6() { Some(wanted) } else { wanted.only_v4() };
        if ranges.is_none() {
            log::warn!("podCIDR: this host has no IPv6, so that Pods have a loopback only");
        }
        let owner = format!("podkeep of {}", run_dir.display());
        Some(Arc::new(Network { ranges: ranges?, owner, is_ready: Mutex::new(false) }))
    }

    /// Removes the links of Pods that are gone.
    fn remove_strays(&self, taken: &[Slot]) -> Result<()> {
        let host = Socket::route().context("open a netlink socket")?;
        let known: Vec<String> = taken.iter().map(|slot| links::name(self.ranges.addresses(*slot))).collect();
        for link in links::list(&host)? {
            if link.owner == self.owner && !known.contains(&link.name) {
                log::warn!("removing the link {}: it belongs to no Pod", link.name);
                links::remove(&host, &link.name)?;
            }
        }
        Ok(())
    }

    /// Gives the host back what it had before the first Pod, but for the forwarding of packets.
    fn close(&self) -> Result<()> {
        let host = Socket::route().context("open a netlink socket")?;
        Ok(links::remove_node(&host, &self.ranges)?)
    }

    fn make_ready(&self, host: &Socket) -> Result<()> {
        let mut is_ready = self.is_ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_ready {
            links::add_node(host, &self.ranges, &self.owner)?;
            for change in forwarding::turn_on(&self.ranges)? {
                log::info!("{change}");
            }
            *is_ready = true;
        }
        Ok(())
    }
}

impl Place {
    pub fn addresses(&self) -> Addresses {
        self.network.ranges.addresses(self.slot)
    }

    /// Gives the Pod's network namespace its link to the host. May take a while: the kernel makes and unmakes links one by one.
    pub fn connect(&self, namespace: &OwnedFd) -> Result<()> {
        let network = &self.network;
        let host = Socket::route().context("open a netlink socket")?;
        network.make_ready(&host)?;
        let mut tour = Tour::default();
        tour.enter(Some(namespace.as_fd())).context("enter the Pod's network namespace")?;
        let pod = Socket::route().context("open a netlink socket in the Pod")?;
        drop(tour);
        let descriptor = namespace.as_raw_fd() as u32;
        let node = network.ranges.addresses(NODE);
        Ok(links::connect(&host, &pod, descriptor, node, self.addresses(), &network.owner)?)
    }

    /// Removes the link. None there is no error.
    pub fn disconnect(&self) -> Result<()> {
        let host = Socket::route().context("open a netlink socket")?;
        Ok(links::remove(&host, &links::name(self.addresses()))?)
    }
}

impl Worker {
    /// The Pod's place in the network, a new one if it has none yet; `None` if it is to have none.
    pub fn claim_place(&mut self, number: PodNumber) -> Result<Option<Place>> {
        let Some(network) = &self.network else { return Ok(None) };
        let Some(run) = self.pods.get(&number).filter(|run| !run.pod().host_network) else { return Ok(None) };
        if run.slot.is_none() {
            let is_taken = |slot| self.pods.values().any(|other| other.slot == Some(slot));
            let slot = network.ranges.next_slot(self.last_slot, is_taken);
            let slot = slot.context("every address of podCIDR is some Pod's")?;
            self.last_slot = slot;
            if let Some(run) = self.pods.get_mut(&number) {
                run.slot = Some(slot);
            }
            self.unsaved.insert(number);
        }
        Ok(self.place(number))
    }

    /// Where the Pod is in the network, if it is.
    pub fn place(&self, number: PodNumber) -> Option<Place> {
        let (network, run) = (self.network.as_ref()?, self.pods.get(&number)?);
        Some(Place { network: Arc::clone(network), slot: run.slot? })
    }

    /// The addresses that a Pod of its own network has.
    pub fn addresses_of(&self, slot: Option<Slot>) -> Vec<IpAddr> {
        let addresses = self.network.as_ref().zip(slot).map(|(network, slot)| network.ranges.addresses(slot));
        addresses.into_iter().flat_map(Addresses::iter).collect()
    }

    /// Removes the links of Pods that ended while no worker was there.
    pub fn remove_stray_links(&mut self) {
        let taken: Vec<Slot> = self.pods.values().filter_map(|run| run.slot).collect();
        self.last_slot = taken.iter().copied().max().unwrap_or(NODE);
        let removed = self.network.as_ref().map_or(Ok(()), |network| network.remove_strays(&taken));
        if let Err(error) = removed {
            log::warn!("{error:#}");
        }
    }

    /// The last Pod is gone for good.
    pub fn close_network(&self) {
        let closed = self.network.as_ref().map_or(Ok(()), |network| network.close());
        if let Err(error) = closed {
            log::warn!("{error:#}");
        }
    }
}

/// With a range of IPv6 that is this machine's alone, as RFC 4193 wants it.
fn usual_ranges() -> Ranges {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let hash = Sha256::digest([b"podkeep: addresses of Pods", &*machine].concat());
    let [a, b, c, d, e] = [hash[0], hash[1], hash[2], hash[3], hash[4]];
    let both = format!("{USUAL_V4},fd{a:02x}:{b:02x}{c:02x}:{d:02x}{e:02x}::/64");
    Ranges::parse(&both).unwrap_or_else(|error| unreachable!("{both}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ranges_are_always_some() {
        let ranges = usual_ranges();
        assert_eq!(ranges.v4().unwrap().to_string(), USUAL_V4);
        assert_eq!(ranges.v6().unwrap().network.octets()[0], 0xfd);
    }
}
