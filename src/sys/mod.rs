//! Thin safe wrappers of system calls that no well-kept crate offers: the only place with `unsafe`.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod bpf;
pub mod child;
pub mod clone;
pub mod inroot;
pub mod interface;
pub mod mount;
pub mod step;
