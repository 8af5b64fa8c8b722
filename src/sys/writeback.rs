//! Writing to the disk ahead of a sync (sync_file_range(2)).

use std::os::fd::{AsFd, AsRawFd};

/// Lets the kernel begin to write what of `file` is only in memory, and waits for none of it. Nothing is safe through this: a sync still
/// has to follow, which then has less to do. File systems that do not know the call, or fail, leave all of it to that sync.
pub fn begin(file: impl AsFd) {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; the descriptor is open for as long as it is borrowed. A length of 0 is the whole file.
    unsafe { libc::sync_file_range(file, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
