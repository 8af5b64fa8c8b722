//! What a container is, and how it is: the first is written down, the second is seen anew each time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::group;
use super::id::ContainerId;
use super::store::Entry;
use crate::sys::process::{self, Stat};

/// The specification that is followed.
pub const OCI_VERSION: &str = "1.2.0";

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Absolute.
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub process: ProcessId,
    pub created: Timestamp,
    /// As `/proc/PID/cgroup` shows it.
    pub cgroup: PathBuf,
    /// Its process is there, but `create` has not come to its end: hooks may run.
    pub creating: bool,
    pub annotations: BTreeMap<String, String>,
    /// The name of its session keyring; `None` where it has its maker's.
    #[serde(default)]
    pub keyring: Option<String>,
}

/// One process, and no other that gets the same PID later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

impl ProcessId {
    /// A process that cannot be gone yet, for instance because it is a child of ours.
    pub fn of(pid: u32) -> ProcessId {
        ProcessId { pid, start_time: process::start_time(pid) }
    }

    /// Zombies do not live.
    pub fn lives(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.has_ended())
    }

    /// `None` if it is gone. A signal through the descriptor never reaches another process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid.try_into()?).context("a PID is never 0")?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => Ok(None),
            Err(errno) => {
                Err(io::Error::from(errno)).with_context(|| format!("open the process {}", self.pid))
            }
            // Looked at after the descriptor is there: from now on the PID cannot become another's unseen.
            Ok(pidfd) => Ok(self.lives().then_some(pidfd)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }

    /// How the container is now.
    pub fn of(entry: &Entry, record: &Record) -> Status {
        if !record.process.lives() {
            Status::Stopped
        } else if record.creating {
            Status::Creating
        } else if group::is_frozen(record) {
            Status::Paused
        } else if entry.waits_for_start() {
            Status::Created
        } else {
            Status::Running
        }
    }
}

/// What the specification calls state: given to hooks, and printed by `state`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'static str,
    pub id: &'a str,
    pub status: Status,
    /// 0 once it is stopped.
    pub pid: u32,
    pub bundle: &'a PathBuf,
    rootfs: &'a PathBuf,
    pub created: Timestamp,
    pub owner: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> State<'a> {
    pub fn new(id: &'a ContainerId, record: &'a Record, status: Status) -> State<'a> {
        State {
            oci_version: OCI_VERSION,
            id: id.as_str(),
            status,
            pid: if status == Status::Stopped { 0 } else { record.process.pid },
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: record.created,
            // Nobody else makes containers.
            owner: "root",
            annotations: &record.annotations,
        }
    }

    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context("write the container's state as JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_pid_is_not_it() {
        let own = ProcessId::of(std::process::id());
        assert!(own.lives() && own.open().unwrap().is_some());
        let earlier = ProcessId { start_time: own.start_time - 1, ..own };
        assert!(!earlier.lives() && earlier.open().unwrap().is_none());
        let nobody = ProcessId { pid: i32::MAX as u32, start_time: 0 };
        assert!(!nobody.lives() && nobody.open().unwrap().is_none());
    }

    #[test]
    fn the_state_is_that_of_the_specification() {
        let record = Record {
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            process: ProcessId { pid: 7, start_time: 1 },
            created: Timestamp::UNIX_EPOCH,
            cgroup: "/x".into(),
            creating: false,
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            keyring: None,
        };
        let id = "web".parse().unwrap();
        let json = State::new(&id, &record, Status::Stopped).to_json().unwrap();
        let expected = r#"{"ociVersion":"1.2.0","id":"web","status":"stopped","pid":0,"bundle":"/b","rootfs":"/b/rootfs","created":"1970-01-01T00:00:00Z","owner":"root","annotations":{"a":"b"}}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), record);
    }
}
