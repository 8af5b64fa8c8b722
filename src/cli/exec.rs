//! `podkeep exec`: a command in a container, with our standard streams.
//!
//! The container gets pipes, or a terminal of its own; what goes through them is relayed here, so it never holds
//! descriptors of ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::tcgetwinsize;

use super::args::{ExecArgs, NodeArgs};
use super::attend::{self, Outcome};
use super::known_pods;
use super::relay::{End, Relay, Way};
use super::terminal::{Attached, Signals};
use crate::api::client;
use crate::api::container::{Path, What};
use crate::api::exec::{Ask, Ended, Refused};

/// podkeep's own failure: the command was not run. As docker has it; 126 and 127 are about the program.
const NOT_RUN: u8 = 125;
/// The command ran, and nobody knows how it ended.
const UNKNOWN: u8 = 255;

/// Exits with the command's exit code, 128 and the signal's number if a signal ended it (or us), or one of the above.
pub fn exec(options: &ExecArgs, node: &NodeArgs) -> Result<ExitCode> {
    let code = run(options, node).unwrap_or_else(|error| {
        eprintln!("podkeep: {error:#}");
        NOT_RUN
    });
    Ok(ExitCode::from(code))
}

fn run(options: &ExecArgs, node: &NodeArgs) -> Result<u8> {
    let (pod, container) = known_pods::container(node, &options.pod, options.container.as_deref())?;
    let path = Path { pod, container, what: What::Exec }.to_string();
    let signals = Signals::keep_back().context("hold signals back")?;
    let streams = match options.tty {
        true => terminal()?,
        false => pipes(options)?,
    };
    let size = options.tty.then(|| tcgetwinsize(io::stdin()).ok()).flatten();
    let ask = Ask {
        command: options.command.clone(),
        stdin: options.stdin,
        tty: options.tty,
        rows: size.map(|size| size.ws_row),
        columns: size.map(|size| size.ws_col),
    };
    let connection = send(node, &path, &ask, &streams.theirs)?;
    // As long as these were open here, the ends of the others would never come.
    drop(streams.theirs);
    let relay = Relay::new(streams.ways);
    let command = attend::Command::new(connection, signals, relay, streams.attached, options.stdin)?;
    match command.attend()? {
        Outcome::Answer(answer) => read(&answer),
        Outcome::Signal(signal) => Ok(128 + signal),
        Outcome::NoAnswer => {
            eprintln!(
                "podkeep: the node's worker was replaced while the command ran; its exit code is not known"
            );
            Ok(UNKNOWN)
        }
    }
}

struct Streams {
    ways: Vec<Way>,
    attached: Option<Attached>,
    /// For the container.
    theirs: Vec<OwnedFd>,
}

fn terminal() -> Result<Streams> {
    let (attached, console) = Attached::pair().context("make a socket for the terminal")?;
    Ok(Streams { ways: Vec::new(), attached: Some(attached), theirs: vec![console] })
}

fn pipes(options: &ExecArgs) -> Result<Streams> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let (mut ways, mut theirs) = (Vec::new(), Vec::new());
    if options.stdin {
        let (read, write) = pipe()?;
        ways.push(Way::new(End::Stdin, End::own(write)?));
        theirs.push(read);
    }
    for end in [End::Stdout, End::Stderr] {
        let (read, write) = pipe()?;
        ways.push(Way::new(End::own(read)?, end));
        theirs.push(write);
    }
    Ok(Streams { ways, attached: None, theirs })
}

fn send(node: &NodeArgs, path: &str, ask: &Ask, fds: &[OwnedFd]) -> Result<UnixStream> {
    let body = serde_json::to_vec(ask)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    Ok(known_pods::patiently(node, |socket| client::exec(socket, path, &body, &fds))?)
}

/// The command's exit code, from the node's answer.
fn read(answer: &[u8]) -> Result<u8> {
    let understood = client::parse(answer).map_err(|error| anyhow!("understand the node: {error}"))?;
    match understood {
        (200, body) => Ok(serde_json::from_slice::<Ended>(body).context("understand the node")?.exit_code),
        (_, body) => {
            let refused: Refused = serde_json::from_slice(body).context("understand the node")?;
            eprintln!("podkeep: {}", refused.error);
            Ok(refused.exit_code.unwrap_or(NOT_RUN))
        }
    }
}
