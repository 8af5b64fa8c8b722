//! Asks the kernel whether anybody has a file open for writing, by trying to take a read lease (fcntl(2), "Leases").

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// From `asm-generic/fcntl.h`; the libc crate does not have it for glibc.
const F_SETSIG: libc::c_int = 10;

/// What the kernel knows of a file's writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing or mapped shared and writable.
    None,
    /// At least one.
    Some,
    /// This file system keeps no leases, or the file belongs to somebody else and `CAP_LEASE` is missing.
    Unknown,
}

/// Says whether anybody has the regular file behind `file` open for writing. `file` itself must be open read-only.
///
/// The lease is held for two system calls. A writer that opens the file in between waits in its `open` until the lease
/// is back (with `O_NONBLOCK` it is told `EWOULDBLOCK`), and we are sent a signal.
pub fn writers(file: impl AsFd) -> Writers {
    let file = file.as_fd();
    match take(file) {
        Ok(()) => {
            // Cannot fail on the descriptor that just took it; closing the descriptor would release it as well.
            let _ = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && !leases_are_granted_remotely(file) => {
            Writers::Some
        }
        Err(_) => Writers::Unknown,
    }
}

/// Takes a read lease, until the descriptor is closed or it is given back.
pub(crate) fn take(file: BorrowedFd<'_>) -> io::Result<()> {
    // The signal for a broken lease is SIGIO, which ends the process by default. SIGURG is ignored by default.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    fcntl(file, libc::F_SETLEASE, libc::F_RDLCK)
}

/// NFSv4 and SMB clients answer EAGAIN also when the server has not granted them a delegation or an oplock
/// (`nfs4_setlease`, `cifs_setlease` in Linux): there it says nothing about writers.
fn leases_are_granted_remotely(file: BorrowedFd<'_>) -> bool {
    const NFS: u32 = 0x6969;
    const CIFS: u32 = 0xff53_4d42;
    const SMB2: u32 = 0xfe53_4d42;
    // The magic numbers are 32 bits wide whatever the width of `f_type`.
    rustix::fs::fstatfs(file).is_ok_and(|fs| matches!(fs.f_type as u32, NFS | CIFS | SMB2))
}

fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the commands used here take an int and touch no memory of ours; the descriptor is open while borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
    }

    #[test]
    fn the_lease_does_not_outlive_the_question() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::None);
        // Would wait for /proc/sys/fs/lease-break-time (45 s) if the lease were still there.
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_regular_file_has_no_answer() {
        assert_eq!(writers(File::open("/dev/null").unwrap()), Writers::Unknown);
    }
}
