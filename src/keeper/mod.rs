//! The parent of everything: starts the worker, reaps every process, holds the file descriptors that must outlive a
//! worker, and passes signals on. No threads, no parsing, almost never changed.
//!
//! A worker may die at any instant, by a bug, by `kill -9`, by an update: the keeper starts a new one, gives it the
//! file descriptors and the exits that were not acknowledged, and no container notices.
#![forbid(unsafe_code)]

mod exits;
mod limits;
pub mod link;
pub mod protocol;
mod reexec;
mod worker;

pub use limits::containers_open_files;
pub use reexec::is_renewed;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use exits::Exits;
use protocol::Message;
use worker::Worker;

/// The name that the keeper starts its own binary by as a worker: what tells the two apart, for `ps` too.
pub const WORKER_NAME: &str = "podkeep-worker";

/// How long a worker may take to end when it was asked to leave at once.
const DETACH_WITHIN: Duration = Duration::from_secs(10);

/// The exit code of a worker that left while Pods are there: a stop that it did not hear of any more is its successor's.
pub const LEFT: u8 = 3;

/// What `podkeep run` gives its keeper.
#[derive(Debug)]
pub struct Options {
    /// The arguments of this process, which the worker is started with too.
    pub worker_args: Vec<OsString>,
    /// Locked for as long as this process lives, so that no second podkeep works on the same folders.
    pub locks: Vec<OwnedFd>,
    /// The binary on disk, which may be another one by now: executed on SIGUSR2.
    pub exe: PathBuf,
    /// The soft limit of open files before it was raised, for the containers.
    pub open_files: Option<u64>,
}

/// Why the worker was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// SIGTERM, SIGINT: with all Pods stopped.
    Stop,
    /// SIGUSR1: containers run on.
    Detach,
    /// SIGUSR2: containers run on, and this process executes the binary anew.
    Renew,
}

struct Keeper {
    options: Options,
    signals: SignalFd,
    worker: Option<Worker>,
    held: BTreeMap<String, OwnedFd>,
    exits: Exits,
    ending: Option<Ending>,
    /// What was asked for while the worker was leaving for an update: it is done instead.
    instead: Option<Ending>,
    /// A worker has reported for work since this process was first started.
    proven: bool,
    respawn: worker::Respawn,
    /// When a worker that was asked to leave is killed.
    kill_at: Option<Instant>,
}

/// Runs until a signal ends podkeep, or the first worker finds that it cannot work.
pub fn run(mut options: Options) -> io::Result<ExitCode> {
    let signals = block_signals()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let before = reexec::inherited()?;
    let proven = before.is_some();
    let before = before.unwrap_or_default();
    options.locks.extend(before.locks);
    options.open_files = before.open_files.or_else(limits::open_files);
    limits::raise_open_files()?;
    let mut keeper = Keeper {
        options,
        signals,
        worker: None,
        proven,
        held: before.held,
        exits: before.exits,
        ending: None,
        instead: None,
        respawn: worker::Respawn::default(),
        kill_at: None,
    };
    keeper.start_worker()?;
    loop {
        if let Some(code) = keeper.turn()? {
            return Ok(code);
        }
    }
}

/// Signals arrive as data. They stay blocked over an exec of the keeper, so none that comes in between is lost.
fn block_signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

impl Keeper {
    /// Waits for something to happen and deals with it; answers with the exit code when podkeep is done.
    fn turn(&mut self) -> io::Result<Option<ExitCode>> {
        self.send_pending()?;
        self.wait()?;
        self.hear_worker();
        while let Some(signal) = self.signals.read_signal()? {
            self.heed(signal.ssi_signo as i32);
        }
        self.kill_late_worker();
        let code = self.reap()?;
        if code.is_none() && self.worker.is_none() && self.respawn.due(Instant::now()) {
            self.start_worker_or_wait();
        }
        Ok(code)
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(worker) = &self.worker {
            let room = if worker.has_pending() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&worker.socket, PollFlags::IN | room));
        }
        let respawn_at = self.respawn.at().filter(|_| self.worker.is_none());
        let timeout = [respawn_at, self.kill_at].into_iter().flatten().min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            // A nanosecond more than nothing, so that a time-out never comes early and spins.
            rustix::fs::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Containers must not lose their parent because the machine has no process or memory to spare right now.
    fn start_worker_or_wait(&mut self) {
        if let Err(error) = self.start_worker() {
            say(&error.to_string());
            self.respawn.ended(Instant::now());
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        self.respawn.started(Instant::now());
        let mut worker = Worker::start(&self.options)?;
        for (key, fd) in &self.held {
            worker.queue(Message::Held(key.clone()), Some(fd.as_fd().try_clone_to_owned()?));
        }
        self.exits.for_each_unacknowledged(|exit| worker.queue(Message::Exit(*exit), None));
        worker.queue(Message::Begin, None);
        match self.ending {
            Some(Ending::Stop) => worker.queue(Message::Stop, None),
            Some(Ending::Detach | Ending::Renew) => worker.queue(Message::Detach, None),
            None => {}
        }
        self.worker = Some(worker);
        Ok(())
    }

    fn send_pending(&mut self) -> io::Result<()> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        worker.send_pending()
    }

    /// Does what the worker asks for.
    fn hear_worker(&mut self) {
        while let Some((message, fd)) = self.worker.as_ref().and_then(Worker::hear) {
            match (message, fd) {
                (Message::Hold(key), Some(fd)) => {
                    self.held.insert(key, fd);
                }
                (Message::Drop(key), _) => {
                    self.held.remove(&key);
                }
                (Message::Ack(seq), _) => self.exits.acknowledge(seq),
                (Message::Up, _) => {
                    self.proven = true;
                    self.respawn.worked();
                }
                _ => {}
            }
        }
    }

    fn heed(&mut self, signal: i32) {
        let ending = match signal {
            libc::SIGTERM | libc::SIGINT => Ending::Stop,
            libc::SIGUSR1 => Ending::Detach,
            libc::SIGUSR2 => Ending::Renew,
            libc::SIGHUP => {
                if let Some(worker) = &mut self.worker {
                    worker.queue(Message::Reload, None);
                }
                return;
            }
            _ => return,
        };
        match (self.ending, ending) {
            (None, _) | (Some(Ending::Stop), Ending::Detach) => self.end(ending),
            (Some(Ending::Renew), Ending::Stop | Ending::Detach) => self.instead = Some(ending),
            // Said before, or an update of what is ending anyway.
            _ => {}
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
        let word = match ending {
            Ending::Stop => Message::Stop,
            Ending::Detach | Ending::Renew => {
                self.kill_at = Some(Instant::now() + DETACH_WITHIN);
                Message::Detach
            }
        };
        if let Some(worker) = &mut self.worker {
            worker.queue(word, None);
        }
    }

    fn kill_late_worker(&mut self) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            if let Some(worker) = &self.worker {
                worker.kill();
            }
        }
    }

    /// Reaps all that has ended, and tells the worker.
    fn reap(&mut self) -> io::Result<Option<ExitCode>> {
        while let Some(exit) = self.exits.reap_next()? {
            if self.worker.as_ref().is_some_and(|worker| worker.pid() == exit.pid) {
                self.exits.acknowledge_only(exit.seq);
                if let Some(code) = self.worker_ended(exit.how)? {
                    return Ok(Some(code));
                }
            } else if let Some(worker) = &mut self.worker {
                worker.queue(Message::Exit(exit), None);
                // Now, not when all children have been asked: with a thousand of them that takes a while.
                worker.send_pending()?;
            }
        }
        Ok(None)
    }

    /// Decides what the end of the worker means.
    fn worker_ended(&mut self, how: crate::sys::wait::Ended) -> io::Result<Option<ExitCode>> {
        use crate::sys::wait::Ended;
        self.hear_worker();
        self.worker = None;
        if let Some(instead) = self.instead.take() {
            self.kill_at = None;
            self.ending = Some(instead);
        }
        match (self.ending, how) {
            (Some(Ending::Stop), Ended::Code(0)) | (Some(Ending::Detach), _) => Ok(Some(ExitCode::SUCCESS)),
            (Some(Ending::Renew), _) => {
                let error = reexec::renew(&self.options, &self.held, &self.exits);
                let exe = self.options.exe.display();
                say(&format!("cannot execute {exe} again: {error}; going on as before"));
                self.ending = None;
                self.kill_at = None;
                self.respawn.worked();
                Ok(None)
            }
            (None, Ended::Code(code)) if !self.proven => Ok(Some(ExitCode::from(code.max(1)))),
            _ => {
                self.respawn.ended(Instant::now());
                Ok(None)
            }
        }
    }
}

fn say(message: &str) {
    // A closed stderr ends nothing.
    let _ = writeln!(io::stderr(), "podkeep: {message}");
}
