//! What the worker does with Pods on CNI networks: it gives them what plugins have given, and sees to it that all is undone.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::{CniLink, Joining};
use crate::events::{Kind, Note};
use crate::manifest::Uid;
use crate::node::pod_run::{PodNumber, PodRun};
use crate::node::worker::{Done, Worker};

impl Worker {
    /// The addresses that a Pod of its own network has, whosever that network is.
    pub fn addresses_of_pod(&self, run: &PodRun) -> Vec<IpAddr> {
        run.cni.as_ref().map_or_else(|| self.addresses_of(run.lease), |link| link.addresses.clone())
    }

    /// What a Pod that shall get its namespaces asks of a CNI network, if it is to be on one.
    pub fn joining(&self, number: PodNumber) -> Result<Option<Joining>> {
        let Some(run) = self.pods.get(&number) else { return Ok(None) };
        if run.pod().host_network || run.lease.is_some() {
            return Ok(None);
        }
        let joining = self.cni.wish(run.pod())?;
        if joining.is_some() {
            self.check_host_ports(number, run.pod())?;
        }
        Ok(joining)
    }

    /// Begins to undo what plugins have done for a Pod that is being released; says whether there is anything.
    pub fn detach(&mut self, number: PodNumber) -> bool {
        let Some(run) = self.pods.get(&number).filter(|run| self.cni.is_attached(run.uid())) else {
            return false;
        };
        let (cni, uid) = (Arc::clone(&self.cni), run.uid().clone());
        let namespace = run.namespaces.net.as_ref().map(OwnedFd::try_clone).transpose();
        self.work.add(move || {
            let detached = namespace.context("duplicate a namespace");
            let detached = detached.and_then(|namespace| cni.detach(&uid, namespace.as_ref()));
            Done::Detached { pod: number, result: detached.map_err(|error| format!("{error:#}")) }
        });
        true
    }

    /// Plugins have undone what they had done for a Pod, or why not.
    pub fn detached(&mut self, number: PodNumber, result: Result<(), String>) -> Result<()> {
        if let Err(message) = result {
            self.released(number, Err(message));
            return Ok(());
        }
        if let Some(run) = self.pods.get_mut(&number) {
            run.cni = None;
        }
        self.release(number)
    }

    /// Takes over the link of a Pod, once its namespaces are open.
    pub fn resume_link(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        if run.pod().host_network || run.lease.is_some() || !self.cni.is_attached(run.uid()) {
            return;
        }
        let uid = run.uid().clone();
        let resumed = match &run.namespaces.net {
            Some(namespace) => self.cni.resume(&uid, namespace),
            // It has gone, and is made anew when a container starts.
            None => self.cni.load(&uid).map(|found| found.as_ref().map(CniLink::of)),
        };
        match resumed {
            Ok(link) => run.cni = link,
            Err(error) => log::error!("{}: {error:#}", run.pod().id),
        }
    }

    /// Once it is known which Pods are wanted: what belongs to none goes, and the links of those that were taken over are looked at.
    pub fn tidy_cni(&mut self) {
        if self.cni.is_tidied.swap(true, Ordering::Relaxed) {
            return;
        }
        let said = |error: anyhow::Error| log::warn!("{error:#}");
        let attached = self.cni.attached().map_err(said).unwrap_or_default();
        let network = self.cni.network().map_err(said).unwrap_or_default();
        let wanted = self.set.uids();
        let is_wanted = |uid: &Uid| self.numbers.contains_key(uid) || wanted.contains(uid);
        let unwanted: Vec<Uid> = attached.into_iter().filter(|uid| !is_wanted(uid)).collect();
        let there = self.pods.iter().filter(|(_, run)| run.cni.is_some() && run.namespaces.net.is_some());
        let there: Vec<_> = there.map(|(number, run)| (*number, run.uid().clone())).collect();
        if unwanted.is_empty() && there.is_empty() && network.is_none() {
            return;
        }
        let cni = Arc::clone(&self.cni);
        // A lane that nobody waits for at the end: the next worker does it again.
        self.execs.lane.add(move || {
            cni.tidy(&unwanted, network.as_ref());
            let wrong = |(number, uid)| Some((number, format!("{:#}", cni.check(&uid).err()?)));
            Done::LinksChecked(there.into_iter().filter_map(wrong).collect())
        });
    }

    /// Plugins say what is wrong with links of Pods. Those run on: they may answer all the same.
    pub fn links_checked(&mut self, wrong: Vec<(PodNumber, String)>) {
        for (number, message) in wrong {
            let Some(run) = self.pods.get(&number) else { continue };
            log::warn!("{}: {message}", run.pod().id);
            self.record(number, vec![Note::new(Kind::Warning, "NetworkCheckFailed", message)]);
        }
    }
}
