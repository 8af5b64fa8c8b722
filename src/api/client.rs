//! The command line's way to the node.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exec::Refused;
use super::view::PodList;
use super::{PODS, descriptors, events};
use crate::events::Record;

/// The node itself answers within 10 s or says why not.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_HEADERS: usize = 16;

/// Why the node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens: the node is down.
    #[error("no node answers on {0}")]
    Down(PathBuf),
    #[error("ask the node on {socket}: {cause}")]
    Io { socket: PathBuf, cause: io::Error },
    #[error("the node on {socket} answers {status}: {why}")]
    Refused { socket: PathBuf, status: u16, why: String },
    #[error("the node on {socket} answers what this podkeep does not understand: {cause}")]
    Unreadable { socket: PathBuf, cause: String },
}

/// All Pods, as the node sees them now.
///
/// # Errors
/// When the node is down, or answers anything else.
pub fn pods(socket: &Path) -> Result<PodList, Error> {
    let unreadable =
        |error: serde_json::Error| Error::Unreadable { socket: socket.to_owned(), cause: error.to_string() };
    serde_json::from_slice(&get(socket, PODS)?).map_err(unreadable)
}

/// The body of what is at the path.
///
/// # Errors
/// When the node is down, or does not answer 200.
pub fn get(socket: &Path, path: &str) -> Result<Vec<u8>, Error> {
    let mut stream = connect(socket)?;
    let failed = |cause| Error::Io { socket: socket.to_owned(), cause };
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: podkeep\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let unreadable = |cause: String| Error::Unreadable { socket: socket.to_owned(), cause };
    match parse(&answer).map_err(unreadable)? {
        (200, body) => Ok(body.to_vec()),
        (status, body) => {
            let said = serde_json::from_slice(body).map(|refused: Refused| refused.error);
            let why = said.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
            Err(Error::Refused { socket: socket.to_owned(), status, why })
        }
    }
}

/// Hands on what happened to the Pods, record by record, until the node has said all or `each` has heard enough.
///
/// # Errors
/// When the node is down, or answers anything else; with `watch` also when it ends.
pub fn events(
    socket: &Path,
    path: events::Path,
    mut each: impl FnMut(Record) -> io::Result<()>,
) -> Result<(), Error> {
    let mut stream = connect(socket)?;
    let failed = |cause| Error::Io { socket: socket.to_owned(), cause };
    let unreadable = |cause: String| Error::Unreadable { socket: socket.to_owned(), cause };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: podkeep\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().transpose().map_err(failed)?.unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(unreadable(status));
    }
    let body = lines.skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).skip(1);
    for line in body {
        let record = serde_json::from_slice(line.map_err(failed)?.as_bytes());
        each(record.map_err(|error| unreadable(error.to_string()))?).map_err(failed)?;
    }
    Ok(())
}

/// Asks for a command in a container; the answer comes over the connection when it has ended.
///
/// # Errors
/// When the node is down.
pub fn exec(socket: &Path, path: &str, request: &[u8], fds: &[BorrowedFd<'_>]) -> Result<UnixStream, Error> {
    let stream = connect(socket)?;
    let length = request.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: podkeep\r\nContent-Length: {length}\r\n\r\n");
    descriptors::send(&stream, &[head.as_bytes(), request].concat(), fds)
        .map_err(|cause| Error::Io { socket: socket.to_owned(), cause })?;
    Ok(stream)
}

/// Status and body of a whole response.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(answer: &[u8]) -> Result<(u16, &[u8]), String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(answer) {
        Ok(httparse::Status::Complete(length)) => Ok((response.code.unwrap_or(0), &answer[length..])),
        Ok(httparse::Status::Partial) => Err("the answer is cut off".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn connect(socket: &Path) -> Result<UnixStream, Error> {
    match UnixStream::connect(socket) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Err(Error::Down(socket.to_owned()))
        }
        result => result.map_err(|cause| Error::Io { socket: socket.to_owned(), cause }),
    }
}
