//! What goes back and forth between our standard streams and a command elsewhere, until its end is told.
//!
//! One loop over descriptors, no thread.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};

use super::terminal::{Attached, RawInput, Signals, follow_size};

/// Most bytes in one read or write: what poll calls ready for writing takes as many without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

/// What Ctrl-D is on a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// How a command ended, as far as it is known here.
pub enum Outcome {
    /// All that came over the connection.
    Answer(Vec<u8>),
    /// We were told to end.
    Signal(u8),
    /// The connection was closed without an answer.
    NoAnswer,
}

/// One side of a [`Way`].
#[derive(Clone)]
pub enum End {
    Stdin,
    Stdout,
    Stderr,
    Own(Rc<OwnedFd>),
}

impl End {
    /// Full or empty, it does not stop the loop.
    pub fn own(fd: OwnedFd) -> io::Result<End> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(End::Own(Rc::new(fd)))
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Stdin => stdin(),
            End::Stdout => stdout(),
            End::Stderr => stderr(),
            End::Own(fd) => fd.as_fd(),
        }
    }
}

/// One direction. Nothing is read while what was read before has not been written.
pub struct Way {
    from: Option<End>,
    to: Option<End>,
    buffer: Vec<u8>,
    /// What is written last.
    last: &'static [u8],
}

impl Way {
    pub fn new(from: End, to: End) -> Way {
        Way { from: Some(from), to: Some(to), buffer: Vec::new(), last: &[] }
    }

    /// What is to be waited for; `None` when it has come to its end.
    fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self.buffer.is_empty() {
            true => self.from.as_ref().map(|from| (from.as_fd(), PollFlags::IN)),
            false => self.to.as_ref().map(|to| (to.as_fd(), PollFlags::OUT)),
        }
    }

    fn is_output(&self) -> bool {
        !matches!(self.from, Some(End::Stdin)) && self.wanted().is_some()
    }

    /// Does what was waited for. Whether anything was there to do.
    fn turn(&mut self) -> io::Result<bool> {
        let moved = if self.buffer.is_empty() { self.read()? } else { self.write()? };
        if self.buffer.is_empty() && self.from.is_none() {
            // Closed: the other side sees the end.
            self.to = None;
        }
        Ok(moved)
    }

    fn read(&mut self) -> io::Result<bool> {
        let Some(from) = &self.from else { return Ok(false) };
        let mut space = [0; PIECE];
        match rustix::io::read(from, &mut space) {
            // EIO is how a terminal says that nobody has its other end open.
            Ok(0) | Err(Errno::IO) => {
                self.from = None;
                self.buffer.extend_from_slice(std::mem::take(&mut self.last));
                Ok(true)
            }
            Ok(length) => {
                self.buffer.extend_from_slice(&space[..length]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write(&mut self) -> io::Result<bool> {
        let Some(to) = &self.to else { return Ok(false) };
        match rustix::io::write(to, &self.buffer[..self.buffer.len().min(PIECE)]) {
            Ok(length) => drop(self.buffer.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            // Nobody reads it any more: whoever writes is told by his own end.
            Err(Errno::IO | Errno::PIPE) => {
                self.buffer.clear();
                self.from = None;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(true)
    }

    /// Everything that is there, and not what comes later: others may have the other end open for long.
    fn drain(&mut self) -> io::Result<()> {
        while self.wanted().is_some() {
            if self.buffer.is_empty() {
                if !self.turn()? {
                    return Ok(());
                }
            } else if let Some(to) = &self.to {
                wait(&mut [PollFd::new(to, PollFlags::OUT)])?;
                self.turn()?;
            }
        }
        Ok(())
    }
}

/// A command that is waited for.
pub struct Attending {
    /// `None` once it is closed.
    connection: Option<UnixStream>,
    answer: Vec<u8>,
    signals: Signals,
    ways: Vec<Way>,
    /// Where the terminal will come from.
    attached: Option<Attached>,
    /// Whether what is typed goes to the terminal.
    types: bool,
    terminal: Option<(Rc<OwnedFd>, Option<RawInput>)>,
}

impl Attending {
    /// # Errors
    /// The kernel's.
    pub fn new(
        connection: UnixStream,
        signals: Signals,
        ways: Vec<Way>,
        attached: Option<Attached>,
        types: bool,
    ) -> io::Result<Attending> {
        connection.set_nonblocking(true)?;
        let (connection, answer) = (Some(connection), Vec::new());
        Ok(Attending { connection, answer, signals, ways, attached, types, terminal: None })
    }

    /// Until the command's end is told or, where nobody will tell it any more, its output has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(mut self) -> io::Result<Outcome> {
        loop {
            let ready = self.wait()?;
            if let Some(signal) = self.heed_signals()? {
                return Ok(Outcome::Signal(signal));
            }
            for (way, ready) in self.ways.iter_mut().zip(ready.ways) {
                if ready {
                    way.turn()?;
                }
            }
            if ready.terminal {
                self.take_terminal()?;
            }
            self.read_answer()?;
            let is_closed = self.connection.is_none();
            if is_closed && !self.answer.is_empty() {
                // Sent before the command began, so it is there now if it ever was.
                self.take_terminal()?;
                self.ways.iter_mut().filter(|way| way.is_output()).try_for_each(Way::drain)?;
                return Ok(Outcome::Answer(self.answer));
            }
            if is_closed && self.attached.is_none() && !self.ways.iter().any(Way::is_output) {
                return Ok(Outcome::NoAnswer);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.connection.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let terminal = fds.len();
        fds.extend(self.attached.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // One that has come to its end is left out: a closed pipe would be ready all the time.
        let mut places = Vec::with_capacity(self.ways.len());
        for way in &self.ways {
            places.push(way.wanted().map(|(fd, flags)| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            }));
        }
        wait(&mut fds)?;
        let is_ready = |place: usize| !fds[place].revents().is_empty();
        let ways = places.into_iter().map(|place| place.is_some_and(is_ready)).collect();
        Ok(Ready { terminal: self.attached.is_some() && is_ready(terminal), ways })
    }

    /// A signal that ends us: the node then hangs up on the command. To a terminal, what is typed says it, and its size follows
    /// ours.
    fn heed_signals(&self) -> io::Result<Option<u8>> {
        while let Some(signal) = self.signals.next()? {
            match (signal, &self.terminal) {
                (libc::SIGWINCH, Some((master, _))) => follow_size(master.as_fd()),
                (libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM, _) => {
                    return Ok(Some(signal as u8));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The command's terminal has come, or never will.
    fn take_terminal(&mut self) -> io::Result<()> {
        let Some(attached) = self.attached.take() else { return Ok(()) };
        let Ok(master) = attached.receive() else { return Ok(()) };
        let End::Own(master) = End::own(master)? else { return Ok(()) };
        if self.types {
            let way = Way::new(End::Stdin, End::Own(Rc::clone(&master)));
            self.ways.push(Way { last: END_OF_INPUT, ..way });
        }
        self.ways.push(Way::new(End::Own(Rc::clone(&master)), End::Stdout));
        follow_size(master.as_fd());
        self.terminal = Some((master, RawInput::begin()?));
        Ok(())
    }

    fn read_answer(&mut self) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match connection.read_to_end(&mut self.answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Closed in the middle, as by a worker that was killed: nothing more will come.
            _ => self.connection = None,
        }
        Ok(())
    }
}

/// What can be done without waiting.
struct Ready {
    terminal: bool,
    ways: Vec<bool>,
}

fn wait(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    match poll(fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().unwrap()
    }

    #[test]
    fn what_was_written_before_the_end_is_passed_on_though_others_hold_the_pipe() {
        let ((from, writer), (reader, to)) = (pipe(), pipe());
        let mut way = Way::new(End::own(from).unwrap(), End::own(to).unwrap());
        let mut writer = File::from(writer);
        writer.write_all(&[7; 10_000]).unwrap();
        way.drain().unwrap();
        drop(way);
        let mut passed = Vec::new();
        File::from(reader).read_to_end(&mut passed).unwrap();
        assert_eq!(passed, [7; 10_000]);
    }

    #[test]
    fn an_end_is_passed_on_and_so_is_a_reader_that_goes_away() {
        let ((from, writer), (reader, to)) = (pipe(), pipe());
        let mut way = Way::new(End::own(from).unwrap(), End::own(to).unwrap());
        drop(writer);
        way.turn().unwrap();
        assert!(way.wanted().is_none());
        assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0, "closed");

        let ((from, mut writer), (reader, to)) = (pipe(), pipe());
        let mut way = Way::new(End::own(from).unwrap(), End::own(to).unwrap());
        drop(reader);
        rustix::io::write(&mut writer, b"x").unwrap();
        way.turn().unwrap();
        way.turn().unwrap();
        assert!(way.wanted().is_none());
        assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::PIPE));
    }
}
