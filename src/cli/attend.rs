//! Waiting for a process in the foreground, a child of ours or a command that the node runs: our signals reach it, and what it
//! prints comes out, as does what is typed go in.
//!
//! One loop over descriptors, no thread.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::relay::Relay;
use super::terminal::{Attached, Signals};
use crate::sys::wait::Ended;

/// Waits until the process, a child of ours, has ended, and reaps it. Meanwhile it gets our signals, and what is typed.
///
/// # Errors
/// The kernel's.
pub fn child(pidfd: BorrowedFd<'_>, signals: &Signals, mut relay: Relay) -> io::Result<Ended> {
    loop {
        let ready = relay.step(&[pidfd, signals.as_fd()])?;
        if ready[1] {
            while let Some(signal) = signals.next()? {
                pass_on(signal, pidfd, &relay);
            }
        }
        if ready[0] {
            relay.finish()?;
            return reap(pidfd);
        }
    }
}

/// A change of our terminal's size is about the other terminal, if there is one. Whatever has no receiver any more is lost.
fn pass_on(signal: i32, pidfd: BorrowedFd<'_>, relay: &Relay) {
    if signal == libc::SIGWINCH && relay.follow_size() {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = pidfd_send_signal(pidfd, signal);
    }
}

fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) | Ok(None) => {}
            Err(errno) => return Err(errno.into()),
            Ok(Some(status)) => {
                let code = status.exit_status().map(|code| Ended::Code(code as u8));
                let signal = status.terminating_signal().map(|signal| Ended::Signal(signal as u8));
                return code.or(signal).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// As a shell reports it: 128 and the signal.
pub fn exit_code(ended: Ended) -> u8 {
    match ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) => 128 + signal,
    }
}

/// How a command ended, as far as it is known here.
pub enum Outcome {
    /// All that came over the connection.
    Answer(Vec<u8>),
    /// We were told to end.
    Signal(u8),
    /// The connection was closed without an answer.
    NoAnswer,
}

/// A command of the node's, whose end is told over a connection.
pub struct Command {
    /// `None` once it is closed.
    connection: Option<UnixStream>,
    answer: Vec<u8>,
    signals: Signals,
    relay: Relay,
    /// Where the terminal will come from.
    attached: Option<Attached>,
    /// Whether what is typed goes to the terminal.
    types: bool,
}

impl Command {
    /// # Errors
    /// The kernel's.
    pub fn new(
        connection: UnixStream,
        signals: Signals,
        relay: Relay,
        attached: Option<Attached>,
        types: bool,
    ) -> io::Result<Command> {
        connection.set_nonblocking(true)?;
        Ok(Command { connection: Some(connection), answer: Vec::new(), signals, relay, attached, types })
    }

    /// Until the command's end is told or, where nobody will tell it any more, its output has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attend(mut self) -> io::Result<Outcome> {
        loop {
            let terminal = self.step()?;
            if let Some(signal) = self.heed_signals()? {
                return Ok(Outcome::Signal(signal));
            }
            if terminal {
                self.take_terminal()?;
            }
            self.read_answer()?;
            let is_closed = self.connection.is_none();
            if is_closed && !self.answer.is_empty() {
                // Sent before the command began, so it is there now if it ever was.
                self.take_terminal()?;
                self.relay.finish()?;
                return Ok(Outcome::Answer(self.answer));
            }
            if is_closed && self.attached.is_none() && !self.relay.has_output() {
                return Ok(Outcome::NoAnswer);
            }
        }
    }

    /// Whether the terminal can be taken.
    fn step(&mut self) -> io::Result<bool> {
        let Command { connection, signals, relay, attached, .. } = self;
        let mut others = vec![signals.as_fd()];
        others.extend(connection.iter().map(AsFd::as_fd));
        others.extend(attached.iter().map(AsFd::as_fd));
        let ready = relay.step(&others)?;
        Ok(attached.is_some() && ready.last() == Some(&true))
    }

    /// A signal that ends us: the node then hangs up on the command. To a terminal, what is typed says it, and its size follows
    /// ours.
    fn heed_signals(&self) -> io::Result<Option<u8>> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                libc::SIGWINCH => {
                    self.relay.follow_size();
                }
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => return Ok(Some(signal as u8)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The command's terminal has come, or never will.
    fn take_terminal(&mut self) -> io::Result<()> {
        let Some(attached) = self.attached.take() else { return Ok(()) };
        let Ok(master) = attached.receive() else { return Ok(()) };
        self.relay.attach(master, self.types)
    }

    fn read_answer(&mut self) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match connection.read_to_end(&mut self.answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Closed in the middle, as by a worker that was killed: nothing more will come.
            _ => self.connection = None,
        }
        Ok(())
    }
}
