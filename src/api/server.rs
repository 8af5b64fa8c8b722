//! Answers programs on the node's socket, on threads of its own: a slow asker holds up nobody.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::container::{self, What};
use super::view::PodList;
use super::{EVENTS, HEALTH, PODS, descriptors, events, exec, json};
use crate::node::{Handle, InspectError, Inspected};

/// An asker that takes longer to ask or to listen is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long accepting rests after it failed.
const BREATHER: Duration = Duration::from_millis(100);
/// Longer requests are refused: more than a command line of a shell script needs. Bytes.
const MAX_REQUEST: usize = 1 << 20;
const MAX_HEADERS: usize = 64;

/// Starts to answer on the socket. Only root may ask.
pub fn serve(socket: &Path, handle: Handle) -> Result<()> {
    // What an earlier worker left; the locks see to it that no other podkeep listens there.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("delete {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?;
    fs::set_permissions(socket, Permissions::from_mode(0o600)).context("close the socket to others")?;
    let handle = Arc::new(handle);
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, say: it would fail again at once.
                thread::sleep(BREATHER);
                continue;
            };
            let handle = Arc::clone(&handle);
            // Without a thread the asker is hung up on, and asks again.
            let _ = thread::Builder::new().name("api-answer".to_owned()).spawn(move || {
                // Nobody is left to be told when the asker has gone away.
                let _ = answer(stream, &handle);
            });
        }
    };
    thread::Builder::new().name("api".to_owned()).spawn(accept).context("start the thread that answers")?;
    Ok(())
}

fn answer(mut stream: UnixStream, handle: &Handle) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, body) = match read_request(&stream)? {
        Some(request) => match (request.method.as_str(), container::Path::parse(&request.path)) {
            ("POST", Some(path)) if path.what == What::Exec => {
                return exec::begin(stream, path, request, handle);
            }
            ("GET", Some(path)) if path.what == What::Spec => inspect(path, Inspected::Spec, handle),
            ("GET", Some(path)) if path.what == What::Plan => inspect(path, Inspected::Plan, handle),
            ("GET", None) if let Some(path) = events::Path::parse(&request.path) => {
                return events::answer(stream, path, &handle.events);
            }
            _ => respond(&request.method, &request.path, handle),
        },
        None => ("400 Bad Request", error("not an HTTP/1.1 request, or one that is too long")),
    };
    write_response(&mut stream, status, &body)
}

pub(super) fn write_response(mut stream: impl Write, status: &str, body: &[u8]) -> io::Result<()> {
    let body = json::harmless(body);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat())
}

/// A request with all that came with it.
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// `None` if it is no request.
fn read_request(stream: &UnixStream) -> io::Result<Option<Request>> {
    let (mut received, mut fds) = (Vec::new(), Vec::new());
    while received.len() < MAX_REQUEST {
        let more = descriptors::receive(stream, &mut received, &mut fds)?;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&received) {
            Ok(httparse::Status::Complete(head)) => {
                let Some(length) = content_length(request.headers) else { return Ok(None) };
                if received.len() - head < length {
                    if more {
                        continue;
                    }
                    return Ok(None);
                }
                let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                let body = received[head..head + length].to_vec();
                return Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), body, fds }));
            }
            Ok(httparse::Status::Partial) if more => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// No header means no body; `None` if it is not understood.
fn content_length(headers: &[httparse::Header<'_>]) -> Option<usize> {
    match headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")) {
        None => Some(0),
        Some(header) => {
            std::str::from_utf8(header.value).ok()?.parse().ok().filter(|length| *length <= MAX_REQUEST)
        }
    }
}

fn respond(method: &str, path: &str, handle: &Handle) -> (&'static str, Vec<u8>) {
    let known = [PODS, HEALTH, EVENTS].contains(&path);
    match (method, path) {
        ("GET", PODS | HEALTH) => match handle.snapshot() {
            Ok(_) if path == HEALTH => ("200 OK", b"\"ok\"".to_vec()),
            Ok(snapshot) => match serde_json::to_vec(&PodList::of(&snapshot)) {
                Ok(body) => ("200 OK", body),
                Err(cause) => ("500 Internal Server Error", error(&cause.to_string())),
            },
            Err(cause) => ("503 Service Unavailable", error(&cause.to_string())),
        },
        _ if known => ("405 Method Not Allowed", error("only GET is answered here")),
        _ => ("404 Not Found", error(&format!("there is nothing at {path}; try {PODS}"))),
    }
}

fn inspect(path: container::Path, what: Inspected, handle: &Handle) -> (&'static str, Vec<u8>) {
    match handle.inspect(path.pod, path.container, what) {
        Ok(Ok(body)) => ("200 OK", body),
        Ok(Err(cause @ InspectError::NotThere(_))) => ("404 Not Found", error(&cause.to_string())),
        Ok(Err(cause)) => ("500 Internal Server Error", error(&cause.to_string())),
        Err(cause) => ("503 Service Unavailable", error(&cause.to_string())),
    }
}

pub(super) fn error(message: &str) -> Vec<u8> {
    serde_json::json!({ "error": message }).to_string().into_bytes()
}
