//! zstd, frame by frame: the history that frames ask for together is bounded, however many layers are unpacked at once.
//!
//! Whoever decompresses a frame holds bytes of a budget of the whole process, as many as the frame's window has. What lies on the disk
//! waits for them while holding none: so each goes on in the end, and those that wait take no memory. What comes from far away may take
//! as long as its sender likes, and nobody is to wait for what it holds: it has a small budget of its own. A frame for which that has no
//! room waits until the rest of its blob has come, and is read from the disk then.

use std::io::{self, BufRead, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use zstd::stream::raw::{DParameter, Decoder, Operation};

/// Bytes of history a frame may ask for, as a power of two: 32 MiB, the most that image tools use (their levels for the smallest output), and
/// few enough for a node with little memory.
const MAX_WINDOW_LOG: u32 = 25;

/// What all frames on the disk may hold at a time; the largest has it alone.
static ON_DISK: Budget = Budget::new(1 << MAX_WINDOW_LOG);
/// What all frames that are decompressed while they come may hold at a time: the 8 MiB that Go's encoder, and so most image tools, asks for
/// at its usual level. With the other budget and the rest of a pull that is less than 64 MB.
static COMING: Budget = Budget::new(1 << COMING_LOG);
const COMING_LOG: u32 = 23;

/// Sees to it that all the bytes that are still to be read lie on the disk.
pub(super) type Fetch<'a> = dyn Fn() -> io::Result<()> + 'a;

/// RFC 8878: magic number, descriptor, window, dictionary's ID and content size, each as long as it can be.
const MAX_HEADER: usize = 18;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Of frames that are to be skipped, whatever the low four bits of the first byte are: other tools keep theirs in them.
const SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Whether bytes begin as the content of [`Frames`] does.
pub(super) fn is_zstd(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    bytes.starts_with(&MAGIC) || (first & 0xf0 == SKIPPED[0] && rest.starts_with(&SKIPPED[1..]))
}

/// The content of any number of frames after one another.
pub(super) struct Frames<'a, R> {
    reader: R,
    /// For what comes from far away, until all of it has come.
    fetch: Option<&'a Fetch<'a>>,
    /// The bytes before those of `reader`.
    head: Vec<u8>,
    /// Whose memory the share stands for: the one is made after the other is there, and goes first.
    decoder: Option<Decoder<'static>>,
    share: Option<Share>,
    is_inside: bool,
}

impl<'a, R: BufRead> Frames<'a, R> {
    pub(super) fn new(reader: R, fetch: Option<&'a Fetch<'a>>) -> Frames<'a, R> {
        Frames { reader, fetch, head: Vec::new(), decoder: None, share: None, is_inside: false }
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
            self.share = Some(self.share_of(window)?);
        }
        match &mut self.decoder {
            Some(decoder) => decoder.reinit()?,
            None => self.decoder = Some(new_decoder()?),
        }
        self.is_inside = true;
        Ok(true)
    }

    fn share_of(&mut self, window: u64) -> io::Result<Share> {
        if let Some(fetch) = self.fetch {
            if let Some(share) = COMING.take_at_once(window) {
                return Ok(share);
            }
            fetch()?;
            self.fetch = None;
        }
        Ok(ON_DISK.take(window))
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

impl<R: BufRead> Read for Frames<'_, R> {
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

    /// `None` where so many are not there.
    fn take_at_once(&'static self, bytes: u64) -> Option<Share> {
        let mut left = self.left();
        *left = left.checked_sub(bytes)?;
        Some(Share { of: self, bytes })
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
    use std::cell::Cell;
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
        Frames::new(io::BufReader::with_capacity(3, frames), None).read_to_end(&mut content).map(|_| content)
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
    fn what_begins_with_a_frame_to_be_skipped_is_zstd() {
        for first in 0x50..=0x5f {
            assert!(is_zstd(&[first, 0x2a, 0x4d, 0x18, 0]));
        }
        assert!(is_zstd(&frame(b"one", 12, false)));
        for other in
            [&[0x60, 0x2a, 0x4d, 0x18][..], &[0x4f, 0x2a, 0x4d, 0x18], &[0x50, 0x2a, 0x4d], b"", b"tar"]
        {
            assert!(!is_zstd(other), "{other:?}");
        }
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

    #[test]
    fn what_comes_from_far_away_holds_no_share_of_what_lies_on_the_disk() {
        let fetched = Cell::new(0);
        let fetch = || {
            fetched.set(fetched.get() + 1);
            Ok(())
        };
        let small = frame(&[7; 99], 20, false);
        let mut coming = Frames::new(&*small, Some(&fetch));
        coming.read_exact(&mut [0; 50]).unwrap();
        assert!(std::ptr::eq(coming.share.as_ref().unwrap().of, &COMING));
        assert_eq!(fetched.get(), 0);
        // Another one would have to wait for whoever sends these.
        let _others = COMING.take((1 << COMING_LOG) - (1 << 20));
        let frames = [&small[..], &frame(&[8; 99], 25, false), &small].concat();
        let mut content = Vec::new();
        Frames::new(&*frames, Some(&fetch)).read_to_end(&mut content).unwrap();
        assert_eq!(content, [[7; 99], [8; 99], [7; 99]].concat());
        assert_eq!(fetched.get(), 1, "all of it, once");
        let broken = || Err(io::Error::other("the line is dead"));
        let error = Frames::new(&*frames, Some(&broken)).read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.to_string(), "the line is dead");
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
