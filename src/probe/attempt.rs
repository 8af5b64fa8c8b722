//! One connection, from its socket to the verdict.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::http::{Answer, Exchange, Get};
use super::wire::Wire;
use super::{Outcome, PROBE_AGENT, grpc};
use crate::http;

/// Bytes that one look at an attempt reads: more than any answer that is waited for.
const SHARE: usize = 128 << 10;

/// What is asked.
#[derive(Debug)]
pub enum Way {
    /// That somebody accepts a connection is all that is asked.
    Tcp,
    Http(Get),
    /// `grpc.health.v1.Health/Check` of a service; the empty name means the server as a whole.
    Grpc {
        service: String,
        /// What the server is told; whoever drives the attempt ends it then.
        timeout: Duration,
    },
}

/// An attempt on its way. Its descriptor becomes readable or writable when [`Attempt::step`] may get further.
#[derive(Debug)]
pub struct Attempt {
    wire: Wire,
    address: SocketAddr,
    connected: bool,
    talk: Talk,
    /// What is to be sent, and how much of it was.
    out: Vec<u8>,
    sent: usize,
}

/// What an attempt has come to.
#[derive(Debug)]
pub enum Step {
    /// It goes on when its descriptor is ready.
    Wait,
    Verdict(Outcome),
    /// The same is to be asked there, on a connection of its own.
    Elsewhere(SocketAddr, Get),
}

#[derive(Debug)]
enum Talk {
    Tcp,
    Http(Exchange),
    Grpc(grpc::Call),
}

impl Attempt {
    /// Lets a socket of [`open`] connect.
    ///
    /// # Errors
    /// With the verdict, where that is known at once.
    pub fn begin(socket: OwnedFd, address: SocketAddr, way: Way) -> Result<Attempt, Outcome> {
        let (talk, out, tls) = match way {
            Way::Tcp => (Talk::Tcp, Vec::new(), None),
            Way::Http(get) => {
                let tls = get.url.is_https().then(|| http::trust_anybody(get.url.host())).transpose();
                let tls = tls.map_err(|error| Outcome::NotAsked(format!("prepare TLS: {error}")))?;
                let out = get.bytes();
                (Talk::Http(Exchange::new(get)), out, tls)
            }
            Way::Grpc { service, timeout } => {
                let (call, out) = grpc::Call::new(&address.to_string(), &service, PROBE_AGENT, timeout);
                (Talk::Grpc(call), out, None)
            }
        };
        let attempt = Attempt { wire: Wire::new(socket, tls), address, connected: false, talk, out, sent: 0 };
        attempt.connect().map(|()| attempt)
    }

    /// Lets one that [rests](Attempt::rest) ask the same again.
    ///
    /// # Errors
    /// As of [`Attempt::begin`].
    pub fn connect(&self) -> Result<(), Outcome> {
        if !matches!(self.talk, Talk::Tcp) {
            // The last packet of the handshake waits for the request and goes with it: the server wakes up once, and finds something to
            // read. (Of one that is reset before, it would never hear: one that hangs would not run out of room for connections.)
            let _ = sockopt::set_tcp_quickack(&self.wire, false);
        }
        match rustix::net::connect(&self.wire, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
            Err(errno) => Err(self.talk.not_connected(self.address, errno)),
        }
    }

    /// Ends the connection of one that has come to something, as closing it would. Says whether it can
    /// [connect](Attempt::connect) and ask again from the same socket.
    pub fn rest(&mut self) -> bool {
        (self.connected, self.sent) = (false, 0);
        let repeats = match &mut self.talk {
            Talk::Tcp => true,
            Talk::Http(exchange) => exchange.begin_again() && self.wire.is_plain(),
            Talk::Grpc(_) => false,
        };
        repeats && self.wire.disconnect().is_ok()
    }

    /// The first step: asks, and looks for no answer, which takes a moment. The verdict, if that needs none: on this machine, a
    /// connection mostly stands by now.
    pub fn ask(&mut self) -> Option<Outcome> {
        match self.talk {
            Talk::Tcp => self.verdict_of_connection(),
            Talk::Http(_) | Talk::Grpc(_) => self.send().err(),
        }
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self) -> Step {
        if let Talk::Tcp = self.talk {
            return self.verdict_of_connection().map_or(Step::Wait, Step::Verdict);
        }
        match self.send() {
            Err(outcome) => Step::Verdict(outcome),
            Ok(()) if !self.connected => Step::Wait,
            Ok(()) => self.receive().unwrap_or_else(|error| Step::Verdict(self.talk.failed(&error))),
        }
    }

    /// That something goes says that the connection stands: nobody has to ask for that. Until then nothing goes, or there is an error.
    fn send(&mut self) -> Result<(), Outcome> {
        match self.wire.send(&self.out, &mut self.sent) {
            Ok(some) => self.connected |= some,
            Err(error) if self.connected => return Err(self.talk.failed(&error)),
            Err(error) => return Err(self.talk.not_connected(self.address, error)),
        }
        Ok(())
    }

    /// What its time being over comes to.
    pub fn too_late(&self) -> Outcome {
        match self.connected {
            true => {
                self.talk.failed(&"context deadline exceeded (timeout exceeded while awaiting an answer)")
            }
            false => self.talk.not_connected(self.address, "i/o timeout"),
        }
    }

    fn verdict_of_connection(&self) -> Option<Outcome> {
        match self.connection() {
            Ok(true) => Some(Outcome::Success),
            Ok(false) => None,
            Err(errno) => Some(self.talk.not_connected(self.address, errno)),
        }
    }

    /// Whether it stands; the error, if it cannot.
    fn connection(&self) -> Result<bool, Errno> {
        match rustix::net::getpeername(&self.wire) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => match sockopt::socket_error(&self.wire)? {
                Ok(()) => Ok(false),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        }
    }

    fn receive(&mut self) -> io::Result<Step> {
        let mut buffer = [0; 4096];
        let mut share = SHARE;
        while share > 0 {
            let answer = match self.wire.receive(&mut buffer)? {
                None => return Ok(Step::Wait),
                Some(0) => Some(self.talk.closed()),
                Some(length) => {
                    share = share.saturating_sub(length);
                    self.talk.receive(&buffer[..length], &mut self.out)
                }
            };
            match answer {
                Some(Answer::Verdict(outcome)) => return Ok(Step::Verdict(outcome)),
                // The same host, at whatever port.
                Some(Answer::Elsewhere(get)) => {
                    let address = SocketAddr::new(self.address.ip(), get.url.port());
                    return Ok(Step::Elsewhere(address, get));
                }
                None => {}
            }
            self.wire.send(&self.out, &mut self.sent)?;
        }
        Ok(Step::Verdict(self.talk.failed(&"the server sends without end")))
    }
}

impl Talk {
    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Answer> {
        match self {
            Talk::Tcp => Some(Answer::Verdict(Outcome::Success)),
            Talk::Http(exchange) => exchange.receive(bytes),
            Talk::Grpc(call) => call.receive(bytes, out).map(Answer::Verdict),
        }
    }

    fn closed(&mut self) -> Answer {
        match self {
            Talk::Tcp => Answer::Verdict(Outcome::Success),
            Talk::Http(exchange) => exchange.closed(),
            Talk::Grpc(call) => Answer::Verdict(call.closed()),
        }
    }

    fn not_connected(&self, address: SocketAddr, why: impl Display) -> Outcome {
        match self {
            Talk::Tcp => Outcome::Failure(format!("dial tcp {address}: {why}")),
            Talk::Http(exchange) => exchange.get().failed(&format_args!("dial tcp {address}: {why}")),
            Talk::Grpc(_) => Outcome::Failure(format!("failed to connect service {address}: {why}")),
        }
    }

    /// The connection stood, and nothing came of it.
    fn failed(&self, why: &dyn Display) -> Outcome {
        match self {
            Talk::Http(exchange) => exchange.get().failed(why),
            Talk::Tcp | Talk::Grpc(_) => Outcome::Failure(format!("health rpc probe failed: {why}")),
        }
    }
}

/// Opens a socket for an attempt in the calling thread's network namespace, to which it belongs from then on. It is gone at once when
/// it is closed: thousands of probes leave nothing in TIME_WAIT.
///
/// # Errors
/// The kernel's.
pub fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    Ok(socket)
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}
