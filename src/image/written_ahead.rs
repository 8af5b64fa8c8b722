//! A file that goes to the disk while it is still being written, so that the disk has not everything before it when the store is synced.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use crate::sys::writeback;

/// Bytes after which the kernel is asked to begin: a seek of a disk costs little beside them, and of smaller files, whose blocks it
/// places better together, the sync takes care.
const AHEAD: usize = 1 << 20;

pub(super) struct WrittenAhead {
    file: File,
    /// Bytes since the kernel was last asked.
    waiting: usize,
}

impl WrittenAhead {
    pub(super) fn new(file: File) -> WrittenAhead {
        WrittenAhead { file, waiting: 0 }
    }

    pub(super) fn into_inner(self) -> File {
        self.file
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

impl Write for WrittenAhead {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.waiting += written;
        if self.waiting >= AHEAD {
            self.waiting = 0;
            writeback::begin(&self.file);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for WrittenAhead {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
