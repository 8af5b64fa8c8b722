//! Kubernetes' events of this node's Pods: what happened to them, with counts, for people who look later.
//!
//! The last [`MAX_RECORDS`] are kept, in memory and in one bounded file on disk, which gets them soon after and is not synced:
//! a power cut may lose the last ones. What the disk does not have yet lies in a file in memory meanwhile, so that the end of
//! a worker loses nothing.
#![forbid(unsafe_code)]

mod file;
mod record;
mod recorder;

pub use file::{Error, Fresh, append, read, replace};
pub use record::{Kind, Note, Record, lines};
pub use recorder::{MAX_RECORDS, Recorder, Written};
