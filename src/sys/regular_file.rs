//! Files in places where others may put anything: opened for reading without waiting for anybody.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Opens for reading what was found (`O_PATH`), if that is a regular file. It was looked at before it is opened: opening alone would
/// set off some devices, and wait for a FIFO's writer.
///
/// # Errors
/// Where it is something else; the kernel's, `EWOULDBLOCK` where somebody holds a lease on it (`F_SETLEASE`), who may take their time.
pub fn open_again(found: &File) -> io::Result<File> {
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(again)
}
