//! Sockets that never block, and the set in which they are waited for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, sockopt};

/// What becomes readable as soon as one of the sockets in it can be gone on with.
#[derive(Clone, Debug)]
pub struct Set(Arc<OwnedFd>);

/// What an event in a set is about: three numbers of the set's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: u8,
    pub part: u8,
    pub place: u32,
}

/// A socket in a set, until it is dropped.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    set: Set,
    token: Token,
    interest: EventFlags,
}

impl Token {
    pub fn of(data: u64) -> Token {
        let [.., kind, part, a, b, c, d] = data.to_be_bytes();
        Token { kind, part, place: u32::from_be_bytes([a, b, c, d]) }
    }

    fn data(self) -> EventData {
        let high = u64::from(u16::from_be_bytes([self.kind, self.part]));
        EventData::new_u64(high << 32 | u64::from(self.place))
    }
}

impl Set {
    pub fn new() -> io::Result<Set> {
        Ok(Set(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }
}

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    pub fn new(fd: OwnedFd, set: &Set, token: Token, interest: EventFlags) -> Result<Socket, Errno> {
        epoll::add(set, &fd, token.data(), interest)?;
        Ok(Socket { fd, set: set.clone(), token, interest })
    }

    /// Waits for this from now on.
    pub fn wait_for(&mut self, interest: EventFlags) -> Result<(), Errno> {
        if self.interest != interest {
            epoll::modify(&self.set, &self.fd, self.token.data(), interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// What has come; `None` if nothing has, 0 bytes at the end. More than has room is cut off where there are datagrams.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        unless_blocked(|| recv(&self.fd, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count))
    }

    /// How much of it went; `None` if nothing has room.
    pub fn send(&self, bytes: &[u8]) -> Result<Option<usize>, Errno> {
        unless_blocked(|| send(&self.fd, bytes, SendFlags::NOSIGNAL))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A child that is about to execute its program may have it open still: then it would be reported on and on.
        let _ = epoll::delete(&self.set, &self.fd);
    }
}

/// Opens one for talking with this address.
pub fn open(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Opens one and binds it, even to an address that the machine does not have yet, or not at the moment.
pub fn listen(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let socket = open(address, kind)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of an earlier worker that are not quite over do not keep the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 64)?;
    }
    Ok(socket)
}

/// Does it again when a signal came between.
pub fn unless_blocked<T>(mut act: impl FnMut() -> Result<T, Errno>) -> Result<Option<T>, Errno> {
    loop {
        match act() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            other => return other.map(Some),
        }
    }
}
