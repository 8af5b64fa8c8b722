//! Questions on their way to the host's servers.
//!
//! Each try has a socket of its own, from a port that the kernel draws, and a number of its own. What does not come from that server, to
//! that port, under that number and with the same question is no answer (RFC 5452). A question goes on as it came, but for the
//! number and how much is taken over UDP.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketType;

use super::query::Query;
use super::reply::{refusal, truncated};
use super::socket::{self, Set, Socket, Token};
use super::{Asker, FORWARD};
use crate::dns::{HEADER, PIECE, code, flag, is_answer, low_flag, number, random_id};

/// How many questions wait at once, and how many of them may be one asker's.
pub const MOST: usize = 512;
const MOST_OF_ONE: usize = 128;
/// So many times the same question of the machine's own wait at once, and it goes round in a circle: a server that we ask asks us.
const MOST_OF_THE_SAME: usize = 8;
/// How long one server may be silent before the next one is asked too.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many as C libraries ask, and as there is time for.
const MOST_SERVERS: usize = 3;
/// After that nobody waits any more: a C library begins anew.
const AT_MOST: Duration = Duration::from_secs(5);
/// Tries that are listened to, so that a server with a long way is not always too late.
const LISTENED_TO: usize = 2;
/// More than a server sends that was told [`PIECE`]. Bytes.
const DATAGRAM: usize = 4096;

/// An answer, and whose.
pub type Answered = (Asker, Vec<u8>);

#[derive(Debug)]
pub struct Forwarder {
    set: Set,
    servers: Vec<SocketAddr>,
    /// Which of them answered last: it is asked first.
    preferred: usize,
    waiting: Vec<Option<Question>>,
}

#[derive(Debug)]
struct Question {
    asker: Asker,
    /// As it came.
    message: Vec<u8>,
    /// Where in it the question ends.
    end: usize,
    /// Whether [`PIECE`] is written over how much is taken, and where.
    size_at: Option<usize>,
    tries: Vec<Try>,
    /// How many there have been.
    tried: usize,
    /// Said by a server that could not answer.
    excuse: Option<Vec<u8>>,
    next_try: Duration,
    until: Duration,
}

#[derive(Debug)]
struct Try {
    /// Tells it from the others of its question.
    part: u8,
    server: usize,
    id: [u8; 2],
    socket: Socket,
    /// `None` over UDP.
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    /// To be sent still.
    out: Vec<u8>,
    received: Vec<u8>,
}

impl Forwarder {
    pub fn new(set: Set) -> Forwarder {
        Forwarder { set, servers: Vec::new(), preferred: 0, waiting: Vec::new() }
    }

    /// Questions that are on their way stay where they are. The first [`MOST_SERVERS`] count.
    pub fn set_servers(&mut self, mut servers: Vec<SocketAddr>) {
        servers.truncate(MOST_SERVERS);
        if self.servers != servers {
            self.servers = servers;
            self.preferred = 0;
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.waiting.iter().flatten().map(|question| question.next_try.min(question.until)).min()
    }

    /// Begins to ask.
    ///
    /// # Errors
    /// With the code of the answer, where it is clear at once that there is no other.
    pub fn begin(&mut self, query: &Query<'_>, asker: Asker, now: Duration) -> Result<(), u8> {
        if self.is_too_much(query, &asker) || self.servers.is_empty() {
            return Err(code::SERVER_FAILURE);
        }
        let question = Question {
            asker,
            message: query.message.to_vec(),
            end: query.end,
            size_at: query
                .extension
                .filter(|extension| extension.size > PIECE)
                .map(|extension| extension.size_at),
            tries: Vec::new(),
            tried: 0,
            excuse: None,
            next_try: now,
            until: now + AT_MOST,
        };
        let place = match self.waiting.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.waiting.push(None);
                self.waiting.len() - 1
            }
        };
        self.waiting[place] = Some(question);
        match self.try_next(place, now) {
            Some(_) => Err(code::SERVER_FAILURE),
            None => Ok(()),
        }
    }

    fn is_too_much(&self, query: &Query<'_>, asker: &Asker) -> bool {
        let waiting = || self.waiting.iter().flatten();
        let of_one = waiting().filter(|question| question.asker.ip() == asker.ip());
        let is_same = |question: &&Question| question.question().eq_ignore_ascii_case(query.question());
        waiting().count() >= MOST
            || of_one.clone().count() >= MOST_OF_ONE
            || (asker.is_the_machine && of_one.filter(is_same).count() >= MOST_OF_THE_SAME)
    }

    /// Asks the next server, or the one after, until one can be asked. The answer, if none can and none is waited for.
    fn try_next(&mut self, place: usize, now: Duration) -> Option<Answered> {
        let question = self.waiting.get_mut(place)?.as_mut()?;
        question.next_try = now + PATIENCE;
        for _ in 0..self.servers.len() {
            let server = (self.preferred + question.tried) % self.servers.len();
            if question.ask(&self.set, self.servers[server], server, place).is_ok() {
                return None;
            }
        }
        if question.tries.is_empty() { self.give_up(place) } else { None }
    }

    /// A try can go on.
    pub fn ready(&mut self, token: Token, now: Duration) -> Option<Answered> {
        let place = token.place as usize;
        let question = self.waiting.get_mut(place)?.as_mut()?;
        let at = question.tries.iter().position(|one| one.part == token.part)?;
        let outcome = question.tries[at].step(&question.message[HEADER..question.end]);
        match outcome {
            Ok(None) => None,
            Ok(Some(answer)) if is_excuse(&answer) => {
                question.tries.swap_remove(at);
                question.excuse = Some(answer);
                self.failed(place, now)
            }
            Ok(Some(answer)) => {
                self.preferred = question.tries[at].server;
                let question = self.waiting.get_mut(place)?.take()?;
                Some(question.answered(answer))
            }
            Err(_) => {
                question.tries.swap_remove(at);
                self.failed(place, now)
            }
        }
    }

    /// A try came to nothing: the others are not waited for while there are servers that have not been asked.
    fn failed(&mut self, place: usize, now: Duration) -> Option<Answered> {
        let question = self.waiting.get(place)?.as_ref()?;
        if question.tried < self.servers.len() {
            return self.try_next(place, now);
        }
        if question.tries.is_empty() { self.give_up(place) } else { None }
    }

    /// Those whose time has come ask another server, or have their answer.
    pub fn pass_time(&mut self, now: Duration) -> Vec<Answered> {
        let mut answers = Vec::new();
        for place in 0..self.waiting.len() {
            let Some(question) = &self.waiting[place] else { continue };
            if question.until <= now {
                answers.extend(self.give_up(place));
            } else if question.next_try <= now {
                answers.extend(self.try_next(place, now));
            }
        }
        if self.waiting.iter().all(Option::is_none) {
            self.waiting = Vec::new();
        }
        answers
    }

    /// What a server has said instead of an answer, or that none has said anything.
    fn give_up(&mut self, place: usize) -> Option<Answered> {
        let mut question = self.waiting.get_mut(place)?.take()?;
        if let Some(excuse) = question.excuse.take() {
            return Some(question.answered(excuse));
        }
        let query = Query::read(&question.message).ok()?;
        let answer = refusal(&query, code::SERVER_FAILURE);
        Some((question.asker, answer))
    }
}

/// Whether another server may know better.
fn is_excuse(answer: &[u8]) -> bool {
    [code::SERVER_FAILURE, code::NOT_IMPLEMENTED, code::REFUSED].contains(&(answer[3] & low_flag::CODE))
}

impl Question {
    fn question(&self) -> &[u8] {
        &self.message[HEADER..self.end]
    }

    fn ask(&mut self, set: &Set, server: SocketAddr, number: usize, place: usize) -> Result<(), Errno> {
        let part = self.tried as u8;
        self.tried += 1;
        let id = random_id().ok_or(Errno::NOSYS)?;
        let mut message = self.message.clone();
        message[..2].copy_from_slice(&id);
        if let Some(at) = self.size_at {
            message[at..at + 2].copy_from_slice(&(PIECE as u16).to_be_bytes());
        }
        let kind = if self.asker.is_stream() { SocketType::STREAM } else { SocketType::DGRAM };
        let fd = socket::open(server, kind)?;
        match rustix::net::connect(&fd, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let token = Token { kind: FORWARD, part, place: place as u32 };
        let is_stream = kind == SocketType::STREAM;
        let interest = if is_stream { EventFlags::OUT } else { EventFlags::IN };
        let socket = Socket::new(fd, set, token, interest)?;
        let stream = if is_stream {
            Some(Stream { out: with_length(&message), received: Vec::new() })
        } else {
            socket.send(&message)?;
            None
        };
        if self.tries.len() == LISTENED_TO {
            self.tries.remove(0);
        }
        self.tries.push(Try { part, server: number, id, socket, stream });
        Ok(())
    }

    /// `answer`: as the server has sent it.
    fn answered(self, mut answer: Vec<u8>) -> Answered {
        answer[..2].copy_from_slice(&self.message[..2]);
        if let Some(question) = answer.get_mut(HEADER..self.end) {
            // A server may have changed its letters.
            question.copy_from_slice(&self.message[HEADER..self.end]);
        }
        match Query::read(&self.message) {
            Ok(query) if !self.asker.is_stream() && answer.len() > query.udp_limit() => {
                (self.asker, truncated(&query, &answer))
            }
            _ => (self.asker, answer),
        }
    }
}

impl Try {
    /// Goes on as far as it can without waiting; the answer, once it is there.
    fn step(&mut self, question: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        match &mut self.stream {
            None => {
                let mut buffer = [0; DATAGRAM];
                while let Some(count) = self.socket.receive(&mut buffer)? {
                    if answers(&buffer[..count], self.id, question) {
                        return Ok(Some(buffer[..count].to_vec()));
                    }
                }
                Ok(None)
            }
            Some(stream) => {
                if !stream.send(&mut self.socket)? {
                    return Ok(None);
                }
                let Some(answer) = stream.receive(&self.socket)? else { return Ok(None) };
                if answers(&answer, self.id, question) { Ok(Some(answer)) } else { Err(Errno::PROTO) }
            }
        }
    }
}

impl Stream {
    /// Whether all has gone.
    fn send(&mut self, socket: &mut Socket) -> Result<bool, Errno> {
        while !self.out.is_empty() {
            let Some(count) = socket.send(&self.out)? else { return Ok(false) };
            self.out.drain(..count);
        }
        socket.wait_for(EventFlags::IN)?;
        Ok(true)
    }

    /// One whole message.
    fn receive(&mut self, socket: &Socket) -> Result<Option<Vec<u8>>, Errno> {
        let mut buffer = [0; DATAGRAM];
        loop {
            match socket.receive(&mut buffer)? {
                None => return Ok(None),
                Some(0) => return Err(Errno::CONNRESET),
                Some(count) => self.received.extend_from_slice(&buffer[..count]),
            }
            if let Some(length) = whole_message(&self.received) {
                return Ok(Some(self.received[2..length].to_vec()));
            }
        }
    }
}

/// Where the message at the start of a stream's bytes ends; `None` as long as it is not whole. It begins at 2.
pub fn whole_message(bytes: &[u8]) -> Option<usize> {
    let end = 2 + usize::from(number(bytes, 0));
    (bytes.len() >= 2 && bytes.len() >= end).then_some(end)
}

/// As it goes over a stream.
pub fn with_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Also an error without the question, from a server that could not read it.
fn answers(message: &[u8], id: [u8; 2], question: &[u8]) -> bool {
    let is_bare_error = message.len() >= HEADER
        && message[..2] == id
        && message[2] & flag::IS_ANSWER != 0
        && number(message, 4) == 0
        && message.len() == HEADER
        && ![code::NO_ERROR, code::NO_SUCH_NAME].contains(&(message[3] & low_flag::CODE));
    is_bare_error || is_answer(message, id, question)
}
