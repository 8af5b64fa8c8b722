//! The last steps: the working directory is where it should be, and the program begins.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::RawFd;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use super::check;
use crate::sys::step::StringArray;

pub(super) fn verify_directory() -> Result<(), Errno> {
    let mut space = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as `space` has.
    check(unsafe { libc::syscall(libc::SYS_getcwd, space.as_mut_ptr(), space.len()) })?;
    // Outside of the root the kernel says `(unreachable)` first.
    if space[0] == b'/' { Ok(()) } else { Err(Errno::XDEV) }
}

/// As [`execute`] will look for it, so that most of what will fail is told before the start.
pub(super) fn find(candidates: &[CString]) -> Result<(), Errno> {
    first(candidates, |path| {
        accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
        // A folder may be searched, which looks the same; execve answers this too.
        let kind = FileType::from_raw_mode(stat(path)?.st_mode);
        if kind == FileType::RegularFile { Ok(()) } else { Err(Errno::ACCESS) }
    })
}

/// Returns only if no candidate could be executed.
pub(super) fn execute(candidates: &[CString], arguments: &StringArray, environment: &StringArray) -> Errno {
    let attempt = |path: &CStr| {
        // SAFETY: a string and two arrays of strings with null at their ends, all outliving the call.
        let result = unsafe {
            libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr())
        };
        check(result).map(drop)
    };
    first(candidates, attempt).err().unwrap_or(Errno::NOENT)
}

/// As a shell does: what is missing is passed over, and what may not be executed is remembered.
fn first(candidates: &[CString], mut attempt: impl FnMut(&CStr) -> Result<(), Errno>) -> Result<(), Errno> {
    let mut error = Errno::NOENT;
    for path in candidates {
        match attempt(path) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) => error = Errno::ACCESS,
            Err(errno) => return Err(errno),
        }
    }
    Err(error)
}

pub(super) fn execute_file(program: RawFd, arguments: &StringArray) -> Errno {
    let empty: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: an empty string and two arrays with null at their ends, all outliving the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            arguments.as_ptr(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::NOEXEC)
}
