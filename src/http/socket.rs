//! Connections that can be cancelled, with limits in time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};
use rustls::{ClientConnection, StreamOwned};

use super::Cancel;

/// Bytes to and from a server, with or without TLS, and with the socket at the bottom.
pub(super) trait Stream: Read + Write + Send {
    fn socket(&mut self) -> &mut Socket;
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    /// While a connection is made: until when all of it has to be done, however lively the other side is.
    until: Option<Instant>,
}

impl Socket {
    /// # Errors
    /// The kernel's; of the kind `TimedOut` when there was no connection at `until`.
    pub(super) fn connect(address: SocketAddr, until: Instant, cancel: &Cancel) -> io::Result<Socket> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = Arc::new(TcpStream::from(socket_with(family, SocketType::STREAM, flags, None)?));
        match rustix::net::connect(&stream, &address) {
            Err(Errno::INPROGRESS) => {}
            other => other?,
        }
        // From here on: a socket that has not begun to connect cannot be shut down.
        cancel.register(&stream);
        await_connection(&stream, until)?;
        stream.set_nonblocking(false)?;
        // What is sent is sent at once and whole: there is nothing to collect for.
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(left(until)?))?;
        Ok(Socket { stream, until: Some(until) })
    }

    /// Until when whatever else belongs to connecting has to be done.
    pub(super) fn until(self, until: Instant) -> Socket {
        Socket { until: Some(until), ..self }
    }

    /// The connection is made; from now on a single read or write may take so long.
    pub(super) fn is_connected(&mut self, silence: Duration) -> io::Result<()> {
        self.until = None;
        self.stream.set_read_timeout(Some(silence))?;
        self.stream.set_write_timeout(Some(silence))
    }

    /// Whether the other side has neither closed it nor sent anything.
    pub(super) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&*self.stream, &mut [0; 1], flags) == Err(Errno::AGAIN)
    }
}

fn await_connection(stream: &TcpStream, until: Instant) -> io::Result<()> {
    loop {
        let left = Timespec::try_from(left(until)?).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR) => {}
            other => {
                other?;
                return Ok(sockopt::socket_error(stream)??);
            }
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket that blocks says `WouldBlock` when its time is over. TLS would take it for one that does not, and for a
/// handshake that may go on later.
fn time_is_over(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(until) = self.until {
                self.stream.set_read_timeout(Some(left(until)?))?;
            }
            match (&*self.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(time_is_over),
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes).map_err(time_is_over)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Stream for StreamOwned<ClientConnection, Box<dyn Stream>> {
    fn socket(&mut self) -> &mut Socket {
        self.sock.socket()
    }
}
