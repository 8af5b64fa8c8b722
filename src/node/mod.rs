//! The worker: the event loop that turns the decisions of `pod` into effects, and what happened into events.
#![forbid(unsafe_code)]

pub mod clock;
pub mod folders;
pub mod poller;
pub mod snapshot;
pub mod tasks;

pub use snapshot::{Handle, PodSnapshot, Request, Snapshot};
