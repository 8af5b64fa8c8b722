//! The network that the Pods of a node share: the node's address, forwarding, the firewall.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};

use super::host_ports::distinct_host_ports;
use super::ranges::ranges;
use crate::config::PodNetwork;
use crate::manifest::pod::Ingress;
use crate::manifest::{Pod, Uid};
use crate::network::firewall::{self, Firewall, HostPort};
use crate::network::netlink::{Message, Socket};
use crate::network::{Ranges, Slot, forwarding, links};

/// The network that this node's Pods share. Made when the first one needs it: nothing of the host is changed for Pods that run on its
/// network.
pub struct Network {
    pub(super) ranges: Ranges,
    /// What our links are told by, among those of another podkeep.
    owner: String,
    /// Both are set once, by whoever first makes the network ready.
    pub(super) firewall: OnceLock<Firewall>,
    pub(super) watch: OnceLock<links::Watch>,
    /// Who has it makes changes, one after the other.
    state: Mutex<State>,
    /// Others have changed the firewall since they were looked at.
    pub(super) is_changed: AtomicBool,
    /// What others drop, in words. Apart from the state, which is held while the kernel works: the loop reads it.
    foreign: Mutex<Vec<String>>,
}

#[derive(Default)]
pub(super) struct State {
    is_ready: bool,
    /// A Pod has got its link since this worker is there.
    pub(super) has_linked: bool,
    /// Nobody else of this machine has it while this is open.
    claim: Option<UnixDatagram>,
    /// What the firewall has, or is to have.
    pub(super) members: Vec<Member>,
    /// Why there is no firewall.
    lacks_firewall: Option<String>,
}

/// A Pod as the firewall knows it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub uid: Uid,
    pub slot: Slot,
    ports: Vec<HostPort>,
    ingress: Ingress,
}

impl Network {
    /// `None` where the configuration wants none.
    pub fn open(config: &PodNetwork, run_dir: &Path) -> Option<Arc<Network>> {
        let wanted = ranges(config)?;
        let ranges = if forwarding::has_v6() { Some(wanted) } else { wanted.only_v4() };
        if ranges.is_none() {
            log::warn!("podCIDR: this host has no IPv6, so that Pods have a loopback only");
        }
        Some(Arc::new(Network {
            ranges: ranges?,
            owner: format!("podkeep of {}", run_dir.display()),
            firewall: OnceLock::new(),
            watch: OnceLock::new(),
            state: Mutex::default(),
            is_changed: AtomicBool::default(),
            foreign: Mutex::default(),
        }))
    }

    pub fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// What others drop of the traffic of Pods, in words.
    pub fn foreign_drops(&self) -> Vec<String> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whatever a thread that panicked has left is put right by the next change.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> links::Settings<'_> {
        let is_reached_from_loopback = self.firewall.get().is_some();
        links::Settings { owner: &self.owner, is_reached_from_loopback }
    }

    pub(super) fn make_ready(&self, host: &Socket, state: &mut State) -> Result<()> {
        self.make_way(host, state)?;
        self.open_firewall(state);
        Ok(())
    }

    /// The host's own address, and forwarding.
    fn make_way(&self, host: &Socket, state: &mut State) -> Result<()> {
        if state.is_ready {
            return Ok(());
        }
        if state.claim.is_none() {
            state.claim = Some(claim_machine()?);
        }
        links::add_node(host, &self.ranges, &self.owner)?;
        drop(self.watch.set(links::Watch::open().context("watch the host's links")?));
        for change in forwarding::turn_on(&self.ranges)? {
            log::info!("{change}");
        }
        state.is_ready = true;
        Ok(())
    }

    /// Puts the table in place. The next Pod tries again where that failed: a module may have been loaded meanwhile.
    fn open_firewall(&self, state: &mut State) {
        if self.firewall.get().is_some() {
            return;
        }
        let opened = Firewall::open().and_then(|firewall| {
            firewall.commit(self.whole(state))?;
            Ok(firewall)
        });
        match opened {
            Ok(firewall) => {
                state.lacks_firewall = None;
                drop(self.firewall.set(firewall));
                self.look_at_others();
            }
            Err(error) => {
                let words = format!("no firewall, so that no Pod reaches the world: {error}");
                if state.lacks_firewall.replace(error.to_string()).is_none() {
                    log::warn!("network: {words}");
                }
                self.say_drops(vec![format!("network: {words}")]);
            }
        }
    }

    /// The table with all Pods.
    fn whole(&self, state: &State) -> Vec<Message> {
        let mut messages = firewall::table(&self.ranges);
        for member in &state.members {
            messages.extend(firewall::add(&self.pod(member)));
        }
        messages
    }

    fn pod<'a>(&self, member: &'a Member) -> firewall::Pod<'a> {
        let addresses = self.ranges.addresses(member.slot);
        firewall::Pod { addresses, ports: &member.ports, ingress: member.ingress }
    }

    /// Lets the firewall know a Pod.
    pub(super) fn join(&self, member: &Member, state: &mut State) -> Result<()> {
        state.members.retain(|other| other.slot != member.slot);
        let has_wishes = !member.ports.is_empty() || member.ingress != Ingress::All;
        if let Some(why) = state.lacks_firewall.as_ref().filter(|_| has_wishes) {
            bail!("host ports and podkeep.io/ingress need a firewall: {why}");
        }
        state.members.push(member.clone());
        let joined = self.change(firewall::add(&self.pod(member)), member, state);
        if joined.is_err() {
            state.members.pop();
        }
        joined
    }

    /// Lets the firewall forget a Pod. None there is no error.
    pub(super) fn leave(&self, slot: Slot, state: &mut State) -> Result<()> {
        let Some(at) = state.members.iter().position(|member| member.slot == slot) else { return Ok(()) };
        let member = state.members.swap_remove(at);
        self.change(firewall::remove(&self.pod(&member)), &member, state)
    }

    /// Changes what is about one Pod; all of it, where somebody has removed what that builds upon.
    fn change(&self, messages: Vec<Message>, member: &Member, state: &State) -> Result<()> {
        let Some(firewall) = self.firewall.get() else { return Ok(()) };
        match firewall.commit(messages) {
            Err(firewall::Error::Changed(_)) => firewall.commit(self.whole(state)),
            other => other,
        }?;
        self.forget_udp(firewall, member);
        Ok(())
    }

    /// Who sends to a host port of UDP all the time is to be led to who is there now.
    fn forget_udp(&self, firewall: &Firewall, member: &Member) {
        if let Err(error) = firewall.forget_udp(&self.pod(member)) {
            log::warn!("UDP to host ports may go where it went before: {error}");
        }
    }

    /// Puts the table back that others have changed.
    pub(super) fn restore(&self) -> Result<()> {
        let state = self.state();
        let Some(firewall) = self.firewall.get() else { return Ok(()) };
        firewall.commit(self.whole(&state))?;
        for member in &state.members {
            self.forget_udp(firewall, member);
        }
        self.look_at_others();
        Ok(())
    }

    /// Gives the node its addresses again.
    pub(super) fn readdress(&self) -> Result<()> {
        let host = host_socket()?;
        Ok(links::add_node(&host, &self.ranges, &self.owner)?)
    }

    fn say_drops(&self, words: Vec<String>) {
        *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    pub(super) fn look_at_others(&self) {
        let Some(firewall) = self.firewall.get() else { return };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let legacy =
            firewall::legacy(&read("/proc/net/ip_tables_names"), &read("/proc/net/ip6_tables_names"));
        match firewall.foreign_drops() {
            Ok(drops) => {
                let words = drops
                    .iter()
                    .chain(&legacy)
                    .map(|drop| format!("network: another firewall drops: {drop}"));
                self.say_drops(words.collect());
            }
            Err(error) => log::warn!("look for what others drop: {error}"),
        }
    }

    /// Takes over the Pods of an earlier worker, and removes the links of those that are gone.
    pub(super) fn resume(&self, members: Vec<Member>) -> Result<()> {
        let host = host_socket()?;
        if members.is_empty() {
            // The last worker may have had some.
            return self.close();
        }
        let mut state = self.state();
        state.members = members;
        let names = state.members.iter().map(|member| links::name(self.ranges.addresses(member.slot)));
        let known: Vec<String> = names.collect();
        for link in links::list(&host)? {
            if link.owner == self.owner && !known.contains(&link.name) {
                log::warn!("removing the link {}: it belongs to no Pod", link.name);
                if let Err(error) = links::remove(&host, &link.name) {
                    log::warn!("{error}");
                }
            }
        }
        self.make_ready(&host, &mut state)
    }

    /// Gives the host back what it had before the first Pod, but for the forwarding of packets.
    pub(super) fn close(&self) -> Result<()> {
        let host = host_socket()?;
        let mut state = self.state();
        if state.claim.is_none() {
            // Where another podkeep has it, nothing of it is ours.
            let Ok(claim) = claim_machine() else { return Ok(()) };
            state.claim = Some(claim);
        }
        // An earlier worker may have made it, or nobody.
        let was_ready = links::remove_node(&host, &self.ranges)?;
        match self.firewall.get() {
            Some(firewall) => firewall.commit(firewall::no_table())?,
            None if was_ready => Firewall::open()?.commit(firewall::no_table())?,
            None => {}
        }
        state.claim = None;
        Ok(())
    }
}

impl Member {
    pub fn of(pod: &Pod, slot: Slot) -> Member {
        Member { uid: pod.uid.clone(), slot, ports: distinct_host_ports(pod), ingress: pod.ingress }
    }
}

/// Two on one machine would undo each other's firewall for ever. A name of the abstract kind belongs to a network namespace, and is free
/// when its process ends, however that comes.
fn claim_machine() -> Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name("podkeep-network")?;
    UnixDatagram::bind_addr(&name).context(
        "another podkeep gives Pods of this machine addresses: for one of the two the configuration must say `podNetwork: Loopback`",
    )
}

/// To the host's links and routes.
pub(super) fn host_socket() -> Result<Socket> {
    Socket::route().context("open a netlink socket")
}
