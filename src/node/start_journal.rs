//! Which container is being started right now, in memory that outlives the worker.
//!
//! Between clone and the saved state lies an instant at which a `kill -9` would leave a process that no file knows of.
//! The kernel itself closes it: clone3 stores the PID here (`CLONE_PARENT_SETTID`) before the new process first runs.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::state::KeeperId;
use crate::manifest::Uid;
use crate::pod::event::Index;
use crate::sys::shared_map::SharedMap;

/// A page with one entry: only one container is being cloned at a time.
pub struct StartJournal {
    /// Mapped as long as the worker lives: the kernel stores into it whatever becomes of who asked.
    page: &'static SharedMap,
}

/// A process that was made and perhaps never written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uid: Uid,
    pub container: Index,
    pub attempt: u32,
    pub pid: u32,
    /// Whose child it is.
    pub keeper: KeeperId,
}

/// Words of the page: the uid's 128 bits, container, attempt, PID, and the keeper's PID and start time.
const UID: std::ops::Range<usize> = 0..4;
const CONTAINER: usize = 4;
const ATTEMPT: usize = 5;
const PID: usize = 6;
const KEEPER: usize = 7;
const KEEPER_START: std::ops::Range<usize> = 8..10;

impl StartJournal {
    pub fn open(path: &Path) -> io::Result<StartJournal> {
        Ok(StartJournal { page: Box::leak(Box::new(SharedMap::open(path)?)) })
    }

    /// Says what is about to be cloned, and where the kernel shall store the PID.
    pub fn begin(&self, uid: &Uid, container: Index, attempt: u32, keeper: KeeperId) -> &'static AtomicU32 {
        self.clear();
        let words = self.page.half_words();
        for (word, digits) in words[UID].iter().zip(uid.as_str().as_bytes().chunks(8)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            // A uid is 32 hexadecimal digits, so every eight of them are a number.
            word.store(u32::from_str_radix(digits, 16).unwrap_or(0), Ordering::Relaxed);
        }
        words[CONTAINER].store(u32::try_from(container).unwrap_or(u32::MAX), Ordering::Relaxed);
        words[KEEPER].store(keeper.pid, Ordering::Relaxed);
        let halves = [(keeper.start_time >> 32) as u32, keeper.start_time as u32];
        words[KEEPER_START].iter().zip(halves).for_each(|(word, half)| word.store(half, Ordering::Relaxed));
        words[ATTEMPT].store(attempt, Ordering::Release);
        &words[PID]
    }

    /// The process is written down elsewhere, or was never made.
    pub fn clear(&self) {
        self.page.half_words()[PID].store(0, Ordering::Release);
    }

    /// The process that an earlier worker may not have written down.
    pub fn entry(&self) -> Option<Entry> {
        let words = self.page.half_words();
        let pid = words[PID].load(Ordering::Acquire);
        let uid: String =
            words[UID].iter().map(|word| format!("{:08x}", word.load(Ordering::Relaxed))).collect();
        let start_time = words[KEEPER_START]
            .iter()
            .fold(0, |high, word| high << 32 | u64::from(word.load(Ordering::Relaxed)));
        Some(Entry {
            uid: Uid::parse(&uid).filter(|_| pid != 0)?,
            container: words[CONTAINER].load(Ordering::Relaxed) as Index,
            attempt: words[ATTEMPT].load(Ordering::Relaxed),
            pid,
            keeper: KeeperId { pid: words[KEEPER].load(Ordering::Relaxed), start_time },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_there_from_the_pid_to_the_clearing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let uid = Uid::parse("00ff00ff0123456789abcdefdeadbeef").unwrap();
        let journal = StartJournal::open(&path).unwrap();
        assert_eq!(journal.entry(), None);
        let keeper = KeeperId { pid: 12, start_time: (1 << 32) + 5 };
        let pid = journal.begin(&uid, 3, 7, keeper);
        assert_eq!(journal.entry(), None, "no process yet");
        pid.store(4711, Ordering::Release);
        let next = StartJournal::open(&path).unwrap();
        assert_eq!(next.entry(), Some(Entry { uid, container: 3, attempt: 7, pid: 4711, keeper }));
        next.clear();
        assert_eq!(journal.entry(), None);
    }
}
