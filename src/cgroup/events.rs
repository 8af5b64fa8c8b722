//! `cgroup.events` as an event loop reads it.

use std::io;
use std::os::fd::BorrowedFd;

/// Whether the group has processes, read from its open `cgroup.events`; this also ends the `EPOLLPRI` that told of a
/// change (the kernel remembers per open file which change was read last).
pub fn populated_in(events: BorrowedFd<'_>) -> io::Result<bool> {
    let mut text = [0; 256];
    let length = rustix::io::pread(events, &mut text, 0)?;
    Ok(text[..length].split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
}
