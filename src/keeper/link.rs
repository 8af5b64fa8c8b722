//! The worker's end of the socket to its keeper.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use super::protocol::{self, Exit, Message};

/// What a worker is told when it starts: all that its predecessor handed over.
#[derive(Debug, Default)]
pub struct Legacy {
    pub held: BTreeMap<String, OwnedFd>,
    /// Ends of processes that nobody has acknowledged yet, oldest first.
    pub exits: Vec<Exit>,
}

/// What the keeper says while the worker works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Exit(Exit),
    /// Stop all Pods within their grace, leave nothing, end.
    Stop,
    /// Read configuration and manifests again.
    Reload,
    /// End at once; containers run on.
    Detach,
}

/// The connection to the keeper.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
}

impl Link {
    /// Takes over the socket that the keeper gave the worker as its standard input, which becomes `/dev/null`.
    pub fn from_stdin() -> io::Result<Link> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(Link { socket })
    }

    /// Waits for everything that a new worker must know first.
    pub fn legacy(&self) -> io::Result<Legacy> {
        let mut legacy = Legacy::default();
        loop {
            match protocol::receive(&self.socket, RecvFlags::empty())? {
                Some((Message::Held(key), Some(fd))) => {
                    legacy.held.insert(key, fd);
                }
                Some((Message::Exit(exit), _)) => legacy.exits.push(exit),
                Some((Message::Begin, _)) => return Ok(legacy),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// The next word of the keeper, if one is there.
    pub fn next(&self) -> io::Result<Option<Word>> {
        loop {
            let message = match protocol::receive(&self.socket, RecvFlags::DONTWAIT) {
                Ok(Some((message, _))) => message,
                Ok(None) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper is gone")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            match message {
                Message::Exit(exit) => return Ok(Some(Word::Exit(exit))),
                Message::Stop => return Ok(Some(Word::Stop)),
                Message::Reload => return Ok(Some(Word::Reload)),
                Message::Detach => return Ok(Some(Word::Detach)),
                _ => {}
            }
        }
    }

    /// The worker works.
    pub fn up(&self) -> io::Result<()> {
        self.send(&Message::Up, None)
    }

    /// Has the keeper hold a copy of `fd` over the worker's end.
    pub fn hold(&self, key: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        if key.len() > protocol::MAX_KEY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "key of a held file descriptor is too long",
            ));
        }
        self.send(&Message::Hold(key.to_owned()), Some(fd))
    }

    /// Has the keeper close what it holds under this key.
    pub fn drop_held(&self, key: &str) -> io::Result<()> {
        self.send(&Message::Drop(key.to_owned()), None)
    }

    /// The exits up to this one have been taken note of where a new worker will find it.
    pub fn acknowledge(&self, seq: u64) -> io::Result<()> {
        self.send(&Message::Ack(seq), None)
    }

    /// Waits until there is room: the keeper always reads and never waits for the worker.
    fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        protocol::send(&self.socket, message, fd, SendFlags::empty())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
