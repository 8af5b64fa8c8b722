//! podkeep keeps Pods running on one Linux machine from a folder of manifests.
//!
//! `docs/ARCHITECTURE.md` is the map. No module imports from one that stands above it in this list.

#![deny(unsafe_code)]

pub mod cli;

pub mod api;
pub mod node;

pub mod keeper;

pub mod config;
pub mod container;
pub mod events;
pub mod image;
pub mod logs;
pub mod network;
pub mod pod;
pub mod probe;
pub mod source;
pub mod volume;

pub mod cgroup;
pub mod http;

pub mod manifest;

pub mod dns;
pub mod order;
pub mod seal;
pub mod sys;
