//! Hands bytes from the thread that makes them to the thread that uses them, in a few large buffers that go round.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel as unbounded, sync_channel};

/// Bytes of one buffer: large enough that handing it over costs nothing beside filling it.
const BUFFER: usize = 1 << 18;
/// Buffers under way; with the one on each side, 1.5 MiB altogether.
const BUFFERS: usize = 4;

/// The side that makes bytes.
pub(super) struct Filler {
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

/// The side that reads them.
pub(super) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    position: usize,
}

pub(super) fn channel() -> (Filler, ReadAhead) {
    let (full_sender, full) = sync_channel(BUFFERS);
    let (empty, empty_receiver) = unbounded();
    let reader = ReadAhead { full, empty, buffer: Vec::new(), position: 0 };
    (Filler { full: full_sender, empty: empty_receiver }, reader)
}

impl Filler {
    /// Sends all of it, or the error that it ends with. Returns whether it was wanted to the end.
    pub(super) fn send_all(self, reader: io::Result<impl Read>) -> bool {
        let sent = reader.and_then(|reader| self.send(reader));
        sent.unwrap_or_else(|error| self.full.send(Err(error)).is_ok())
    }

    fn send(&self, mut reader: impl Read) -> io::Result<bool> {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let filled = fill(&mut reader, &mut buffer)?;
            buffer.truncate(filled);
            if filled == 0 {
                return Ok(true);
            }
            if self.full.send(Ok(buffer)).is_err() {
                return Ok(false);
            }
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.buffer.len() {
            // Nobody fills any more: that was all.
            let Ok(next) = self.full.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.buffer, next?);
            self.position = 0;
            // Whoever fills may be done.
            let _ = self.empty.send(used);
        }
        let rest = &self.buffer[self.position..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Gives its bytes in odd pieces, then an error.
    struct Broken<'a>(&'a [u8]);

    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("broken"));
            }
            let length = buffer.len().min(self.0.len()).min(70_001);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn all_bytes_come_in_order_and_an_error_after_them_is_not_an_end() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let (filler, mut reader) = channel();
        let mut read = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| filler.send_all(Ok(&*bytes)));
            reader.read_to_end(&mut read).unwrap();
        });
        assert!(read == bytes);
        let (filler, mut reader) = channel();
        thread::scope(|scope| {
            scope.spawn(|| filler.send_all(Ok(Broken(&bytes))));
            assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap_err().to_string(), "broken");
        });
    }

    #[test]
    fn a_reader_that_goes_ends_the_filling() {
        let (filler, reader) = channel();
        drop(reader);
        assert!(!filler.send_all(Ok(io::repeat(1))));
    }
}
