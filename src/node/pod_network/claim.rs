//! Pods get their places in the network, and give them back.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::host_ports::{distinct_host_ports, host_ports, meets};
use super::network::{Member, Network};
use super::place::Place;
use crate::manifest::Pod;
use crate::manifest::pod::Ingress;
use crate::network::firewall::HostPort;
use crate::network::{Addresses, Lease, NODE};
use crate::node::pod_run::{PodNumber, PodRun};
use crate::node::worker::Worker;
use crate::pod::Event;

impl Worker {
    /// The Pod's place in the network, a new one if it has none yet; `None` if it is to have none.
    pub fn claim_place(&mut self, number: PodNumber) -> Result<Option<Place>> {
        let Some(run) = self.pods.get(&number) else { return Ok(None) };
        let pod = Arc::clone(run.pod());
        self.check_host_ports(number, &pod)?;
        if !pod.host_network && self.claim_addresses(number, &pod)? {
            self.open_resolver();
            self.name_pod(number);
        }
        Ok(self.place(number))
    }

    /// Says whether the Pod has some now: `podNetwork: Loopback` gives none.
    fn claim_addresses(&mut self, number: PodNumber, pod: &Pod) -> Result<bool> {
        let Some(network) = &self.network else {
            let has_wishes = host_ports(pod).next().is_some() || pod.ingress != Ingress::All;
            ensure!(
                !has_wishes,
                "there are no host ports and no podkeep.io/ingress where Pods have a loopback only (podNetwork)"
            );
            return Ok(false);
        };
        if self.pods.get(&number).is_some_and(|run| run.lease.is_some()) {
            return Ok(true);
        }
        let is_taken =
            |slot| self.pods.values().any(|other| other.lease.is_some_and(|lease| lease.slot == slot));
        let slot = network.ranges.next_slot(self.last_slot, is_taken);
        let slot = slot.context("every address of podCIDR is some Pod's")?;
        self.last_slot = slot;
        if let Some(run) = self.pods.get_mut(&number) {
            run.lease = Some(Lease { slot, is_v4_only: network.ranges.v6().is_none() });
        }
        self.unsaved.insert(number);
        Ok(true)
    }

    /// As the kubelet does: of two Pods that want one port of the host, the second does not start.
    pub fn check_host_ports(&self, number: PodNumber, pod: &Pod) -> Result<()> {
        let others = self.pods.iter().filter(|(other, run)| **other != number && run.holds_ports);
        for port in host_ports(pod) {
            let holder =
                others.clone().find(|(_, run)| host_ports(run.pod()).any(|other| meets(&port, &other)));
            if let Some((_, run)) = holder {
                bail!("host port {}/{} is {}'s", port.host_port, port.protocol.as_str(), run.pod().id);
            }
        }
        Ok(())
    }

    /// This Pod has given its host ports back: who waits for one of them need not wait for its time.
    pub fn offer_host_ports_of(&mut self, pod: &Pod) {
        for (number, run) in &self.pods {
            let wants = |port: HostPort| host_ports(pod).any(|freed| meets(&freed, &port));
            if run.machine.waits_to_be_prepared() && host_ports(run.pod()).any(wants) {
                self.events.push_back((*number, Event::PrepareAgain));
            }
        }
    }

    /// Where the Pod is in the network, if it is.
    pub fn place(&self, number: PodNumber) -> Option<Place> {
        let (network, run) = (self.network.as_ref()?, self.pods.get(&number)?);
        Some(Place { network: Arc::clone(network), member: network.member(run)? })
    }

    /// The addresses that a Pod of its own network has.
    pub fn addresses_of(&self, lease: Option<Lease>) -> Vec<IpAddr> {
        let addresses = self.network.as_ref().zip(lease).map(|(network, lease)| network.ranges.leased(lease));
        addresses.into_iter().flat_map(Addresses::iter).collect()
    }

    /// Those of the node in the network of its Pods.
    pub fn node_addresses(&self) -> Vec<IpAddr> {
        let addresses = self.network.as_ref().map(|network| network.ranges.addresses(NODE));
        addresses.into_iter().flat_map(Addresses::iter).collect()
    }

    /// What the Pod is given with new namespaces: what the host has by now.
    pub fn renew_lease(&mut self, number: PodNumber) {
        let Some(network) = &self.network else { return };
        let Some(run) = self.pods.get_mut(&number) else { return };
        if let Some(lease) = &mut run.lease {
            lease.is_v4_only = network.ranges.v6().is_none();
            self.unsaved.insert(number);
        }
    }
}

impl Network {
    /// The Pod as the firewall is to know it, if it has a place.
    pub(super) fn member(&self, run: &PodRun) -> Option<Member> {
        let (pod, lease) = (run.pod(), run.lease?);
        Some(Member {
            uid: pod.uid.clone(),
            slot: lease.slot,
            addresses: self.ranges.leased(lease),
            ports: distinct_host_ports(pod),
            ingress: pod.ingress,
        })
    }
}
