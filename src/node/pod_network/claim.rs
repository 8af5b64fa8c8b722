//! Pods get their places in the network, and give them back.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::host_ports::{host_ports, meets};
use super::network::Member;
use super::place::Place;
use crate::manifest::Pod;
use crate::manifest::pod::Ingress;
use crate::network::{Addresses, Slot};
use crate::node::pod_run::PodNumber;
use crate::node::worker::Worker;

impl Worker {
    /// The Pod's place in the network, a new one if it has none yet; `None` if it is to have none.
    pub fn claim_place(&mut self, number: PodNumber) -> Result<Option<Place>> {
        let Some(run) = self.pods.get(&number) else { return Ok(None) };
        self.check_host_ports(number, run.pod())?;
        if run.pod().host_network {
            return Ok(None);
        }
        let Some(network) = &self.network else {
            let has_wishes = host_ports(run.pod()).next().is_some() || run.pod().ingress != Ingress::All;
            anyhow::ensure!(
                !has_wishes,
                "there are no host ports and no podkeep.io/ingress where Pods have a loopback only (podNetwork)"
            );
            return Ok(None);
        };
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
        self.open_resolver();
        self.name_pod(number);
        Ok(self.place(number))
    }

    /// As the kubelet does: of two Pods that want one port of the host, the second does not start.
    pub fn check_host_ports(&self, number: PodNumber, pod: &Pod) -> Result<()> {
        let others = self
            .pods
            .iter()
            .filter(|(other, run)| **other != number && (run.slot.is_some() || run.group.is_some()));
        for port in host_ports(pod) {
            let holder =
                others.clone().find(|(_, run)| host_ports(run.pod()).any(|other| meets(&port, &other)));
            if let Some((_, run)) = holder {
                bail!("host port {}/{} is {}'s", port.host_port, port.protocol.as_str(), run.pod().id);
            }
        }
        Ok(())
    }

    /// Where the Pod is in the network, if it is.
    pub fn place(&self, number: PodNumber) -> Option<Place> {
        let (network, run) = (self.network.as_ref()?, self.pods.get(&number)?);
        Some(Place { network: Arc::clone(network), member: Member::of(run.pod(), run.slot?) })
    }

    /// The addresses that a Pod of its own network has.
    pub fn addresses_of(&self, slot: Option<Slot>) -> Vec<IpAddr> {
        let addresses = self.network.as_ref().zip(slot).map(|(network, slot)| network.ranges.addresses(slot));
        addresses.into_iter().flat_map(Addresses::iter).collect()
    }
}
