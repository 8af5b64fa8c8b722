//! One blob as it comes, over breaks and from one server to the next.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use super::Failure;
use super::endpoint::{Ask, Endpoint};
use super::failure::Lie;
use super::repository::{Need, Repository};
use super::retry::Attempts;
use crate::http::{Body, Method, Response};
use crate::image::Digest;

/// Reads a blob's bytes in order, from some byte on to its end or to an error, which carries a [`Failure`].
pub(in crate::image) struct BlobReader<'a> {
    repository: &'a Repository<'a>,
    digest: &'a Digest,
    size: u64,
    /// The byte that comes next.
    position: u64,
    source: Option<Body>,
    /// Who is sending, or was asked last.
    asked: Option<&'a Endpoint>,
    /// Who has failed since bytes came last, and the failure that counts.
    failed: Vec<&'a Endpoint>,
    failure: Option<Failure>,
    attempts: Attempts,
    /// Who sent bytes, for the case that they turn out to be wrong.
    sender: &'a Mutex<Option<String>>,
    /// Is told how many bytes are there.
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> BlobReader<'a> {
    pub(in crate::image) fn new(
        repository: &'a Repository<'a>,
        (digest, size): (&'a Digest, u64),
        from: u64,
        sender: &'a Mutex<Option<String>>,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> BlobReader<'a> {
        BlobReader {
            repository,
            digest,
            size,
            position: from,
            source: None,
            asked: None,
            failed: Vec::new(),
            failure: None,
            attempts: Attempts::of_blob(),
            sender,
            progress,
        }
    }

    /// The next bytes from the network, as often as it takes.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let wanted = clamp(self.size - self.position, buffer.len());
        loop {
            match self.receive_once(&mut buffer[..wanted]) {
                // Interrupted by a signal.
                Ok(0) => {}
                Ok(read) => {
                    self.attempts.progressed(read as u64);
                    self.failed.clear();
                    return Ok(read);
                }
                Err(failure) if failure.is_ours() => return Err(failure),
                Err(failure) => self.go_on_after(failure)?,
            }
        }
    }

    fn receive_once(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut body = match self.source.take() {
            Some(body) => body,
            None => self.connect()?,
        };
        match body.read(buffer) {
            Ok(0) => {
                let early = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before all had come");
                Err(Failure::of_http(body.error(early)))
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(Failure::of_http(body.error(error)))
            }
            read => {
                self.source = Some(body);
                read.or(Ok(0))
            }
        }
    }

    /// Another server at once, or after a rest any of them.
    fn go_on_after(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(asked) = self.asked else { return Err(failure) };
        self.repository.note(asked, &failure);
        self.failed.push(asked);
        // That one does not have it says less than that another one may have it in a moment.
        let failure = match self.failure.take() {
            Some(known) if known.is_transient() && !failure.is_transient() => known,
            _ => failure,
        };
        if self.next_server().is_some() {
            self.failure = Some(failure);
            return Ok(());
        }
        self.failed.clear();
        self.attempts.rest(failure, &self.repository.cancel, self.repository.tell)
    }

    fn next_server(&self) -> Option<&'a Endpoint> {
        let has_failed =
            |endpoint: &&Endpoint| self.failed.iter().any(|failed| std::ptr::eq(*failed, *endpoint));
        self.repository.candidates(Need::Pull).into_iter().find(|endpoint| !has_failed(endpoint))
    }

    fn connect(&mut self) -> Result<Body, Failure> {
        let no_server = || Failure::NoServer { repository: self.repository.path.clone() };
        let endpoint = self.next_server().ok_or_else(no_server)?;
        self.asked = Some(endpoint);
        let (path, what) = (format!("blobs/{}", self.digest), format!("blob {}", self.digest));
        let ask = Ask {
            method: Method::Get,
            repository: &self.repository.path,
            path: &path,
            accept: None,
            from: self.position,
            what: &what,
        };
        let answer = endpoint.ask(&ask)?;
        let skip = self.verify_head(endpoint, &ask, &answer)?;
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint.host.name.clone());
        let mut body = answer.body();
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        skipped.map_err(|error| Failure::of_http(body.error(error)))?;
        Ok(body)
    }

    /// How many bytes of the body are known already; an error if the server speaks of another blob than the manifest.
    fn verify_head(&self, endpoint: &Endpoint, ask: &Ask, answer: &Response) -> Result<u64, Failure> {
        let lie = |lie| Failure::Lie { host: endpoint.host.name.clone(), what: ask.what.to_owned(), lie };
        let from = match answer.status {
            206 => {
                let range = answer.header("content-range").unwrap_or_default();
                let begin = format!("bytes {}-", self.position);
                if !range.starts_with(&begin) {
                    return Err(lie(Lie::Nonsense(format!("asked for {begin}, it sends {range:?}"))));
                }
                self.position
            }
            416 => return Err(lie(Lie::Nonsense(format!("it has no byte {}", self.position)))),
            // It does not do ranges: everything comes again.
            _ => 0,
        };
        match answer.length() {
            Some(length) if length != self.size - from => {
                Err(lie(Lie::Size { expected: self.size, actual: length.saturating_add(from) }))
            }
            _ => Ok(self.position - from),
        }
    }

    /// Whoever sends more than the manifest says may never end.
    fn verify_end(&mut self) -> Result<(), Failure> {
        let (Some(mut body), Some(endpoint)) = (self.source.take(), self.asked) else { return Ok(()) };
        match body.read(&mut [0]) {
            Ok(1..) => {
                let what = format!("blob {}", self.digest);
                let lie = Lie::Endless { expected: self.size };
                Err(Failure::Lie { host: endpoint.host.name.clone(), what, lie })
            }
            // All has come; how the connection ends does not matter.
            _ => Ok(()),
        }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        if self.position == self.size {
            return self.verify_end().map(|()| 0);
        }
        if self.repository.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let read = self.receive(buffer)?;
        self.position += read as u64;
        (self.progress)(self.position);
        Ok(read)
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.next(buffer).map_err(io::Error::other)
    }
}

fn clamp(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}
