//! File descriptors that a process finds open when it starts, by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over what an earlier self of this process left open for us: every number must be open and none may be named
/// twice. Works once in the life of a process, and before anything else has opened a file.
pub fn take(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    if TAKEN.swap(true, Ordering::SeqCst) {
        return invalid("inherited file descriptors were taken over before".to_owned());
    }
    for (place, &number) in numbers.iter().enumerate() {
        if number < 3 || numbers[..place].contains(&number) {
            return invalid(format!("file descriptor {number} cannot be inherited"));
        }
        // SAFETY: F_GETFD only looks; a number that is not open gives EBADF.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: each number is open, named once, not one of the standard streams, and owned by nobody else in this
    // process: `TAKEN` lets this happen only once, before anything else was opened.
    Ok(numbers.iter().map(|&number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}
