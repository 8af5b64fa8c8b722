//! The records in memory, and what of them the file does not have yet.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::record::{Note, Record, lines, shortened};
use crate::order;

/// How many records are kept: 25 for each of 40 Pods.
pub const MAX_RECORDS: usize = 1000;
/// Lines of the file, which has one for each change, before it is written anew.
const MAX_LINES: usize = 4 * MAX_RECORDS;

/// Records that the loop adds to and any thread may read.
#[derive(Debug, Default)]
pub struct Recorder {
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    /// By sequence: what changed last stands last.
    records: VecDeque<Record>,
    sequence: u64,
    /// What the file on disk has is up to this one.
    written: u64,
    /// What the file in memory has had is up to this one.
    fresh: u64,
    lines: usize,
}

/// What is to be written now.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    Append(String),
    /// In the place of all that is there.
    Replace(String),
}

impl Recorder {
    /// Goes on from what an earlier worker has left on disk and in memory.
    pub fn new(on_disk: Vec<Record>, fresh: Vec<Record>) -> Recorder {
        let mut book = Book { lines: on_disk.len(), ..Book::default() };
        book.written = on_disk.iter().map(|record| record.sequence).max().unwrap_or(0);
        for record in on_disk.into_iter().chain(fresh) {
            book.records.retain(|known| !known.is_same(&record));
            book.sequence = book.sequence.max(record.sequence);
            book.records.push_back(record);
        }
        order::sort_by_key(book.records.make_contiguous(), |record| record.sequence);
        book.shorten();
        book.fresh = book.sequence;
        Recorder { book: Mutex::new(book), changed: Condvar::new() }
    }

    /// Adds what has happened to a Pod.
    pub fn record(&self, namespace: &str, pod: &str, uid: &str, note: Note, now: Timestamp) {
        let mut book = self.locked();
        // The clock's, so that it is higher than any that an earlier worker gave and did not live to write.
        let by_clock = u64::try_from(now.as_microsecond()).unwrap_or(0);
        book.sequence = by_clock.max(book.sequence + 1);
        let sequence = book.sequence;
        let known = book.records.iter().rposition(|record| record.is_of(uid, &note));
        let record = match known.and_then(|place| book.records.remove(place)) {
            Some(record) => {
                Record { sequence, count: record.count.saturating_add(1), last_timestamp: now, ..record }
            }
            None => Record {
                sequence,
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
                uid: uid.to_owned(),
                container: note.container,
                r#type: note.kind,
                reason: note.reason.to_owned(),
                message: shortened(&note.message).to_owned(),
                count: 1,
                first_timestamp: now,
                last_timestamp: now,
            },
        };
        book.records.push_back(record);
        book.shorten();
        drop(book);
        self.changed.notify_all();
    }

    /// What has changed after this sequence, oldest first. Waits until something has, but no longer than that.
    pub fn after(&self, sequence: u64, patience: Duration) -> Vec<Record> {
        let book = self.locked();
        let nothing = |book: &mut Book| book.sequence <= sequence;
        let (book, _) =
            self.changed.wait_timeout_while(book, patience, nothing).unwrap_or_else(PoisonError::into_inner);
        book.records.iter().filter(|record| record.sequence > sequence).cloned().collect()
    }

    /// What has changed since the last call, as lines for the file in memory.
    pub fn take_fresh(&self) -> Option<String> {
        let mut book = self.locked();
        let fresh = book.fresh;
        book.fresh = book.sequence;
        let new = book.after(fresh);
        (new > 0).then(|| lines(book.records.iter().rev().take(new).rev()))
    }

    /// What the file on disk lacks, and up to which sequence; it counts as written from now on.
    pub fn take_unwritten(&self) -> Option<(Written, u64)> {
        let mut book = self.locked();
        let new = book.after(book.written);
        if new == 0 {
            return None;
        }
        book.written = book.sequence;
        let written = if book.lines + new > MAX_LINES {
            book.lines = book.records.len();
            Written::Replace(lines(&book.records))
        } else {
            book.lines += new;
            Written::Append(lines(book.records.iter().rev().take(new).rev()))
        };
        Some((written, book.sequence))
    }

    /// The disk refused what was to be written: next time it gets everything.
    pub fn not_written(&self) {
        let mut book = self.locked();
        (book.written, book.lines) = (0, MAX_LINES);
    }

    /// Whether nothing has changed after this sequence.
    pub fn is_latest(&self, sequence: u64) -> bool {
        self.locked().sequence == sequence
    }

    /// The book is whole at every moment at which a thread could panic, so a poisoned lock is as good as another.
    fn locked(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// How many records have changed after this sequence: the last ones.
    fn after(&self, sequence: u64) -> usize {
        self.records.iter().rev().take_while(|record| record.sequence > sequence).count()
    }

    fn shorten(&mut self) {
        let too_many = self.records.len().saturating_sub(MAX_RECORDS);
        self.records.drain(..too_many);
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;
    use super::super::record::Kind;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn started(container: &str) -> Note {
        Note::new(Kind::Normal, "Started", format!("Started container {container}")).of_container(container)
    }

    fn all(recorder: &Recorder) -> Vec<(String, u32)> {
        let records = recorder.after(0, Duration::ZERO);
        records.iter().map(|r| (r.container.clone().unwrap_or_default(), r.count)).collect()
    }

    #[test]
    fn one_more_of_the_same_is_counted_and_stands_last() {
        let recorder = Recorder::default();
        for (container, second) in [("a", 1), ("b", 2), ("a", 3)] {
            recorder.record("default", "web", "uid", started(container), at(second));
        }
        recorder.record("default", "web", "another", started("a"), at(4));
        assert_eq!(all(&recorder), [("b".to_owned(), 1), ("a".to_owned(), 2), ("a".to_owned(), 1)]);
        let second = recorder.after(0, Duration::ZERO)[0].sequence;
        let records = recorder.after(second, Duration::ZERO);
        assert_eq!(records.len(), 2, "what changed after the second one");
        assert_eq!((records[0].first_timestamp, records[0].last_timestamp), (at(1), at(3)));
    }

    #[test]
    fn the_file_gets_each_change_once_and_gives_the_same_back() {
        let recorder = Recorder::default();
        recorder.record("default", "web", "uid", started("a"), at(1));
        let Some((Written::Append(mut file), _)) = recorder.take_unwritten() else {
            panic!("nothing to write")
        };
        assert_eq!(recorder.take_unwritten(), None);
        recorder.record("default", "web", "uid", started("b"), at(2));
        recorder.record("default", "web", "uid", started("a"), at(3));
        let Some((Written::Append(more), last)) = recorder.take_unwritten() else {
            panic!("nothing to write")
        };
        assert!(recorder.is_latest(last));
        assert_eq!(more.lines().count(), 2);
        file.push_str(&more);
        // Cut off by a power cut.
        file.push_str("{\"sequence\":9,\"names");
        let again = Recorder::new(parse(file.as_bytes()), Vec::new());
        assert_eq!(all(&again), all(&recorder));
        let last = again.after(0, Duration::ZERO)[1].sequence;
        again.record("default", "web", "uid", started("c"), at(0));
        assert_eq!(
            again.after(last, Duration::ZERO).len(),
            1,
            "the sequence goes on, whatever the clock says"
        );
    }

    #[test]
    fn what_the_disk_lacks_is_taken_from_memory_and_written_then() {
        let recorder = Recorder::default();
        recorder.record("default", "web", "uid", started("a"), at(1));
        let Some((Written::Append(disk), _)) = recorder.take_unwritten() else { panic!("nothing to write") };
        let mut memory = recorder.take_fresh().unwrap();
        recorder.record("default", "web", "uid", started("b"), at(2));
        memory.push_str(&recorder.take_fresh().unwrap());
        assert_eq!(recorder.take_fresh(), None);
        let again = Recorder::new(parse(disk.as_bytes()), parse(memory.as_bytes()));
        assert_eq!(all(&again), all(&recorder));
        let Some((Written::Append(missing), _)) = again.take_unwritten() else { panic!("nothing to write") };
        assert!(
            missing.contains("Started container b") && !missing.contains("Started container a"),
            "{missing}"
        );
        again.not_written();
        let Some((Written::Replace(text), _)) = again.take_unwritten() else { panic!("not all of it") };
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn memory_and_file_are_bounded() {
        let recorder = Recorder::default();
        let mut file_lines = 0;
        let mut replaced = false;
        for round in 0..6 {
            for number in 0..MAX_RECORDS + 5 {
                recorder.record("default", "web", "uid", started(&format!("{round}-{number}")), at(1));
            }
            match recorder.take_unwritten().map(|(written, _)| written) {
                Some(Written::Append(text)) => file_lines += text.lines().count(),
                Some(Written::Replace(text)) => {
                    file_lines = text.lines().count();
                    replaced = true;
                }
                None => panic!("nothing to write"),
            }
            assert!(file_lines <= MAX_LINES, "{file_lines}");
        }
        assert!(replaced);
        assert_eq!(recorder.after(0, Duration::ZERO).len(), MAX_RECORDS);
    }

    #[test]
    fn who_waits_is_told() {
        let recorder = std::sync::Arc::new(Recorder::default());
        let waiting = std::sync::Arc::clone(&recorder);
        let waiter = std::thread::spawn(move || waiting.after(0, Duration::from_secs(60)));
        recorder.record("default", "web", "uid", started("a"), at(1));
        assert_eq!(waiter.join().unwrap().len(), 1);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let recorder = Recorder::default();
        for _ in 0..2 {
            recorder.record("d", "p", "u", Note::new(Kind::Warning, "Failed", "ü".repeat(2000)), at(1));
        }
        let records = recorder.after(0, Duration::ZERO);
        assert_eq!((records.len(), records[0].count, records[0].message.len()), (1, 2, 1024));
    }
}
