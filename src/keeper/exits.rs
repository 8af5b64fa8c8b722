//! The ends of processes: reaped at once, remembered until a worker has taken note of them.

use std::collections::VecDeque;
use std::io;

use super::protocol::Exit;
use crate::sys::process::start_time;
use crate::sys::wait;

/// Reaped and not acknowledged, oldest first.
#[derive(Debug, Default)]
pub struct Exits {
    unacknowledged: VecDeque<Exit>,
    last_seq: u64,
}

impl Exits {
    /// What an earlier self of this process had reaped.
    pub fn restore(unacknowledged: VecDeque<Exit>, last_seq: u64) -> Self {
        Self { unacknowledged, last_seq }
    }

    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub fn for_each_unacknowledged(&self, action: impl FnMut(&Exit)) {
        self.unacknowledged.iter().for_each(action);
    }

    /// Reaps one process that has ended, if there is one.
    pub fn reap_next(&mut self) -> io::Result<Option<Exit>> {
        let Some((pid, how)) = wait::ended_child()? else { return Ok(None) };
        // Read while it is still a zombie: afterwards the PID may be another's.
        let start_time = start_time(pid);
        wait::reap(pid)?;
        self.last_seq += 1;
        let exit = Exit { seq: self.last_seq, pid, start_time, how };
        self.unacknowledged.push_back(exit);
        Ok(Some(exit))
    }

    /// Forgets this exit and all before it.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.unacknowledged.front().is_some_and(|exit| exit.seq <= seq) {
            self.unacknowledged.pop_front();
        }
    }

    /// Forgets this one exit, which is nobody else's business.
    pub fn acknowledge_only(&mut self, seq: u64) {
        self.unacknowledged.retain(|exit| exit.seq != seq);
    }
}
