//! Those who ask over TCP (RFC 7766): several questions in one connection, answered as the answers come.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::STREAM;
use super::forward::{whole_message, with_length};
use super::socket::{Set, Socket, Token};

/// How many connections there are at once, and how many of them may be one asker's.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 16;
/// How long a connection may stand without a question or an answer: longer than any question waits.
const IDLE: Duration = Duration::from_secs(10);
/// The longest question that is read. Bytes.
const LONGEST: usize = 4096;
/// How much may lie ready for somebody who does not take it, and how many of one connection's questions may wait: then no more are read.
const MOST_TO_SEND: usize = 64 << 10;
const MOST_WAITING: u32 = 16;

/// All connections.
#[derive(Debug)]
pub struct Streams {
    set: Set,
    all: Vec<Option<Stream>>,
    last: u64,
}

/// One of them in the life of a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamNumber {
    place: usize,
    number: u64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    peer: SocketAddr,
    socket: Socket,
    received: Vec<u8>,
    /// To be sent still.
    out: Vec<u8>,
    /// Questions that have been read and not answered.
    waiting: u32,
    /// No more questions will come.
    has_ended: bool,
    until: Duration,
}

impl Streams {
    pub fn new(set: Set) -> Streams {
        Streams { set, all: Vec::new(), last: 0 }
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.all.iter().flatten().map(|stream| stream.until).min()
    }

    /// Takes a connection on, or hangs up if there are too many.
    pub fn take_on(&mut self, fd: OwnedFd, peer: SocketAddr, now: Duration) {
        let of = |ip: Option<IpAddr>| {
            self.all.iter().flatten().filter(|stream| ip.is_none_or(|ip| stream.peer.ip() == ip)).count()
        };
        if of(None) >= MOST || of(Some(peer.ip())) >= MOST_OF_ONE {
            return;
        }
        let place = self.all.iter().position(Option::is_none).unwrap_or(self.all.len());
        let token = Token { kind: STREAM, part: 0, place: place as u32 };
        let Ok(socket) = Socket::new(fd, &self.set, token, EventFlags::IN) else { return };
        self.last += 1;
        let stream = Stream {
            number: self.last,
            peer,
            socket,
            received: Vec::new(),
            out: Vec::new(),
            waiting: 0,
            has_ended: false,
            until: now + IDLE,
        };
        if place == self.all.len() {
            self.all.push(None);
        }
        self.all[place] = Some(stream);
    }

    /// Sends what goes, reads once if `may_read`; the next whole question, and whose it is. To be called until there is none: what was
    /// read is not told of again.
    pub fn step(
        &mut self,
        place: usize,
        may_read: bool,
        now: Duration,
    ) -> Option<(StreamNumber, SocketAddr, Vec<u8>)> {
        let stream = self.all.get_mut(place)?.as_mut()?;
        let question = stream.step(may_read, now);
        let number = StreamNumber { place, number: stream.number };
        match question {
            Ok(Some(question)) => return Some((number, stream.peer, question)),
            Ok(None) if !stream.is_over() => {}
            _ => self.all[place] = None,
        }
        None
    }

    /// An event that says that nobody is there any more.
    pub fn hang_up(&mut self, place: usize) {
        if let Some(stream) = self.all.get_mut(place) {
            *stream = None;
        }
    }

    /// It goes with the next [`Streams::step`]; says for which place that is due. `None` if nobody is there any more.
    pub fn answer(&mut self, number: StreamNumber, answer: &[u8], now: Duration) -> Option<usize> {
        let stream =
            self.all.get_mut(number.place)?.as_mut().filter(|stream| stream.number == number.number)?;
        stream.out.extend(with_length(answer));
        stream.waiting = stream.waiting.saturating_sub(1);
        stream.until = now + IDLE;
        Some(number.place)
    }

    /// Hangs up on those that have been idle.
    pub fn pass_time(&mut self, now: Duration) {
        for stream in &mut self.all {
            if stream.as_ref().is_some_and(|stream| stream.until <= now) {
                *stream = None;
            }
        }
    }
}

impl Stream {
    fn step(&mut self, may_read: bool, now: Duration) -> Result<Option<Vec<u8>>, Errno> {
        while !self.out.is_empty() {
            let Some(count) = self.socket.send(&self.out)? else { break };
            self.out.drain(..count);
        }
        if may_read && self.may_ask() && !self.has_ended && whole_message(&self.received).is_none() {
            self.read()?;
        }
        let question = if self.may_ask() { self.next_question(now) } else { None };
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, self.may_ask() && !self.has_ended);
        interest.set(EventFlags::OUT, !self.out.is_empty());
        self.socket.wait_for(interest)?;
        Ok(question)
    }

    fn may_ask(&self) -> bool {
        self.out.len() < MOST_TO_SEND && self.waiting < MOST_WAITING
    }

    fn read(&mut self) -> Result<(), Errno> {
        let mut buffer = [0; LONGEST];
        match self.socket.receive(&mut buffer)? {
            None => {}
            Some(0) => self.has_ended = true,
            Some(count) => self.received.extend_from_slice(&buffer[..count]),
        }
        // One that is so long may never become whole.
        if self.received.len() > 2 + LONGEST && whole_message(&self.received).is_none() {
            return Err(Errno::MSGSIZE);
        }
        Ok(())
    }

    fn next_question(&mut self, now: Duration) -> Option<Vec<u8>> {
        let end = whole_message(&self.received)?;
        let question = self.received[2..end].to_vec();
        self.received.drain(..end);
        self.waiting += 1;
        self.until = now + IDLE;
        Some(question)
    }

    fn is_over(&self) -> bool {
        self.has_ended && self.waiting == 0 && self.out.is_empty()
    }
}
