//! Where everything of a node lies: every path podkeep writes to is made here.

use std::path::{Path, PathBuf};

use crate::manifest::Uid;

/// What the name of a [`Folders::container_run`] begins with, in its Pod's folder.
pub const WRITABLE: &str = "writable.";
/// The file in a [`Folders::container_run`] that a container sees at its `terminationMessagePath`.
pub const LAST_WORDS: &str = "termination-log";

/// The folders of one node (design §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Images and Pods' state: survives a reboot (`--root-dir`).
    pub root: PathBuf,
    /// Socket, FIFOs, take-over state: a tmpfs (`--run-dir`).
    pub run: PathBuf,
    /// `podLogsDir`.
    pub logs: PathBuf,
}

impl Folders {
    pub const DEFAULT_ROOT: &str = "/var/lib/podkeep";
    pub const DEFAULT_RUN: &str = "/run/podkeep";

    pub const DEFAULT_LOGS: &str = "/var/log/pods";

    pub fn lock_in(dir: &Path) -> PathBuf {
        dir.join("lock")
    }

    pub fn images(&self) -> PathBuf {
        Self::images_in(&self.root)
    }

    pub fn images_in(root: &Path) -> PathBuf {
        root.join("images")
    }

    /// The last good version of every manifest.
    pub fn good_manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// What happened to Pods, for people.
    pub fn events(&self) -> PathBuf {
        Self::events_in(&self.root)
    }

    pub fn events_in(root: &Path) -> PathBuf {
        root.join("events.jsonl")
    }

    /// What of it the disk may lack.
    pub fn fresh_events(&self) -> PathBuf {
        Self::fresh_events_in(&self.run)
    }

    pub fn fresh_events_in(run: &Path) -> PathBuf {
        run.join("events.jsonl")
    }

    /// What is being deleted: renamed into here first, so that its name is free at once.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub fn pod(&self, uid: &Uid) -> PathBuf {
        self.pods().join(uid.as_str())
    }

    /// The node's own key, made when it is first needed.
    pub fn node_key(&self) -> PathBuf {
        self.root.join("node.key")
    }

    /// What opens the Secrets that are sealed for this node, made when it is first asked for.
    pub fn seal_key(&self) -> PathBuf {
        Self::seal_key_in(&self.root)
    }

    pub fn seal_key_in(root: &Path) -> PathBuf {
        root.join("seal.key")
    }

    /// The profiles of `seccompProfile: Localhost`, which an administrator puts there.
    pub fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    pub fn socket(&self) -> PathBuf {
        Self::socket_in(&self.run)
    }

    pub fn socket_in(run: &Path) -> PathBuf {
        run.join("podkeep.sock")
    }

    /// The configuration as it was when a worker last started with it.
    pub fn good_config_in(run: &Path) -> PathBuf {
        run.join("config.good")
    }

    /// An empty folder: every container's root is mounted on it, each in its own mount namespace.
    pub fn mount_point(&self) -> PathBuf {
        self.run.join("root")
    }

    /// What is being started and which log lines are being written, in memory that outlives the worker.
    pub fn start_journal(&self) -> PathBuf {
        self.run.join("start-journal")
    }

    pub fn log_journal(&self) -> PathBuf {
        self.run.join("log-journal")
    }

    /// Which boot of the machine, and which keeper, the take-over state belongs to.
    pub fn run_pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    pub fn run_pod(&self, uid: &Uid) -> PathBuf {
        self.run_pods().join(uid.as_str())
    }

    /// A container's output pipe.
    pub fn fifo(&self, uid: &Uid, container: &str, stream: &str) -> PathBuf {
        self.run_pod(uid).join(format!("{container}.{stream}"))
    }

    /// What one run of a container may write to: overlay's upper and work folders, and [`LAST_WORDS`].
    pub fn container_run(&self, uid: &Uid, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join(format!("{WRITABLE}{container}.{attempt}"))
    }

    /// One of the files of a Pod that its containers see as `/etc/NAME`.
    pub fn name_file(&self, uid: &Uid, name: &str) -> PathBuf {
        Self::name_file_in(&self.pod(uid), name)
    }

    pub fn name_file_in(pod: &Path, name: &str) -> PathBuf {
        pod.join(format!("etc-{name}"))
    }

    /// A tmpfs, where a Pod has volumes made of files: a folder for each such Pod.
    pub fn files(&self) -> PathBuf {
        self.run.join("files")
    }

    /// Those of one Pod, a folder for each of its volumes.
    pub fn files_of(&self, uid: &Uid) -> PathBuf {
        self.files().join(uid.as_str())
    }

    /// What Pods have of CNI networks, a file for each Pod.
    pub fn attachments(&self) -> PathBuf {
        self.root.join("cni")
    }

    /// Under the Pods' uids: links that lead to their network namespaces, for plugins.
    pub fn namespaces(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// Folders made ahead.
    pub fn spare(&self) -> PathBuf {
        self.root.join("spare")
    }
}
