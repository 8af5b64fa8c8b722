//! A Pod on this machine: its machine of decisions, and what the node holds for it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::cni::CniLink;
use super::errands::{Connection, ErrandNumber};
use super::images::Wanted;
use super::pause::Pause;
use super::poller::Registration;
use super::start_journal::Place;
use super::state::{SavedHook, SavedRun, SavedState};
use crate::cgroup::{Group, PodLimits};
use crate::container::{Environment, Namespaces, Plan, Report};
use crate::image::{Digest, Image};
use crate::logs::{ContainerLog, Fifo, Stream};
use crate::manifest::pod::QosClass;
use crate::manifest::{Pod, Uid};
use crate::network::Lease;
use crate::pod::event::{Index, ProbeKind};
use crate::pod::machine::Survival;
use crate::pod::{BootTime, Event, Machine, storage};

/// A Pod's number in the life of one worker: what events carry instead of its uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodNumber(pub u32);

impl fmt::Display for PodNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a ready file descriptor is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Keeper,
    Source,
    Requests,
    /// Slow work has come to something.
    Results,
    /// A reference was written into the image store.
    Store,
    ImageFolder,
    /// A starting container's report.
    Report(PodNumber, Index),
    Output(PodNumber, Index, Stream),
    /// `cgroup.events` of a container that is being cleared.
    Emptied(PodNumber, Index),
    /// `cgroup.events` of a pause process that was ended.
    PauseEmptied(PodNumber),
    /// The pidfd of a process that is not the keeper's child.
    Adopted(PodNumber, Index),
    /// Who asked for a command (of this PID) in a container: gone, most likely.
    ExecAsker(u32),
    /// The pidfd of a hook that is not the keeper's child.
    AdoptedExec(u32),
    /// A connection of a probe or a hook, or what its command says.
    Errand(ErrandNumber),
    /// Somebody has changed the firewall.
    Firewall,
    /// Somebody has changed links, addresses or routes of the host.
    Links,
    /// A Pod asks for a name, or somebody answers.
    Resolver,
}

/// Events that wait to be taken in.
pub type Events = VecDeque<(PodNumber, Event)>;

/// A Pod and everything open for it.
pub struct PodRun {
    pub machine: Machine,
    /// What was written down for the next boot, or is being; of one that has never run, that is nothing.
    pub survival: Survival,
    pub namespaces: Namespaces,
    /// Containers, and the attempts at them, that start when the namespaces have been made anew.
    pub awaits_namespaces: Vec<(Index, u32)>,
    pub group: Option<Group>,
    /// Where the Pod's containers share their PID namespace: the first process of that.
    pub pause: Option<Pause>,
    /// `cgroup.events` of the pause process, while it is being ended.
    pub pause_ending: Option<Watched<OwnedFd>>,
    /// Hooks that are commands and under way.
    pub hooks: Vec<SavedHook>,
    /// Its host ports are no other Pod's: from its preparation until it is released.
    pub holds_ports: bool,
    /// Its place in the network of the node's Pods, from its preparation until its link is gone.
    pub lease: Option<Lease>,
    /// What it has of a CNI network; then it has no lease.
    pub cni: Option<CniLink>,
    /// What it asked for of names and does not get was told.
    pub names_told: bool,
    /// In the order of the Pod's containers.
    pub containers: Vec<ContainerRun>,
    pub qos: QosClass,
    /// What its containers ask for together, in thousandths of a core.
    pub cpu_request_milli: u64,
    /// What it writes to the disk has to be measured.
    pub storage_limited: bool,
}

/// What is open for one container.
#[derive(Default)]
pub struct ContainerRun {
    /// Found for the next start.
    pub image: Option<Arc<Image>>,
    /// The same for image volumes that it mounts, by their place in the Pod's volumes.
    pub volumes: BTreeMap<usize, Arc<Image>>,
    /// What was looked for last and not found.
    pub lacks: Option<Wanted>,
    pub group: Option<Group>,
    pub output: Option<Output>,
    /// What its run was started with, if something of that may have changed since; not where it was taken over: nobody has
    /// written it down.
    pub environment: Option<Arc<Environment>>,
    /// On its way to exec.
    pub starting: Option<Starting>,
    pub process: Option<Process>,
    /// `cgroup.events`, while the rest of the cgroup is being ended.
    pub emptying: Option<Watched<OwnedFd>>,
    /// What its probes have asked with, and will ask with again.
    pub resting: Vec<(ProbeKind, Box<Connection>)>,
}

/// The first process of a container.
pub struct Process {
    pub run: SavedRun,
    /// `None` if it had ended before it was taken over.
    pub pidfd: Option<OwnedFd>,
    /// Set where the process is not the keeper's child, so that nobody tells us of its end.
    pub watch: Option<Registration>,
}

/// A process on its way to exec. Until it has said that it is there, it is no [`ContainerRun::process`].
pub struct Starting {
    pub attempt: u32,
    pub plan: Arc<Plan>,
    pub report: Watched<Report>,
    /// Its entry in the start journal.
    pub place: Place,
}

/// A container's two pipes and the file they go to.
pub struct Output {
    pub stdout: Watched<Fifo>,
    pub stderr: Watched<Fifo>,
    pub log: ContainerLog,
    /// Lines that were lost since that was last said, and when it was.
    pub lost: u64,
    pub lost_said_at: Option<BootTime>,
}

impl Output {
    pub fn fifo(&self, stream: Stream) -> &Watched<Fifo> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

/// Something in the poller's set, which must be taken out before it is closed.
pub struct Watched<T> {
    pub inner: T,
    pub registration: Registration,
}

impl PodRun {
    pub fn new(machine: Machine) -> PodRun {
        let containers = machine.pod().containers.iter().map(|_| ContainerRun::default()).collect();
        let qos = machine.pod().qos_class();
        let cpu_request_milli = PodLimits::of(machine.pod(), None).cpu_request_milli;
        let storage_limited = storage::is_limited(machine.pod());
        PodRun {
            survival: machine.survival(),
            machine,
            namespaces: Namespaces::default(),
            awaits_namespaces: Vec::new(),
            group: None,
            pause: None,
            pause_ending: None,
            hooks: Vec::new(),
            holds_ports: false,
            lease: None,
            cni: None,
            names_told: false,
            containers,
            qos,
            cpu_request_milli,
            storage_limited,
        }
    }

    /// The images that its containers run from or ran from last, and those of volumes that are mounted, or will be in a moment.
    pub fn image_ids(&self) -> impl Iterator<Item = Digest> {
        let mounted = self.containers.iter().filter_map(|c| c.process.as_ref());
        let mounted = mounted.flat_map(|process| process.run.volume_images.iter().cloned());
        let found = self.containers.iter().flat_map(|c| c.volumes.values().map(|image| image.id.clone()));
        self.machine.image_ids().filter_map(|id| id.parse().ok()).chain(mounted).chain(found)
    }

    pub fn pod(&self) -> &Arc<Pod> {
        self.machine.pod()
    }

    pub fn uid(&self) -> &Uid {
        &self.machine.pod().uid
    }

    /// `namespace/pod/container`, as errors name it.
    pub fn name_of(&self, container: Index) -> String {
        let name = self.pod().containers.get(container).map_or("?", |c| c.name.as_str());
        format!("{}/{name}", self.pod().id)
    }

    pub fn saved(&self) -> SavedState {
        let run = |c: &ContainerRun| c.process.as_ref().map(|process| process.run.clone());
        let runs = self.containers.iter().map(run).collect();
        SavedState {
            machine: self.machine.state().clone(),
            runs,
            hooks: self.hooks.clone(),
            slot: self.lease.map(|lease| lease.slot),
            is_v4_only: self.lease.is_some_and(|lease| lease.is_v4_only),
        }
    }
}
