//! Networks that plugins of others make (`network::cni`): which Pods are on one, what is kept of that, and when plugins are run.
//!
//! Plugins take as long as they like, so all of it but the choice is done beside the loop. What a Pod has of a network is on the disk
//! from before its ADD until after its DEL: whoever comes next, after a crash, a power cut or a change of the configuration, can undo it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value, json};

use super::folders::Folders;
use super::pod_network::distinct_host_ports;
use super::pod_run::{PodNumber, PodRun};
use super::state::{self, Durability};
use super::worker::{Done, Worker};
use crate::config::{CniConfig, CniRule};
use crate::events::{Kind, Note};
use crate::manifest::pod::Ingress;
use crate::manifest::{Pod, Uid};
use crate::network::cni::{Attachment, Network, Plugins, collect};

/// Capabilities, by the names under which plugins say that they take them. The last is containerd's own.
const PORTS: &str = "portMappings";
const BANDWIDTH: &str = "bandwidth";
const IPS: &str = "ips";
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

const UNLIMITED: &str = "kubernetes.io/ingress-bandwidth, egress-bandwidth: no plugin of its network has the capability bandwidth";

/// Bits that a Pod may be ahead of its bandwidth by: containerd gives no limit either.
const BURST: u32 = u32::MAX;

/// Runs plugins, and keeps what came of them.
pub struct Cni {
    config: CniConfig,
    plugins: Plugins,
    records: PathBuf,
    namespaces: PathBuf,
    /// GC must be alone. Whoever attaches or detaches has it for reading.
    running: RwLock<()>,
    turns: Mutex<Turns>,
    turn_over: Condvar,
    /// The network that was last chosen, as the log has it.
    told: Mutex<String>,
}

#[derive(Default)]
struct Turns {
    /// Plugins run for these Pods now: for each, nothing else may.
    under_way: Vec<Uid>,
    /// Attached by this worker.
    attached: Vec<Uid>,
}

/// One Pod's turn, until it is dropped.
struct Turn<'a> {
    cni: &'a Cni,
    uid: &'a Uid,
}

/// A Pod that is to be on a network.
pub struct Joining {
    cni: Arc<Cni>,
    uid: Uid,
    attachment: Attachment,
}

/// What the loop knows of a Pod that is on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniLink {
    pub network: String,
    pub addresses: Vec<IpAddr>,
    limits_bandwidth: bool,
    /// Its namespace has gone, with all that plugins had put there; another one is being made.
    pub is_lost: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.cni.turns().under_way.retain(|uid| uid != self.uid);
        self.cni.turn_over.notify_all();
    }
}

impl Cni {
    pub fn open(config: &CniConfig, folders: &Folders) -> Arc<Cni> {
        Arc::new(Cni {
            config: config.clone(),
            plugins: Plugins { dirs: config.bin_dirs.clone() },
            records: folders.attachments(),
            namespaces: folders.namespaces(),
            running: RwLock::default(),
            turns: Mutex::default(),
            turn_over: Condvar::new(),
            told: Mutex::default(),
        })
    }

    /// The network that new Pods are on, as the folder has it now; `None` if there is none, and none is demanded.
    fn network(&self) -> Result<Option<Network>> {
        if self.config.rule == CniRule::Never {
            return Ok(None);
        }
        let dir = &self.config.conf_dir;
        match Network::first_of(dir).context("find the CNI network")? {
            Some((network, file)) => {
                self.tell(format!("new Pods are on the CNI network {} of {}", network.name, file.display()));
                Ok(Some(network))
            }
            None if self.config.rule == CniRule::Always => {
                bail!("podNetwork: CNI: there is no *.conflist, *.conf or *.json in {}", dir.display())
            }
            None => Ok(None),
        }
    }

    fn tell(&self, words: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != words {
            log::info!("{words}");
            *told = words;
        }
    }

    /// What this Pod asks of the network, if it is to be on one.
    ///
    /// # Errors
    /// What it asks for and nobody would give it.
    fn wish(self: &Arc<Cni>, pod: &Pod) -> Result<Option<Joining>> {
        let Some(network) = self.network()? else {
            ensure!(
                pod.ips.is_empty(),
                "podkeep.io/ips: only a CNI network gives Pods the addresses that they ask for"
            );
            return Ok(None);
        };
        check(pod, &network)?;
        let attachment = Attachment {
            capabilities: capabilities(pod),
            container_id: pod.uid.to_string(),
            namespace: self.namespace(&pod.uid).to_string_lossy().into_owned(),
            args: arguments(pod),
            network,
            result: None,
        };
        Ok(Some(Joining { cni: Arc::clone(self), uid: pod.uid.clone(), attachment }))
    }

    fn record(&self, uid: &Uid) -> PathBuf {
        self.records.join(format!("{uid}.json"))
    }

    /// A path that stays the same over workers: a link to a descriptor of whichever is there. No mount, which each new mount namespace
    /// would copy.
    fn namespace(&self, uid: &Uid) -> PathBuf {
        self.namespaces.join(uid.as_str())
    }

    /// Whether plugins have been run for this Pod, and not yet been told to undo it.
    pub fn is_attached(&self, uid: &Uid) -> bool {
        self.record(uid).exists()
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // Each change of it is one step.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else runs plugins for this Pod.
    fn turn<'a>(&'a self, uid: &'a Uid) -> Turn<'a> {
        let is_busy = |turns: &mut Turns| turns.under_way.contains(uid);
        let waited = self.turn_over.wait_while(self.turns(), is_busy);
        waited.unwrap_or_else(PoisonError::into_inner).under_way.push(uid.clone());
        Turn { cni: self, uid }
    }

    fn load(&self, uid: &Uid) -> Result<Option<Attachment>> {
        let path = self.record(uid);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("read {}", path.display()))?,
        };
        let parsed = serde_json::from_slice(&bytes).map_err(anyhow::Error::from);
        let attachment =
            parsed.and_then(|saved| Attachment::of_json(saved).map_err(|reason| anyhow!(reason)));
        attachment.map(Some).with_context(|| format!("read {}", path.display()))
    }

    fn save(&self, uid: &Uid, attachment: &Attachment) -> Result<()> {
        fs::create_dir_all(&self.records).with_context(|| format!("make {}", self.records.display()))?;
        Ok(state::save(&self.record(uid), &attachment.to_json(), Durability::Disk)?)
    }

    fn forget(&self, uid: &Uid) -> Result<()> {
        for path in [self.record(uid), self.namespace(uid)] {
            remove(&path)?;
        }
        Ok(())
    }

    /// Lets the Pod's path lead to its namespace, or nowhere: never to what another process has under that number.
    fn point(&self, uid: &Uid, namespace: Option<&OwnedFd>) -> Result<()> {
        let path = self.namespace(uid);
        remove(&path)?;
        let Some(namespace) = namespace else { return Ok(()) };
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.namespaces);
        folder.with_context(|| format!("make {}", self.namespaces.display()))?;
        let target = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        symlink(target, &path).with_context(|| format!("make {}", path.display()))
    }

    /// Undoes what plugins have done for a Pod. Nothing there is no error.
    fn detach(&self, uid: &Uid, namespace: Option<&OwnedFd>) -> Result<()> {
        let _gc_waits = self.running.read();
        let _turn = self.turn(uid);
        self.undo(uid, namespace)?;
        self.turns().attached.retain(|attached| attached != uid);
        Ok(())
    }

    /// In the Pod's turn.
    fn undo(&self, uid: &Uid, namespace: Option<&OwnedFd>) -> Result<()> {
        match self.load(uid) {
            Ok(Some(attachment)) => {
                self.point(uid, namespace)?;
                attachment.del(&self.plugins, namespace.is_some())?;
            }
            Ok(None) => {}
            // To try again would be in vain.
            Err(error) => log::error!("what CNI plugins have done for {uid} is not undone: {error:#}"),
        }
        self.forget(uid)
    }

    /// Takes over what an earlier worker has done for a Pod; `None` if that is nothing whole.
    fn resume(&self, uid: &Uid, namespace: &OwnedFd) -> Result<Option<CniLink>> {
        let Some(attachment) = self.load(uid)?.filter(|attachment| attachment.result.is_some()) else {
            return Ok(None);
        };
        self.point(uid, Some(namespace))?;
        self.turns().attached.push(uid.clone());
        Ok(Some(CniLink::of(&attachment)))
    }

    /// The Pods for which plugins have been run.
    fn attached(&self) -> Result<Vec<Uid>> {
        let entries = match fs::read_dir(&self.records) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("list {}", self.records.display()))?,
        };
        let uid = |name: &str| Uid::parse(name.strip_suffix(".json")?);
        Ok(entries.filter_map(|entry| uid(entry.ok()?.file_name().to_str()?)).collect())
    }

    /// Undoes what is left of Pods that are neither there nor wanted, and has plugins do the same.
    fn tidy(&self, unwanted: &[Uid]) {
        for uid in unwanted {
            let _gc_waits = self.running.read();
            let _turn = self.turn(uid);
            // Its manifest may have come meanwhile.
            if self.turns().attached.contains(uid) {
                continue;
            }
            log::warn!("undoing what CNI plugins have done for {uid}: it belongs to no Pod");
            if let Err(error) = self.undo(uid, None) {
                log::warn!("{error:#}");
            }
        }
        if let Err(error) = self.collect() {
            log::warn!("{error:#}");
        }
    }

    fn collect(&self) -> Result<()> {
        // Whoever had it has left nothing half done that this would see.
        let _alone = self.running.write();
        let Some(network) = self.network()? else { return Ok(()) };
        let mut kept = Vec::new();
        for uid in self.attached()? {
            match self.load(&uid)? {
                Some(attachment) if attachment.network.name == network.name => {
                    kept.push(attachment.container_id)
                }
                _ => {}
            }
        }
        Ok(collect(&network, &kept, &self.plugins)?)
    }

    /// Asks the plugins whether a Pod's link is as they have made it.
    fn check(&self, uid: &Uid) -> Result<()> {
        let _turn = self.turn(uid);
        match self.load(uid)? {
            Some(attachment) => Ok(attachment.check(&self.plugins)?),
            None => Ok(()),
        }
    }
}

impl Joining {
    /// Has the plugins connect the Pod's network namespace.
    pub fn connect(mut self, namespace: &OwnedFd) -> Result<CniLink> {
        let Joining { cni, uid, attachment } = &mut self;
        let _gc_waits = cni.running.read();
        let _turn = cni.turn(uid);
        // Of a worker that ended in between, or of an earlier boot.
        cni.undo(uid, None)?;
        cni.point(uid, Some(namespace))?;
        cni.save(uid, attachment)?;
        let added = attachment.add(&cni.plugins).map_err(anyhow::Error::from);
        if let Err(error) = added.and_then(|()| cni.save(uid, attachment)) {
            // As a Pod that fails to come about leaves nothing: what cannot be undone now will be before the next attempt.
            if let Err(error) = cni.undo(uid, Some(namespace)) {
                log::warn!("{uid}: {error:#}");
            }
            return Err(error);
        }
        cni.turns().attached.push(uid.clone());
        Ok(CniLink::of(attachment))
    }
}

impl CniLink {
    fn of(attachment: &Attachment) -> CniLink {
        CniLink {
            network: attachment.network.name.clone(),
            addresses: attachment.addresses(),
            limits_bandwidth: attachment.network.takes(BANDWIDTH),
            is_lost: false,
        }
    }
}

impl Worker {
    /// The addresses that a Pod of its own network has, whosever that network is.
    pub fn addresses_of_pod(&self, run: &PodRun) -> Vec<IpAddr> {
        run.cni.as_ref().map_or_else(|| self.addresses_of(run.slot), |link| link.addresses.clone())
    }

    /// What a Pod that shall get its namespaces asks of a CNI network, if it is to be on one.
    pub fn joining(&self, number: PodNumber) -> Result<Option<Joining>> {
        let Some(run) = self.pods.get(&number) else { return Ok(None) };
        if run.pod().host_network || run.slot.is_some() {
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
        if run.pod().host_network || run.slot.is_some() || !self.cni.is_attached(run.uid()) {
            return;
        }
        let uid = run.uid().clone();
        let resumed = match &run.namespaces.net {
            Some(namespace) => self.cni.resume(&uid, namespace),
            None => self
                .cni
                .load(&uid)
                .map(|found| found.map(|attachment| CniLink { is_lost: true, ..CniLink::of(&attachment) })),
        };
        match resumed {
            Ok(link) => run.cni = link,
            Err(error) => log::error!("{}: {error:#}", run.pod().id),
        }
    }

    /// Once it is known which Pods are wanted: what belongs to none goes, and the links of those that were taken over are looked at.
    pub fn tidy_cni(&mut self) {
        let attached = match self.cni.attached() {
            Ok(attached) => attached,
            Err(error) => return log::warn!("{error:#}"),
        };
        let wanted = self.set.uids();
        let is_wanted = |uid: &Uid| self.numbers.contains_key(uid) || wanted.contains(uid);
        let unwanted: Vec<Uid> = attached.into_iter().filter(|uid| !is_wanted(uid)).collect();
        let there = self.pods.iter().filter(|(_, run)| run.cni.as_ref().is_some_and(|link| !link.is_lost));
        let there: Vec<_> = there.map(|(number, run)| (*number, run.uid().clone())).collect();
        if unwanted.is_empty() && there.is_empty() && self.cni.config.rule == CniRule::Never {
            return;
        }
        let cni = Arc::clone(&self.cni);
        // A lane that nobody waits for at the end: the next worker does it again.
        self.execs.lane.add(move || {
            cni.tidy(&unwanted);
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

/// What a Pod asks for that only plugins could give, in words.
pub fn unlimited(run: &PodRun) -> Option<String> {
    let is_limited = run.cni.as_ref().is_some_and(|link| link.limits_bandwidth);
    let is_asked = !run.pod().host_network && run.pod().bandwidth != [None; 2];
    (is_asked && !is_limited).then(|| UNLIMITED.to_owned())
}

/// Whether the network gives the Pod all that it asks for. containerd leaves out what no plugin takes, and says nothing.
fn check(pod: &Pod, network: &Network) -> Result<()> {
    let name = &network.name;
    ensure!(
        pod.ingress == Ingress::All,
        "podkeep.io/ingress is of podkeep's own network, and this Pod is to be on the CNI network {name}"
    );
    let wishes = [
        (!distinct_host_ports(pod).is_empty(), PORTS, "host ports"),
        (!pod.ips.is_empty(), IPS, "podkeep.io/ips"),
    ];
    for (is_wished, capability, words) in wishes {
        ensure!(
            !is_wished || network.takes(capability),
            "{words}: no plugin of the CNI network {name} has the capability {capability}"
        );
    }
    Ok(())
}

/// What plugins are told of the Pod, as containerd does.
fn capabilities(pod: &Pod) -> Map<String, Value> {
    let mut all = Map::new();
    let ports: Vec<Value> = distinct_host_ports(pod)
        .into_iter()
        .map(|port| {
            let ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_str().to_lowercase(),
                "hostIP": ip,
            })
        })
        .collect();
    let [ingress, egress] = pod.bandwidth;
    let mut bandwidth = Map::new();
    for (rate, [rate_key, burst_key]) in
        [(ingress, ["ingressRate", "ingressBurst"]), (egress, ["egressRate", "egressBurst"])]
    {
        if let Some(rate) = rate {
            bandwidth.insert(rate_key.to_owned(), rate.into());
            bandwidth.insert(burst_key.to_owned(), BURST.into());
        }
    }
    let mut add = |name: &str, is_any: bool, value: Value| {
        if is_any {
            all.insert(name.to_owned(), value);
        }
    };
    add(PORTS, !ports.is_empty(), ports.into());
    add(BANDWIDTH, !bandwidth.is_empty(), bandwidth.into());
    add(IPS, !pod.ips.is_empty(), pod.ips.clone().into());
    add(ANNOTATIONS, true, json!(pod.annotations));
    all
}

/// `CNI_ARGS`, as containerd writes it.
fn arguments(pod: &Pod) -> String {
    let (id, uid) = (&pod.id, &pod.uid);
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}",
        id.namespace, id.name
    )
}

/// Nothing there is no error.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", path.display()))
        }
        _ => Ok(()),
    }
}
