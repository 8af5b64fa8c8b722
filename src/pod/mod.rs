//! The pure core: what should happen next to one Pod, and to the set of them.
//!
//! Nothing here does I/O, reads a clock or starts a thread: [`Machine::step`] takes what happened and the time,
//! and answers with what is to be done. `node` carries that out and reports back. A simulator in `tests/` replaces
//! `node` and nothing else.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod container;
pub mod event;
pub mod machine;
pub mod objects;
mod probe;
mod run;
pub mod set;
pub mod shutdown;
pub mod status;
pub mod storage;
pub mod time;

pub use event::{Command, Event, Exit, Hook, ImageProblem, Outcome, PrepareProblem, ProbeKind, StartFailure};
pub use machine::{Machine, Rehearsal};
pub use probe::of as probe_of;
pub use status::{Condition, ContainerStatus, Phase, PodStatus};
pub use time::BootTime;
