//! A disk on a socket, and the power that it gets: on, or off from one request to the next.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::disk::{Content, Disk, Loss, Mercy, Snapshot};
use crate::nbd::{self, Device, Refusal, Request};
use crate::random::Random;

#[derive(Clone)]
pub struct Supply {
    state: Arc<Mutex<State>>,
    size: u64,
}

struct State {
    disk: Disk,
    power: Power,
    /// Writes and flushes since somebody began to count.
    requests: u64,
    /// How often the power came back. What a client from before still has on its way counts no more.
    restarts: u64,
}

/// What one client sees.
struct Connection {
    supply: Supply,
    restarts: u64,
}

enum Power {
    On,
    /// Off at a coming write or flush, and somebody is told.
    OnUntil(When, Box<dyn FnOnce() + Send>),
    Off,
}

/// When the power goes.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Not before this many writes and flushes.
    pub requests: u64,
    /// Not before this many writes have not been flushed.
    pub unflushed: usize,
}

impl Supply {
    /// Serves `base`, which stays as it is, on a socket that is made at `socket`, to one client after the other.
    pub fn new(base: File, socket: &Path) -> io::Result<Supply> {
        let disk = Disk::new(base)?;
        let size = disk.size();
        let state = State { disk, power: Power::On, requests: 0, restarts: 0 };
        let supply = Supply { state: Arc::new(Mutex::new(state)), size };
        let listener = UnixListener::bind(socket)?;
        let served = supply.clone();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let restarts = served.state().restarts;
                // A client that was killed breaks off anywhere.
                let _ = nbd::serve(&mut client, &Connection { supply: served.clone(), restarts });
            }
        });
        Ok(supply)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the power away at a write or flush from now on, and tells then.
    pub fn cut_at(&self, when: When, tell: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.requests = 0;
        state.power = Power::OnUntil(when, Box::new(tell));
    }

    /// Takes the power away, if it is still on. How many writes and flushes there were since [`cut_at`](Self::cut_at).
    pub fn cut_now(&self) -> u64 {
        let mut state = self.state();
        state.power = Power::Off;
        state.requests
    }

    /// Gives the power back. What was not flushed has become what `mercy` and chance made of it.
    pub fn restart(&self, mercy: Mercy, random: &mut Random) -> io::Result<Loss> {
        let mut state = self.state();
        state.power_on();
        state.disk.cut(mercy, random)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.state().disk.snapshot()
    }

    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        state.power_on();
        state.disk.restore(snapshot);
    }
}

impl Device for Connection {
    fn size(&self) -> u64 {
        self.supply.size
    }

    fn carry_out(&self, request: Request) -> io::Result<Option<Result<Vec<u8>, Refusal>>> {
        let mut state = self.supply.state();
        if state.restarts == self.restarts { state.carry_out(request) } else { Ok(None) }
    }
}

impl State {
    fn power_on(&mut self) {
        self.power = Power::On;
        self.restarts += 1;
    }

    fn carry_out(&mut self, request: Request) -> io::Result<Option<Result<Vec<u8>, Refusal>>> {
        if let Some(refusal) = self.refusal(&request) {
            return Ok(Some(Err(refusal)));
        }
        let reads = matches!(request, Request::Read { .. });
        let last = !reads && self.spend();
        if matches!(self.power, Power::Off) && !last {
            return Ok(None);
        }
        let mut read = Vec::new();
        match request {
            Request::Read { offset, length } => {
                read.resize(length as usize, 0);
                self.disk.read(offset, &mut read)?;
            }
            Request::Write { offset, bytes, fua } => {
                // One that is on its way when the power goes is not answered, and may come through in part.
                self.disk.write(offset, Content::Bytes(bytes), fua && !last)?;
            }
            Request::WriteZeroes { offset, length, fua } => {
                self.disk.write(offset, Content::Zeroes(length as usize), fua && !last)?;
            }
            Request::Flush if last => {}
            Request::Flush => self.disk.flush(),
        }
        Ok((!last).then_some(Ok(read)))
    }

    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let (offset, length, beyond) = match request {
            Request::Read { offset, length } => (*offset, u64::from(*length), Refusal::Invalid),
            Request::Write { offset, bytes, .. } => (*offset, bytes.len() as u64, Refusal::NoSpace),
            Request::WriteZeroes { offset, length, .. } => (*offset, u64::from(*length), Refusal::NoSpace),
            Request::Flush => return None,
        };
        (!self.disk.has(offset, length)).then_some(beyond)
    }

    /// Counts a request that changes the disk: whether the power goes with it.
    fn spend(&mut self) -> bool {
        let Power::OnUntil(when, _) = &self.power else { return false };
        self.requests += 1;
        if self.requests < when.requests || self.disk.unflushed() < when.unflushed {
            return false;
        }
        if let Power::OnUntil(_, tell) = std::mem::replace(&mut self.power, Power::Off) {
            tell();
        }
        true
    }
}
