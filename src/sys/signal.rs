//! Signals that have no name in rustix.

use rustix::process::Signal;

/// The real-time signal with this number; `None` if it is not one.
pub fn real_time(number: i32) -> Option<Signal> {
    // SAFETY: the numbers between libc's SIGRTMIN and SIGRTMAX are free for programs to send; libc keeps its own below.
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .contains(&number)
        .then(|| unsafe { Signal::from_raw_unchecked(number) })
}
