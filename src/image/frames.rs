//! zstd, frame by frame: the history that frames ask for together is bounded, however many layers are unpacked at once.
//!
//! Whoever decompresses a frame holds bytes of one budget of the whole process, as many as the frame's window has, and waits for them
//! while holding none. So each of them goes on in the end, and those that wait take no memory.

use std::io::{self, BufRead, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use zstd::stream::raw::{DParameter, Decoder, Operation};

/// Bytes of history a frame may ask for, as a power of two: 32 MiB, the most that image tools use (their levels for the smallest output), and
/// few enough for a node with little memory.
const MAX_WINDOW_LOG: u32 = 25;

/// What all frames may hold at a time; the largest has it alone.
static WINDOWS: Budget = Budget::new(1 << MAX_WINDOW_LOG);

/// RFC 8878: magic number, descriptor, window, dictionary's ID and content size, each as long as it can be.
const MAX_HEADER: usize = 18;
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The content of any number of frames after one another.
pub(super) struct Frames<R> {
    reader: R,
    /// The bytes before those of `reader`.
    head: Vec<u8>,
    /// Whose memory the share stands for: the one is made after the other is there, and goes first.
    decoder: Option<Decoder<'static>>,
    share: Option<Share>,
    is_inside: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(reader: R) -> Frames<R> {
        Frames { reader, head: Vec::new(), decoder: None, share: None, is_inside: false }
    }

    /// Returns `false` at the end of the last frame.
    fn begin_frame(&mut self) -> io::Result<bool> {
        let wanted = (MAX_HEADER - self.head.len()) as u64;
        self.reader.by_ref().take(wanted).read_to_end(&mut self.head)?;
        if self.head.is_empty() {
            return Ok(false);
        }
        // More than the budget has is refused by the decoder.
        let window = window(&self.head).min(1 << MAX_WINDOW_LOG);
        if self.share.as_ref().is_none_or(|share| share.bytes < window) {
            self.decoder = None;
            self.share = None;
            self.share = Some(WINDOWS.take(window));
        }
        match &mut self.decoder {
            Some(decoder) => decoder.reinit()?,
            None => self.decoder = Some(new_decoder()?),
        }
        self.is_inside = true;
        Ok(true)
    }

    /// Decompresses some bytes; none where the next ones have to be read first, or the frame has ended.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let is_head = !self.head.is_empty();
        let input = if is_head { &self.head } else { self.reader.fill_buf()? };
        let is_end = input.is_empty();
        let done = decoder.run_on_buffers(input, buffer)?;
        if is_head {
            self.head.drain(..done.bytes_read);
        } else {
            self.reader.consume(done.bytes_read);
        }
        self.is_inside = done.remaining > 0;
        if is_end && self.is_inside && done.bytes_written == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
        }
        Ok(done.bytes_written)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.is_inside && !self.begin_frame()? {
                break;
            }
            match self.step(buffer)? {
                0 => {}
                written => return Ok(written),
            }
        }
        Ok(0)
    }
}

fn new_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(decoder)
}

/// Bytes of history that the frame needs which begins so: no more than its content has, where that is said. None for what is no frame, which
/// the decoder finds out, and for one to be skipped.
fn window(header: &[u8]) -> u64 {
    known_window(header).unwrap_or(0)
}

fn known_window(header: &[u8]) -> Option<u64> {
    let (&descriptor, rest) = header.strip_prefix(&MAGIC)?.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let (window, rest) = if is_single_segment { (u64::MAX, rest) } else { declared_window(rest)? };
    let id_length = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_length = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        flag => 1 << flag,
    };
    let size = rest.get(id_length..id_length + size_length)?;
    let mut bytes = [0; 8];
    bytes[..size.len()].copy_from_slice(size);
    let size = match size.len() {
        0 => u64::MAX,
        // From 256 on: what is less has one byte.
        2 => u64::from_le_bytes(bytes) + 256,
        _ => u64::from_le_bytes(bytes),
    };
    Some(window.min(size))
}

/// An exponent and eighths of its power.
fn declared_window(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&byte, rest) = bytes.split_first()?;
    let base = 1u64 << (10 + (byte >> 3));
    Some((base + base / 8 * u64::from(byte & 7), rest))
}

/// Bytes that are lent.
struct Budget {
    /// Held by the one who is next: many small shares could keep a large one waiting for ever.
    turn: Mutex<()>,
    left: Mutex<u64>,
    returned: Condvar,
}

/// Goes back when it is dropped.
struct Share {
    of: &'static Budget,
    bytes: u64,
}

impl Budget {
    const fn new(bytes: u64) -> Budget {
        Budget { turn: Mutex::new(()), left: Mutex::new(bytes), returned: Condvar::new() }
    }

    /// Waits until there are so many. The caller holds none, or might wait for itself.
    fn take(&'static self, bytes: u64) -> Share {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let is_short = |left: &mut u64| *left < bytes;
        let left = self.returned.wait_while(self.left(), is_short);
        *left.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Share { of: self, bytes }
    }

    fn left(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.of.left() += self.bytes;
        self.of.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use proptest::prelude::*;
    use zstd::stream::Encoder;
    use zstd::zstd_safe::CParameter;

    use super::*;

    fn frame(content: &[u8], window_log: u32, says_size: bool) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        encoder.set_pledged_src_size(says_size.then_some(content.len() as u64)).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(frames: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // Three bytes at a time: headers come in pieces.
        Frames::new(io::BufReader::with_capacity(3, frames)).read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn a_frame_needs_its_window_or_its_content() {
        assert_eq!(window(&frame(&[1; 50], 25, false)), 1 << 25);
        assert_eq!(window(&frame(&[1; 50], 25, true)), 50);
        assert_eq!(window(&frame(&[1; 300], 25, true)), 300);
        assert_eq!(window(&frame(&[1; 70_000], 25, true)), 70_000);
        assert_eq!(window(&frame(&[1; 70_000], 10, true)), 1 << 10);
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x3d]), (1 << 17) / 8 * 13);
        assert_eq!(window(&[0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff]), 0, "to be skipped");
    }

    #[test]
    fn frames_follow_one_another_and_some_are_skipped() {
        let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
        let frames = [
            skipped.clone(),
            frame(b"one", 12, false),
            frame(b"", 10, true),
            skipped,
            frame(&[7; 9999], 20, false),
        ];
        let whole = frames.concat();
        assert_eq!(read(&whole).unwrap(), [&b"one"[..], &[7; 9999]].concat());
        assert_eq!(read(b"").unwrap(), b"");
        let error = read(&whole[..whole.len() - 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(read(&[&whole[..], b"more"].concat()).is_err());
        assert!(read(&frame(&[7; 99], 26, false)).is_err(), "its window is too large");
    }

    #[test]
    fn no_more_than_the_budget_is_lent_and_the_largest_share_comes_in_the_end() {
        static BUDGET: Budget = Budget::new(8);
        static LENT: AtomicU64 = AtomicU64::new(0);
        let work = |bytes| {
            for _ in 0..200 {
                let share = BUDGET.take(bytes);
                assert!(LENT.fetch_add(bytes, Ordering::SeqCst) + bytes <= 8);
                thread::yield_now();
                LENT.fetch_sub(bytes, Ordering::SeqCst);
                drop(share);
            }
        };
        thread::scope(|scope| {
            for bytes in [1, 2, 3, 8, 8] {
                scope.spawn(move || work(bytes));
            }
        });
        assert_eq!(*BUDGET.left(), 8);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&bytes);
            bytes.splice(..0, MAGIC);
            let _ = read(&bytes);
        }
    }
}
