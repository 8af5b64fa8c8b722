//! What `node` tells a Pod's machine, and what the machine asks of it.
//!
//! What a hook or a probe does stands in the manifest: `Pod::containers[container].lifecycle` and `.probes`. Its command says
//! only which one is due, in which run of the container. What is still under way when the run is cleared away
//! ([`Command::Clear`]) ends with it, and its answer is of no use any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A container's place in `Pod::containers`: init containers come first.
pub type Index = usize;

/// Something that happened to a Pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The Pod could be prepared here.
    Rehearsed,
    /// It could not, as things are.
    RehearsalFailed {
        message: String,
    },
    /// The Pod whose place this one takes is gone.
    Proceed,
    /// Folders, volumes, namespaces and the Pod's cgroup are there.
    Prepared,
    /// They could not be made; it will be tried again.
    PrepareFailed {
        problem: PrepareProblem,
        message: String,
    },
    /// What a volume lacked has come, perhaps: what could not be prepared, or rehearsed, is tried again at once.
    PrepareAgain,
    /// The image of this container is in the store.
    ImageReady {
        container: Index,
        image_id: String,
    },
    ImageMissing {
        container: Index,
        problem: ImageProblem,
        message: String,
    },
    /// The image that this container waits for came into the store, or a Secret that its pull may need has changed: it may
    /// look again at once.
    ImageArrived {
        container: Index,
    },
    /// A ConfigMap or Secret that the Pod uses has come, changed or gone: who waits for one may try again at once.
    ObjectsChanged {
        /// What stands for all that they hold, where the Pod wants to start again when that is something else and where the Pod
        /// could start with it: what runs is not ended for what is not there.
        fingerprint: Option<String>,
    },
    /// The process exists and exec has happened.
    Started {
        container: Index,
        pid: u32,
    },
    /// A new worker has found the process of this run, whatever the machine knew of it when it was saved. When all have
    /// been told, a [`Event::Tick`] follows.
    Adopted {
        container: Index,
        attempt: u32,
        pid: u32,
    },
    StartFailed {
        container: Index,
        failure: StartFailure,
        message: String,
    },
    /// The container's first process has ended.
    Exited {
        container: Index,
        exit: Exit,
    },
    /// The pause process, first of the PID namespace that the Pod's containers share, has ended, and with it the kernel ends
    /// all that run: told before the first [`Event::Exited`] that comes of it.
    PauseEnded {
        message: String,
    },
    /// The rest of the container's cgroup has ended too; its cgroup, root file system and pipes are gone. What went with them was
    /// [noted](super::Machine::note_last_words) before.
    Cleared {
        container: Index,
    },
    /// Processes that SIGKILL has not ended, in words: PID and wait channel of each.
    Stuck {
        container: Index,
        processes: String,
    },
    /// Everything of the Pod is gone from the machine but its logs.
    Released,
    ReleaseFailed {
        message: String,
    },
    /// A hook of this run has ended; what is wrong, if it failed.
    HookEnded {
        container: Index,
        attempt: u32,
        hook: Hook,
        error: Option<String>,
    },
    /// A probe of this run has come to something.
    ProbeResult {
        container: Index,
        attempt: u32,
        probe: ProbeKind,
        outcome: Outcome,
    },
    /// The Pod has written more than it may, in words ([`storage::room`](super::storage::room)): it is evicted.
    StorageExceeded {
        message: String,
    },
    /// The Pod shall end within this time, within its own grace period if that is shorter or none is named. Told again, it
    /// can only shorten what is left.
    Stop {
        within: Option<Duration>,
    },
    /// A [`deadline`](super::Machine::deadline) has passed.
    Tick,
}

/// Something to be done to the machine for a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Find out whether the Pod could be prepared, and change nothing. Answer: [`Event::Rehearsed`] or [`Event::RehearsalFailed`].
    Rehearse,
    /// Make folders, volumes, namespaces and the Pod's cgroup. Answer: [`Event::Prepared`] or [`Event::PrepareFailed`].
    Prepare,
    /// Find the container's image, wherever `imagePullPolicy` lets it come from. Answer: [`Event::ImageReady`] or [`Event::ImageMissing`].
    FindImage { container: Index },
    /// Start the container for the `attempt`-th time, counted from 0. Answer: [`Event::Started`] or
    /// [`Event::StartFailed`].
    Start { container: Index, attempt: u32 },
    /// Run the hook. Asked again by [`Machine::begin`](super::Machine::begin) while it is under way: one that the last
    /// worker started and that still runs is waited for, and one of which nothing is known runs again. Answer:
    /// [`Event::HookEnded`].
    RunHook { container: Index, attempt: u32, hook: Hook },
    /// Probe once, for no longer than the probe's timeout, which counts as a failure. Answer: [`Event::ProbeResult`].
    Probe { container: Index, attempt: u32, probe: ProbeKind },
    /// Send the stop signal to the container's first process: its own `stopSignal`, else its image's, else SIGTERM.
    Signal { container: Index },
    /// SIGKILL to every process of the container's cgroup.
    Kill { container: Index },
    /// Kill what is left in the container's cgroup, give up its hooks and probes, and remove what the run leaves behind. Answer: [`Event::Cleared`].
    Clear { container: Index },
    /// Find out which processes do not end. Answer: [`Event::Stuck`], or nothing if they have ended meanwhile.
    Diagnose { container: Index },
    /// Unmount and remove everything of the Pod but its logs. Answer: [`Event::Released`] or [`Event::ReleaseFailed`].
    Release,
}

/// Which hook of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    PostStart,
    PreStop,
}

/// Which probe of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// In the middle of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
        }
    }

    /// As Kubernetes' events begin.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The container's fault, a timeout too; in Kubernetes' words.
    Failure(String),
    /// Our own fault: it is tried again at once, three times in all, and then counts for nothing.
    Broken(String),
}

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(u8),
    Signal(u8),
    /// Nobody was there to see it: podkeep was not running, or the machine was restarted.
    Unknown,
}

impl Exit {
    /// The exit code as Kubernetes shows it: 128 + signal for a killed process, 137 for an unknown end.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => i32::from(code),
            Exit::Signal(signal) => 128 + i32::from(signal),
            Exit::Unknown => 137,
        }
    }
}

/// What of a Pod could not be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareProblem {
    /// A volume, or something that it is made from is missing.
    Volume,
    Other,
}

/// Why an image cannot be used, as the reason of the waiting state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageProblem {
    /// Not in the store, and its registry did not give it.
    Missing,
    /// Missing, and `imagePullPolicy: Never` forbids to look elsewhere.
    NeverPull,
    InvalidName,
    /// In the store, but it cannot be read.
    Unreadable,
}

/// How far a start came that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// The Pod asks for what this image cannot give (an unknown user, say): no process was made.
    Config,
    /// The machine refused something before the process existed.
    Create,
    /// The process was made and failed before or at exec.
    Exec,
}
