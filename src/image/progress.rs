//! How far it is with an image that is being brought.

use std::io::{self, Read};

use super::Digest;
use super::registry::Wait;

/// Who is told: by several threads, often.
pub type Tell<'a> = dyn Fn(Progress<'_>) + Sync + 'a;

/// How far a pull or an import is. A layer is known by its blob's digest or, in a docker-archive, by its diff ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// These layers have to come: digest and size of each, as it comes.
    Missing(&'a [(Digest, u64)]),
    /// So many bytes of this layer are there.
    Received { layer: &'a Digest, bytes: u64 },
    /// This layer is unpacked and checked.
    Done { layer: &'a Digest },
    /// Something failed and is tried again.
    Waits(Wait),
}

/// Tells how many bytes have been read.
pub(super) struct Counted<'a, R> {
    pub(super) inner: R,
    pub(super) layer: &'a Digest,
    pub(super) bytes: u64,
    pub(super) progress: &'a Tell<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        (self.progress)(Progress::Received { layer: self.layer, bytes: self.bytes });
        Ok(read)
    }
}
