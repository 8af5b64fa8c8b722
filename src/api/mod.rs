//! The node's state for programs: HTTP/1.1 with JSON over a unix socket.
#![forbid(unsafe_code)]

pub mod client;
pub mod exec;
pub mod server;
pub mod view;

mod descriptors;

/// Where the Pods are listed.
pub const PODS: &str = "/v1/pods";
/// Answers `ok` while the loop turns.
pub const HEALTH: &str = "/healthz";
