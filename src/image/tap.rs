//! Stands between a tar file and its parser: bounds what is read, and keeps a copy of what lies between two entries.
//!
//! The parser holds extended headers and long names in memory, however long they say they are, and cuts PAX records at line feeds, which the binary
//! values of extended attributes contain. So headers are limited here, and read again from the copy by [`super::pax`].

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// Shared between the reader, which the parser owns, and the one who asks it for entries.
#[derive(Clone)]
pub(super) struct Tap {
    state: Rc<RefCell<State>>,
    header_limit: usize,
}

struct State {
    position: u64,
    left: u64,
    /// What was read since the header began, from the block it begins with; `None` while content is read.
    header: Option<Vec<u8>>,
    header_start: u64,
    too_large: bool,
}

pub(super) struct TappedReader<R> {
    inner: R,
    tap: Tap,
}

impl Tap {
    /// At most `total` bytes altogether, at most `header` bytes between the contents of two entries.
    pub(super) fn new(total: u64, header: u64) -> Tap {
        let state =
            State { position: 0, left: total, header: Some(Vec::new()), header_start: 0, too_large: false };
        Tap {
            state: Rc::new(RefCell::new(state)),
            header_limit: usize::try_from(header).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn read<R>(&self, inner: R) -> TappedReader<R> {
        TappedReader { inner, tap: self.clone() }
    }

    /// Call when the content of an entry has been read and before the next is asked for.
    pub(super) fn begin_header(&self) {
        let mut state = self.state.borrow_mut();
        state.header_start = state.position;
        state.header = Some(Vec::new());
    }

    /// The extended headers before the entry whose own header is at `position`. What is read from here on is content.
    pub(super) fn end_header(&self, position: u64) -> Vec<u8> {
        let mut state = self.state.borrow_mut();
        let mut bytes = state.header.take().unwrap_or_default();
        let padding = state.header_start.next_multiple_of(512) - state.header_start;
        let length = position.saturating_sub(state.header_start);
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        bytes.drain(..usize::try_from(padding).map_or(bytes.len(), |padding| padding.min(bytes.len())));
        bytes
    }

    /// Whether reading stopped because of the limit on the whole.
    pub(super) fn is_too_large(&self) -> bool {
        self.state.borrow().too_large
    }
}

impl<R: Read> Read for TappedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.inner.read(buffer)?;
        let mut state = self.tap.state.borrow_mut();
        if read == 0 && state.header.is_some() {
            read = pad(buffer, state.position);
        }
        state.position += read as u64;
        let Some(left) = state.left.checked_sub(read as u64) else {
            state.too_large = true;
            return Err(io::Error::other("it is larger than a layer may be"));
        };
        state.left = left;
        if let Some(header) = &mut state.header {
            header.extend_from_slice(&buffer[..read]);
            if header.len() > self.tap.header_limit {
                return Err(io::Error::other("the header of an entry is too long"));
            }
        }
        Ok(read)
    }
}

/// umoci 0.4 leaves the padding of the last entry out: where the file ends after a whole content, the block is filled up with zeros.
fn pad(buffer: &mut [u8], position: u64) -> usize {
    let missing = position.next_multiple_of(512) - position;
    let length = usize::try_from(missing).map_or(buffer.len(), |missing| missing.min(buffer.len()));
    buffer[..length].fill(0);
    length
}

impl<R> TappedReader<R> {
    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Seek> Seek for TappedReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.tap.state.borrow_mut().position = position;
        Ok(position)
    }
}
