//! Addresses for Pods that are not on the host's network: which one each has, its link, and its part of the firewall.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::pod_run::{Key, PodNumber};
use super::poller::Interest;
use super::worker::{Done, Worker};
use crate::config::PodNetwork;
use crate::manifest::pod::{Ingress, PodId};
use crate::manifest::{Pod, Uid};
use crate::network::firewall::{self, Firewall, HostPort};
use crate::network::netlink::{Message, Socket};
use crate::network::{Addresses, NODE, Ranges, Slot, forwarding, links};
use crate::sys::namespace::Tour;

/// IPv4 addresses of Pods where the configuration says nothing: none of the ranges that others take by default.
const USUAL_V4: &str = "10.203.0.0/16";

/// The network that this node's Pods share. Made when the first one needs it: nothing of the host is changed for Pods that run on its
/// network.
pub struct Network {
    ranges: Ranges,
    /// What our links are told by, among those of another podkeep.
    owner: String,
    /// Both are set once, by whoever first makes the network ready.
    firewall: OnceLock<Firewall>,
    watch: OnceLock<links::Watch>,
    /// Who has it makes changes, one after the other.
    state: Mutex<State>,
    /// Others have changed the firewall since they were looked at.
    is_changed: AtomicBool,
    /// What others drop, in words. Apart from the state, which is held while the kernel works: the loop reads it.
    foreign: Mutex<Vec<String>>,
}

#[derive(Default)]
struct State {
    is_ready: bool,
    /// A Pod has got its link since this worker is there.
    has_linked: bool,
    /// Nobody else of this machine has it while this is open.
    claim: Option<UnixDatagram>,
    /// What the firewall has, or is to have.
    members: Vec<Member>,
    /// Why there is no firewall.
    lacks_firewall: Option<String>,
}

/// A Pod as the firewall knows it.
#[derive(Clone, Debug)]
struct Member {
    uid: Uid,
    slot: Slot,
    ports: Vec<HostPort>,
    ingress: Ingress,
}

/// A Pod's place in the network.
#[derive(Clone)]
pub struct Place {
    network: Arc<Network>,
    member: Member,
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> links::Settings<'_> {
        let is_reached_from_loopback = self.firewall.get().is_some();
        links::Settings { owner: &self.owner, is_reached_from_loopback }
    }

    fn make_ready(&self, host: &Socket, state: &mut State) -> Result<()> {
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
    fn join(&self, member: &Member, state: &mut State) -> Result<()> {
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
    fn leave(&self, slot: Slot, state: &mut State) -> Result<()> {
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
    fn restore(&self) -> Result<()> {
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
    fn readdress(&self) -> Result<()> {
        let host = host_socket()?;
        Ok(links::add_node(&host, &self.ranges, &self.owner)?)
    }

    fn say_drops(&self, words: Vec<String>) {
        *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn look_at_others(&self) {
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
    fn resume(&self, members: Vec<Member>) -> Result<()> {
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
    fn close(&self) -> Result<()> {
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

impl Place {
    fn addresses(&self) -> Addresses {
        self.network.ranges.addresses(self.member.slot)
    }

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
        Ok(links::connect(host, &pod, descriptor, node, self.addresses(), network.settings())?)
    }

    /// Puts right what others have done to the link of a Pod that is there.
    fn restore(&self, namespace: &OwnedFd) -> Result<()> {
        let host = host_socket()?;
        let node = self.network.ranges.addresses(NODE);
        // Held until it is done: who is being released meanwhile waits, and whoever was released is no member any more.
        let state = self.network.state();
        let is_own = |member: &Member| member.slot == self.member.slot && member.uid == self.member.uid;
        if !state.members.iter().any(is_own) {
            return Ok(());
        }
        match links::restore(&host, node, self.addresses(), self.network.settings())? {
            true => Ok(()),
            false => self.link(&host, namespace),
        }
    }

    /// Undoes what [`connect`](Self::connect) has done. Nothing there is no error.
    pub fn disconnect(&self) -> Result<()> {
        let host = host_socket()?;
        self.network.leave(self.member.slot, &mut self.network.state())?;
        Ok(links::remove(&host, &links::name(self.addresses()))?)
    }
}

impl Member {
    fn of(pod: &Pod, slot: Slot) -> Member {
        let mut ports: Vec<HostPort> = Vec::new();
        for port in host_ports(pod) {
            // Of an init container and one that runs later, the later one has it.
            ports.retain(|other| !is_same(other, &port));
            ports.push(port);
        }
        Member { uid: pod.uid.clone(), slot, ports, ingress: pod.ingress }
    }
}

/// Whether both stand for the same port of the same addresses.
fn is_same(one: &HostPort, other: &HostPort) -> bool {
    meets(one, other) && is_of_any_address(one) == is_of_any_address(other)
}

/// Whether both stand for the same port of an address, of one at least.
fn meets(one: &HostPort, other: &HostPort) -> bool {
    let at_one = one.host_ip == other.host_ip || is_of_any_address(one) || is_of_any_address(other);
    at_one && (one.host_port, one.protocol) == (other.host_port, other.protocol)
}

fn is_of_any_address(port: &HostPort) -> bool {
    port.host_ip.is_none_or(|ip| ip.is_unspecified())
}

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

    /// Takes over the network of an earlier worker.
    pub fn resume_network(&mut self) {
        let members = self.pods.values().filter_map(|run| Some(Member::of(run.pod(), run.slot?)));
        let members: Vec<Member> = members.collect();
        self.last_slot = members.iter().map(|member| member.slot).max().unwrap_or(NODE);
        let resumed = self.network.as_ref().map_or(Ok(()), |network| network.resume(members));
        if let Err(error) = resumed {
            log::warn!("{error:#}");
        }
        self.watch_network();
        // What others did to them while no worker was there.
        self.put_right(self.linked(|_| true), false);
        if self.pods.values().any(|run| run.slot.is_some()) {
            self.open_resolver();
        }
    }

    /// Once the network is ready: hears of what others do to it.
    pub fn watch_network(&mut self) {
        let Some(network) = &self.network else { return };
        let mut add = |what: BorrowedFd<'_>, key: Key, is_watched: &mut bool| match *is_watched {
            true => {}
            false => match self.poller.add(what, Interest::Readable, key) {
                Ok(_) => *is_watched = true,
                Err(error) => log::warn!("watch the network of Pods: {error}"),
            },
        };
        let [links, firewall] = &mut self.watches_network;
        if let Some(watch) = network.watch.get() {
            add(watch.as_fd(), Key::Links, links);
        }
        if let Some(watch) = network.firewall.get() {
            add(watch.as_fd(), Key::Firewall, firewall);
        }
    }

    /// Somebody has changed links, addresses or routes of the host; perhaps ours, which are put right then.
    pub fn links_changed(&mut self) {
        let Some(network) = &self.network else { return };
        let Some(news) = network.watch.get().map(links::Watch::news) else { return };
        // As a rule what was heard is of our own Pods' coming and going.
        if news == links::News::default() {
            return;
        }
        let lost = |addresses: Addresses| {
            let is_named = news.links.contains(&links::name(addresses));
            news.is_incomplete || is_named || addresses.iter().any(|ip| news.addresses.contains(&ip))
        };
        // With the node's address the kernel takes away each route that has it.
        let is_node_lost = lost(network.ranges.addresses(NODE));
        let concerned = self.linked(|addresses| is_node_lost || lost(addresses));
        if !news.is_incomplete {
            for (.., id) in &concerned {
                log::warn!("{id}: somebody has changed its link or routes in the host: they are put right");
            }
        }
        self.put_right(concerned, is_node_lost);
    }

    /// The Pods that have a link, of those whose addresses are wanted.
    fn linked(&self, is_wanted: impl Fn(Addresses) -> bool) -> Vec<(Place, OwnedFd, PodId)> {
        let Some(network) = &self.network else { return Vec::new() };
        let mut linked = Vec::new();
        for (number, run) in &self.pods {
            // Of a Pod that is only being prepared or released, it is our own doing.
            let Some((namespace, slot)) = run.namespaces.net.as_ref().zip(run.slot) else { continue };
            if !is_wanted(network.ranges.addresses(slot)) {
                continue;
            }
            let Some(place) = self.place(*number) else { continue };
            match namespace.try_clone() {
                Ok(namespace) => linked.push((place, namespace, run.pod().id.clone())),
                Err(error) => log::warn!("{}: its network namespace: {error}", run.pod().id),
            }
        }
        linked
    }

    /// Does it beside the loop.
    fn put_right(&self, concerned: Vec<(Place, OwnedFd, PodId)>, is_node_lost: bool) {
        let Some(network) = self.network.clone().filter(|_| !concerned.is_empty()) else { return };
        self.work.add(move || {
            let mut result = if is_node_lost { network.readdress() } else { Ok(()) };
            for (place, namespace, id) in concerned {
                let restored = place.restore(&namespace).with_context(|| id.to_string());
                result = result.and(restored);
            }
            Done::Finished(result.map_err(|error| format!("{error:#}")))
        });
    }

    /// Somebody has changed a table of the firewall; perhaps ours, which is put back then.
    pub fn firewall_changed(&mut self) {
        let Some(network) = &self.network else { return };
        if network.firewall.get().is_some_and(Firewall::is_disturbed) {
            log::warn!("somebody has changed the table inet podkeep of the firewall: it is put back");
            let network = Arc::clone(network);
            self.work.add(move || Done::Finished(network.restore().map_err(|error| format!("{error:#}"))));
        } else if !network.is_changed.swap(true, Ordering::Relaxed) {
            let network = Arc::clone(network);
            self.work.add(move || {
                network.is_changed.store(false, Ordering::Relaxed);
                // One at a time: the socket's answers are one asker's.
                let _state = network.state();
                network.look_at_others();
                Done::Finished(Ok(()))
            });
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

/// Two on one machine would undo each other's firewall for ever. A name of the abstract kind belongs to a network namespace, and is free
/// when its process ends, however that comes.
fn claim_machine() -> Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name("podkeep-network")?;
    UnixDatagram::bind_addr(&name).context(
        "another podkeep gives Pods of this machine addresses: for one of the two the configuration must say `podNetwork: Loopback`",
    )
}

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

/// To the host's links and routes.
fn host_socket() -> Result<Socket> {
    Socket::route().context("open a netlink socket")
}

/// Where addresses come from, if Pods are to have any.
pub fn ranges(config: &PodNetwork) -> Option<Ranges> {
    match config {
        PodNetwork::Loopback => None,
        PodNetwork::Usual => Some(usual_ranges()),
        PodNetwork::Ranges(ranges) => Some(*ranges),
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
