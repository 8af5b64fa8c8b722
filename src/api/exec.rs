//! `POST /v1/pods/NAMESPACE/NAME/containers/CONTAINER/exec`: a command in a container that runs.
//!
//! The body is [`Ask`]; beside its bytes come descriptors: the reading end of a pipe for stdin (if `stdin`), the writing
//! ends for stdout and stderr, or with `tty` one end of a unix socket, over which the terminal's master comes. The node
//! moves no data. The one response comes when the command has ended: 200 with [`Ended`], or [`Refused`]. When the connection
//! closes first, the command gets SIGHUP.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::container::Path;
use super::server::{self, Request, write_response};
use crate::node::{ExecError, ExecRequest, ExecStreams, Handle, TerminalSize};

/// What is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ask {
    pub command: Vec<String>,
    /// Whether a descriptor for stdin comes with it; without, it is the container's `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    #[serde(default)]
    pub tty: bool,
    /// The terminal's size from the start.
    #[serde(default)]
    pub rows: Option<u16>,
    #[serde(default)]
    pub columns: Option<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// 128 and the signal's number, if one ended it.
    pub exit_code: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    pub error: String,
    /// As a shell has it: 127 if there is no such program, 126 if it cannot be executed. Absent where it is not about that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u8>,
}

/// Hands the request on to the loop, and with it the connection: this thread waits for nothing.
pub(super) fn begin(stream: UnixStream, path: Path, request: Request, handle: &Handle) -> io::Result<()> {
    let streams = match serde_json::from_slice(&request.body) {
        Ok(ask) => streams(&ask, request.fds).map(|streams| (ask, streams)),
        Err(error) => Err(error.to_string()),
    };
    let (ask, streams) = match streams {
        Ok(both) => both,
        Err(message) => return write_response(&stream, "400 Bad Request", &server::error(&message)),
    };
    let asker = OwnedFd::from(stream.try_clone()?);
    let spare = stream.try_clone()?;
    let answer = Box::new(move |result| {
        // The loop must not wait for one who does not read. A response that fits into no buffer is lost.
        let _ = stream.set_nonblocking(true);
        let (status, body) = response(result);
        let _ = write_response(&stream, status, &body);
    });
    let (Path { pod, container, .. }, command) = (path, ask.command);
    let asked = handle.exec(ExecRequest { pod, container, command, streams, asker, answer });
    asked.or_else(|error| {
        write_response(&spare, "503 Service Unavailable", &server::error(&error.to_string()))
    })
}

fn streams(ask: &Ask, fds: Vec<OwnedFd>) -> Result<ExecStreams, String> {
    let wanted = if ask.tty { 1 } else { 2 + usize::from(ask.stdin) };
    let found = fds.len();
    let wrong = || format!("{wanted} descriptors belong to this request, {found} came with it");
    if found != wanted {
        return Err(wrong());
    }
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(wrong);
    if ask.tty {
        let size = ask.rows.zip(ask.columns).map(|(rows, columns)| TerminalSize { rows, columns });
        return Ok(ExecStreams::Terminal { console: next()?, size });
    }
    let stdin = if ask.stdin { Some(next()?) } else { None };
    Ok(ExecStreams::Pipes { stdin, stdout: next()?, stderr: next()? })
}

fn response(result: Result<u8, ExecError>) -> (&'static str, Vec<u8>) {
    let error = match result {
        Ok(exit_code) => return ("200 OK", json(&Ended { exit_code })),
        Err(error) => error,
    };
    let (status, exit_code) = match &error {
        ExecError::NotThere(_) => ("404 Not Found", None),
        ExecError::NotRunning(_) => ("409 Conflict", None),
        ExecError::Invalid(_) => ("400 Bad Request", None),
        ExecError::Program { found: true, .. } => ("422 Unprocessable Content", Some(126)),
        ExecError::Program { found: false, .. } => ("422 Unprocessable Content", Some(127)),
        ExecError::Failed { .. } => ("500 Internal Server Error", None),
    };
    (status, json(&Refused { error: error.to_string(), exit_code }))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always become JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_its_descriptors_is_refused() {
        let fd = || rustix::pipe::pipe().unwrap().0;
        let ask = |stdin, tty| Ask { command: vec!["ls".to_owned()], stdin, tty, ..Ask::default() };
        assert!(streams(&ask(false, false), vec![fd(), fd()]).is_ok());
        assert!(streams(&ask(true, false), vec![fd(), fd()]).is_err());
        assert!(streams(&ask(true, true), vec![fd()]).is_ok());
        assert!(streams(&ask(false, false), Vec::new()).is_err());
    }
}
