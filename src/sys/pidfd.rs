//! What the kernel tells the holder of a pidfd about a process that was not its child.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::wait::Ended;

/// `struct pidfd_info` of linux/pidfd.h as kernel 6.13 introduced it (PIDFD_INFO_SIZE_VER0, 64 bytes).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    /// pid, tgid, ppid, and real, effective, saved and file system ids.
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;
/// Kernel 6.15: the exit status is kept for whoever holds a pidfd.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the process ended, where the kernel keeps that (6.15 and later) and it has been reaped.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's size field says 64 bytes, which is what `info` has, and the kernel writes no more.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if answer < 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    Some(from_wait_status(info.exit_code))
}

/// Waits until the process has ended, if there is one with this PID, but not longer than `within`.
pub fn await_end(pid: u32, within: Duration) {
    let pidfd = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pidfd.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    let within = Timespec { tv_sec: within.as_secs() as _, tv_nsec: within.subsec_nanos().into() };
    // One that takes longer is no matter of ours: the PID has become another's.
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&within));
}

/// Reads a wait status: the low seven bits are the signal, or zero and the next eight the exit code.
pub fn from_wait_status(status: i32) -> Ended {
    match (status & 0x7f) as u8 {
        0 => Ended::Code((status >> 8 & 0xff) as u8),
        signal => Ended::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
        assert_eq!(from_wait_status(0x0300), Ended::Code(3));
        assert_eq!(from_wait_status(0x0009), Ended::Signal(9));
        assert_eq!(from_wait_status(0x008b), Ended::Signal(11), "with a core file");
    }
}
