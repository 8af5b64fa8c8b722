//! `cgroup.events` as an event loop reads it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// Whether the group has processes, read from its open `cgroup.events`; this also ends the `EPOLLPRI` that told of a
/// change (the kernel remembers per open file which change was read last).
pub fn populated_in(events: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(has_line(events, b"populated 1")?)
}

/// As [`populated_in`], whether all of the group's processes are frozen.
pub(super) fn frozen_in(events: BorrowedFd<'_>) -> Result<bool, Errno> {
    has_line(events, b"frozen 1")
}

fn has_line(events: BorrowedFd<'_>, wanted: &[u8]) -> Result<bool, Errno> {
    let mut text = [0; 256];
    let length = rustix::io::pread(events, &mut text, 0)?;
    Ok(text[..length].split(|byte| *byte == b'\n').any(|line| line == wanted))
}
