//! Which containers are being started right now, in memory that outlives the worker.
//!
//! Between clone and the saved state lies an instant at which a `kill -9` would leave a process that no file knows of.
//! The kernel itself closes it: clone3 stores the PID here (`CLONE_PARENT_SETTID`) before the new process first runs.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::state::KeeperId;
use crate::manifest::Uid;
use crate::order;
use crate::pod::event::Index;
use crate::sys::pidfd;
use crate::sys::shared_map::SharedMap;
use crate::sys::spawner::Places;

/// Room for 1,365 containers that are on their way at once.
const PAGES: usize = 16;

/// One entry for each container whose process is on its way to exec.
pub struct StartJournal {
    /// Mapped as long as the worker lives: the kernel stores into it whatever becomes of who asked.
    map: &'static SharedMap,
    /// By place, as far as one was ever taken.
    taken: Vec<bool>,
    /// What the state will know when it is saved next.
    done: Vec<Place>,
}

/// Where an entry stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Place(usize);

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

/// Words of an entry: the uid's 128 bits, container, attempt, PID, the keeper's PID and start time, and the midwife's PID.
const UID: std::ops::Range<usize> = 0..4;
const CONTAINER: usize = 4;
const ATTEMPT: usize = 5;
const PID: usize = 6;
const KEEPER: usize = 7;
const KEEPER_START: std::ops::Range<usize> = 8..10;
const MIDWIFE: usize = 10;
/// The last is not used.
const WORDS: usize = 12;

/// What a midwife needs that is being killed: it has not to run for that.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

impl StartJournal {
    pub fn open(path: &Path) -> io::Result<StartJournal> {
        let map = Box::leak(Box::new(SharedMap::open(path, PAGES)?));
        let mut journal = StartJournal { map, taken: Vec::new(), done: Vec::new() };
        let is_taken = |words: &[AtomicU32]| [PID, MIDWIFE].iter().any(|word| load(words, *word) != 0);
        journal.taken = journal.places().map(is_taken).collect();
        // They are for the worker that takes over, until it has saved what it took over.
        journal.done = (0..journal.taken.len()).filter(|place| journal.taken[*place]).map(Place).collect();
        Ok(journal)
    }

    /// Says what is about to be cloned, and where the kernel shall store PIDs. `None` if too many are on their way.
    pub fn begin(
        &mut self,
        uid: &Uid,
        container: Index,
        attempt: u32,
        keeper: KeeperId,
    ) -> Option<(Place, Places)> {
        let free = self.taken.iter().position(|taken| !taken)?;
        self.taken[free] = true;
        let words = self.words(free);
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
        Some((Place(free), Places { child: &words[PID], midwife: &words[MIDWIFE] }))
    }

    /// The PID that the kernel has stored; 0 as long as it has not.
    pub fn pid(&self, place: &Place) -> u32 {
        load(self.words(place.0), PID)
    }

    /// Whose first process this is, if it is on its way.
    pub fn find(&self, pid: u32) -> Option<(Uid, Index)> {
        let taken = self.places().zip(&self.taken).filter(|(_, taken)| **taken).map(|(words, _)| words);
        let words = taken.into_iter().find(|words| load(words, PID) == pid)?;
        Some((uid(words)?, load(words, CONTAINER) as Index))
    }

    /// The state knows of the process, or there is none: once it is saved, the entry is not needed any more.
    pub fn done(&mut self, place: Place) {
        self.done.push(place);
    }

    /// The state has been saved.
    pub fn clear(&mut self) {
        for Place(place) in std::mem::take(&mut self.done) {
            [PID, MIDWIFE].iter().for_each(|word| self.words(place)[*word].store(0, Ordering::Release));
            self.taken[place] = false;
        }
    }

    /// Processes that an earlier worker may not have written down, the earlier runs of a container first. Each of its midwives
    /// has ended when this returns, so that no more will come.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.done.iter().filter_map(|place| entry(self.words(place.0))).collect();
        order::sort_by_key(&mut entries, |entry| entry.attempt);
        entries
    }

    fn words(&self, place: usize) -> &'static [AtomicU32] {
        &self.map.half_words()[place * WORDS..][..WORDS]
    }

    fn places(&self) -> impl Iterator<Item = &'static [AtomicU32]> {
        self.map.half_words().chunks_exact(WORDS)
    }
}

fn load(words: &[AtomicU32], word: usize) -> u32 {
    words[word].load(Ordering::Acquire)
}

fn uid(words: &[AtomicU32]) -> Option<Uid> {
    Uid::parse(
        &words[UID].iter().map(|word| format!("{:08x}", word.load(Ordering::Relaxed))).collect::<String>(),
    )
}

fn entry(words: &[AtomicU32]) -> Option<Entry> {
    if load(words, PID) == 0 {
        // The kernel killed it with its worker; but it may be in the midst of a clone.
        pidfd::await_end(load(words, MIDWIFE), KILLED_WITHIN);
    }
    let start_time =
        words[KEEPER_START].iter().fold(0, |high, word| high << 32 | u64::from(word.load(Ordering::Relaxed)));
    let pid = load(words, PID);
    Some(Entry {
        uid: uid(words).filter(|_| pid != 0)?,
        container: load(words, CONTAINER) as Index,
        attempt: load(words, ATTEMPT),
        pid,
        keeper: KeeperId { pid: load(words, KEEPER), start_time },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPER: KeeperId = KeeperId { pid: 12, start_time: (1 << 32) + 5 };

    fn uid() -> Uid {
        Uid::parse("00ff00ff0123456789abcdefdeadbeef").unwrap()
    }

    fn store(places: Places, pid: u32) {
        places.child.store(pid, Ordering::Release);
    }

    #[test]
    fn an_entry_is_there_from_the_pid_to_the_clearing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let uid = uid();
        let mut journal = StartJournal::open(&path).unwrap();
        let (place, places) = journal.begin(&uid, 3, 7, KEEPER).unwrap();
        assert_eq!(StartJournal::open(&path).unwrap().entries(), [], "no process yet");
        store(places, 4711);
        assert_eq!(journal.pid(&place), 4711);
        assert_eq!((journal.find(4711), journal.find(0)), (Some((uid.clone(), 3)), None));
        let mut next = StartJournal::open(&path).unwrap();
        assert_eq!(next.entries(), [Entry { uid, container: 3, attempt: 7, pid: 4711, keeper: KEEPER }]);
        next.clear();
        assert_eq!((next.entries(), StartJournal::open(&path).unwrap().entries()), (vec![], vec![]));
    }

    #[test]
    fn many_are_on_their_way_and_each_place_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = StartJournal::open(&path).unwrap();
        let mut places = Vec::new();
        while let Some((place, stored)) = journal.begin(&uid(), 0, 1000 - places.len() as u32, KEEPER) {
            store(stored, 1 + places.len() as u32);
            places.push(place);
            if places.len() == 1000 {
                break;
            }
        }
        let next = StartJournal::open(&path).unwrap().entries();
        assert_eq!((next.len(), next[0].attempt, next[0].pid), (1000, 1, 1000));
        journal.done(places.swap_remove(5));
        assert_eq!(journal.find(6), Some((uid(), 0)), "not before the state is saved");
        journal.clear();
        assert_eq!(journal.find(6), None);
        assert_eq!(journal.begin(&uid(), 0, 0, KEEPER).unwrap().0, Place(5));
    }
}
