//! The node's state as others may see it: a copy, made when somebody asks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};
use std::{io, sync::Mutex};

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::exec::ExecRequest;
use super::folders::Folders;
use super::inspect::{InspectError, InspectRequest, Inspected};
use crate::cgroup::Controller;
use crate::events::Recorder;
use crate::image::Digest;
use crate::logs::pod_log_dir;
use crate::manifest::pod::Amounts;
use crate::manifest::{Pod, PodId};
use crate::pod::{BootTime, PodStatus};

/// How long the node may take to answer before the asker is told that it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// All that is known of the node at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub node_name: String,
    /// The PID of `podkeep run`.
    pub keeper_pid: u32,
    /// The host's addresses towards the default route; none where there is none.
    pub host_ips: Vec<IpAddr>,
    /// By Pod id; a Pod that is being replaced is there once, as the old one.
    pub pods: Vec<PodSnapshot>,
    /// What stands in the way of files and Pods: broken manifests, duplicates, too many Pods. In words.
    pub problems: Vec<String>,
    /// What this machine cannot enforce, in words (`memory limits: no memory controller in cgroup v2`).
    pub not_enforced: Vec<String>,
    /// The same moment on both clocks: for turning [`BootTime`]s into times of day and ages.
    pub taken_at: BootTime,
    pub taken_at_wall: SystemTime,
}

impl Snapshot {
    /// The wall clock's time of a moment in a Pod's status, as both clocks stood when the snapshot was taken, or on the earlier boot
    /// that the status is of.
    pub fn wall(&self, moment: BootTime, status: &PodStatus) -> SystemTime {
        match status.boot_wall {
            Some(wall) => SystemTime::UNIX_EPOCH + Duration::from_nanos(wall) + moment.since_boot(),
            None => self.taken_at_wall.checked_sub(self.taken_at - moment).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

#[derive(Clone, Debug)]
pub struct PodSnapshot {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    /// The manifest that asks for it.
    pub file: Option<PathBuf>,
    /// The Pod's log folder.
    pub log_dir: PathBuf,
    /// The images that its containers run from or ran from last, and those that they mount.
    pub images: Vec<Digest>,
    /// As in `/proc/PID/cgroup`; `None` before it exists.
    pub cgroup: Option<PathBuf>,
    /// Its own; none on the host's network.
    pub addresses: Vec<IpAddr>,
    /// The CNI network that those are of, if they are.
    pub cni_network: Option<String>,
    /// What the firewall has of it, in words.
    pub rules: Vec<String>,
    /// What of this Pod's wishes this machine cannot enforce.
    pub not_enforced: Vec<String>,
}

/// Puts together what others may see of a Pod, but for its images.
pub fn pod_snapshot(
    pod: Arc<Pod>,
    status: PodStatus,
    file: Option<PathBuf>,
    folders: &Folders,
    cgroup: Option<PathBuf>,
    missing: &[Controller],
    pids_max: Option<u64>,
) -> PodSnapshot {
    let log_dir = pod_log_dir(&folders.logs, &pod.id.namespace, &pod.id.name, &pod.uid);
    let not_enforced = unmet_wishes(&pod, missing, pids_max);
    PodSnapshot {
        pod,
        status,
        file,
        images: Vec::new(),
        log_dir,
        cgroup,
        addresses: Vec::new(),
        cni_network: None,
        rules: Vec::new(),
        not_enforced,
    }
}

/// What the Pod asks for that these controllers, which the host lacks, would have to give.
pub fn unmet_wishes(pod: &Pod, missing: &[Controller], pids_max: Option<u64>) -> Vec<String> {
    missing.iter().filter_map(|controller| unmet_wish(pod, *controller, pids_max)).collect()
}

/// What the Pod asks for that needs this controller.
fn unmet_wish(pod: &Pod, missing: Controller, pids_max: Option<u64>) -> Option<String> {
    let asked = |wish: fn(&Amounts) -> bool| {
        pod.containers.iter().any(|c| wish(&c.resources.limits) || wish(&c.resources.requests))
    };
    match missing {
        Controller::Memory => asked(|amounts| amounts.memory.is_some()).then(|| "memory".to_owned()),
        Controller::Cpu => asked(|amounts| amounts.cpu_milli.is_some()).then(|| "cpu".to_owned()),
        Controller::Pids => pids_max.map(|_| "pids".to_owned()),
        Controller::Io | Controller::Cpuset | Controller::Hugetlb | Controller::Rdma => None,
    }
}

/// What others ask of the node.
pub enum Request {
    Snapshot(Sender<Snapshot>),
    /// Answered when the process has ended, by the loop itself: no thread waits for it.
    Exec(Box<ExecRequest>),
    Inspect(Box<InspectRequest>),
}

/// The askers' end of the channel; may be cloned through [`Arc`] and used from any thread.
#[derive(Debug)]
pub struct Handle {
    requests: Mutex<Sender<Request>>,
    wake: Arc<OwnedFd>,
    /// What happens to Pods; read without asking the loop.
    pub events: Arc<Recorder>,
}

/// The node's end of the channel.
#[derive(Debug)]
pub struct Requests {
    requests: Receiver<Request>,
    wake: Arc<OwnedFd>,
}

/// Why the node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("ask the node: it is ending")]
    Ending,
    #[error("ask the node: no answer within {} s", ANSWER_WITHIN.as_secs())]
    Late,
}

/// A channel by which other threads ask the loop.
pub fn request_channel(events: Arc<Recorder>) -> io::Result<(Handle, Requests)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = channel();
    let handle = Handle { requests: Mutex::new(sender), wake: Arc::clone(&wake), events };
    Ok((handle, Requests { requests: receiver, wake }))
}

impl Handle {
    /// The node's state as it is now.
    pub fn snapshot(&self) -> Result<Snapshot, NoAnswer> {
        let (answer, wait) = channel();
        self.ask(Request::Snapshot(answer))?;
        wait.recv_timeout(ANSWER_WITHIN).map_err(|_| NoAnswer::Late)
    }

    /// Has a command run in a container. The request knows where its answer goes.
    ///
    /// # Errors
    /// When the node is ending; then nothing was answered.
    pub fn exec(&self, request: ExecRequest) -> Result<(), NoAnswer> {
        self.ask(Request::Exec(Box::new(request)))
    }

    /// What a container is made from, as JSON.
    ///
    /// # Errors
    /// When the node does not answer; the inner one when there is nothing to tell.
    pub fn inspect(
        &self,
        pod: PodId,
        container: String,
        what: Inspected,
    ) -> Result<Result<Vec<u8>, InspectError>, NoAnswer> {
        let (answer, wait) = channel();
        self.ask(Request::Inspect(Box::new(InspectRequest { pod, container, what, answer })))?;
        wait.recv_timeout(ANSWER_WITHIN).map_err(|_| NoAnswer::Late)
    }

    fn ask(&self, request: Request) -> Result<(), NoAnswer> {
        let requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        requests.send(request).map_err(|_| NoAnswer::Ending)?;
        drop(requests);
        // The counter cannot overflow: it is read whenever the loop turns.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        Ok(())
    }
}

impl Requests {
    /// What has been asked since the last call.
    pub fn take(&self) -> Vec<Request> {
        let mut count = [0; 8];
        // Nothing to read means that nobody asked.
        let _ = rustix::io::read(&self.wake, &mut count);
        self.requests.try_iter().collect()
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
