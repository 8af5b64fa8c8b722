//! Which child has ended and how: `waitid` with the child's PID in the answer, which no wrapper of ours offers.

use std::io;
use std::mem::MaybeUninit;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(u8),
    /// Real-time signals included: their numbers have no name in most crates.
    Signal(u8),
}

/// A child that has ended and not been reaped: `(pid, how)`. `None` if there is none now.
///
/// It stays a zombie until [`reap`], so that what `/proc/PID` says of it can still be read, and its PID belongs to it.
pub fn ended_child() -> io::Result<Option<(u32, Ended)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // __WALL: whatever signal it was cloned to send at its end.
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is a valid place for a siginfo_t for the whole call.
    let answer = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if answer < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    // SAFETY: zeroed is a valid siginfo_t, and the kernel has filled it in for SIGCHLD, so `si_pid` and `si_status` hold;
    // with WNOHANG and no ended child it stays zeroed, and PID 0 says so.
    let (pid, code, status) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code, info.si_status())
    };
    let Ok(pid @ 1..) = u32::try_from(pid) else { return Ok(None) };
    // The kernel gives the low eight bits of an exit code, and signals end at 64.
    let status = (status & 0xff) as u8;
    Ok(Some((pid, if code == libc::CLD_EXITED { Ended::Code(status) } else { Ended::Signal(status) })))
}

/// Lets an ended child go. No error if it is gone already.
pub fn reap(pid: u32) -> io::Result<()> {
    // SAFETY: a null siginfo pointer is allowed and means that nobody asks.
    let answer = unsafe {
        libc::waitid(libc::P_PID, pid, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::__WALL)
    };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ECHILD) { Ok(()) } else { Err(error) }
}
