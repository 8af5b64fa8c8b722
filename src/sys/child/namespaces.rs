//! Joining and making namespaces.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{UnshareFlags, set_thread_res_gid, set_thread_res_uid};

use super::check;

pub(super) fn join(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::thread::move_into_link_name_space(namespace, None)
}

/// Kernel 5.8: a pidfd, and several at once. The kernel itself takes the user namespace first.
pub(super) fn join_process(pidfd: BorrowedFd<'_>, namespaces: u64) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setns, pidfd.as_raw_fd(), namespaces as c_int) }).map(drop)
}

/// `flags` must be namespaces only.
pub(super) fn unshare(flags: c_int) -> Result<(), Errno> {
    // SAFETY: does not touch the descriptors or memory of the process, the two things that make unshare unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::from_bits_retain(flags as u32)) }
}

/// The offsets can be written until the first process is inside.
pub(super) fn new_time_namespace(offsets: &CStr) -> Result<(), Errno> {
    unshare(libc::CLONE_NEWTIME)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let file = openat(CWD, c"/proc/self/timens_offsets", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, offsets.to_bytes()).map(drop)
}

/// As long as the ids are those of outside, nothing can be made: the new namespace has no number for them.
pub(super) fn become_root() -> Result<(), Errno> {
    rustix::thread::set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

pub(in crate::sys) fn set_host_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as the string has.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()) }).map(drop)
}

pub(super) fn set_domain_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()) }).map(drop)
}
