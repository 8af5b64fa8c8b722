//! The cgroup v2 tree: make, limit, kill, observe.
//!
//! ```text
//! /podkeep                              Tree: one root of ours
//! ├── guaranteed/                       a QoS class
//! ├── burstable/
//! │   └── default_web-edge7_0a1b2c3d/   a Pod     (Group): sums of limits, pids.max
//! │       └── nginx/                    a container (Group): limits, oom.group; made anew for every start
//! └── besteffort/
//! ```
//!
//! Nothing here starts or reaps a process. A group is held by a file descriptor of its directory, and its interface
//! files are opened below that descriptor, so that no path is joined or walked twice.
#![forbid(unsafe_code)]

mod controllers;
mod error;
mod events;
mod freeze;
mod group;
mod huge_pages;
mod interface;
mod limits;
mod lock;
mod mount;
mod name;
mod runtime;
mod settings;
mod stats;
mod tree;

pub use controllers::Controller;
pub use error::Error;
pub use events::populated_in;
pub use group::Group;
pub use huge_pages::{HugePageLimit, huge_page_limits};
pub use limits::{CPU_PERIOD_US, ContainerLimits, PodLimits, cpu_quota_us, cpu_shares, weight_of_shares};
pub use name::PodCgroupName;
pub use runtime::{open_existing, open_of_process, open_or_make};
pub use settings::{Setting, Settings};
pub use stats::Stats;
pub use tree::{ExistingPod, Tree};
