//! The two pipes of a pump, and the looks into others that take nothing out.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread, read};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

use super::super::cri::{self, Tail};
use super::super::{Error, Fifo};

/// What one batch reads at most, and the capacity of the two pipes. Bytes; the kernel's default for a pipe.
pub(super) const BATCH: usize = 64 * 1024;

/// The pipe in which a batch lies while it is written. The keeper has both ends open too, so that the batch outlives
/// the worker; nobody but a [`Pump`](super::Pump) may read or write it.
#[derive(Debug)]
pub struct Holding {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

impl Holding {
    /// # Errors
    /// [`Error::Pipe`] if the kernel has no more descriptors.
    pub fn new() -> Result<Holding, Error> {
        let (read, write) = new_pipe()?;
        Ok(Holding { read, write })
    }
}

pub(super) struct Pipes {
    pub holding: Holding,
    /// Takes what `tee` copies; empty between two looks.
    scratch: (OwnedFd, OwnedFd),
    /// The bytes last peeked at.
    pub view: Vec<u8>,
}

impl Pipes {
    pub fn new(holding: Holding) -> Result<Pipes, Error> {
        for end in [&holding.read, &holding.write] {
            // `drain` reads until nothing is left.
            let flags = fcntl_getfl(end).and_then(|flags| fcntl_setfl(end, flags | OFlags::NONBLOCK));
            flags.map_err(Error::pipe("make the holding pipe non-blocking"))?;
        }
        Ok(Pipes { holding, scratch: new_pipe()?, view: Vec::with_capacity(BATCH) })
    }

    /// Fills `view` from the head of the FIFO and says how many of its bytes can be taken.
    pub fn peek_ready(&mut self, fifo: &Fifo, tail: Tail) -> Result<usize, Error> {
        let mut seen = self.peek(fifo)?;
        loop {
            let ready = cri::ready(&self.view, tail);
            if ready > 0 || seen == 0 {
                return Ok(ready);
            }
            if is_full(fifo)? {
                return Ok(seen);
            }
            let pending = ioctl_fionread(fifo).map_err(Error::pipe("ask how full a log FIFO is"))?;
            if pending <= seen as u64 {
                return Ok(0);
            }
            // Either more was written since, or `tee` ran out of slots before it saw all: then a second look shows
            // no more, and a newline behind what can be seen must not be waited for.
            let before = std::mem::replace(&mut seen, self.peek(fifo)?);
            if seen <= before && cri::ready(&self.view, tail) == 0 {
                return Ok(seen);
            }
        }
    }

    pub fn peek(&mut self, fifo: &Fifo) -> Result<usize, Error> {
        let seen = none_if_empty(tee(fifo, &self.scratch.1, BATCH, SpliceFlags::NONBLOCK))
            .map_err(Error::pipe("look into a log FIFO"))?;
        self.read_scratch(seen)
    }

    /// Fills `view` with the whole batch that is held.
    pub fn peek_holding(&mut self) -> Result<usize, Error> {
        let seen = none_if_empty(tee(&self.holding.read, &self.scratch.1, BATCH, SpliceFlags::NONBLOCK))
            .map_err(Error::pipe("look into the holding pipe"))?;
        self.read_scratch(seen)
    }

    /// One read gives all, except from a pipe in packet mode (`O_DIRECT`): there it gives one packet.
    fn read_scratch(&mut self, bytes: usize) -> Result<usize, Error> {
        self.view.resize(bytes, 0);
        let mut filled = 0;
        while filled < bytes {
            match read(&self.scratch.0, &mut self.view[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::pipe("read the scratch pipe")(error)),
            }
        }
        self.view.truncate(filled);
        Ok(filled)
    }

    /// Moves bytes into the holding pipe, which is empty; fewer than asked for if the container itself read from the
    /// FIFO meanwhile.
    pub fn hold(&self, fifo: &Fifo, bytes: usize) -> Result<usize, Error> {
        none_if_empty(splice(fifo, None, &self.holding.write, None, bytes, SpliceFlags::NONBLOCK))
            .map_err(Error::pipe("move log lines to the holding pipe"))
    }

    /// Empties the holding pipe.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.view.resize(BATCH, 0);
        loop {
            match none_if_empty(read(&self.holding.read, &mut self.view[..])) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::pipe("drain the holding pipe")(error)),
            }
        }
    }
}

fn new_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Error::pipe("make a log pipe"))?;
    // Smaller only for a user without privileges who has over 1,000 pipes; then batches are smaller too.
    let _ = fcntl_setpipe_size(&pipe.0, BATCH);
    Ok(pipe)
}

/// Whether the next writer would have to wait.
fn is_full(fifo: &Fifo) -> Result<bool, Error> {
    let mut fds = [PollFd::new(fifo, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).map_err(Error::pipe("ask whether a log FIFO is full"))?;
    Ok(!fds[0].revents().contains(PollFlags::OUT))
}

fn none_if_empty(result: rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    match result {
        Err(Errno::AGAIN) => Ok(0),
        other => other,
    }
}
