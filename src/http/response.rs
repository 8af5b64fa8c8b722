//! Answers: the head at once, the body as it comes.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use super::client::malformed;
use super::error::Waits;
use super::incoming::{Head, Incoming};
use super::pace::Pace;
use super::pool::Pool;
use super::socket::Stream;
use super::{Cancel, Cause, Error, Url};

/// From this size on bytes are read to where they shall lie.
const DIRECT: usize = 4 << 10;

/// An answer's head; its body is still to come.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: Url,
    pub(super) head: Head,
    pub(super) body: Body,
}

/// An answer's body.
pub struct Body {
    url: Url,
    /// None: it broke, or was given back.
    stream: Option<Box<dyn Stream>>,
    incoming: Incoming,
    pool: Arc<Pool>,
    waits: Waits,
    pace: Pace,
    cancel: Cancel,
}

impl Response {
    /// The first header of that name; `None` also where it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.fields(name)
    }

    /// How many bytes the body has, where the server says so.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.trim().parse().ok())
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it has more than `limit` bytes; no more than those are read.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = Error::new(&self.url, Cause::TooLarge { limit });
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        let mut body = self.body();
        let read = body.by_ref().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| body.error(error))?;
        if bytes.len() as u64 > limit { Err(too_large) } else { Ok(bytes) }
    }

    /// The body as it comes. It may end early: what it should be is the reader's to check.
    pub fn body(self) -> Body {
        self.body
    }
}

impl Body {
    pub(super) fn new(
        url: Url,
        stream: Box<dyn Stream>,
        incoming: Incoming,
        pool: Arc<Pool>,
        waits: Waits,
        cancel: Cancel,
    ) -> Body {
        Body { url, stream: Some(stream), incoming, pool, waits, pace: Pace::default(), cancel }
    }

    /// What an error of its `read` means.
    pub fn error(&self, error: io::Error) -> Error {
        let cause = match Cause::of_io(error, self.waits) {
            _ if self.cancel.is_cancelled() => Cause::Cancelled,
            cause => cause,
        };
        Error::new(&self.url, cause)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.incoming.body(out).map_err(malformed)?;
            if count > 0 || self.incoming.is_over() {
                return Ok(count);
            }
            let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let pace = &mut self.pace;
            let plain = if out.len() < DIRECT { 0 } else { self.incoming.plain() };
            let received = if plain > 0 {
                let wanted = usize::try_from(plain).unwrap_or(usize::MAX).min(out.len());
                pace.read(self.waits.silence, || stream.read(&mut out[..wanted]))?
            } else {
                pace.read(self.waits.silence, || stream.read(self.incoming.room()))?
            };
            match received {
                0 if self.incoming.ends_with_connection() => return Ok(0),
                0 => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before all had come"));
                }
                count if plain > 0 => {
                    self.incoming.passed(count);
                    return Ok(count);
                }
                count => self.incoming.filled(count),
            }
        }
    }

    /// Keeps the connection for another request if nothing of this answer can come over it any more.
    fn give_back(&mut self) {
        if self.incoming.leaves_connection()
            && let Some(stream) = self.stream.take()
        {
            self.pool.put(self.url.clone(), stream);
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let received = self.receive(out);
        if received.is_err() {
            self.stream = None;
        }
        self.give_back();
        received
    }
}

impl Drop for Body {
    /// The text of a refusal, say, that nobody wants to read: has it come, the connection is good.
    fn drop(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.is_some() && matches!(self.incoming.body(&mut rest), Ok(1..)) {}
        self.give_back();
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
