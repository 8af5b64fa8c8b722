//! What keeper and worker say to each other, over one `SOCK_SEQPACKET` pair.
//!
//! ```text
//!  keeper                                     worker
//!    │ Held{key}+fd … (all that it holds)  ──▶ │  first of all, to every new worker
//!    │ Exit{seq,…} …  (not acknowledged)   ──▶ │
//!    │ Begin                               ──▶ │  from here on it knows what its predecessor knew
//!    │ ◀──────────────────────────────── Up    │  it is working; before that, an end of the first worker ends podkeep
//!    │ ◀────────────────── Hold{key}+fd        │  keep this open over my end (replaces what the key held)
//!    │ ◀────────────────── Drop{key}           │
//!    │ Exit{seq,pid,start,how}             ──▶ │  a process ended; it has been reaped
//!    │ ◀────────────────── Ack{seq}            │  taken note of: this exit and all before it
//!    │ Stop | Reload | Detach              ──▶ │  a signal came (§ signals in docs/ARCHITECTURE.md)
//! ```
//!
//! A packet is one message: a byte that tells its kind, then its fields, numbers little-endian, a key to the end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::sys::wait::Ended;

/// Longest key of a held file descriptor, in bytes.
pub const MAX_KEY: usize = 512;
const MAX_PACKET: usize = 1 + MAX_KEY;

/// The end of a process that the keeper has reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Counts up from 1 over the keeper's life.
    pub seq: u64,
    pub pid: u32,
    /// Clock ticks since boot (`/proc/PID/stat`, field 22): tells a reused PID apart. 0 if it could not be read.
    pub start_time: u64,
    pub how: Ended,
}

/// One message, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Held(String),
    Exit(Exit),
    Begin,
    Stop,
    Reload,
    Detach,
    Up,
    Hold(String),
    Drop(String),
    Ack(u64),
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let keyed = |kind: u8, key: &str| [&[kind], key.as_bytes()].concat();
        match self {
            Message::Held(key) => keyed(b'h', key),
            Message::Hold(key) => keyed(b'H', key),
            Message::Drop(key) => keyed(b'D', key),
            Message::Begin => vec![b'b'],
            Message::Stop => vec![b's'],
            Message::Reload => vec![b'r'],
            Message::Detach => vec![b'd'],
            Message::Up => vec![b'U'],
            Message::Ack(seq) => [&[b'A'][..], &seq.to_le_bytes()].concat(),
            Message::Exit(exit) => {
                let (kind, number) = match exit.how {
                    Ended::Code(code) => (0, code),
                    Ended::Signal(signal) => (1, signal),
                };
                let mut packet = vec![b'e'];
                packet.extend(exit.seq.to_le_bytes());
                packet.extend(exit.pid.to_le_bytes());
                packet.extend(exit.start_time.to_le_bytes());
                packet.extend([kind, number]);
                packet
            }
        }
    }

    fn decode(packet: &[u8]) -> Option<Message> {
        let (&kind, rest) = packet.split_first()?;
        let key = || String::from_utf8(rest.to_vec()).ok();
        Some(match kind {
            b'h' => Message::Held(key()?),
            b'H' => Message::Hold(key()?),
            b'D' => Message::Drop(key()?),
            b'b' => Message::Begin,
            b's' => Message::Stop,
            b'r' => Message::Reload,
            b'd' => Message::Detach,
            b'U' => Message::Up,
            b'A' => Message::Ack(u64::from_le_bytes(rest.try_into().ok()?)),
            b'e' => Message::Exit(decode_exit(rest)?),
            _ => return None,
        })
    }
}

fn decode_exit(fields: &[u8]) -> Option<Exit> {
    let (seq, fields) = fields.split_first_chunk::<8>()?;
    let (pid, fields) = fields.split_first_chunk::<4>()?;
    let (start_time, fields) = fields.split_first_chunk::<8>()?;
    let how = match fields {
        [0, code] => Ended::Code(*code),
        [1, signal] => Ended::Signal(*signal),
        _ => return None,
    };
    let (seq, pid) = (u64::from_le_bytes(*seq), u32::from_le_bytes(*pid));
    Some(Exit { seq, pid, start_time: u64::from_le_bytes(*start_time), how })
}

/// Sends one message, with a file descriptor where its kind has one.
pub fn send(
    socket: impl AsFd,
    message: &Message,
    fd: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> io::Result<()> {
    let packet = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message. `Ok(None)` when the other side has closed; `WouldBlock` when nothing is there and `flags` say
/// not to wait.
pub fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut packet = [0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let answer = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut packet)],
        &mut ancillary,
        flags | RecvFlags::CMSG_CLOEXEC,
    )?;
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if answer.bytes == 0 {
        return Ok(None);
    }
    match Message::decode(&packet[..answer.bytes]) {
        Some(message) => Ok(Some((message, fd))),
        None => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that keeper and worker do not know"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_way() {
        let exit = |how| Message::Exit(Exit { seq: 7, pid: 4_000_000, start_time: u64::MAX, how });
        let all = [
            Message::Held("pod/1/net".into()),
            exit(Ended::Code(255)),
            exit(Ended::Signal(64)),
            Message::Begin,
            Message::Stop,
            Message::Reload,
            Message::Detach,
            Message::Up,
            Message::Hold("k".repeat(MAX_KEY)),
            Message::Drop(String::new()),
            Message::Ack(1),
        ];
        for message in all {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for packet in [&b""[..], b"?", b"A123", b"e1234", b"h\xff"] {
            assert_eq!(Message::decode(packet), None, "{packet:?}");
        }
    }
}
