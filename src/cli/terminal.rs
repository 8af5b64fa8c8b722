//! A process in the foreground: its end is waited for, signals are passed on to it, and if it has a terminal, what is
//! typed and printed goes back and forth.
//!
//! One loop over descriptors, no thread.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::sys::wait::Ended;

/// What is passed on. SIGTSTP and its kin are not: they are about this process's own place in a shell.
const PASSED_ON: [Named; 9] = [
    Named::SIGHUP,
    Named::SIGINT,
    Named::SIGQUIT,
    Named::SIGUSR1,
    Named::SIGUSR2,
    Named::SIGALRM,
    Named::SIGTERM,
    Named::SIGCONT,
    Named::SIGWINCH,
];

/// Most bytes in one read or write: a descriptor that poll calls ready takes as many without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

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

/// What goes back and forth between our standard streams and the master end of a terminal.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    typed: Vec<u8>,
    printed: Vec<u8>,
    /// Until the end of our own input.
    input: bool,
    /// Until nobody has the other end open.
    output: bool,
    _raw: Option<RawInput>,
}

impl Relay {
    /// # Errors
    /// The kernel's.
    pub fn new(master: OwnedFd) -> io::Result<Relay> {
        // Full, it must not stop the loop: nobody but us has this end.
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let raw = RawInput::begin()?;
        follow_size(master.as_fd());
        Ok(Relay { master, typed: Vec::new(), printed: Vec::new(), input: true, output: true, _raw: raw })
    }

    /// What the loop shall wait for, in the order in which [`Relay::turn`] wants the answers. Nothing is read while what was
    /// read before has not been written.
    fn wanted(&self) -> [(BorrowedFd<'_>, PollFlags); 3] {
        let when = |condition, flag| if condition { flag } else { PollFlags::empty() };
        let from_master = when(self.output && self.printed.is_empty(), PollFlags::IN);
        let to_master = when(!self.typed.is_empty(), PollFlags::OUT);
        [
            (stdin(), when(self.input && self.typed.is_empty(), PollFlags::IN)),
            (self.master.as_fd(), from_master | to_master),
            (stdout(), when(!self.printed.is_empty(), PollFlags::OUT)),
        ]
    }

    fn turn(&mut self, [input, master, output]: [PollFlags; 3]) -> io::Result<()> {
        if !input.is_empty() && self.typed.is_empty() {
            self.input = read(stdin(), &mut self.typed)?;
        }
        if !master.is_empty() && self.printed.is_empty() {
            self.output = read(self.master.as_fd(), &mut self.printed)?;
        }
        if !self.output {
            self.typed.clear();
        } else if !master.is_empty() {
            write(self.master.as_fd(), &mut self.typed)?;
        }
        if !output.is_empty() {
            write(stdout(), &mut self.printed)?;
        }
        Ok(())
    }

    /// Prints what is left once the process has ended. Others may still have the terminal open: nobody waits for them.
    fn finish(mut self) -> io::Result<()> {
        loop {
            while !self.printed.is_empty() {
                poll(&mut [PollFd::from_borrowed_fd(stdout(), PollFlags::OUT)], None)?;
                write(stdout(), &mut self.printed)?;
            }
            if !read(self.master.as_fd(), &mut self.printed)? || self.printed.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Whether there may be more later. EIO is how a terminal says that its other end is closed.
fn read(from: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.resize(PIECE, 0);
    let result = rustix::io::read(from, &mut buffer[..]);
    buffer.truncate(*result.as_ref().unwrap_or(&0));
    match result {
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn write(to: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<()> {
    match rustix::io::write(to, buffer) {
        Ok(length) => drop(buffer.drain(..length)),
        Err(Errno::AGAIN | Errno::INTR) => {}
        // Nobody reads it any more.
        Err(Errno::IO | Errno::PIPE) => buffer.clear(),
        Err(errno) => return Err(errno.into()),
    }
    Ok(())
}

/// Waits until the process, a child of ours, has ended, and reaps it. Meanwhile it gets our signals, and what is typed.
///
/// # Errors
/// The kernel's.
pub fn attend(pidfd: BorrowedFd<'_>, signals: &Signals, mut relay: Option<Relay>) -> io::Result<Ended> {
    loop {
        let ready = wait(pidfd, signals, relay.as_ref())?;
        if ready.signal {
            while let Some(signal) = signals.next()? {
                pass_on(signal, pidfd, relay.as_ref());
            }
        }
        if let Some(relay) = &mut relay {
            relay.turn(ready.streams)?;
        }
        if ready.end {
            relay.map(Relay::finish).transpose()?;
            return reap(pidfd);
        }
    }
}

#[derive(Debug)]
struct Ready {
    end: bool,
    signal: bool,
    /// As [`Relay::wanted`] lists them.
    streams: [PollFlags; 3],
}

fn wait(pidfd: BorrowedFd<'_>, signals: &Signals, relay: Option<&Relay>) -> io::Result<Ready> {
    // A stream that is not wanted is left out: a closed pipe would be ready all the time.
    let wanted = relay.map(Relay::wanted);
    let wanted: Vec<_> =
        wanted.iter().flatten().enumerate().filter(|(_, (_, flags))| !flags.is_empty()).collect();
    let mut fds = vec![
        PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    fds.extend(wanted.iter().map(|(_, (fd, flags))| PollFd::from_borrowed_fd(*fd, *flags)));
    let mut ready = Ready { end: false, signal: false, streams: [PollFlags::empty(); 3] };
    match poll(&mut fds, None) {
        Err(Errno::INTR) => return Ok(ready),
        number => number?,
    };
    (ready.end, ready.signal) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
    for ((place, _), fd) in wanted.iter().zip(&fds[2..]) {
        ready.streams[*place] = fd.revents();
    }
    Ok(ready)
}

/// A change of our terminal's size is about the other terminal, if there is one. Whatever has no receiver any more is lost.
fn pass_on(signal: i32, pidfd: BorrowedFd<'_>, relay: Option<&Relay>) {
    if let (Some(relay), libc::SIGWINCH) = (relay, signal) {
        return follow_size(relay.master.as_fd());
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = pidfd_send_signal(pidfd, signal);
    }
}

fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) | Ok(None) => {}
            Err(errno) => return Err(errno.into()),
            Ok(Some(status)) => {
                let code = status.exit_status().map(|code| Ended::Code(code as u8));
                let signal = status.terminating_signal().map(|signal| Ended::Signal(signal as u8));
                return code.or(signal).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// As a shell reports it: 128 and the signal.
pub fn exit_code(ended: Ended) -> u8 {
    match ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) => 128 + signal,
    }
}
