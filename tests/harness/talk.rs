//! Servers that say who has come, and clients.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::namespace::Namespace;

/// How long an answer may take that comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one is waited for that must not come. Without the firewall it comes while the packet is being sent.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Whom a server has seen: the client's address, or none if it could not be reached.
pub type Seen = Option<IpAddr>;

/// On every address of the namespace, IPv4 and IPv6.
pub fn serve_tcp(namespace: &Namespace, port: u16) {
    let listener = namespace.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        loop {
            let (mut stream, from) = listener.accept().unwrap();
            // A client that has lost patience is no failure.
            let _ = write!(stream, "{}", from.ip().to_canonical());
        }
    });
}

pub fn serve_udp(namespace: &Namespace, port: u16) {
    let socket = namespace.inside(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        loop {
            let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
            let _ = socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
        }
    });
}

/// One that says this name instead.
pub fn serve_udp_as(namespace: &Namespace, port: u16, name: &'static str) {
    let socket = namespace.inside(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        loop {
            let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// A client that stays.
pub fn udp_client(namespace: &Namespace, to: IpAddr, port: u16) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = namespace.inside(|| UdpSocket::bind((any, 0)).unwrap());
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What the server says.
pub fn ask_udp(client: &UdpSocket) -> String {
    let mut said = [0; 64];
    client.send(b"who?").unwrap();
    let count = client.recv(&mut said).unwrap();
    String::from_utf8(said[..count].to_vec()).unwrap()
}

/// Reaches a server that is to be reached.
#[track_caller]
pub fn dial<A: Into<IpAddr>>(namespace: &Namespace, to: A, port: u16) -> IpAddr {
    let to = SocketAddr::new(to.into(), port);
    tcp(namespace, to, PATIENCE).unwrap_or_else(|| panic!("{to} is not reached"))
}

#[track_caller]
pub fn dial_udp<A: Into<IpAddr>>(namespace: &Namespace, to: A, port: u16) -> IpAddr {
    let to = SocketAddr::new(to.into(), port);
    udp(namespace, to, PATIENCE).unwrap_or_else(|| panic!("{to} is not reached by UDP"))
}

/// Whether nobody answers, or whoever would have answered says that nobody is there.
pub fn is_closed<A: Into<IpAddr>>(namespace: &Namespace, to: A, port: u16) -> bool {
    tcp(namespace, SocketAddr::new(to.into(), port), IMPATIENCE).is_none()
}

pub fn is_closed_udp<A: Into<IpAddr>>(namespace: &Namespace, to: A, port: u16) -> bool {
    udp(namespace, SocketAddr::new(to.into(), port), IMPATIENCE).is_none()
}

fn tcp(namespace: &Namespace, to: SocketAddr, patience: Duration) -> Seen {
    namespace.inside(|| match TcpStream::connect_timeout(&to, patience) {
        Ok(stream) => Some(said(stream)),
        Err(error) if is_no_answer(error.kind()) => None,
        Err(error) => panic!("{to}: {error}"),
    })
}

fn said(mut stream: TcpStream) -> IpAddr {
    let mut said = String::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_string(&mut said).unwrap();
    said.parse().unwrap()
}

fn udp(namespace: &Namespace, to: SocketAddr, patience: Duration) -> Seen {
    namespace.inside(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 64];
        let count = match socket.send(b"who?").and_then(|_| socket.recv(&mut buffer)) {
            Ok(count) => count,
            Err(error) if is_no_answer(error.kind()) => return None,
            Err(error) => panic!("{to}: {error}"),
        };
        Some(std::str::from_utf8(&buffer[..count]).unwrap().parse().unwrap())
    })
}

fn is_no_answer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            // What the node itself sends, and its own firewall drops.
            | ErrorKind::PermissionDenied
    )
}

/// A socket that sends and receives whole packets of SCTP, of the family of this address: the kernel needs not speak it.
pub fn sctp(namespace: &Namespace, like: IpAddr) -> UdpSocket {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let open = || socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp);
    let socket = UdpSocket::from(namespace.inside(open).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Who has begun an association by [`sctp_init`], and at which port.
pub fn sctp_heard(socket: &UdpSocket) -> (IpAddr, u16) {
    let mut packet = [0; 64];
    let (count, from) = socket.recv_from(&mut packet).unwrap();
    // Of IPv4 the header comes with it.
    let own = &packet[if from.is_ipv4() { 20 } else { 0 }..count];
    assert_eq!(own.len(), 32);
    (from.ip(), u16::from_be_bytes([own[2], own[3]]))
}

/// The packet that begins an association (RFC 9260, 3.3.2), from port `from` to port `to`.
pub fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    // No tag yet; the checksum comes when the rest is there.
    packet.extend([0; 8]);
    // INIT, 20 bytes: its tag, window, streams out and in, first number.
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
