//! Signals, limits, descriptors: what every process has.

use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::check;
use crate::sys::step::{ResourceLimit, SchedulerAttributes};

/// The size of the kernel's signal set, bytes.
const SIGNAL_SET: usize = 8;

pub(super) fn reset_signals() -> Result<(), Errno> {
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        set_action(signal, libc::SIG_DFL)?;
    }
    let none = 0u64;
    let nowhere = std::ptr::null_mut::<u64>();
    let how = libc::SIG_SETMASK;
    // SAFETY: reads `none`, writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, std::ptr::from_ref(&none), nowhere, SIGNAL_SET)
    };
    check(result).map(drop)
}

/// Who ignores SIGCHLD has no zombies (sigaction(2)): the kernel lets a child go as soon as it has ended.
pub(super) fn ignore_children() -> Result<(), Errno> {
    set_action(libc::SIGCHLD, libc::SIG_IGN)
}

/// `PR_SET_CHILD_SUBREAPER` (prctl(2)).
pub(super) fn adopt_orphans() -> Result<(), Errno> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

fn set_action(signal: c_int, action: libc::sighandler_t) -> Result<(), Errno> {
    // The handler stands first; the kernel's `struct sigaction` is at most this long.
    let action = [action as u64, 0, 0, 0];
    let nowhere = std::ptr::null_mut::<u64>();
    // SAFETY: reads `action`, writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), nowhere, SIGNAL_SET) };
    check(result).map(drop)
}

pub(super) fn limit_resource(limit: ResourceLimit) -> Result<(), Errno> {
    let mut old = [0u64; 2];
    let nothing = std::ptr::null::<u64>();
    // SAFETY: reads no new limits and writes the two numbers of a `struct rlimit64`.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, limit.resource, nothing, old.as_mut_ptr()) })?;
    let new = [limit.soft, limit.hard];
    if new == old {
        return Ok(());
    }
    let nowhere = std::ptr::null_mut::<u64>();
    // SAFETY: reads the two numbers of a `struct rlimit64`, writes nothing.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, limit.resource, new.as_ptr(), nowhere) }).map(drop)
}

/// The host's procfs is still what `/proc` leads to.
pub(super) fn adjust_oom_score(value: &CStr) -> Result<(), Errno> {
    let file = openat(CWD, c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.to_bytes()).map(drop)
}

pub(super) fn set_io_priority(priority: c_int) -> Result<(), Errno> {
    const WHO_PROCESS: c_int = 1;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) }).map(drop)
}

pub(super) fn set_scheduler(attributes: &SchedulerAttributes) -> Result<(), Errno> {
    // SAFETY: reads one `struct sched_attr`, whose size it says itself.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attributes), 0) }).map(drop)
}

pub(super) fn new_session() -> Result<(), Errno> {
    rustix::process::setsid().map(drop)
}

/// A process that comes later joins it by its name, so whoever has its owner's user may search it. That is as runc has it.
pub(super) fn join_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    const SET_PERMISSIONS: c_int = 5;
    /// What a new session keyring has (possessor: all; user: view, read, link), and search for its user (linux/key.h).
    const PERMISSIONS: u32 = 0x3f00_0000 | 0x0013_0000 | 0x0008_0000;
    // SAFETY: reads a string that outlives the call.
    let joined = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) });
    let keyring = match joined {
        // A kernel without keys has none that could be seen.
        Err(Errno::NOSYS) => return Ok(()),
        joined => joined?,
    };
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, keyring, PERMISSIONS) }).map(drop)
}

#[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
pub(super) fn set_umask(mask: u32) -> Result<(), Errno> {
    rustix::process::umask(Mode::from_raw_mode(mask));
    Ok(())
}

pub(super) fn set_personality(number: u32) -> Result<(), Errno> {
    // SAFETY: takes a number only.
    check(unsafe { libc::syscall(libc::SYS_personality, number) }).map(drop)
}

pub(super) fn redirect(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: descriptors 0 to 2 belong to nobody in the child.
    check(unsafe { libc::syscall(libc::SYS_dup3, from, to, 0) }).map(drop)
}

/// The lowest free number from `least` on.
pub(super) fn duplicate_from(fd: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: makes a descriptor that nobody owns, which is what the child deals in.
    let result = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, least) };
    check(result).map(|number| number as RawFd)
}

pub(super) fn duplicate_to(fd: RawFd, number: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: whatever had the number is not needed any more; a step that did need it comes before this one.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd, number, libc::O_CLOEXEC) })?;
    Ok(number)
}

pub(super) fn close_from(number: RawFd) -> Result<(), Errno> {
    // SAFETY: no later step uses these, and the owners in this copy of the parent's memory are never dropped: the child
    // ends by exec or `_exit`.
    check(unsafe { libc::syscall(libc::SYS_close_range, number, u32::MAX, 0 as c_int) }).map(drop)
}
