//! Pods have addresses: links, routes and what passes over them.
//!
//! Run with `scripts/vm test guest_network`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;

#[path = "guest_network/cni.rs"]
mod cni;
#[path = "guest_network/links.rs"]
mod links;
#[path = "guest_network/pods.rs"]
mod pods;
