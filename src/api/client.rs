//! The command line's way to the node.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PODS;
use super::view::PodList;

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
    #[error("the node on {socket} answers {status}: {body}")]
    Refused { socket: PathBuf, status: u16, body: String },
    #[error("the node on {socket} answers what this podkeep does not understand: {cause}")]
    Unreadable { socket: PathBuf, cause: String },
}

/// All Pods, as the node sees them now.
pub fn pods(socket: &Path) -> Result<PodList, Error> {
    let unreadable = |cause: String| Error::Unreadable { socket: socket.to_owned(), cause };
    let answer = get(socket, PODS)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body = match response.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => &answer[length..],
        Ok(httparse::Status::Partial) => return Err(unreadable("the answer is cut off".to_owned())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    match response.code {
        Some(200) => serde_json::from_slice(body).map_err(|error| unreadable(error.to_string())),
        status => {
            let body = String::from_utf8_lossy(body).into_owned();
            Err(Error::Refused { socket: socket.to_owned(), status: status.unwrap_or(0), body })
        }
    }
}

fn get(socket: &Path, path: &str) -> Result<Vec<u8>, Error> {
    let failed = |cause| Error::Io { socket: socket.to_owned(), cause };
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(Error::Down(socket.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: podkeep\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    Ok(answer)
}
