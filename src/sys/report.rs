//! What a process between clone and exec says to the one that cloned it: records of eight bytes over a
//! `SOCK_SEQPACKET` pair, whose end means that exec happened.
//!
//! ```text
//! child → parent   Born + pidfd           the first word of one that a spawner made
//!                  NotBorn {errno}        said for it: it could not be cloned, or cannot say that it is there
//!                  Failed {step, errno}   the last word: the process ends
//!                  Forked {pid} + pidfd   the process has been replaced by another, which says the rest
//!                  Created                waits for a word: hooks
//!                  Ready                  waits for the start
//! parent → child   one byte               go on
//! ```
//!
//! The child's end does not allocate.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recv, recvmsg, send, socketpair,
};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::child::check;

/// Bytes of one record.
const LENGTH: usize = 8;

const FORKED: u32 = u32::MAX;
const CREATED: u32 = u32::MAX - 1;
const READY: u32 = u32::MAX - 2;
const BORN: u32 = u32::MAX - 3;
const NOT_BORN: u32 = u32::MAX - 4;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The step of that index, and `errno`.
    Failed {
        step: u32,
        errno: i32,
    },
    Forked {
        pid: u32,
    },
    Created,
    Ready,
    Born,
    NotBorn {
        errno: i32,
    },
}

impl Said {
    fn to_bytes(self) -> [u8; LENGTH] {
        let (word, value) = match self {
            Said::Failed { step, errno } => (step, errno),
            Said::Forked { pid } => (FORKED, pid as i32),
            Said::Created => (CREATED, 0),
            Said::Ready => (READY, 0),
            Said::Born => (BORN, 0),
            Said::NotBorn { errno } => (NOT_BORN, errno),
        };
        (u64::from(word) | u64::from(value as u32) << 32).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; LENGTH]) -> Said {
        let both = u64::from_le_bytes(bytes);
        let (word, value) = (both as u32, (both >> 32) as u32);
        match word {
            FORKED => Said::Forked { pid: value },
            CREATED => Said::Created,
            READY => Said::Ready,
            BORN => Said::Born,
            NOT_BORN => Said::NotBorn { errno: value as i32 },
            step => Said::Failed { step, errno: value as i32 },
        }
    }
}

/// The end of the process that clones.
#[derive(Debug)]
pub struct ParentEnd(OwnedFd);

/// The end of the process that is cloned: numbers, because its copies of the descriptors have no owner.
#[derive(Clone, Copy, Debug)]
pub struct ChildEnd {
    own: RawFd,
    parents: RawFd,
}

/// Makes both ends; the second is to be closed once the child has its copy.
///
/// # Errors
/// The kernel's, mostly that there are too many descriptors.
pub fn pair() -> io::Result<(ParentEnd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ParentEnd(ours), theirs))
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ParentEnd {
    /// The child's, of a pair.
    pub fn child_end(&self, theirs: &OwnedFd) -> ChildEnd {
        ChildEnd { own: theirs.as_raw_fd(), parents: self.0.as_raw_fd() }
    }

    /// The next record and the descriptor that came with it; `None` at the end. Waits, unless it has been told not to.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there and it shall not wait, `InvalidData` for what is no record.
    pub fn hear(&self, wait: bool) -> io::Result<Option<(Said, Option<OwnedFd>)>> {
        let mut bytes = [0; LENGTH];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let received = loop {
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                received => break received?,
            }
        };
        match received.bytes {
            0 => Ok(None),
            LENGTH => {
                let mut rights = ancillary.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                });
                let fd = rights.next().and_then(|mut fds| fds.next());
                Ok(Some((Said::from_bytes(bytes), fd)))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Lets a child that has said [`Said::Created`] go on.
    ///
    /// # Errors
    /// `BrokenPipe` if it is gone.
    pub fn go_on(&self) -> io::Result<()> {
        send(&self.0, &[0], SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl ChildEnd {
    pub(super) fn number(&self) -> RawFd {
        self.own
    }

    /// So that [`ChildEnd::await_word`] sees when the parent is gone.
    pub(super) fn close_parents_end(&self) {
        // SAFETY: the child's copy, which has no owner in the child.
        unsafe { libc::syscall(libc::SYS_close, self.parents) };
    }

    /// The descriptor now has this number.
    pub(super) fn move_to(&mut self, number: RawFd) {
        self.own = number;
    }

    pub(super) fn say(&self, said: Said) -> Result<(), Errno> {
        // SAFETY: made before the clone, and the child never closes it.
        let own = unsafe { BorrowedFd::borrow_raw(self.own) };
        send(own, &said.to_bytes(), SendFlags::NOSIGNAL).map(drop)
    }

    /// Says that the calling process is there. Its parent's pidfd of it would be in a table that nobody reads.
    ///
    /// # Errors
    /// When it cannot be said: `EPIPE` if nobody is there any more who could hear it.
    pub(super) fn announce(&self) -> Result<(), Errno> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        self.hand_over(Said::Born, own.as_fd())
    }

    pub(super) fn hand_over(&self, said: Said, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        send_descriptor(self.own, &said.to_bytes(), fd)
    }

    pub(super) fn await_word(&self) -> Result<(), Errno> {
        // SAFETY: as in `say`.
        let own = unsafe { BorrowedFd::borrow_raw(self.own) };
        let mut byte = [0u8; 1];
        loop {
            match recv(own, &mut byte[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((1, _)) => return Ok(()),
                Ok(_) => return Err(Errno::PIPE),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Sends one descriptor with some bytes, without allocating.
///
/// # Errors
/// The kernel's.
pub(super) fn send_descriptor(socket: RawFd, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `struct cmsghdr` with one descriptor, padded as `CMSG_SPACE(4)` is.
    #[repr(C, align(8))]
    struct Rights {
        length: usize,
        level: i32,
        kind: i32,
        fd: RawFd,
        padding: i32,
    }
    let mut rights = Rights {
        length: 20,
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd: fd.as_raw_fd(),
        padding: 0,
    };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero bytes are a valid `msghdr`: integers and null pointers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights).cast();
    message.msg_controllen = size_of::<Rights>() as _;
    // SAFETY: `message` and all that it leads to live through the call, and the kernel writes to none of it.
    let result =
        unsafe { libc::syscall(libc::SYS_sendmsg, socket, std::ptr::from_ref(&message), libc::MSG_NOSIGNAL) };
    check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_said() {
        let said = [
            Said::Failed { step: 7, errno: -1 },
            Said::Failed { step: 0, errno: libc::ELOOP },
            Said::Forked { pid: 4_194_304 },
            Said::Created,
            Said::Ready,
            Said::Born,
            Said::NotBorn { errno: libc::EAGAIN },
        ];
        let (parent, theirs) = pair().unwrap();
        let child = parent.child_end(&theirs);
        for said in said {
            child.say(said).unwrap();
            let (heard, fd) = parent.hear(true).unwrap().unwrap();
            assert_eq!((heard, fd.is_none()), (said, true));
        }
        assert_eq!(parent.hear(false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        child.hand_over(Said::Forked { pid: 1 }, theirs.as_fd()).unwrap();
        let (_, fd) = parent.hear(true).unwrap().unwrap();
        drop(theirs);
        assert_eq!(parent.hear(false).unwrap_err().kind(), io::ErrorKind::WouldBlock, "the copy is open");
        drop(fd);
        assert!(parent.hear(true).unwrap().is_none());
    }
}
