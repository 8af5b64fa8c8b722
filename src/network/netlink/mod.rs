//! Netlink: how the kernel is asked for links, addresses, routes and firewall rules (netlink(7)).
//!
//! `message.rs` writes what is asked, `read.rs` reads what is answered, here it is sent. The kernel works while it is being sent to: when
//! that returns, its answers lie in the socket. So nothing here waits, and nothing is ever cut off in the middle.

mod message;
mod read;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{RecvFlags, SendFlags, recv, send};

pub use message::Message;
use read::{Answer, answers};
pub use read::{Attributes, attributes, find, text};

use crate::sys::netlink;

/// More than the kernel puts into one part of a list (32 KiB; `netlink_dump`), so that none is cut off. Bytes.
const PART: usize = 64 << 10;
/// How often what changes while it is being read is read.
const ATTEMPTS: usize = 20;

/// A socket of one family, in the network namespace of the thread that has opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// What the kernel has not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the messages it was, from 0.
    pub index: usize,
    pub errno: Errno,
    /// In the kernel's own words, if it has any.
    pub sentence: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.sentence {
            Some(sentence) => write!(f, "{} ({sentence})", self.errno),
            None => write!(f, "{}", self.errno),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { index: 0, errno, sentence: None }
    }
}

impl Socket {
    /// To links, addresses, neighbours and routes (rtnetlink(7)).
    ///
    /// # Errors
    /// The kernel's.
    pub fn route() -> Result<Socket, Errno> {
        Ok(Socket { fd: netlink::open(None)? })
    }

    /// To nftables and the like.
    ///
    /// # Errors
    /// The kernel's: `EPROTONOSUPPORT` where it has no netfilter.
    pub fn netfilter() -> Result<Socket, Errno> {
        Ok(Socket { fd: netlink::open(Some(NETFILTER))? })
    }

    /// Lets the kernel tell of what happens in this group (`RTNLGRP_*`, `NFNLGRP_*`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(&self, group: u32) -> Result<(), Errno> {
        netlink::join(&self.fd, group)
    }

    /// Keeps out of what the groups tell whatever this other socket has caused: it is known, and wakes nobody.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ignore(&self, other: &Socket) -> Result<(), Errno> {
        netlink::ignore_port(&self.fd, other.port()?)
    }

    /// The number by which the kernel knows it among all of its family in this network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn port(&self) -> Result<u32, Errno> {
        netlink::port(&self.fd)
    }

    /// Lets so many bytes wait to be read.
    ///
    /// # Errors
    /// The kernel's: without CAP_NET_ADMIN.
    pub fn enlarge(&self, bytes: usize) -> Result<(), Errno> {
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes)
    }

    /// Has all of these done, one after the other.
    ///
    /// Where the messages are a transaction of nftables, that is all of them or none; else those before the one that was refused are
    /// done, and those after it too, as far as they can be without it.
    ///
    /// # Errors
    /// The first refusal.
    pub fn tell(&self, messages: &[Message]) -> Result<(), Refusal> {
        if messages.is_empty() {
            // The kernel refuses to be told nothing.
            return Ok(());
        }
        let mut bytes = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            message.write(index as u32, &mut bytes);
        }
        self.send(&bytes)?;
        let (mut refusal, mut has_lost) = (None, false);
        let mut buffer = vec![0; PART];
        loop {
            let count = match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                // Where so many were refused that not all of them were noted, the first ones still lie there.
                Err(Errno::NOBUFS) => {
                    has_lost = true;
                    continue;
                }
                Err(Errno::AGAIN) if has_lost && refusal.is_none() => return Err(Errno::NOBUFS.into()),
                Err(Errno::AGAIN) => return refusal.map_or(Ok(()), Err),
                other => other?.0,
            };
            for answer in answers(&buffer[..count]) {
                if let Answer::Refused { sequence, errno, sentence } = answer
                    && refusal.is_none()
                {
                    refusal = Some(Refusal { index: sequence as usize, errno, sentence });
                }
            }
        }
    }

    /// Asks for what there is, and gives what `read` makes of each of it: of the kind of message, and of what follows its header. Asks again
    /// where it changed meanwhile, so that what was read may not be right.
    ///
    /// # Errors
    /// The kernel's; `EINTR` if it changed each time.
    pub fn list<T>(
        &self,
        request: &Message,
        mut read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            if self.list_once(request, &mut |kind, payload| all.extend(read(kind, payload)))? {
                return Ok(all);
            }
        }
        let sentence = format!("what was to be listed changed meanwhile, {ATTEMPTS} times in a row");
        Err(Refusal { index: 0, errno: Errno::INTR, sentence: Some(sentence) })
    }

    /// Says whether it stayed as it was meanwhile.
    fn list_once(&self, request: &Message, take: &mut dyn FnMut(u16, &[u8])) -> Result<bool, Refusal> {
        let mut bytes = Vec::new();
        request.write(0, &mut bytes);
        self.send(&bytes)?;
        let mut buffer = vec![0; PART];
        let mut is_whole = true;
        loop {
            let count = match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                // What was asked for is no list but one thing, which has come.
                Err(Errno::AGAIN) => return Ok(is_whole),
                other => other?.0,
            };
            for answer in answers(&buffer[..count]) {
                match answer {
                    Answer::Data { kind, payload, is_torn } => {
                        is_whole &= !is_torn;
                        take(kind, payload);
                    }
                    Answer::End { is_torn } => return Ok(is_whole && !is_torn),
                    Answer::Refused { errno, sentence, .. } => {
                        return Err(Refusal { index: 0, errno, sentence });
                    }
                }
            }
        }
    }

    /// Hands over what the kernel has told the groups since.
    ///
    /// # Errors
    /// `ENOBUFS` if some of it was lost: whoever listens must look for itself.
    pub fn take_news(&self, take: &mut dyn FnMut(u16, &[u8])) -> Result<(), Errno> {
        let mut buffer = vec![0; PART];
        loop {
            let count = match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                other => other?.0,
            };
            for answer in answers(&buffer[..count]) {
                if let Answer::Data { kind, payload, .. } = answer {
                    take(kind, payload);
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        let mut is_enlarged = false;
        loop {
            match send(&self.fd, bytes, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                // All of a transaction goes at once. `wmem_max` is for those without CAP_NET_ADMIN.
                Err(Errno::MSGSIZE) if !is_enlarged => {
                    set_socket_send_buffer_size_force(&self.fd, bytes.len())?;
                    is_enlarged = true;
                }
                other => return other.map(drop),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// `struct ifinfomsg`, all zero but the index.
    fn link(index: i32) -> [u8; 16] {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header
    }

    #[test]
    fn the_loopback_is_listed_with_its_name() {
        let socket = Socket::route().unwrap();
        let request = Message::list(libc::RTM_GETLINK, &link(0));
        let names = socket.list(&request, |kind, payload| {
            assert_eq!(kind, libc::RTM_NEWLINK);
            find(&payload[16..], libc::IFLA_IFNAME).map(|name| text(name).to_owned())
        });
        let names = names.unwrap();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");
    }

    #[test]
    fn a_refusal_names_its_message_and_has_the_kernels_words() {
        let socket = Socket::route().unwrap();
        let good = || Message::new(libc::RTM_GETLINK, &link(1));
        // A link of this name there is not, and one may not be asked for by a name that long.
        let unknown = Message::new(libc::RTM_GETLINK, &link(i32::MAX));
        let refusal = socket.tell(&[good(), unknown, good()]).unwrap_err();
        assert_eq!((refusal.index, refusal.errno), (1, Errno::NODEV));
        let strange =
            Message::list(libc::RTM_GETROUTE, &[libc::AF_INET as u8, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let refusal = socket.list(&strange, |_, _| Some(())).unwrap_err();
        assert_eq!(refusal.errno, Errno::INVAL);
        assert!(refusal.sentence.as_deref().is_some_and(|words| words.contains("header")), "{refusal:?}");
    }

    /// What the kernel would say: a list of one, which others change while it is being read or do not.
    fn told(number: u32, is_torn: bool) -> Vec<u8> {
        let flags = if is_torn { libc::NLM_F_DUMP_INTR } else { 0 };
        let mut list = Vec::new();
        for (kind, payload) in [(libc::RTM_NEWLINK, number), (libc::NLMSG_DONE as u16, 0)] {
            Message::new(kind, &payload.to_ne_bytes()).flags(flags).write(0, &mut list);
        }
        list
    }

    #[test]
    fn a_list_that_changes_while_it_is_read_is_read_again_and_not_for_ever() {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (kernel, fd) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let socket = Socket { fd };
        let say = |answer: Vec<u8>| assert_eq!(send(&kernel, &answer, SendFlags::empty()), Ok(answer.len()));
        let list = || {
            let number = |_, payload: &[u8]| payload.first_chunk().copied().map(u32::from_ne_bytes);
            socket.list(&Message::list(libc::RTM_GETLINK, &[]), number)
        };
        [told(1, true), told(2, true), told(3, false)].into_iter().for_each(say);
        assert_eq!(list(), Ok(vec![3]));
        (0..ATTEMPTS).for_each(|_| say(told(4, true)));
        say(told(5, false));
        let refusal = list().unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "Interrupted system call (os error 4) (what was to be listed changed meanwhile, 20 times in a row)"
        );
        assert_eq!(list(), Ok(vec![5]));
    }
}
