//! One connection, from its socket to the verdict.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::Outcome;
use super::grpc;
use crate::sys::namespace;

/// Bytes that are read before others have their turn.
const SHARE: usize = 64 << 10;

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Question {
    pub address: SocketAddr,
    pub way: Way,
    /// For the whole attempt; whoever drives it ends it then.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub enum Way {
    /// That somebody accepts a connection is all that is asked.
    Tcp,
    /// `grpc.health.v1.Health/Check` of a service; the empty name means the server as a whole.
    Grpc { service: String, user_agent: String },
}

/// An attempt on its way. Its descriptor becomes readable or writable when [`Attempt::step`] may get further.
#[derive(Debug)]
pub struct Attempt {
    socket: OwnedFd,
    address: SocketAddr,
    connected: bool,
    talk: Talk,
    /// To be sent still.
    out: Vec<u8>,
}

#[derive(Debug)]
enum Talk {
    Tcp,
    Grpc(grpc::Call),
}

impl Attempt {
    /// Opens a socket in a network namespace (the caller's own without one) and lets it connect.
    ///
    /// # Errors
    /// With the verdict, where that is known at once.
    pub fn begin(question: &Question, network: Option<BorrowedFd<'_>>) -> Result<Attempt, Outcome> {
        let Question { address, way, timeout } = question;
        let socket = match network {
            None => open(*address),
            Some(network) => namespace::inside_network(network, || open(*address)).flatten(),
        };
        let socket = socket.map_err(|error| Outcome::NotAsked(format!("open a socket: {error}")))?;
        let (talk, out) = match way {
            Way::Tcp => (Talk::Tcp, Vec::new()),
            Way::Grpc { service, user_agent } => {
                let (call, out) = grpc::Call::new(&address.to_string(), service, user_agent, *timeout);
                (Talk::Grpc(call), out)
            }
        };
        match rustix::net::connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(talk.not_connected(*address, errno)),
        }
        Ok(Attempt { socket, address: *address, connected: false, talk, out })
    }

    /// Goes on as far as it can without waiting. The verdict, once there is one.
    pub fn step(&mut self) -> Option<Outcome> {
        if !self.connected {
            match self.connection() {
                Ok(true) => self.connected = true,
                Ok(false) => return None,
                Err(errno) => return Some(self.talk.not_connected(self.address, errno)),
            }
        }
        if let Talk::Tcp = self.talk {
            return Some(Outcome::Success);
        }
        match self.send().and_then(|()| self.receive()) {
            Ok(outcome) => outcome,
            Err(errno) => Some(self.talk.broken(errno)),
        }
    }

    /// Whether it stands; the error, if it cannot.
    fn connection(&self) -> Result<bool, Errno> {
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => match sockopt::socket_error(&self.socket)? {
                Ok(()) => Ok(false),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        }
    }

    fn send(&mut self) -> Result<(), Errno> {
        while !self.out.is_empty() {
            match rustix::net::send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Outcome>, Errno> {
        let mut buffer = [0; 4096];
        let mut share = SHARE;
        loop {
            let length = match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Some(self.talk.closed())),
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let outcome = self.talk.receive(&buffer[..length], &mut self.out);
            if outcome.is_some() {
                return Ok(outcome);
            }
            self.send()?;
            share = share.saturating_sub(length);
            if share == 0 {
                return Ok(Some(Outcome::Failure("the server sends without end".to_owned())));
            }
        }
    }
}

impl Talk {
    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        match self {
            Talk::Tcp => Some(Outcome::Success),
            Talk::Grpc(call) => call.receive(bytes, out),
        }
    }

    fn closed(&self) -> Outcome {
        match self {
            Talk::Tcp => Outcome::Success,
            Talk::Grpc(call) => call.closed(),
        }
    }

    fn not_connected(&self, address: SocketAddr, errno: Errno) -> Outcome {
        Outcome::Failure(match self {
            Talk::Tcp => format!("dial tcp {address}: {errno}"),
            Talk::Grpc(_) => format!("failed to connect service {address}: {errno}"),
        })
    }

    /// The connection has failed once it stood.
    fn broken(&self, errno: Errno) -> Outcome {
        Outcome::Failure(format!("the connection broke: {errno}"))
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
        self.socket.as_fd()
    }
}
