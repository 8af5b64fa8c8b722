//! The worker: the event loop that turns the decisions of `pod` into effects, and what happened into events.
//!
//! One turn of the loop: wait; turn what is ready into events; let the machines take them in and carry out what they
//! ask for, until nothing is left to do; save what has changed; acknowledge the exits that are now written down.
#![forbid(unsafe_code)]

mod admission;
mod begin;
mod carry_out;
mod clean_images;
mod clear;
pub mod clock;
mod cni;
mod deadlines;
mod environment;
mod errands;
mod exec;
mod file_volumes;
pub mod folders;
mod good_manifests;
mod good_objects;
mod host_ip;
mod image_folder;
mod images;
mod inspect;
mod last_words;
mod manifest_url;
mod mounts;
mod name_files;
mod node_key;
mod notes;
mod objects;
pub mod offline;
mod output;
mod pause;
mod pod_network;
mod pod_run;
mod poller;
mod prepare;
mod pull_rate;
mod pulls;
mod resolver;
mod snapshot;
mod sources;
mod spare;
mod start;
mod start_journal;
mod state;
mod storage;
mod take_over;
mod tasks;
mod user_ids;
mod worker;

pub use exec::{ExecError, ExecRequest, ExecStreams, NotThere, TerminalSize};
pub use folders::Folders;
pub use inspect::{InspectError, InspectRequest, Inspected};
pub use objects::decode;
pub use snapshot::{Handle, NoAnswer, PodSnapshot, Snapshot};
pub use worker::{Options, work};
