//! The resolver: answers Pods' questions for names, what it knows by itself, the rest from the host's servers.
//!
//! Whoever drives it waits for its one descriptor ([`AsFd`]: a set of all its sockets) to become readable, or for its
//! [deadline](Resolver::deadline), and lets it [step](Resolver::step). It never blocks, and has no deadline when nobody asks.
//!
//! `query.rs` reads what is asked, `answer.rs` says what `zones.rs` has of it, `forward.rs` asks others; `streams.rs` are those who ask
//! over TCP. Only Pods and the machine itself are answered: whoever else could use it to send others what they have not asked for.
//! There is no cache: the servers behind it have one.

mod answer;
mod forward;
mod query;
mod reply;
mod socket;
mod streams;
mod zones;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, acceptfrom_with, recvfrom, sendto};
use rustix::time::Timespec;

use super::Ranges;
use answer::answer;
use forward::{Answered, Forwarder};
use query::{Fault, Query};
use reply::{refusal, refusal_of_unread};
use socket::{Set, Socket, Token, unless_blocked};
use streams::{StreamNumber, Streams};
pub use zones::{Names, PODS, SERVICES};

/// What a token is about: its `kind`.
const DATAGRAMS: u8 = 1;
const CONNECTIONS: u8 = 2;
const STREAM: u8 = 3;
const FORWARD: u8 = 4;

/// How many events one step takes, and how many datagrams or connections of one of them: the loop has others to serve.
const EVENTS: usize = 64;
const SHARE: usize = 32;
/// The longest question that is read. Bytes.
const LONGEST: usize = 4096;
/// The longest answer over TCP. Bytes.
const LONGEST_ANSWER: usize = 65535;
/// After the process had no descriptor left for a connection.
const BREATHER: Duration = Duration::from_secs(1);

/// Where it is asked: two sockets at one address.
#[derive(Debug)]
pub struct Place {
    address: SocketAddr,
    datagrams: OwnedFd,
    connections: OwnedFd,
}

#[derive(Debug)]
pub struct Resolver {
    set: Set,
    places: Vec<Listener>,
    /// Whose addresses are answered, beside the machine's own.
    ranges: Ranges,
    zones: zones::Zones,
    forwarder: Forwarder,
    streams: Streams,
    /// When connections are taken on again.
    breathes_until: Option<Duration>,
    /// How many questions there have been.
    turn: usize,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    datagrams: Socket,
    connections: Socket,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
struct Asker {
    address: SocketAddr,
    way: Way,
    is_the_machine: bool,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// At this place.
    Datagram(usize),
    Stream(StreamNumber),
}

impl Place {
    /// Opens the sockets. The machine need not have the address yet.
    ///
    /// # Errors
    /// The kernel's: `EADDRINUSE` if another DNS server listens at all addresses.
    pub fn open(address: SocketAddr) -> io::Result<Place> {
        let connections = socket::listen(address, SocketType::STREAM)?;
        // Where any port would do, both have the same.
        let bound = rustix::net::getsockname(&connections)?;
        let address = SocketAddr::try_from(bound)?;
        Ok(Place { address, datagrams: socket::listen(address, SocketType::DGRAM)?, connections })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Resolver {
    /// `ranges`: of the Pods' addresses. `cluster_domain`: what stands behind names with a `subdomain`; may be empty.
    ///
    /// # Errors
    /// The kernel's, of a set of descriptors.
    pub fn new(places: Vec<Place>, ranges: Ranges, cluster_domain: &str) -> io::Result<Resolver> {
        let set = Set::new()?;
        let servers: Vec<IpAddr> = places.iter().map(|place| place.address.ip()).collect();
        let mut listeners = Vec::new();
        for (number, Place { address, datagrams, connections }) in places.into_iter().enumerate() {
            let socket = |fd, kind| {
                let token = Token { kind, part: 0, place: number as u32 };
                Socket::new(fd, &set, token, EventFlags::IN)
            };
            let datagrams = socket(datagrams, DATAGRAMS)?;
            listeners.push(Listener { address, datagrams, connections: socket(connections, CONNECTIONS)? });
        }
        Ok(Resolver {
            places: listeners,
            zones: zones::Zones::new(&servers, &ranges, cluster_domain),
            ranges,
            forwarder: Forwarder::new(set.clone()),
            streams: Streams::new(set.clone()),
            breathes_until: None,
            turn: 0,
            set,
        })
    }

    /// Whom to ask for everything else; the first three. May change at any time. One that is this resolver itself is left out.
    pub fn set_servers(&mut self, servers: &[SocketAddr]) {
        let is_other = |server: &&SocketAddr| self.places.iter().all(|place| place.address != **server);
        self.forwarder.set_servers(servers.iter().filter(is_other).copied().collect());
    }

    /// Makes this all that is said of the Pod with this number, from the next question on; `None`: it is gone.
    pub fn set_pod(&mut self, number: u32, names: Option<&Names<'_>>) {
        self.zones.set(number, names);
    }

    /// When it wants to step though nothing has come. Since boot.
    pub fn deadline(&self) -> Option<Duration> {
        let deadlines = [self.forwarder.deadline(), self.streams.deadline(), self.breathes_until];
        deadlines.into_iter().flatten().min()
    }

    /// Goes on with what has come, as far as it can without waiting. What is left for the next step keeps the descriptor readable.
    ///
    /// # Errors
    /// The kernel's, of the set: nothing that anybody sends leads to one.
    pub fn step(&mut self, now: Duration) -> io::Result<()> {
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let events = match epoll::wait(&self.set, &mut space[..], Some(&at_once)) {
            Ok((events, _)) => &*events,
            Err(Errno::INTR) => &[],
            Err(errno) => return Err(errno.into()),
        };
        for event in events {
            let token = Token::of(event.data.u64());
            let place = token.place as usize;
            let flags = event.flags;
            match token.kind {
                DATAGRAMS => self.take_datagrams(place, now),
                CONNECTIONS => self.take_connections(place, now),
                STREAM if flags.intersects(EventFlags::HUP | EventFlags::ERR) => self.streams.hang_up(place),
                STREAM => self.take_stream(place, now),
                _ => {
                    let answered = self.forwarder.ready(token, now);
                    answered.into_iter().for_each(|answered| self.pass_back(answered, now));
                }
            }
        }
        self.pass_time(now);
        Ok(())
    }

    fn pass_time(&mut self, now: Duration) {
        for answered in self.forwarder.pass_time(now) {
            self.pass_back(answered, now);
        }
        self.streams.pass_time(now);
        if self.breathes_until.is_some_and(|until| until <= now) {
            self.breathes_until = None;
            self.take_on(EventFlags::IN);
        }
    }

    fn take_datagrams(&mut self, place: usize, now: Duration) {
        let mut buffer = [0; LONGEST];
        for _ in 0..SHARE {
            let Some(listener) = self.places.get(place) else { return };
            let socket = &listener.datagrams;
            let from = match unless_blocked(|| recvfrom(socket, &mut buffer[..], RecvFlags::empty())) {
                Ok(Some((count, _, from))) => from.map(|from| (count, from)),
                Ok(None) => return,
                // That an earlier answer did not arrive.
                Err(_) => continue,
            };
            let Some((count, Ok(address))) = from.map(|(count, from)| (count, SocketAddr::try_from(from)))
            else {
                continue;
            };
            let way = Way::Datagram(place);
            if let Some(asker) = self.asker(address, way)
                && let Some(answer) = self.answer(&buffer[..count], asker, now)
            {
                self.send(place, address, &answer);
            }
        }
    }

    fn take_connections(&mut self, place: usize, now: Duration) {
        for _ in 0..SHARE {
            let Some(listener) = self.places.get(place) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match unless_blocked(|| acceptfrom_with(&listener.connections, flags)) {
                Ok(None) => return,
                Ok(Some((fd, from))) => {
                    let peer = from.and_then(|from| SocketAddr::try_from(from).ok());
                    if let Some(peer) = peer.filter(|peer| self.is_served(peer.ip())) {
                        self.streams.take_on(fd, peer, now);
                    }
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // It stays where it is, and would be told of again and again.
                    self.take_on(EventFlags::empty());
                    self.breathes_until = Some(now + BREATHER);
                    return;
                }
                // That one has gone meanwhile.
                Err(_) => {}
            }
        }
    }

    fn take_on(&mut self, interest: EventFlags) {
        for listener in &mut self.places {
            // It can only fail for want of memory; then it is as it was.
            let _ = listener.connections.wait_for(interest);
        }
    }

    fn take_stream(&mut self, place: usize, now: Duration) {
        let mut may_read = true;
        while let Some((number, peer, question)) = self.streams.step(place, may_read, now) {
            may_read = false;
            let Some(asker) = self.asker(peer, Way::Stream(number)) else { return };
            match self.answer(&question, asker, now) {
                Some(answer) => _ = self.streams.answer(number, &answer, now),
                // Whoever says what is no question does not know what to expect.
                None if Query::read(&question).is_err() => self.streams.hang_up(place),
                None => {}
            }
        }
    }

    /// What is known at once; `None` if it comes later, or not at all.
    fn answer(&mut self, message: &[u8], asker: Asker, now: Duration) -> Option<Vec<u8>> {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Fault::NotAnswered) => return None,
            Err(Fault::Answered(code)) => return Some(refusal_of_unread(message, code)),
        };
        let limit = if asker.is_stream() { LONGEST_ANSWER } else { query.udp_limit() };
        self.turn = self.turn.wrapping_add(1);
        if let Some(answer) = answer(&query, &self.zones, limit, self.turn) {
            return Some(answer);
        }
        let refused = self.forwarder.begin(&query, asker, now).err();
        refused.map(|code| refusal(&query, code))
    }

    fn pass_back(&mut self, (asker, answer): Answered, now: Duration) {
        match asker.way {
            Way::Datagram(place) => self.send(place, asker.address, &answer),
            Way::Stream(number) => {
                if let Some(place) = self.streams.answer(number, &answer, now) {
                    self.take_stream(place, now);
                }
            }
        }
    }

    /// If there is no room, it is lost, as any datagram may be: it is asked for again.
    fn send(&self, place: usize, to: SocketAddr, answer: &[u8]) {
        if let Some(listener) = self.places.get(place) {
            let _ = unless_blocked(|| sendto(&listener.datagrams, answer, SendFlags::empty(), &to));
        }
    }

    /// `None` if it is nobody whom we answer.
    fn asker(&self, address: SocketAddr, way: Way) -> Option<Asker> {
        let is_the_machine = self.is_the_machine(address.ip());
        self.is_served(address.ip()).then_some(Asker { address, way, is_the_machine })
    }

    fn is_served(&self, address: IpAddr) -> bool {
        self.is_the_machine(address) || self.ranges.contain(address)
    }

    /// What it asks itself, it asks from where it is asked.
    fn is_the_machine(&self, address: IpAddr) -> bool {
        self.places.iter().any(|place| place.address.ip() == address)
    }
}

impl Asker {
    fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    fn is_stream(&self) -> bool {
        matches!(self.way, Way::Stream(_))
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
