//! One look from outside at whether a container is well, over TCP, HTTP or gRPC: a state machine that never blocks.
//!
//! [`open`] makes a socket, [`Attempt::begin`] connects it, [`Attempt::step`] goes on as far as it lets it, whenever it is ready. Who
//! waits for that, when it is too late, and what a failure leads to is decided elsewhere (`node`, `pod`). The rules are those of
//! reference §4.
#![forbid(unsafe_code)]

mod attempt;
mod grpc;
mod http;
mod wire;

use std::net::{IpAddr, Ipv4Addr};

pub use attempt::{Attempt, Step, Way, open};
pub use http::{Asker, Get};

/// Of a Pod, from within its network.
pub const OWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What a probe says it is: the Kubernetes whose rules these are (k8s-openapi's feature).
const PROBE_AGENT: &str = "kube-probe/1.36";

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A success that somebody should know more about.
    Warning(String),
    Failure(String),
    /// This machine could not ask; it says nothing of the container.
    NotAsked(String),
}
