//! The standard streams of a process: the caller's own, or a terminal whose other end goes to a socket.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Process;

use crate::cli::relay::Relay;
use crate::cli::terminal::Attached;
use crate::container::Stdio;

/// Where the other end of a terminal comes to.
#[derive(Debug)]
pub struct Socket(Attached);

pub fn wanted(process: &Option<Process>) -> bool {
    process.as_ref().and_then(Process::terminal).unwrap_or(false)
}

/// `socket` is the one of `--console-socket`. Without it, the other end of a terminal comes to us, which needs somebody who
/// stays.
///
/// # Errors
/// When nobody would have the terminal, or there is none to have.
pub fn streams(terminal: bool, socket: Option<&Path>, detached: bool) -> Result<(Stdio, Option<Socket>)> {
    match (terminal, socket) {
        (false, None) => Ok((Stdio::Inherit, None)),
        (false, Some(_)) => {
            bail!("--console-socket is for a process with a terminal, which this one has not")
        }
        (true, None) if detached => {
            bail!("a process with a terminal needs --console-socket unless somebody waits for its end")
        }
        (true, None) => {
            let (ours, console) = Attached::pair().context("make a pair of sockets")?;
            Ok((Stdio::Terminal { console }, Some(Socket(ours))))
        }
        (true, Some(path)) => {
            let socket = UnixStream::connect(path);
            let socket =
                socket.with_context(|| format!("connect to the console socket {}", path.display()))?;
            Ok((Stdio::Terminal { console: socket.into() }, None))
        }
    }
}

impl Socket {
    /// Takes the other end, which has been sent by the time that the process runs its program.
    ///
    /// # Errors
    /// When nothing has come.
    pub fn relay(self) -> Result<Relay> {
        let master = self.0.receive().context("receive the terminal")?;
        let mut relay = Relay::default();
        relay.attach(master, true).context("pass on what is typed")?;
        Ok(relay)
    }
}
