//! Networks that plugins of others make (`network::cni`): which Pods are on one, what is kept of that, and when plugins are run.
//!
//! `wish.rs` what a Pod asks of it, `links.rs` what the worker does with it. Plugins take as long as they like, so all of it but the choice
//! is done beside the loop. What a Pod has of a network is on the disk from before its ADD until after its DEL: whoever comes next, after a
//! crash, a power cut or a change of the configuration, can undo it.

mod links;
mod wish;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result, anyhow, bail, ensure};

pub use wish::unlimited;
use wish::{BANDWIDTH, arguments, capabilities, check};

use super::folders::Folders;
use super::state::{self, Durability};
use crate::config::{CniConfig, CniRule};
use crate::manifest::{Pod, Uid};
use crate::network::cni::{Attachment, Network, Plugins, collect};

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
    /// What an earlier worker has left was looked at.
    is_tidied: AtomicBool,
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
            is_tidied: AtomicBool::default(),
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
        // A network may hold what only root shall read.
        make_folder(&self.records)?;
        Ok(state::save(&self.record(uid), &attachment.to_json(), Durability::Disk)?)
    }

    fn forget(&self, uid: &Uid) -> Result<()> {
        remove(&self.namespace(uid))?;
        remove(&self.record(uid))
    }

    /// Lets the Pod's path lead to its namespace, or nowhere: never to what another process has under that number.
    fn point(&self, uid: &Uid, namespace: Option<&OwnedFd>) -> Result<()> {
        let path = self.namespace(uid);
        remove(&path)?;
        let Some(namespace) = namespace else { return Ok(()) };
        make_folder(&self.namespaces)?;
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
            Err(error) if error.is::<io::Error>() => return Err(error),
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

    /// Undoes what is left of Pods that are neither there nor wanted, and has the plugins of the network do the same.
    fn tidy(&self, unwanted: &[Uid], network: Option<&Network>) {
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
        let collected = network.map_or(Ok(()), |network| self.collect(network));
        if let Err(error) = collected {
            log::warn!("{error:#}");
        }
    }

    fn collect(&self, network: &Network) -> Result<()> {
        // Whoever had it has left nothing half done that this would see.
        let _alone = self.running.write();
        let mut kept = Vec::new();
        for uid in self.attached()? {
            match self.load(&uid)? {
                Some(attachment) if attachment.network.name == network.name => {
                    kept.push(attachment.container_id)
                }
                _ => {}
            }
        }
        Ok(collect(network, &kept, &self.plugins)?)
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
        }
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make {}", path.display()))
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::wish::tests::pod;
    use super::*;
    use crate::network::cni::testing::Folder;

    /// Writes down commands and their containers; fails where a file of the command's name is beside it.
    const PLUGIN: &str = r#"
        echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS" >>"${0%/*}/log"
        [ ! -e "${0%/*}/$CNI_COMMAND" ] || { echo no >&2; exit 1; }
        [ "$CNI_COMMAND" != ADD ] || { readlink "$CNI_NETNS" >&2; echo '{"ips": [{"address": "10.1.0.9/16"}]}'; }"#;

    /// One worker's, of a folder that has a plugin and a network.
    fn cni(folder: &Folder) -> Arc<Cni> {
        let list = r#"{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "plugin"}]}"#;
        fs::write(folder.path().join("net.conflist"), list).unwrap();
        let path = folder.path().to_owned();
        let config =
            CniConfig { conf_dir: path.clone(), bin_dirs: vec![path.clone()], ..CniConfig::default() };
        Cni::open(
            &config,
            &Folders { root: path.join("root"), run: path.join("run"), logs: path.join("logs") },
        )
    }

    fn told(folder: &Folder) -> String {
        let text = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let command = |line: &str| line.split(' ').next().unwrap().to_owned();
        text.lines().map(command).collect::<Vec<_>>().join(" ")
    }

    fn connect(cni: &Arc<Cni>, pod: &Pod) -> Result<CniLink, String> {
        let namespace = File::open("/proc/self/ns/net").unwrap().into();
        let joining = cni.wish(pod).unwrap().unwrap();
        joining.connect(&namespace).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_nobody_would_give_is_refused() {
        let folder = Folder::new();
        let cni = cni(&folder);
        let refused = |annotations: &str, container: &str| {
            cni.wish(&pod(annotations, container)).err().unwrap().to_string()
        };
        assert!(
            refused("", "ports: [{containerPort: 80, hostPort: 8080}]")
                .starts_with("host ports: no plugin of the CNI network net")
        );
        assert!(refused("podkeep.io/ips: 10.1.0.9", "").starts_with("podkeep.io/ips: no plugin"));
        assert!(
            refused("podkeep.io/ingress: none", "")
                .starts_with("podkeep.io/ingress is of podkeep's own network")
        );
        fs::remove_file(folder.path().join("net.conflist")).unwrap();
        assert!(refused("podkeep.io/ips: 10.1.0.9", "").starts_with("podkeep.io/ips: only a CNI network"));
        assert!(cni.wish(&pod("", "")).unwrap().is_none());
    }

    #[test]
    fn what_could_not_be_undone_is_undone_first_the_next_time() {
        let folder = Folder::new();
        folder.plugin("plugin", PLUGIN);
        let (first, of_pod) = (cni(&folder), pod("", ""));
        ["ADD", "DEL"].iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        let error = connect(&first, &of_pod).unwrap_err();
        assert!(error.ends_with("failed (add): no"), "{error}");
        assert!(first.is_attached(&of_pod.uid));
        fs::remove_file(folder.path().join("ADD")).unwrap();
        let error = connect(&first, &of_pod).unwrap_err();
        assert!(error.ends_with("failed (delete): no"), "{error}");
        fs::remove_file(folder.path().join("DEL")).unwrap();
        let link = connect(&first, &of_pod).unwrap();
        assert_eq!(link.addresses, ["10.1.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(told(&folder), "ADD DEL DEL DEL ADD");

        // Another worker takes it over, with another descriptor under the same path.
        let second = cni(&folder);
        let namespace = File::open("/proc/self/ns/net").unwrap().into();
        assert_eq!(second.resume(&of_pod.uid, &namespace).unwrap(), Some(link));
        let target = fs::read_link(second.namespace(&of_pod.uid)).unwrap();
        assert_eq!(target, Path::new(&format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())));
        second.check(&of_pod.uid).unwrap();
        second.detach(&of_pod.uid, Some(&namespace)).unwrap();
        second.detach(&of_pod.uid, Some(&namespace)).unwrap();
        assert_eq!(told(&folder), "ADD DEL DEL DEL ADD CHECK DEL");
        assert!(!second.is_attached(&of_pod.uid) && fs::read_link(second.namespace(&of_pod.uid)).is_err());
    }

    #[test]
    fn what_belongs_to_nobody_goes_and_what_somebody_has_by_now_stays() {
        let folder = Folder::new();
        folder.plugin("plugin", PLUGIN);
        let (first, of_pod, other) = (cni(&folder), pod("", ""), pod("a: b", ""));
        let uids = [of_pod.uid.clone(), other.uid.clone()];
        connect(&first, &of_pod).unwrap();
        connect(&first, &other).unwrap();
        let second = cni(&folder);
        connect(&second, &other).unwrap();
        let network = second.network().unwrap();
        second.tidy(&uids, network.as_ref());
        assert_eq!(told(&folder), "ADD ADD DEL ADD DEL GC");
        assert_eq!(second.attached().unwrap(), uids[1..]);
        // What nobody can read, nobody can undo: it does not hold up the Pod for ever.
        fs::write(second.record(&other.uid), "{").unwrap();
        second.detach(&other.uid, None).unwrap();
        assert_eq!(second.attached().unwrap(), []);
    }
}
