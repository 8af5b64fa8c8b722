//! Looks host names up: in the hosts file, then at the machine's DNS servers.
//!
//! `getaddrinfo` is not asked. In a static binary it loads the modules that the machine's `nsswitch.conf` names, which were built for
//! another glibc and may crash the process; and nobody can end it. Where systemd-resolved or another resolver of the machine serves more
//! than DNS, it does so as a DNS server in `resolv.conf` too.

mod config;
mod message;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{Hosts, Servers};
use message::{Answer, Kind, Query};

use super::Cancel;
use super::url::is_loopback;
use crate::dns::MAX_UDP;

/// Where names come from.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
    pub(super) cancel: Cancel,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("there is no host {host:?}")]
    Unknown { host: String },
    #[error("the host {host:?} has no address")]
    NoAddress { host: String },
    #[error("{host:?} is not a host name")]
    Invalid { host: String },
    #[error("look up {host:?}: the DNS server {server} {fault}")]
    NoAnswer { host: String, server: SocketAddr, fault: String },
}

impl NameError {
    /// Whether the same question may get another answer in a while.
    pub fn is_transient(&self) -> bool {
        matches!(self, NameError::NoAnswer { .. })
    }
}

/// The addresses of `host`, as this machine finds them; may take as long as its DNS servers are silent.
pub fn addresses(host: &str) -> Result<Vec<IpAddr>, NameError> {
    Names::of_machine(Cancel::default()).addresses(host)
}

impl Names {
    pub(super) fn of_machine(cancel: Cancel) -> Names {
        Names { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), cancel }
    }

    /// The addresses of `host`, IPv4 before IPv6: where only one of them has a way out, IPv6 is the one that fails slowly.
    pub(super) fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NameError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known = Hosts::read(&self.hosts).addresses(host);
        if !known.is_empty() {
            return Ok(known);
        }
        if is_loopback(host) {
            return Ok(vec![[127, 0, 0, 1].into(), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]);
        }
        let servers = Servers::read(&self.resolv_conf);
        let mut worst = NameError::Unknown { host: host.to_owned() };
        for name in servers.candidates(host) {
            match self.ask_all(&servers, &name) {
                Ok(addresses) => return Ok(addresses),
                // Another ending of the name may exist, but a server that says nothing is the error that counts.
                Err(error) if error.is_transient() => return Err(error),
                Err(error @ (NameError::NoAddress { .. } | NameError::Invalid { .. })) => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    /// Asks one server after the other, as often as `resolv.conf` says, until one knows.
    fn ask_all(&self, servers: &Servers, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let queries = [Kind::A, Kind::Aaaa]
            .map(|kind| Query::new(name, kind).ok_or_else(|| NameError::Invalid { host: name.to_owned() }));
        let [v4, v6] = queries;
        let queries = [v4?, v6?];
        let mut last = NameError::Unknown { host: name.to_owned() };
        for _ in 0..servers.attempts {
            for server in &servers.addresses {
                let fault = match ask(*server, &queries, servers.timeout) {
                    Ok(answers) => match sum_up(name, answers) {
                        Ok(outcome) => return outcome,
                        Err(fault) => fault,
                    },
                    Err(error) => shown(&error),
                };
                last = NameError::NoAnswer { host: name.to_owned(), server: *server, fault };
                if self.cancel.is_cancelled() {
                    return Err(last);
                }
            }
        }
        Err(last)
    }
}

fn shown(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "does not answer".to_owned(),
        _ => format!("cannot be asked: {error}"),
    }
}

/// One answer is enough: some servers never answer for the kind of address that a name does not have.
fn sum_up(name: &str, answers: [Option<Answer>; 2]) -> Result<Result<Vec<IpAddr>, NameError>, String> {
    let mut addresses = Vec::new();
    let (mut fault, mut exists) = (None, false);
    for answer in answers {
        match answer {
            Some(Answer::Addresses(found)) => {
                exists = true;
                addresses.extend(found);
            }
            Some(Answer::NoSuchName) => {}
            Some(Answer::Refused(code)) => fault = Some(format!("answers with error {code}")),
            None => fault = fault.or(Some("does not answer".to_owned())),
        }
    }
    match fault {
        _ if !addresses.is_empty() => Ok(Ok(addresses)),
        Some(fault) => Err(fault),
        None if exists => Ok(Err(NameError::NoAddress { host: name.to_owned() })),
        None => Ok(Err(NameError::Unknown { host: name.to_owned() })),
    }
}

/// Both questions at once, to one server. `None` for one that was not answered in time.
fn ask(server: SocketAddr, queries: &[Query; 2], timeout: Duration) -> io::Result<[Option<Answer>; 2]> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: what anybody else sends is not received, and a port where nobody listens is an error at once.
    socket.connect(server)?;
    for query in queries {
        socket.send(query.bytes())?;
    }
    let until = Instant::now() + timeout;
    let mut answers = [None, None];
    let mut buffer = [0; MAX_UDP];
    while answers.iter().any(Option::is_none) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            other => other?,
        };
        for (query, answer) in queries.iter().zip(&mut answers) {
            match query.read(&buffer[..length]) {
                Some(message::Read::Answer(read)) => *answer = Some(read),
                Some(message::Read::Truncated) => *answer = Some(ask_over_tcp(server, query, left)?),
                None => {}
            }
        }
    }
    Ok(answers)
}

/// For an answer that does not fit into a datagram.
fn ask_over_tcp(server: SocketAddr, query: &Query, timeout: Duration) -> io::Result<Answer> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(query.bytes().len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query.bytes()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply)?;
    match query.read(&reply) {
        Some(message::Read::Answer(answer)) => Ok(answer),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its answer makes no sense")),
    }
}

#[cfg(test)]
mod tests;
