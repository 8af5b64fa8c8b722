//! A process in a container, attended from a terminal: signals passed on, a pseudo-terminal relayed, its size followed.

use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{WaitIdStatus, pidfd_send_signal};
use rustix::termios::{self, OptionalActions, Termios, tcgetwinsize, tcsetwinsize};

use crate::sys::signal;

/// Signals that are read instead of obeyed.
pub struct Signals(SignalFd);

impl Signals {
    /// All but those that stop a program for its own faults, and SIGCHLD.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block() -> io::Result<Signals> {
        let mut all = SigSet::all();
        for own in [
            NixSignal::SIGCHLD,
            NixSignal::SIGSEGV,
            NixSignal::SIGBUS,
            NixSignal::SIGILL,
            NixSignal::SIGFPE,
            NixSignal::SIGABRT,
            NixSignal::SIGTSTP,
            NixSignal::SIGTTIN,
            NixSignal::SIGTTOU,
            NixSignal::SIGURG,
        ] {
            all.remove(own);
        }
        all.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The number of one that has come.
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

/// Where the other end of a container's terminal will come from.
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

    /// Waits for it.
    ///
    /// # Errors
    /// The kernel's, or that the container's side was closed without sending one.
    pub fn receive(&self) -> io::Result<OwnedFd> {
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        fds.next().and_then(|mut fds| fds.next()).ok_or_else(|| io::Error::other("no terminal was sent"))
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until the process ends: passes signals on to it and, if it has a terminal, that to ours.
///
/// # Errors
/// The kernel's.
pub fn attend(process: &OwnedFd, signals: &Signals, attached: Option<Attached>) -> io::Result<()> {
    match attached {
        None => until_ended(process, signals),
        Some(attached) => Relay::begin(attached.receive()?)?.run(process, signals),
    }
}

fn until_ended(process: &OwnedFd, signals: &Signals) -> io::Result<()> {
    loop {
        let mut fds = [PollFd::new(process, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        wait(&mut fds)?;
        let ended = !fds[0].revents().is_empty();
        pass_on(process, signals)?;
        if ended {
            return Ok(());
        }
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

fn pass_on(process: &OwnedFd, signals: &Signals) -> io::Result<()> {
    while let Some(number) = signals.next()? {
        if let Some(signal) = signal::parse(&number.to_string()) {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(process, signal);
        }
    }
    Ok(())
}

/// Our terminal and the container's.
pub struct Relay {
    master: OwnedFd,
    input_open: bool,
    _raw: RawInput,
}

/// Our terminal passes on what is typed as it is, until this is dropped.
pub struct RawInput {
    /// `None` if our standard input is no terminal.
    before: Option<Termios>,
}

impl RawInput {
    /// # Errors
    /// The kernel's.
    pub fn begin() -> io::Result<RawInput> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        }
        Ok(RawInput { before })
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nobody is left to be told.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Makes a terminal as large as ours. A size that cannot be set is no reason to stop.
pub fn follow_size(master: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(io::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

impl Relay {
    /// Makes our terminal raw, and the container's as large.
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin(master: OwnedFd) -> io::Result<Relay> {
        let raw = RawInput::begin()?;
        follow_size(master.as_fd());
        Ok(Relay { master, input_open: true, _raw: raw })
    }

    /// Until the container's side is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(mut self, process: &OwnedFd, signals: &Signals) -> io::Result<()> {
        while self.turn(Some(process), signals)? {}
        Ok(())
    }

    /// Without a process whose signals are to be passed on: what is typed reaches it through the terminal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn turn(&mut self, process: Option<&OwnedFd>, signals: &Signals) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(&self.master, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        if self.input_open {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        wait(&mut fds)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            self.heed(process, signals)?;
        }
        if ready.get(2) == Some(&true) {
            self.take_input()?;
        }
        if ready[0] { self.take_output() } else { Ok(true) }
    }

    fn heed(&self, process: Option<&OwnedFd>, signals: &Signals) -> io::Result<()> {
        while let Some(number) = signals.next()? {
            if number == libc::SIGWINCH {
                follow_size(self.master.as_fd());
            } else if let (Some(process), Some(signal)) = (process, signal::parse(&number.to_string())) {
                let _ = pidfd_send_signal(process, signal);
            }
        }
        Ok(())
    }

    fn take_input(&mut self) -> io::Result<()> {
        let mut space = [0; 4096];
        let length = read(io::stdin().as_fd(), &mut space)?;
        if length == 0 {
            self.input_open = false;
            // What Ctrl-D is on a terminal.
            return write_all(&self.master, &[4]);
        }
        write_all(&self.master, &space[..length])
    }

    /// Whether there may be more.
    fn take_output(&mut self) -> io::Result<bool> {
        let mut space = [0; 16_384];
        let length = match read(self.master.as_fd(), &mut space) {
            // Nobody has the other side open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            result => result?,
        };
        io::stdout().write_all(&space[..length])?;
        io::stdout().flush()?;
        Ok(length > 0)
    }
}

fn read(fd: BorrowedFd<'_>, space: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *space) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(()),
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}

/// As a shell has it: the exit code, or 128 and the signal.
pub fn exit_code(status: Option<WaitIdStatus>) -> ExitCode {
    let code = status.map_or(255, |status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    });
    ExitCode::from(code as u8)
}
