//! What one Pod has of the network.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::network::{Member, Network, host_socket};
use crate::network::netlink::Socket;
use crate::network::{NODE, links};
use crate::sys::namespace::Tour;

/// A Pod's place in the network.
#[derive(Clone)]
pub struct Place {
    pub(super) network: Arc<Network>,
    pub(super) member: Member,
}

impl Place {
    /// Gives the Pod's network namespace its link to the host, and its host ports. May take a while: the kernel makes and unmakes links
    /// one by one.
    pub fn connect(&self, namespace: &OwnedFd) -> Result<()> {
        let network = &self.network;
        let host = host_socket()?;
        let mut state = network.state();
        network.make_ready(&host, &mut state)?;
        network.join(&self.member, &mut state)?;
        if state.has_linked {
            drop(state);
            return self.link(&host, namespace);
        }
        // The first one has the kernel load its module of links. Several at once would not all wait for that, and be told that there is none.
        self.link(&host, namespace)?;
        state.has_linked = true;
        Ok(())
    }

    fn link(&self, host: &Socket, namespace: &OwnedFd) -> Result<()> {
        let network = &self.network;
        let mut tour = Tour::default();
        tour.enter(Some(namespace.as_fd())).context("enter the Pod's network namespace")?;
        let pod = Socket::route().context("open a netlink socket in the Pod")?;
        drop(tour);
        let descriptor = namespace.as_raw_fd() as u32;
        let node = network.ranges.addresses(NODE);
        Ok(links::connect(host, &pod, descriptor, node, self.member.addresses, network.settings())?)
    }

    /// Puts right what others have done to the link of a Pod that is there.
    pub(super) fn restore(&self, namespace: &OwnedFd) -> Result<()> {
        let host = host_socket()?;
        let node = self.network.ranges.addresses(NODE);
        // Held until it is done: who is being released meanwhile waits, and whoever was released is no member any more.
        let state = self.network.state();
        let is_own = |member: &Member| member.slot == self.member.slot && member.uid == self.member.uid;
        if !state.members.iter().any(is_own) {
            return Ok(());
        }
        match links::restore(&host, node, self.member.addresses, self.network.settings())? {
            true => Ok(()),
            false => self.link(&host, namespace),
        }
    }

    /// Undoes what [`connect`](Self::connect) has done, but for the link. That goes with the Pod's namespace, by the thousand at once,
    /// where the kernel takes some 20 ms for each that it is told to remove.
    pub fn disconnect(&self) -> Result<()> {
        self.network.leave(self.member.slot, &mut self.network.state())
    }
}
