//! The node's state for programs: HTTP/1.1 with JSON over a unix socket.
#![forbid(unsafe_code)]

pub mod client;
pub mod container;
pub mod events;
pub mod exec;
pub mod json;
pub mod server;
pub mod view;

mod descriptors;

/// Where the Pods are listed.
pub const PODS: &str = "/v1/pods";
/// What happened to the Pods.
pub const EVENTS: &str = "/v1/events";
/// Answers `ok` while the loop turns.
pub const HEALTH: &str = "/healthz";
