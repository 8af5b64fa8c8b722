//! The worker process as its keeper sees it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};

use super::protocol::{self, Message};
use super::{Options, limits};

/// A worker, its end of the socket and what could not be sent yet.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pub socket: OwnedFd,
    pending: VecDeque<(Message, Option<OwnedFd>)>,
}

impl Worker {
    /// Starts the binary as a worker, with the socket as its standard input. The link names the sealed file that the keeper
    /// runs from ([`crate::sys::sealed`]), so the worker and what it clones run from it too.
    pub fn start(options: &Options) -> io::Result<Worker> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let child = Command::new("/proc/self/exe")
            .arg0(super::WORKER_NAME)
            .args(&options.worker_args)
            .envs(options.open_files.map(limits::variable))
            .stdin(Stdio::from(theirs))
            // Ctrl-C on a terminal is for the keeper alone.
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("start the worker: {error}")))?;
        Ok(Worker { child, socket, pending: VecDeque::new() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It has not been reaped, so the PID is its own; the only error is that it has ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    pub fn queue(&mut self, message: Message, fd: Option<OwnedFd>) {
        self.pending.push_back((message, fd));
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends what the socket has room for. A worker that is gone is no error: its end is seen when it is reaped.
    pub fn send_pending(&mut self) -> io::Result<()> {
        while let Some((message, fd)) = self.pending.front() {
            let fd = fd.as_ref().map(|fd| fd.as_fd());
            match protocol::send(&self.socket, message, fd, SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.pending.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.pending.clear();
                }
            }
        }
        Ok(())
    }

    /// The worker's next message, if one is there.
    pub fn hear(&self) -> Option<(Message, Option<OwnedFd>)> {
        protocol::receive(&self.socket, RecvFlags::DONTWAIT).ok().flatten()
    }
}

/// When the next worker is started: at once after one that worked, ever later after ones that did not.
#[derive(Debug, Default)]
pub struct Respawn {
    at: Option<Instant>,
    failures: u32,
    started: Option<Instant>,
}

impl Respawn {
    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);
    /// A worker that lived this long did not fail at its start.
    const LONG_ENOUGH: Duration = Duration::from_secs(1);

    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    pub fn due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    pub fn started(&mut self, now: Instant) {
        self.started = Some(now);
        self.at = None;
    }

    /// The worker has reported for work.
    pub fn worked(&mut self) {
        self.at = None;
    }

    /// The first early end costs nothing, so that `kill -9` right after a start is not held against it.
    pub fn ended(&mut self, now: Instant) {
        let early = self.started.is_some_and(|started| now - started < Self::LONG_ENOUGH);
        self.failures = if early { self.failures + 1 } else { 0 };
        let doublings = self.failures.saturating_sub(5).min(10);
        self.at = match self.failures {
            0..=4 => None,
            _ => Some(now + (Self::FIRST * 2u32.pow(doublings)).min(Self::MAX)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_cannot_live_is_started_ever_more_slowly() {
        let (mut respawn, mut now, mut waited) = (Respawn::default(), Instant::now(), Vec::new());
        for _ in 0..13 {
            respawn.started(now);
            respawn.ended(now);
            let at = respawn.at().unwrap_or(now);
            waited.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(waited, [0, 0, 0, 0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn one_that_lived_is_replaced_at_once() {
        let mut respawn = Respawn::default();
        let now = Instant::now();
        for _ in 0..9 {
            respawn.started(now);
            respawn.ended(now);
        }
        respawn.started(now);
        respawn.ended(now + Duration::from_secs(2));
        assert_eq!(respawn.at(), None);
    }
}
