//! The network that the Pods of a node share: the node's address, forwarding, the firewall.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};

use super::ranges::ranges;
use crate::config::PodNetwork;
use crate::manifest::Uid;
use crate::manifest::pod::Ingress;
use crate::network::firewall::{self, Firewall, HostPort};
use crate::network::netlink::{Message, Socket};
use crate::network::{Addresses, Ranges, Slot, forwarding, links};

/// The network that this node's Pods share. Made when the first one needs it: nothing of the host is changed for Pods that run on its
/// network.
pub struct Network {
    pub(super) ranges: Ranges,
    /// The configuration wants IPv6, and the host has none, or has it off.
    pub(super) lacks_v6: bool,
    /// What our links are told by, among those of another podkeep.
    owner: String,
    /// Both are set once, by whoever first makes the network ready.
    pub(super) firewall: OnceLock<Firewall>,
    pub(super) watch: OnceLock<links::Watch>,
    /// The host has what all Pods share, but for the firewall.
    pub(super) is_ready: AtomicBool,
    /// Who has it makes changes, one after the other.
    state: Mutex<State>,
    /// Others have changed the firewall since they were looked at.
    pub(super) is_changed: AtomicBool,
    /// What others drop, or why Pods are not reached at all, in words. Apart from the state, which is held while the kernel works: the
    /// loop reads it.
    troubles: Mutex<Vec<String>>,
}

#[derive(Default)]
pub(super) struct State {
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
    pub addresses: Addresses,
    pub ports: Vec<HostPort>,
    pub ingress: Ingress,
}

impl Network {
    /// `None` where the configuration wants none. What the host has of IPv6 then is what Pods have of it as long as this worker lives.
    pub fn open(config: &PodNetwork, run_dir: &Path) -> Option<Arc<Network>> {
        let wanted = ranges(config)?;
        let ranges = if forwarding::has_v6() { Some(wanted) } else { wanted.only_v4() };
        if ranges.is_none() {
            log::warn!("podCIDR: this host has no IPv6, so that Pods have a loopback only");
        }
        let ranges = ranges?;
        Some(Arc::new(Network {
            ranges,
            lacks_v6: ranges.v6().is_none() && wanted.v6().is_some(),
            owner: format!("podkeep of {}", run_dir.display()),
            firewall: OnceLock::new(),
            watch: OnceLock::new(),
            is_ready: AtomicBool::default(),
            state: Mutex::default(),
            is_changed: AtomicBool::default(),
            troubles: Mutex::default(),
        }))
    }

    pub fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// What others drop of the traffic of Pods, or why there is none, in words.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        if self.is_ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.watch.get().is_none() {
            // Before anything that may be refused: by this is heard when that may be otherwise.
            drop(self.watch.set(links::Watch::open().context("watch the host's links")?));
        }
        if state.claim.is_none() {
            state.claim = Some(claim_machine()?);
        }
        links::add_node(host, &self.ranges, &self.owner)?;
        for change in forwarding::turn_on(&self.ranges)? {
            log::info!("{change}");
        }
        self.is_ready.store(true, Ordering::Relaxed);
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
                self.say(vec![format!("network: {words}")]);
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
        firewall::Pod { addresses: member.addresses, ports: &member.ports, ingress: member.ingress }
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

    fn say(&self, troubles: Vec<String>) {
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
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
                self.say(words.collect());
            }
            Err(error) => log::warn!("look for what others drop: {error}"),
        }
    }

    /// Takes over the Pods of an earlier worker, and removes the links of those that are gone.
    pub(super) fn resume(&self, members: Vec<Member>) -> Result<()> {
        if members.is_empty() {
            // The last worker may have had some.
            return self.close();
        }
        let host = host_socket()?;
        let mut state = self.state();
        state.members = members;
        let ready = self.ready(&host, &mut state);
        for name in self.strays(&host, &state)? {
            log::warn!("removing the link {name}: it belongs to no Pod");
            if let Err(error) = links::remove(&host, &name) {
                log::warn!("{error}");
            }
        }
        ready
    }

    /// What a take-over could not do, once something of the host has gone that may have stood in its way.
    pub(super) fn make_ready_again(&self) -> Result<()> {
        self.ready(&host_socket()?, &mut self.state())
    }

    /// For Pods that are there: why they are not reached is said of them.
    fn ready(&self, host: &Socket, state: &mut State) -> Result<()> {
        let ready = self.make_ready(host, state);
        if let Err(error) = &ready {
            self.say(vec![format!("network: {error:#}")]);
        }
        ready
    }

    /// Our links that belong to no Pod. A Pod's goes with its namespace, in the kernel's own time.
    fn strays(&self, host: &Socket, state: &State) -> Result<Vec<String>> {
        let known: Vec<String> = state.members.iter().map(|member| links::name(member.addresses)).collect();
        let own = links::list(host)?.into_iter().filter(|link| link.owner == self.owner);
        Ok(own.map(|link| link.name).filter(|name| !known.contains(name)).collect())
    }

    /// Gives the host back what it had before the first Pod, but for the forwarding of packets.
    pub fn close(&self) -> Result<()> {
        let host = host_socket()?;
        let mut state = self.state();
        if state.claim.is_none() {
            // Where another podkeep has it, nothing of it is ours.
            let Ok(claim) = claim_machine() else { return Ok(()) };
            state.claim = Some(claim);
        }
        // Before all else: who removes a link waits for what the kernel is removing already.
        for name in self.strays(&host, &state)? {
            links::remove(&host, &name)?;
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
