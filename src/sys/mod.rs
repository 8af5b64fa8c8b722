//! Thin safe wrappers of system calls that no well-kept crate offers: the only place with `unsafe`.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod lease;
