//! What lies in memory: the file systems of one Pod, and that of all files, mounted on the host.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::Error;

/// A file system in memory.
pub(super) enum Kind {
    /// What is in it may be swapped out.
    Tmpfs,
    /// It may not, from 6.4 on.
    Unswapped,
    /// Of pages of so many bytes.
    HugePages(u64),
}

/// Makes the folder and mounts a file system of `size` bytes on it (half of the memory where there is none, and all pages
/// there are), unless one is there.
pub(super) fn mount(
    volume: &str,
    path: &Path,
    flags: MountFlags,
    mode: u32,
    kind: Kind,
    size: Option<u64>,
) -> Result<(), Error> {
    let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    mount_with(volume, path, flags, kind, &format!("mode={mode:o}{size}"))
}

/// What no disk may ever hold. For root alone, and no more than a quarter of the memory.
pub(super) fn mount_files(volume: &str, path: &Path) -> Result<(), Error> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_with(volume, path, flags, Kind::Unswapped, "mode=700,size=25%")
}

fn mount_with(volume: &str, path: &Path, flags: MountFlags, kind: Kind, options: &str) -> Result<(), Error> {
    let failed = |doing, cause| Error::Io { volume: volume.to_owned(), doing, path: path.to_owned(), cause };
    fs::create_dir_all(path).map_err(|cause| failed("make", cause))?;
    if is_mount_point(path).map_err(|cause| failed("look at", cause))? {
        return Ok(());
    }
    let mount = |name: &str, more: &str| {
        let options = CString::new(format!("{options}{more}")).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(name, path, name, flags, options.as_c_str())
    };
    let (doing, mounted) = match kind {
        Kind::Tmpfs => ("mount a tmpfs on", mount("tmpfs", "")),
        // An older kernel does not know the option.
        Kind::Unswapped => match mount("tmpfs", ",noswap") {
            Err(Errno::INVAL) => ("mount a tmpfs on", mount("tmpfs", "")),
            other => ("mount a tmpfs on", other),
        },
        Kind::HugePages(size) => ("mount a hugetlbfs on", mount("hugetlbfs", &format!(",pagesize={size}"))),
    };
    mounted.map_err(|errno| failed(doing, errno.into()))
}

/// No error where none is mounted.
pub(super) fn unmount(volume: &str, path: &Path) -> Result<(), Error> {
    let failed = |doing, cause| Error::Io { volume: volume.to_owned(), doing, path: path.to_owned(), cause };
    match is_mount_point(path) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed("look at", cause)),
    }
    // Lazily: a process of the host that looks into it must not keep the Pod from going.
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|errno| failed("unmount", errno.into()))
}

/// A mount's root is on another device than the folder around it: sure for what lies in memory, which never shares one.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let here = fs::symlink_metadata(path)?;
    let around = fs::symlink_metadata(path.join(".."))?;
    Ok(here.dev() != around.dev())
}
