//! Pods have addresses: links, routes and what passes over them.

#[path = "guest_network/links.rs"]
mod links;
