//! A terminal for the container, made from its own `/dev/pts`.

use std::ffi::{c_int, c_ulong};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{OFlags, Uid, fchown, fstatfs};
use rustix::io::Errno;

use super::{check, mounts, process};
use crate::sys::inroot::{self, Kind, Links};
use crate::sys::report::send_descriptor;
use crate::sys::step::TerminalSize;

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// Opens a pair, sends the master over `socket` and makes the other end the standard streams and the controlling terminal.
///
/// The slave comes from the master's descriptor, never by a name in `/dev/pts`, which could be another's (CVE-2025-52565).
pub(super) fn open(
    root: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    size: Option<TerminalSize>,
    owner: u32,
    console: bool,
) -> Result<(), Errno> {
    let master = inroot::open(
        root,
        c"/dev/pts/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW,
        Links::Refuse,
    )?;
    if fstatfs(&master)?.f_type as i64 != DEVPTS {
        return Err(Errno::NOTTY);
    }
    let slave = open_slave(&master)?;
    fchown(&slave, Some(Uid::from_raw(owner)), None)?;
    if let Some(size) = size {
        resize(&slave, size)?;
    }
    if console {
        let target = inroot::ensure(root, c"/dev/console", Kind::File, Links::Refuse)?;
        mounts::attach(mounts::copy(slave.as_fd(), false)?.as_fd(), target.as_fd())?;
    }
    send_descriptor(socket.as_raw_fd(), b"/dev/ptmx", master.as_fd())?;
    ioctl(&slave, libc::TIOCSCTTY, 0)?;
    [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO]
        .into_iter()
        .try_for_each(|stream| process::redirect(slave.as_raw_fd(), stream))
}

/// `TIOCGPTPEER`, kernel 4.13.
fn open_slave(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    let unlocked: c_int = 0;
    ioctl(master, libc::TIOCSPTLCK, std::ptr::from_ref(&unlocked) as c_ulong)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let number = ioctl(master, libc::TIOCGPTPEER, flags as c_ulong)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

fn resize(terminal: &OwnedFd, size: TerminalSize) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    ioctl(terminal, libc::TIOCSWINSZ, std::ptr::from_ref(&size) as c_ulong).map(drop)
}

/// `argument` is a number, or the address of what the request reads.
fn ioctl(fd: &OwnedFd, request: libc::Ioctl, argument: c_ulong) -> Result<i64, Errno> {
    // SAFETY: the requests of this file read at most what their argument leads to, and write nothing.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), request, argument) })
}
