//! Containers' output in CRI format: written, rotated, read back.
//!
//! Each container has two FIFOs (stdout and stderr), held open by the keeper. The worker moves what is in them into
//! `<logs>/<namespace>_<name>_<uid>/<container>/<restart>.log`, exactly once even if it is killed at any instruction:
//! the table above [`Pump`] says how.
//!
//! Unlike the kubelet, which compresses all but the newest rotated file, podkeep never compresses a log: rotation
//! happens on the write path, in the event loop, where gzip of 10 MiB would hold up everything else.
#![forbid(unsafe_code)]

mod clock;
mod cri;
mod error;
mod fifo;
mod file;
mod journal;
mod layout;
mod pump;
pub mod read;
pub mod retain;
#[cfg(test)]
mod testing;

use std::num::NonZeroU64;

pub use error::Error;
pub use fifo::Fifo;
pub use file::ContainerLog;
pub use layout::{PodFolder, container_log_dir, folders_of, pod_log_dir};
pub use pump::{Holding, Lost, Pump, Pumped, Recovered};
pub use retain::{prune_restarts, sweep};

/// Which of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As the CRI log format spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// When a log file is rotated, and how many are kept (`containerLogMaxSize`, `containerLogMaxFiles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of one file; no file grows beyond it (except by one line of its own size). `None`: no rotation.
    pub max_size: Option<NonZeroU64>,
    /// Files of one container's run that are kept, the current one included.
    pub max_files: u32,
}

impl Default for Policy {
    /// The kubelet's defaults: 10 MiB, 5 files.
    fn default() -> Policy {
        Policy { max_size: NonZeroU64::new(10 << 20), max_files: 5 }
    }
}
