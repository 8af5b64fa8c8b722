//! What a process in the foreground has to do with our terminal: signals that are kept back for it, the other end of a
//! terminal of its own, our own terminal's mode and size.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// What is passed on. SIGTSTP and its kin are not: they are about this process's own place in a shell.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// The signals that are passed on, kept back until somebody looks at them.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// To be called before the process is there, so that none is lost.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep_back() -> io::Result<Signals> {
        let set: SigSet = PASSED_ON.into_iter().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals(fd))
    }

    /// One that has come.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<i32>> {
        Ok(self.0.read_signal()?.map(|info| info.ssi_signo as i32))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where the other end of a container's terminal comes to.
#[derive(Debug)]
pub struct Attached(UnixStream);

impl Attached {
    /// The second is for the container's side.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(Attached, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Attached(ours), theirs.into()))
    }

    /// Takes it, without waiting: it has been sent by the time that the process runs its program.
    ///
    /// # Errors
    /// The kernel's, or that none has come.
    pub fn receive(&self) -> io::Result<OwnedFd> {
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
        let mut rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        rights.next().and_then(|mut fds| fds.next()).ok_or_else(|| io::Error::other("no terminal has come"))
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Our own terminal passes on what is typed as it is, until this is dropped.
#[derive(Debug)]
pub struct RawInput {
    before: Termios,
}

impl RawInput {
    /// `None` where standard input is no terminal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin() -> io::Result<Option<RawInput>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawInput { before }))
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        // The terminal may be gone, and then nobody misses it.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Gives a terminal the size of ours. Where ours is none, nothing happens.
pub fn follow_size(master: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}
