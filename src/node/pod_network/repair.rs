//! The network over the ends of workers, and over what others do to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::network::Member;
use super::place::Place;
use crate::manifest::pod::PodId;
use crate::network::firewall::Firewall;
use crate::network::{Addresses, NODE, links};
use crate::node::pod_run::Key;
use crate::node::poller::Interest;
use crate::node::worker::{Done, Worker};

/// A Pod that has a link: its place, its network namespace, its name.
type Linked = (Place, OwnedFd, PodId);

/// Puts the links of all of them right, whatever becomes of one; the first error.
fn restore(linked: Vec<Linked>) -> Result<()> {
    let restored = linked
        .into_iter()
        .map(|(place, namespace, id)| place.restore(&namespace).with_context(|| id.to_string()));
    restored.fold(Ok(()), Result::and)
}

impl Worker {
    /// Takes over the network of an earlier worker.
    pub fn resume_network(&mut self) {
        let Some(network) = self.network.clone() else { return };
        let members: Vec<Member> = self.pods.values().filter_map(|run| network.member(run)).collect();
        let last = members.iter().map(|member| member.slot).max();
        self.last_slot = last.unwrap_or(NODE);
        if let Err(error) = network.resume(members) {
            log::warn!("{error:#}");
        }
        self.watch_network();
        // What others did to them while no worker was there.
        self.put_right(self.linked(|_| true), false);
        if last.is_some() {
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
        // The firewall may have been opened since the last time, beside the loop.
        self.watch_network();
        let Some(network) = &self.network else { return };
        let Some(news) = network.watch.get().map(links::Watch::news) else { return };
        if news.is_less && !network.is_ready.load(Ordering::Relaxed) {
            return self.make_network_ready();
        }
        // As a rule what was heard is of our own Pods' coming and going.
        if !news.concerns_links() {
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

    /// Tries again what a take-over could not do: what stood in its way may be gone.
    fn make_network_ready(&self) {
        let Some(network) = self.network.clone() else { return };
        let linked = self.linked(|_| true);
        if linked.is_empty() {
            // The next Pod does it.
            return;
        }
        self.work.add(move || {
            let result = network.make_ready_again().and(restore(linked));
            Done::Finished(result.map_err(|error| format!("{error:#}")))
        });
    }

    /// The Pods that have a link, of those whose addresses are wanted.
    fn linked(&self, is_wanted: impl Fn(Addresses) -> bool) -> Vec<Linked> {
        let Some(network) = &self.network else { return Vec::new() };
        let mut linked = Vec::new();
        for (number, run) in &self.pods {
            // Of a Pod that is only being prepared or released, it is our own doing.
            let Some((namespace, lease)) = run.namespaces.net.as_ref().zip(run.lease) else { continue };
            if !is_wanted(network.ranges.leased(lease)) {
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
    fn put_right(&self, concerned: Vec<Linked>, is_node_lost: bool) {
        let Some(network) = self.network.clone().filter(|_| !concerned.is_empty()) else { return };
        self.work.add(move || {
            let readdressed = if is_node_lost { network.readdress() } else { Ok(()) };
            let result = readdressed.and(restore(concerned));
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
