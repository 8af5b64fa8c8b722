//! From the containers' FIFOs into their log files, exactly once.

mod pipes;

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use pipes::Pipes;

pub use pipes::Holding;

use super::clock::{Clock, Moment};
use super::cri::{self, Formatted, Tail};
use super::file::{self, ContainerLog, End};
use super::journal::{Journal, MAX_PATH, State, Target};
use super::{Error, Fifo, Policy, Stream};

/// What one batch writes at most: a batch of empty lines would become 45 times its size. Bytes.
const MAX_OUTPUT: usize = 256 * 1024;

/// What [`Pump::finish`] takes at most, in case a process that escaped its container still writes. Bytes; more than
/// the largest pipe of an unprivileged user (1 MiB).
const MAX_FINISH: usize = 4 << 20;

/// Log lines that could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub lines: u64,
    /// Of the last failure.
    pub cause: Errno,
}

/// What [`Pump::pump`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes taken from the FIFO.
    pub taken: usize,
    /// The budget ended before the FIFO did: call again without waiting for an event.
    pub more: bool,
    /// Lines that this call took and could not write. When writing works again, the log itself says how many are
    /// missing, in a line on stderr: `podkeep: 3 lines lost: No space left on device`.
    pub lost: Option<Lost>,
}

/// What a worker that was killed had left undone, and [`Pump::open`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The log file that the batch belonged to; `None` if it was written already or its journal was gone.
    pub path: Option<PathBuf>,
    /// Bytes of the batch.
    pub bytes: usize,
    pub lost: Option<Lost>,
}

/// Moves batches of lines from FIFOs to log files; one per worker, one batch at a time.
///
/// | step | | if the worker is killed after it, the next one finds | and does |
/// |---|---|---|---|
/// | 1 | peek: `tee` FIFO → scratch, read scratch | holding empty | nothing: the FIFO still has it all |
/// | 2 | choose the bytes: whole lines, parts of 16 KiB of a long one; format them | same | same |
/// | 3 | rotate the log file if they do not fit | same; perhaps no current file | nothing: the next write makes it |
/// | 4 | journal: **intent** (file, inode, length, stream) | intent, holding empty | clears the journal |
/// | 5 | `splice` exactly these bytes FIFO → holding | intent, holding full | cuts the file to its length in the journal, formats and writes the batch |
/// | 6 | one write at the end of the file | same, file longer by any part of the batch | same |
/// | 7 | journal: **committed** | committed, holding full | drains holding |
/// | 8 | drain holding | committed, holding empty or not | drains holding, clears the journal |
/// | 9 | journal: **clear** | clear, holding empty | nothing |
///
/// What makes it hold: `splice` between pipes moves page references under the locks of both pipes and cannot be
/// interrupted half-way; holding is empty before step 5 and has room for all that `tee` can show; the journal is
/// shared memory of a tmpfs file; the new worker starts after the keeper has reaped the old one. The bytes in
/// holding, not those peeked at, are the batch: should a container read from its own output in between, the batch
/// is looked at again. Recovery goes through steps 6 to 9 itself, so it may be killed too.
///
/// A batch that cannot be written (full disk) is committed before step 5: it is dropped, never written twice. The
/// count of lines lost that the log has not reported yet dies with a worker that is killed, except within a batch.
///
/// An unfinished line stays in the FIFO. Where it can never be finished because the pipe is full (each of a pipe's 16
/// slots may hold a single byte, if written with `O_DIRECT` or `splice`), it is taken as a part.
pub struct Pump {
    pipes: Pipes,
    journal: Journal,
    clock: Clock,
    /// The records made of them.
    output: Vec<u8>,
}

impl Pump {
    /// Opens the journal (in the run folder, a tmpfs) and finishes what the last worker had begun.
    ///
    /// # Errors
    /// [`Error::Path`] if the journal cannot be opened, [`Error::Pipe`] if a pipe fails. A log file that cannot be
    /// written is in [`Recovered::lost`].
    pub fn open(journal: &Path, holding: Holding) -> Result<(Pump, Option<Recovered>), Error> {
        let mut pump = Pump {
            pipes: Pipes::new(holding)?,
            journal: Journal::open(journal).map_err(Error::path("open log journal", journal))?,
            clock: Clock::new(),
            output: Vec::new(),
        };
        let recovered = pump.recover()?;
        Ok((pump, recovered))
    }

    /// The log of a container's run. The file and its folders are made by [`ContainerLog::begin`], or when there is
    /// something to write: neither a slow nor a full disk keeps a container from starting.
    ///
    /// `dir` is the container's folder, see [`container_log_dir`](super::container_log_dir).
    ///
    /// # Errors
    /// [`Error::PathTooLong`]: over about 4,000 bytes.
    pub fn open_log(&self, dir: &Path, restart: u32, policy: Policy) -> Result<ContainerLog, Error> {
        let log = ContainerLog::new(dir, restart, policy);
        let length = log.path().as_os_str().len();
        if length > MAX_PATH {
            return Err(Error::PathTooLong { path: log.path().to_owned(), length, limit: MAX_PATH });
        }
        Ok(log)
    }

    /// Takes whole lines, and parts of overlong ones, until nothing is left to take or `budget` bytes are taken (one
    /// batch of at most 64 KiB more than that).
    ///
    /// # Errors
    /// [`Error::Pipe`]: the worker should end and let the next one recover.
    pub fn pump(
        &mut self,
        fifo: &Fifo,
        stream: Stream,
        log: &mut ContainerLog,
        budget: usize,
    ) -> Result<Pumped, Error> {
        self.take_until(fifo, stream, log, budget, Tail::Keep)
    }

    /// Takes all that is left, an unfinished last line as a part (`P`). For a container whose processes are gone.
    ///
    /// # Errors
    /// As [`Pump::pump`].
    pub fn finish(&mut self, fifo: &Fifo, stream: Stream, log: &mut ContainerLog) -> Result<Pumped, Error> {
        let lines = self.take_until(fifo, stream, log, MAX_FINISH, Tail::Keep)?;
        let rest = self.take_until(fifo, stream, log, MAX_FINISH, Tail::Take)?;
        Ok(Pumped { taken: lines.taken + rest.taken, more: rest.more, lost: add(lines.lost, rest.lost) })
    }

    fn take_until(
        &mut self,
        fifo: &Fifo,
        stream: Stream,
        log: &mut ContainerLog,
        budget: usize,
        tail: Tail,
    ) -> Result<Pumped, Error> {
        let mut pumped = Pumped::default();
        while pumped.taken < budget {
            let batch = self.batch(fifo, stream, log, tail)?;
            if batch.taken == 0 {
                return Ok(pumped);
            }
            pumped.taken += batch.taken;
            pumped.lost = add(pumped.lost, batch.lost);
        }
        pumped.more = true;
        Ok(pumped)
    }

    /// Steps 1 to 9 of the table.
    fn batch(
        &mut self,
        fifo: &Fifo,
        stream: Stream,
        log: &mut ContainerLog,
        tail: Tail,
    ) -> Result<Pumped, Error> {
        let ready = self.pipes.peek_ready(fifo, tail)?;
        if ready == 0 {
            return Ok(Pumped::default());
        }
        self.pipes.view.truncate(ready);
        let now = self.clock.now();
        match self.prepare(stream, log, &now) {
            Ok((end, formatted)) => self.write_batch(fifo, stream, log, &now, end, formatted),
            Err(error) => self.drop_batch(fifo, log, errno(&error)),
        }
    }

    /// Steps 2 and 3: formats as much as fits into the file, which is rotated if nothing does.
    fn prepare(
        &mut self,
        stream: Stream,
        log: &mut ContainerLog,
        now: &Moment,
    ) -> io::Result<(End, Formatted)> {
        let end = log.end()?;
        let formatted = self.format(stream, log.lost, now, limit(end));
        let fits = end.room.is_none_or(|room| self.output.len() as u64 <= room);
        if fits || end.offset == 0 {
            return Ok((end, formatted));
        }
        log.rotate(&now.file)?;
        let end = log.end()?;
        Ok((end, self.format(stream, log.lost, now, limit(end))))
    }

    /// Fills `output` from what was peeked at, after a line about those that were lost.
    fn format(&mut self, stream: Stream, lost: Option<Lost>, now: &Moment, limit: usize) -> Formatted {
        self.output.clear();
        if let Some(lost) = lost {
            let text = format!("podkeep: {} lines lost: {}", lost.lines, lost.cause.desc());
            cri::record(&now.line, Stream::Stderr, true, text.as_bytes(), &mut self.output);
        }
        cri::format(&self.pipes.view, &now.line, stream, limit, &mut self.output)
    }

    /// Steps 4 to 9.
    fn write_batch(
        &mut self,
        fifo: &Fifo,
        stream: Stream,
        log: &mut ContainerLog,
        now: &Moment,
        end: End,
        mut formatted: Formatted,
    ) -> Result<Pumped, Error> {
        let target = Target {
            path: log.path().to_owned(),
            inode: end.inode,
            offset: end.offset,
            stream,
            lost: log.lost,
        };
        self.journal.begin(&target);
        let moved = self.pipes.hold(fifo, formatted.taken)?;
        if moved != formatted.taken {
            self.pipes.peek_holding()?;
            formatted = self.format(stream, log.lost, now, usize::MAX);
        }
        let lost = match log.append(&self.output) {
            Ok(()) => {
                log.lost = None;
                None
            }
            Err(error) => Some(Lost { lines: formatted.lines, cause: errno(&error) }),
        };
        log.lost = add(log.lost, lost);
        self.settle()?;
        Ok(Pumped { taken: moved, more: false, lost })
    }

    /// Takes the bytes out of the FIFO and forgets them.
    fn drop_batch(&mut self, fifo: &Fifo, log: &mut ContainerLog, cause: Errno) -> Result<Pumped, Error> {
        let ends = self.pipes.view.iter().filter(|&&b| b == b'\n').count() as u64;
        self.journal.commit();
        let moved = self.pipes.hold(fifo, self.pipes.view.len())?;
        self.settle()?;
        let lost = Some(Lost { lines: ends.max(1), cause });
        log.lost = add(log.lost, lost);
        Ok(Pumped { taken: moved, more: false, lost })
    }

    /// Steps 7 to 9.
    fn settle(&mut self) -> Result<(), Error> {
        self.journal.commit();
        self.pipes.drain()?;
        self.journal.clear();
        Ok(())
    }

    fn recover(&mut self) -> Result<Option<Recovered>, Error> {
        let bytes = self.pipes.peek_holding()?;
        let recovered = match self.journal.state() {
            _ if bytes == 0 => None,
            State::Clear | State::Committed => Some(Recovered { path: None, bytes, lost: None }),
            State::Intent(target) => Some(self.write_again(target)),
        };
        self.settle()?;
        Ok(recovered)
    }

    /// Step 6 for a batch of the last worker, which was peeked at.
    fn write_again(&mut self, target: Target) -> Recovered {
        let bytes = self.pipes.view.len();
        let now = self.clock.now();
        let formatted = self.format(target.stream, target.lost, &now, usize::MAX);
        let lost = file::rewrite(&target.path, target.inode, target.offset, &self.output)
            .err()
            .map(|error| Lost { lines: formatted.lines, cause: errno(&error) });
        Recovered { path: Some(target.path), bytes, lost }
    }
}

/// How long the records of one batch may get.
fn limit(end: End) -> usize {
    usize::try_from(end.room.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(MAX_OUTPUT)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn add(a: Option<Lost>, b: Option<Lost>) -> Option<Lost> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Lost { lines: a.lines.saturating_add(b.lines), cause: b.cause }),
        (a, b) => b.or(a),
    }
}

#[cfg(test)]
mod tests;
