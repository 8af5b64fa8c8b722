//! Requests to servers and their answers, one after the other over connections that are kept.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{Connector, Route};
use super::error::Waits;
use super::incoming::{Head, Incoming};
use super::pace::Pace;
use super::pool::Pool;
use super::request::{Request, To};
use super::roots::{Identity, RootsError};
use super::socket::Stream;
use super::{Body, Cancel, Cause, Error, Response, Url};

/// As Docker's client and Go's standard library have it.
const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than a registry on a slow disk needs before it begins to send a layer.
const SILENCE: Duration = Duration::from_secs(60);

/// How the servers of one name are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Files of authorities (PEM) besides the system's.
    pub ca: Vec<PathBuf>,
    pub identity: Option<Identity>,
    /// No certificate is checked.
    pub insecure: bool,
    /// Plain HTTP is spoken to this URL's host and port, and to this machine; wherever else a server leads, nothing is shown to the network.
    pub plain_http: Option<Url>,
    /// For a connection, its TLS included; 30 seconds where nothing is said.
    pub connect_timeout: Option<Duration>,
}

/// Keeps connections to use again; threads may share it.
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    plain_http: Option<Url>,
}

impl Client {
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn new(options: &Options, cancel: &Cancel) -> Result<Client, RootsError> {
        let waits = Waits { connect: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT), silence: SILENCE };
        Ok(Client {
            connector: Connector::new(options, waits, cancel)?,
            pool: Arc::default(),
            plain_http: options.plain_http.clone(),
        })
    }

    /// Sends a request, follows where it is redirected to, and returns the answer's head whatever its status.
    pub fn send(&self, request: &Request) -> Result<Response, Error> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(request, &url)?;
            match redirect(request, &response) {
                None => return Ok(response),
                Some(to) => {
                    url = url.join(&to).map_err(|error| Error::new(&url, Cause::RedirectedTo(error)))?;
                }
            }
        }
        Err(Error::new(request.url, Cause::Redirects { limit: MAX_REDIRECTS }))
    }

    fn send_once(&self, request: &Request, url: &Url) -> Result<Response, Error> {
        let is_named = || self.plain_http.as_ref().is_some_and(|named| named.is_same_origin(url));
        if !url.is_https() && !url.is_loopback() && !is_named() {
            return Err(Error::new(url, Cause::PlainHttp));
        }
        let cause = |cause| match cause {
            _ if self.connector.cancel.is_cancelled() => Error::new(url, Cause::Cancelled),
            cause => Error::new(url, cause),
        };
        let (stream, incoming, head) = self.exchange(request, url).map_err(cause)?;
        let (waits, cancel) = (self.connector.waits, self.connector.cancel.clone());
        let body = Body::new(url.clone(), stream, incoming, Arc::clone(&self.pool), waits, cancel);
        Ok(Response { status: head.status, url: url.clone(), head, body })
    }

    fn exchange(&self, request: &Request, url: &Url) -> Result<Exchanged, Cause> {
        let route = self.connector.route(url)?;
        let to = match &route {
            Route::Passed { authorization, .. } => To::Proxy(authorization.as_deref()),
            _ => To::Server,
        };
        let bytes = request.bytes(url, to).map_err(Cause::Header)?;
        let waits = self.connector.waits;
        let broke = |error| Cause::of_io(error, waits);
        if let Some(stream) = self.pool.take(url) {
            match exchange(stream, &bytes, request, waits.silence).map_err(broke) {
                // It was closed while it lay idle: that is found out only by using it.
                Err(Cause::Broken(_)) if request.is_safe() => {}
                other => return other,
            }
        }
        exchange(self.connector.connect(url, &route)?, &bytes, request, waits.silence).map_err(broke)
    }
}

type Exchanged = (Box<dyn Stream>, Incoming, Head);

fn exchange(
    mut stream: Box<dyn Stream>,
    bytes: &[u8],
    request: &Request,
    silence: Duration,
) -> io::Result<Exchanged> {
    stream.write_all(bytes)?;
    stream.flush()?;
    let mut incoming = Incoming::new(request.expects_body());
    let head = read_head(&mut *stream, &mut incoming, silence)?;
    Ok((stream, incoming, head))
}

/// Reads until the head of an answer is there, which may not drip for longer than a silence lasts.
pub(super) fn read_head(
    stream: &mut dyn Read,
    incoming: &mut Incoming,
    silence: Duration,
) -> io::Result<Head> {
    // The server may think for that long before it begins.
    match stream.read(incoming.room())? {
        0 => return Err(no_answer()),
        count => incoming.filled(count),
    }
    let mut pace = Pace::default();
    loop {
        if let Some(head) = incoming.head().map_err(malformed)? {
            return Ok(head);
        }
        match pace.read(silence, || stream.read(incoming.room()))? {
            0 => return Err(no_answer()),
            count => incoming.filled(count),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before an answer had come")
}

pub(super) fn malformed(error: super::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn redirect(request: &Request, response: &Response) -> Option<String> {
    let leads_on = matches!(response.status, 301 | 302 | 303 | 307 | 308) && request.is_safe();
    response.header("location").filter(|_| leads_on).map(str::to_owned)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
