//! Pods have addresses: links, routes and what passes over them.
//!
//! Run with `scripts/vm test guest_network`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;

#[path = "guest_network/cni.rs"]
mod cni;
#[path = "guest_network/firewalld.rs"]
mod firewalld;
#[path = "harness/host.rs"]
mod host;
#[path = "guest_network/ingress.rs"]
mod ingress;
#[path = "guest_network/links.rs"]
mod links;
#[path = "guest_network/names.rs"]
mod names;
#[path = "harness/namespace.rs"]
mod namespace;
#[path = "guest_network/pods.rs"]
mod pods;
#[path = "guest_network/repairs.rs"]
mod repairs;
#[path = "guest_network/servers.rs"]
mod servers;
#[path = "harness/talk.rs"]
mod talk;
#[path = "guest_network/web.rs"]
mod web;
#[path = "guest_network/world.rs"]
mod world;
