//! Thin safe wrappers of system calls that no well-kept crate offers: the only place with `unsafe`.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod bpf;
pub mod child;
pub mod clone;
pub mod disk_usage;
pub mod fork_guard;
pub mod inherited;
pub mod inroot;
pub mod interface;
pub mod lease;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod pause;
pub mod pidfd;
pub mod process;
pub mod program;
pub mod project_quota;
pub mod regular_file;
pub mod remove_tree;
pub mod report;
pub mod sealed;
pub mod shared_map;
pub mod signal;
pub mod spawner;
pub mod step;
pub mod wait;
pub mod writeback;
