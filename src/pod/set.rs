//! What spans Pods: which are wanted, from which file of which source, and which of them may run now.
//!
//! Pure: events in, commands out, no I/O and no clock. [`Set`] decides that a Pod starts or stops; how it does so is the
//! business of the state machine of that one Pod.

use std::path::PathBuf;
use std::sync::Arc;

use crate::manifest::{Pod, PodId, Uid};

/// Which source a file belongs to. The node numbers its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// One file of one source: what can own a Pod's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub source: SourceId,
    pub file: PathBuf,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum SetEvent {
    /// At start, before anything is read: the saved last good version of a file. Its Pods are started as soon as it is
    /// known that nothing newer can be had (the file is broken, the listing is done, the folder cannot be listed).
    Restored {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
    },
    /// At start, before anything is read: this Pod is on the machine already (taken over from an earlier worker).
    Adopted {
        pod: Arc<Pod>,
        stopping: bool,
    },
    /// The file was read and every document in it is sound.
    FileRead {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
    },
    /// The file is there and cannot be read or decoded: its last good Pods stay.
    FileBroken {
        origin: Origin,
        message: String,
    },
    FileGone {
        origin: Origin,
    },
    /// The source's first complete listing: last good versions of files that are not among these are dropped.
    Listed {
        source: SourceId,
        files: Vec<PathBuf>,
    },
    /// The source cannot be listed: what was restored from it may start.
    Unlistable {
        source: SourceId,
    },
    /// Everything of this Pod is off the machine: its name and its place are free.
    PodGone {
        uid: Uid,
    },
}

/// What the node shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum SetCommand {
    Start(Arc<Pod>),
    /// Ends with [`SetEvent::PodGone`]. Given once for each start.
    Stop {
        uid: Uid,
        why: StopReason,
    },
    /// Save these Pods as the last good version of this file (off the loop).
    SaveGood {
        origin: Origin,
        pods: Vec<Arc<Pod>>,
    },
    /// The saved last good version of this file is of no use any more.
    ForgetGood {
        origin: Origin,
    },
    /// A problem that was not there before this event.
    Report(Problem),
}

/// Why a Pod is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// No file asks for it any more.
    Removed,
    /// Its file asks for something else under the same name.
    Replaced,
}

/// What stands in the way of a file or a Pod right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `keeps`: the Pods of the last good version, which stay.
    Broken { origin: Origin, message: String, keeps: Vec<PodId> },
    /// `origin` asks for a Pod whose name `kept` has.
    Duplicate { id: PodId, origin: Origin, kept: Origin },
    /// `maxPods` Pods are there already; it is started when one of them is gone.
    OutOfPods { id: PodId, origin: Origin, max: u32 },
}

/// The wanted Pods of all sources, and those on the machine.
#[derive(Debug)]
pub struct Set {
    max_pods: Option<u32>,
}

impl Set {
    /// `sources`: all there are. A Pod that was adopted and that no file claims is stopped when each of them has been listed.
    /// `max_pods`: no limit when `None`.
    pub fn new(sources: &[SourceId], max_pods: Option<u32>) -> Set {
        let _ = sources;
        Set { max_pods }
    }

    /// Takes one event and says what follows from it, in order.
    pub fn step(&mut self, event: SetEvent) -> Vec<SetCommand> {
        let _ = (event, self.max_pods);
        Vec::new()
    }

    /// Every problem there is now.
    pub fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// The file that owns a Pod's name now.
    pub fn origin(&self, id: &PodId) -> Option<&Origin> {
        let _ = id;
        None
    }
}
