//! What the node keeps on disk: take-over state in the run folder, what must survive a reboot in the root folder.
//!
//! Every file is whole or absent: written aside and renamed. In the run folder, a tmpfs, nothing is synced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folders::Folders;
use crate::image::Digest;
use crate::manifest::{Pod, Uid};
use crate::network::Slot;
use crate::order;
use crate::pod::event::{Hook, Index};
use crate::pod::machine;
use crate::sys::process;

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {path}: {cause}")]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
    #[error("read {path}: {cause}")]
    Content { path: PathBuf, cause: serde_json::Error },
}

/// A Pod as it can be decoded again: written once, when it is taken in.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedPod {
    pub node_name: String,
    pub source: serde_json::Value,
}

impl SavedPod {
    pub fn of(pod: &Pod) -> SavedPod {
        SavedPod { node_name: pod.node_name.clone(), source: pod.source.clone() }
    }
}

/// How a Pod stands: written after every step.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedState {
    pub machine: machine::State,
    /// By container, in the Pod's order.
    pub runs: Vec<Option<SavedRun>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<SavedHook>,
    /// Its place in the network of the node's Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// It has no address of IPv6 there.
    #[serde(default)]
    pub is_v4_only: bool,
}

/// A hook that is a command and under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHook {
    pub container: Index,
    pub attempt: u32,
    pub hook: Hook,
    pub pid: u32,
    /// Clock ticks since boot; 0 if unknown. With the PID it names a process for good.
    pub start_time: u64,
    /// Whose child it is.
    pub keeper: KeeperId,
}

/// The process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRun {
    pub attempt: u32,
    pub pid: u32,
    /// Clock ticks since boot; 0 if unknown. With the PID it names a process for good.
    pub start_time: u64,
    /// The image's.
    pub stop_signal: Option<String>,
    /// The seccomp program that confines it; `None` if there is none, or nobody knows.
    pub seccomp: Option<Digest>,
    /// Those of image volumes that it mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_images: Vec<Digest>,
    /// Whose child it is: that keeper alone is told how it ends.
    pub keeper: KeeperId,
}

/// A keeper, told apart from every other one of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperId {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl KeeperId {
    /// The keeper of this worker.
    pub fn own() -> KeeperId {
        let pid = std::os::unix::process::parent_id();
        KeeperId { pid, start_time: process::start_time(pid) }
    }
}

/// Which boot the take-over state belongs to, and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    pub keeper: KeeperId,
    /// Where the Pods' cgroups and logs are: what a configuration read anew cannot move.
    pub cgroup_root: Option<String>,
    pub pod_logs_dir: PathBuf,
    /// The ranges of the Pods' addresses, as in `podCIDR`; empty if they have none, `None` if an older podkeep has written this.
    #[serde(default)]
    pub pod_cidr: Option<String>,
}

/// Take-over state as it was found.
#[derive(Debug)]
pub struct Found {
    pub uid: Uid,
    pub pod: SavedPod,
    pub state: SavedState,
}

const POD: &str = "pod.json";
const STATE: &str = "state.json";
const REIGN: &str = "reign.json";
const NODE: &str = "node.json";
const SURVIVAL: &str = "survival.json";

/// Keeps the Pod itself.
pub fn save_pod(folders: &Folders, pod: &Pod) -> Result<(), Error> {
    let dir = folders.run_pod(&pod.uid);
    fs::create_dir_all(&dir).map_err(error("make", &dir))?;
    save(&dir.join(POD), &SavedPod::of(pod), Durability::Memory)
}

pub fn save_state(folders: &Folders, uid: &Uid, state: &SavedState) -> Result<(), Error> {
    save(&folders.run_pod(uid).join(STATE), state, Durability::Memory)
}

/// Every Pod of the run folder that can be read, and what is wrong with the others.
pub fn found(folders: &Folders) -> Result<Vec<Result<Found, Error>>, Error> {
    let mut all = Vec::new();
    for uid in uids_in(&folders.run_pods())? {
        all.push(read_found(folders, uid));
    }
    Ok(all)
}

fn read_found(folders: &Folders, uid: Uid) -> Result<Found, Error> {
    let dir = folders.run_pod(&uid);
    Ok(Found { pod: load(&dir.join(POD))?, state: load(&dir.join(STATE))?, uid })
}

/// The folders in `dir` that are named after a uid, in order; none if `dir` does not exist.
pub fn uids_in(dir: &Path) -> Result<Vec<Uid>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(error("list", dir)(cause)),
    };
    let mut uids: Vec<Uid> =
        entries.filter_map(|entry| Uid::parse(entry.ok()?.file_name().to_str()?)).collect();
    order::sort(&mut uids);
    Ok(uids)
}

pub fn save_reign(folders: &Folders, reign: &Reign) -> Result<(), Error> {
    save(&folders.run.join(REIGN), reign, Durability::Memory)
}

/// What the command line must know while no node runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub pod_logs_dir: PathBuf,
}

/// Survives stops and reboots; written only where it says something new.
pub fn save_node(folders: &Folders, node: &Node) -> Result<(), Error> {
    let before = load_node(&folders.root);
    if before.is_some_and(|before| (&before.name, &before.pod_logs_dir) == (&node.name, &node.pod_logs_dir)) {
        return Ok(());
    }
    save(&folders.root.join(NODE), node, Durability::Memory)
}

pub fn load_node(root_dir: &Path) -> Option<Node> {
    load(&root_dir.join(NODE)).ok()
}

/// `None` if there is none, or one that cannot be read: then nothing in the run folder can be trusted.
pub fn load_reign(run_dir: &Path) -> Option<Reign> {
    load(&run_dir.join(REIGN)).ok()
}

/// Keeps what the next boot must know of a Pod. Slow: off the loop.
pub fn save_survival(folders: &Folders, uid: &Uid, survival: &machine::Survival) -> Result<(), Error> {
    let dir = folders.pod(uid);
    if survival.finished.is_some() {
        // All else of the Pod has been released.
        fs::create_dir_all(&dir).map_err(error("make", &dir))?;
    } else if !dir.is_dir() {
        // It was released while this waited for its turn.
        return Ok(());
    }
    save(&dir.join(SURVIVAL), survival, Durability::Disk)
}

/// What an earlier boot left of a Pod with this uid, if it ever ran here.
pub fn load_survival(folders: &Folders, uid: &Uid) -> Option<machine::Survival> {
    load(&folders.pod(uid).join(SURVIVAL)).ok()
}

/// Whether a file is synced before it takes its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A tmpfs: gone with the power anyway.
    Memory,
    /// Whole or absent even after a power cut.
    Disk,
}

/// Writes `value` as JSON under this name, as a whole.
pub fn save(path: &Path, value: &impl Serialize, durability: Durability) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|cause| Error::Content { path: path.to_owned(), cause })?;
    save_bytes(path, &bytes, OpenOptions::new().create(true).truncate(true), durability)
}

/// As [`save`]. `how` says how the file is made that takes the name `path` when it is whole.
pub fn save_bytes(
    path: &Path,
    bytes: &[u8],
    how: &mut OpenOptions,
    durability: Durability,
) -> Result<(), Error> {
    let aside = aside(path);
    let mut file = how.write(true).open(&aside).map_err(error("write", &aside))?;
    file.write_all(bytes).map_err(error("write", &aside))?;
    if durability == Durability::Disk {
        file.sync_data().map_err(error("sync", &aside))?;
    }
    fs::rename(&aside, path).map_err(error("write", path))?;
    if durability == Durability::Disk {
        sync_parent(path)?;
    }
    Ok(())
}

/// Where a file is written before it takes its name.
pub fn aside(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Makes a rename or a removal last.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(error("sync", parent))
}

pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::Content { path: path.to_owned(), cause })
}

pub(super) fn error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Io { doing, path, cause }
}
