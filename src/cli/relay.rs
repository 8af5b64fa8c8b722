//! What goes back and forth between our standard streams and a process elsewhere: through pipes, or through a terminal of
//! its own.
//!
//! No thread: whoever waits for the process does so by [`Relay::step`], which moves bytes meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};

use super::terminal::{RawInput, follow_size};

/// Most bytes in one read or write: what poll calls ready for writing takes as many without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

/// What Ctrl-D is on a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// All the ways of one process.
#[derive(Default)]
pub struct Relay {
    ways: Vec<Way>,
    terminal: Option<Terminal>,
}

struct Terminal {
    master: Rc<OwnedFd>,
    /// Ours is as it was again when this goes.
    _raw: Option<RawInput>,
}

impl Relay {
    /// Without ways, it only waits.
    pub fn new(ways: Vec<Way>) -> Relay {
        Relay { ways, terminal: None }
    }

    /// The process has a terminal, whose master end this is: what comes from it is printed, it follows the size of ours and, if
    /// `types`, it gets what is typed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attach(&mut self, master: OwnedFd, types: bool) -> io::Result<()> {
        let master = Rc::new(nonblocking(master)?);
        if types {
            let way = Way::new(End::Stdin, End::Own(Rc::clone(&master)));
            self.ways.push(Way { last: END_OF_INPUT, ..way });
        }
        self.ways.push(Way::new(End::Own(Rc::clone(&master)), End::Stdout));
        follow_size(master.as_fd());
        self.terminal = Some(Terminal { master, _raw: RawInput::begin()? });
        Ok(())
    }

    /// Gives the process's terminal the size of ours; whether it has one.
    pub fn follow_size(&self) -> bool {
        self.terminal.as_ref().map(|terminal| follow_size(terminal.master.as_fd())).is_some()
    }

    /// Waits until something can be read or written, does so, and says which of `others` are ready.
    ///
    /// # Errors
    /// The kernel's.
    pub fn step(&mut self, others: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
        let mut fds: Vec<_> =
            others.iter().map(|other| PollFd::from_borrowed_fd(*other, PollFlags::IN)).collect();
        // One that has come to its end is left out: a closed pipe would be ready all the time.
        let mut places = Vec::with_capacity(self.ways.len());
        for way in &self.ways {
            places.push(way.wanted().map(|(fd, flags)| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            }));
        }
        wait(&mut fds)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (way, place) in self.ways.iter_mut().zip(places) {
            if place.is_some_and(|place| ready[place]) {
                way.turn()?;
            }
        }
        Ok(ready[..others.len()].to_vec())
    }

    /// Whether more may come from the process.
    pub fn has_output(&self) -> bool {
        self.ways.iter().any(Way::is_output)
    }

    /// Passes on what has come from the process by now. Others may still have the other ends open: nobody waits for them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.ways.iter_mut().filter(|way| way.is_output()).try_for_each(Way::drain)
    }
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
        Ok(End::Own(Rc::new(nonblocking(fd)?)))
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

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    Ok(fd)
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
    use std::io::{Read, Write};

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
