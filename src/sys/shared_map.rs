//! A small file mapped into memory, shared with whoever maps it next: what was stored is there for the next process
//! even if this one was killed right after the store.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// One page, the smallest that can be mapped on every machine that podkeep runs on.
const PAGE: usize = 4096;

/// How many words each page of a [`SharedMap`] has.
pub const WORDS: usize = PAGE / size_of::<u64>();

/// Pages of words that outlive the process.
///
/// The file belongs on a tmpfs: there, a store costs no I/O. Whoever truncates the file ends this process by SIGBUS
/// at the next access, so it belongs into a folder that is root's alone.
pub struct SharedMap {
    address: NonNull<AtomicU64>,
    words: usize,
    /// Not needed for the mapping; keeps a look at `/proc/PID/fd` honest.
    _file: File,
}

impl SharedMap {
    /// Maps the file, which is made (mode 0600, all zero) if it is missing or has another length.
    pub fn open(path: &Path, pages: usize) -> io::Result<SharedMap> {
        let bytes = pages * PAGE;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        if file.metadata()?.len() != bytes as u64 {
            file.set_len(0)?;
            // Written, not only lengthened: a store into a hole of a tmpfs that is full ends in SIGBUS.
            file.write_all_at(&vec![0; bytes], 0)?;
        }
        // SAFETY: a null hint lets the kernel choose free addresses, so no memory in use is replaced; the length is
        // that of the file.
        let address = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(SharedMap { address, words: pages * WORDS, _file: file })
    }

    /// The words. Another process that maps the same file sees each store.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, exactly this long and lives as long as `self`; every bit pattern is
        // an `AtomicU64`, and atomics may change under us.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }

    /// The same as 32-bit words, which is what the kernel writes a PID into. A file is used through one of the two
    /// views only, never through both.
    pub fn half_words(&self) -> &[AtomicU32] {
        // SAFETY: as in `words`: the mapping is page-aligned, exactly this long and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.address.cast().as_ptr(), 2 * self.words) }
    }
}

// SAFETY: the mapping belongs to no thread, and all access goes through atomics.
unsafe impl Send for SharedMap {}

// SAFETY: as above.
unsafe impl Sync for SharedMap {}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the address and length are those that `mmap` gave, and no reference outlives `self`.
        // Unmapping a whole mapping cannot fail.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_second_mapping_sees_what_the_first_stored() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("page");
        let first = SharedMap::open(&path, 2).expect("map");
        first.words()[2 * WORDS - 1].store(42, Relaxed);
        drop(first);
        let second = SharedMap::open(&path, 2).expect("map again");
        assert_eq!(second.words()[2 * WORDS - 1].load(Relaxed), 42);
        assert_eq!(second.words()[0].load(Relaxed), 0);
    }
}
