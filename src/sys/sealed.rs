//! This program's own file, out of reach of what it starts (CVE-2019-5736).
//!
//! A container's first process is a copy of ours until it executes, so the container may execute `/proc/self/exe` (as its
//! entrypoint, after `#!`, as its loader) and is our program then, with a link to our file that opens it for writing as
//! soon as nobody runs it. So we run from a mount of that one file that is read-only, attached nowhere, and kept alive
//! only by the processes that run from it: nobody can make it writable again, remount it or copy it (docs/adr/007).

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mount::{READ_ONLY, set_attributes};

const OWN_FILE: &str = "/proc/self/exe";

/// Where the file lies on disk, for a process that has no other way to know.
const VARIABLE: &str = "PODKEEP_EXE";

/// Why this program cannot be executed from a read-only mount of its file.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("find this program's own file ({OWN_FILE}): {0}")]
    Find(#[source] io::Error),
    #[error(
        "execute {} from a read-only mount, so that no container can overwrite it: {cause}{}",
        path.display(), hint(cause)
    )]
    Execute { path: PathBuf, cause: io::Error },
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => " (this needs CAP_SYS_ADMIN, as containers do)",
        _ => "",
    }
}

/// Executes this program anew from a read-only mount of its file, unless it runs from one already. To be called
/// by every command that starts a container's process, before it opens anything.
///
/// Comes back in the new program. Arguments, environment (with one variable more), blocked signals and descriptors that
/// are not close-on-exec stay as they are; who is not dumpable any more has to say so again.
///
/// # Errors
/// When that is not possible; nothing has changed then.
pub fn ensure() -> Result<(), SealError> {
    if is_sealed().map_err(SealError::Find)? {
        // The kernel names a process that was executed by descriptor after the number of that, before 6.14.
        return rustix::thread::set_name(c"podkeep").map_err(|errno| SealError::Find(errno.into()));
    }
    let path = std::env::current_exe().map_err(SealError::Find)?;
    let mut environment: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name != VARIABLE).collect();
    environment.push((VARIABLE.into(), path.clone().into()));
    // By the link, which names the file that runs even when another one has taken its place on disk.
    match execute(OWN_FILE.as_ref(), environment) {
        Ok(never) => match never {},
        Err(cause) => Err(SealError::Execute { path, cause }),
    }
}

/// Where this program's file lies on disk: not what `/proc/self/exe` shows.
///
/// # Errors
/// The kernel's.
pub fn on_disk() -> io::Result<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(path) if is_sealed()? => Ok(path.into()),
        _ => std::env::current_exe(),
    }
}

/// A mount that is attached nowhere has no path, so the root of it, which here is a file, shows as `/`.
fn is_sealed() -> io::Result<bool> {
    Ok(std::fs::read_link(OWN_FILE)? == Path::new("/")
        && statvfs(OWN_FILE)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Executes the file from a read-only mount of it, with our own arguments. Not `std`'s exec, which would unblock the signals
/// that may be waiting.
///
/// # Errors
/// The kernel's; nothing has changed then.
pub fn execute(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Result<std::convert::Infallible> {
    let arguments = std::env::args_os().map(|argument| text(&[&argument])).collect::<io::Result<Vec<_>>>()?;
    let environment = environment
        .into_iter()
        .map(|(name, value)| text(&[&name, "=".as_ref(), &value]))
        .collect::<io::Result<Vec<_>>>()?;
    let mount = read_only_mount(file)?;
    Ok(nix::unistd::execveat(mount.as_fd(), c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH)?)
}

fn read_only_mount(file: &Path) -> io::Result<OwnedFd> {
    let mount = open_tree(CWD, file, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(mount.as_fd(), READ_ONLY, 0, false)?;
    Ok(mount)
}

fn text(parts: &[&OsStr]) -> io::Result<CString> {
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    CString::new(bytes.concat()).map_err(io::Error::other)
}
