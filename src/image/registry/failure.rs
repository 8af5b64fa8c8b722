//! Why a registry did not give what it was asked for.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::credentials::InvalidCredentials;
use super::hosts::InvalidHosts;
use crate::http;
use crate::image::{Digest, Error};

/// What kept an image from arriving, told apart by what a person has to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The registry is there and does not have it.
    #[error("{host} does not have {what}")]
    NotFound { host: String, what: String },

    #[error("{host} {said}; {hint}")]
    Denied { host: String, said: String, hint: &'static str },

    /// A name that nobody knows, a server that is down, a certificate that is not trusted, a clock that is wrong.
    #[error("{0}")]
    Unreachable(#[from] http::Error),

    #[error("{host} wants fewer requests{}", until.map_or(String::new(), |until| format!(", until {}", shown(until))))]
    RateLimited { host: String, until: Option<Timestamp> },

    /// An answer that cannot be of use: the server's own trouble, as a rule.
    #[error("{host} answers {status} for {what}{said}")]
    Unexpected { host: String, what: String, status: u16, said: String },

    /// What came is not what was promised.
    #[error("{host} sends something else than {what}: {lie}")]
    Lie { host: String, what: String, lie: Lie },

    /// Found before anything was fetched.
    #[error("{needed} bytes are to come, and {free} are free at {path}: make room", path = path.display())]
    NoRoom { needed: u64, free: u64, path: PathBuf },

    #[error("the disk is full at {path}: make room; what has come so far is kept", path = path.display())]
    DiskFull { path: PathBuf },

    /// Every server's `capabilities` leave this out.
    #[error("the configuration names no server that may be asked for {repository}")]
    NoServer { repository: String },

    #[error(transparent)]
    Hosts(#[from] InvalidHosts),

    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),

    /// The image is there and cannot be used here, or the store cannot take it.
    #[error(transparent)]
    Image(#[from] Error),

    #[error("cancelled")]
    Cancelled,
}

/// How content gives itself away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    #[error("its digest is {0}")]
    Digest(Digest),
    #[error("it has {actual} bytes instead of {expected}")]
    Size { expected: u64, actual: u64 },
    #[error("it goes on after {expected} bytes")]
    Endless { expected: u64 },
    #[error("{0}")]
    Nonsense(String),
}

fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}

impl Failure {
    /// Whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Failure::Unreachable(error) => error.is_transient(),
            // RFC 9110: a timeout, and what servers say while they are restarted or overloaded.
            Failure::Unexpected { status, .. } => matches!(status, 408 | 425 | 500 | 502 | 503 | 504),
            Failure::RateLimited { .. } => true,
            _ => false,
        }
    }

    /// Whether no other server can help.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            Failure::NoRoom { .. } | Failure::DiskFull { .. } | Failure::Image(_) | Failure::Cancelled
        )
    }

    /// How long the server wants not to be asked.
    pub(super) fn wanted_rest(&self, now: Timestamp) -> Option<Duration> {
        let Failure::RateLimited { until: Some(until), .. } = self else { return None };
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }

    pub(super) fn of_http(error: http::Error) -> Failure {
        if error.is_cancelled() { Failure::Cancelled } else { Failure::Unreachable(error) }
    }
}
