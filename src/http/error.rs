//! Why a request got no answer.

use std::io;
use std::time::Duration;

use rustls::CertificateError;

use super::headers::InvalidHeader;
use super::incoming::Malformed;
use super::names::NameError;
use super::pace::TooSlow;
use super::url::{InvalidUrl, Url};

/// A request that got no whole answer, and from where.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {cause}")]
pub struct Error {
    /// Without what may be secret in it.
    pub url: String,
    pub cause: Cause,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Name(NameError),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no connection within {} seconds", .0.as_secs())]
    ConnectTimeout(Duration),
    #[error("nothing came for {} seconds", .0.as_secs())]
    Silence(Duration),
    #[error("fewer than {} bytes came in {} seconds", super::pace::FLOOR, .0.as_secs())]
    Slow(Duration),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("{0}")]
    Tls(TlsFault),
    #[error("the proxy refused: {0}")]
    Proxy(String),
    #[error("the environment's proxy {0:?} is none that podkeep can use: it takes http:// and https://")]
    InvalidProxy(String),
    #[error("more than {limit} redirects")]
    Redirects { limit: usize },
    #[error("redirected to {0}")]
    RedirectedTo(InvalidUrl),
    #[error(
        "without TLS; only this machine itself may be asked so, and hosts that the configuration names with http://"
    )]
    PlainHttp,
    #[error("the answer is longer than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the answer is not HTTP as it should be: {0}")]
    Malformed(Malformed),
    #[error(transparent)]
    Header(InvalidHeader),
    #[error("cancelled")]
    Cancelled,
}

/// Why there is no trusted connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("the server does not speak TLS on this port")]
    NotTls,
    #[error(
        "its certificate is not yet valid: this machine's clock says {now}; \
         if that is not the time, set the clock"
    )]
    NotYetValid { now: String },
    #[error("its certificate has expired (this machine's clock says {now})")]
    Expired { now: String },
    #[error(
        "its certificate comes from an authority that this machine does not know: \
         give that authority's certificate as `ca` of the host"
    )]
    UnknownAuthority,
    #[error(
        "this machine has no list of certificate authorities: install ca-certificates, or set SSL_CERT_FILE"
    )]
    NoAuthorities,
    #[error("its certificate is for another name: {0}")]
    OtherName(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(super) fn new(url: &Url, cause: Cause) -> Error {
        Error { url: url.to_string(), cause }
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::Name(error) => error.is_transient(),
            Cause::Connect(_)
            | Cause::ConnectTimeout(_)
            | Cause::Silence(_)
            | Cause::Slow(_)
            | Cause::Broken(_)
            | Cause::Proxy(_) => true,
            _ => false,
        }
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self.cause, Cause::Cancelled)
    }
}

/// The limits that an error names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub(super) connect: Duration,
    pub(super) silence: Duration,
}

impl Cause {
    /// Before there is a connection, everything that takes too long is the same to whoever waits.
    pub(super) fn while_connecting(error: io::Error, waits: Waits) -> Cause {
        match Cause::of_io(error, waits) {
            Cause::Silence(_) => Cause::ConnectTimeout(waits.connect),
            cause => cause,
        }
    }

    /// What TLS and HTTP say is wrapped in an error of I/O.
    pub(super) fn of_io(error: io::Error, waits: Waits) -> Cause {
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Cause::Tls(TlsFault::of(error));
        }
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Malformed>()) {
            return Cause::Malformed(error.clone());
        }
        if inner.is_some_and(|inner| inner.is::<TooSlow>()) {
            return Cause::Slow(waits.silence);
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::Silence(waits.silence),
            _ => Cause::Broken(error),
        }
    }
}

impl TlsFault {
    pub(super) fn of(error: &rustls::Error) -> TlsFault {
        let now = || format!("{:.0}", jiff::Timestamp::now());
        match error {
            rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    TlsFault::NotYetValid { now: now() }
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    TlsFault::Expired { now: now() }
                }
                CertificateError::UnknownIssuer => TlsFault::UnknownAuthority,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    TlsFault::OtherName(error.to_string())
                }
                other => TlsFault::Other(format!("its certificate is not valid: {other}")),
            },
            other => TlsFault::Other(other.to_string()),
        }
    }
}
