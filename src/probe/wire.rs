//! Bytes over a socket that does not block, with TLS or without.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::ClientConnection;

/// A connected socket.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    pub fn new(socket: OwnedFd, tls: Option<ClientConnection>) -> Wire {
        Wire { socket, tls: tls.map(Box::new) }
    }

    /// Ends the connection as closing the socket would, and leaves the socket as it was when it was opened. (With TLS that is not all
    /// there is of a connection.)
    pub fn disconnect(&mut self) -> Result<(), Errno> {
        rustix::net::connect_unspec(&self.socket)
    }

    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Sends as much of `out` as goes now, from behind what was `sent` before. Says whether anything went.
    pub fn send(&mut self, out: &[u8], sent: &mut usize) -> io::Result<bool> {
        let Wire { socket, tls } = self;
        match tls {
            None => {
                let before = *sent;
                while_ready(|| {
                    while *sent < out.len() {
                        *sent += Socket(socket).write(&out[*sent..])?;
                    }
                    Ok(())
                })?;
                Ok(before < *sent)
            }
            Some(tls) => {
                // Kept there until the handshake is over.
                tls.writer().write_all(&out[*sent..])?;
                *sent = out.len();
                flush(tls, socket)
            }
        }
    }

    /// Receives some more; `None` if nothing has come, nothing if nothing will come any more.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Wire { socket, tls } = self;
        let Some(tls) = tls else {
            return or_nothing(Socket(socket).read(buffer));
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers close without saying so, and a body that needs it has its length.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                read => return read.map(Some),
            }
            let Some(count) = or_nothing(tls.read_tls(&mut Socket(socket)))? else { return Ok(None) };
            let processed = tls.process_new_packets().map_err(io::Error::other);
            flush(tls, socket)?;
            if count == 0 && processed?.plaintext_bytes_to_read() == 0 {
                return Ok(Some(0));
            }
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn flush(tls: &mut ClientConnection, socket: &OwnedFd) -> io::Result<bool> {
    let mut some = false;
    while_ready(|| {
        while tls.wants_write() {
            some |= tls.write_tls(&mut Socket(socket))? > 0;
        }
        Ok(())
    })?;
    Ok(some)
}

fn while_ready(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match work() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

fn or_nothing(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        read => read.map(Some),
    }
}

/// The socket as the standard library's traits have it. A send to one that hung up is an error and no signal.
struct Socket<'a>(&'a OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = again(|| rustix::net::recv(self.0, &mut *buffer, RecvFlags::empty()));
        read.map(|(count, _)| count)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        again(|| rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
