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
use crate::sys::namespace;

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
    /// To be sent still.
    out: Vec<u8>,
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
    /// Opens a socket in a network namespace (the caller's own without one) and lets it connect.
    ///
    /// # Errors
    /// With the verdict, where that is known at once.
    pub fn begin(address: SocketAddr, way: Way, network: Option<BorrowedFd<'_>>) -> Result<Attempt, Outcome> {
        let socket = match network {
            None => open(address),
            Some(network) => namespace::inside_network(network, || open(address)).flatten(),
        };
        let socket = socket.map_err(|error| Outcome::NotAsked(format!("open a socket: {error}")))?;
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
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(talk.not_connected(address, errno)),
        }
        Ok(Attempt { wire: Wire::new(socket, tls), address, connected: false, talk, out })
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self) -> Step {
        if !self.connected {
            match self.connection() {
                Ok(true) => self.connected = true,
                Ok(false) => return Step::Wait,
                Err(errno) => return Step::Verdict(self.talk.not_connected(self.address, errno)),
            }
        }
        if let Talk::Tcp = self.talk {
            return Step::Verdict(Outcome::Success);
        }
        match self.wire.send(&mut self.out).and_then(|()| self.receive()) {
            Ok(step) => step,
            Err(error) => Step::Verdict(self.talk.failed(&error)),
        }
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
            self.wire.send(&mut self.out)?;
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

/// A socket that is gone at once when it is closed: thousands of probes leave nothing in TIME_WAIT.
fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
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
