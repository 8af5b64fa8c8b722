//! One look from outside at whether a container is well, over TCP, HTTP or gRPC: a state machine that never blocks.
//!
//! [`Attempt::begin`] connects, [`Attempt::step`] goes on as far as the socket lets it, whenever that is ready. Who waits for
//! that, when it is too late, and what a failure leads to is decided elsewhere (`node`, `pod`). The rules are those of
//! reference §4.
#![forbid(unsafe_code)]

mod attempt;
mod grpc;
mod http;
mod wire;

pub use attempt::{Attempt, Question, Step, Way};
pub use http::Get;

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
