//! Parts of a line (`P`, `P`, `F`) become one entry.

use std::collections::VecDeque;

use super::super::Stream;
use super::super::cri::Record;
use super::Entry;

/// A longer line is handed out in pieces, so that a program that never ends its line does not fill the reader's
/// memory. Bytes.
const MAX_LINE: usize = 1 << 20;

/// Parts whose line is not ended yet, per stream.
#[derive(Default)]
pub(super) struct Joiner {
    stdout: Option<Entry>,
    stderr: Option<Entry>,
}

impl Joiner {
    /// Appends the entries that the record completes to `ready`.
    pub fn add(&mut self, restart: u32, record: Record<'_>, ready: &mut VecDeque<Entry>) {
        let started =
            [&self.stdout, &self.stderr].into_iter().flatten().any(|entry| entry.restart != restart);
        if started {
            // The next run does not go on with a line of the one before.
            self.flush(ready);
        }
        let slot = match record.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut entry = slot.take().unwrap_or_else(|| Entry {
            time: record.time.to_owned(),
            stream: record.stream,
            restart,
            bytes: Vec::new(),
            terminated: false,
        });
        entry.bytes.extend_from_slice(record.content);
        entry.terminated = record.whole;
        if entry.terminated || entry.bytes.len() >= MAX_LINE {
            ready.push_back(entry);
        } else {
            *slot = Some(entry);
        }
    }

    /// Appends what is not ended.
    pub fn flush(&mut self, ready: &mut VecDeque<Entry>) {
        ready.extend(self.stdout.take());
        ready.extend(self.stderr.take());
    }
}
