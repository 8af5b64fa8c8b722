//! The tmpfs of one Pod, mounted on the host.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::Error;

/// Makes the folder and mounts a tmpfs of `size` bytes on it (half of the memory where there is none), unless one is there.
pub(super) fn mount(
    volume: &str,
    path: &Path,
    flags: MountFlags,
    mode: u32,
    size: Option<u64>,
) -> Result<(), Error> {
    let error =
        |doing| move |cause| Error::Io { volume: volume.to_owned(), doing, path: path.to_owned(), cause };
    fs::create_dir_all(path).map_err(error("make"))?;
    if is_mount_point(path).map_err(error("look at"))? {
        return Ok(());
    }
    let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let mounted = CString::new(format!("mode={mode:o}{size}"))
        .map_err(io::Error::from)
        .and_then(|options| Ok(rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?));
    mounted.map_err(error("mount a tmpfs on"))
}

/// The same for what no disk may ever hold: the kernel does not swap it out, from 6.4 on. For root alone, and no more than a
/// quarter of the memory.
pub(super) fn mount_unswapped(volume: &str, path: &Path) -> Result<(), Error> {
    let failed = |doing, cause| Error::Io { volume: volume.to_owned(), doing, path: path.to_owned(), cause };
    fs::create_dir_all(path).map_err(|cause| failed("make", cause))?;
    if is_mount_point(path).map_err(|cause| failed("look at", cause))? {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mount = |options: &CStr| rustix::mount::mount("tmpfs", path, "tmpfs", flags, options);
    let mounted = match mount(c"mode=700,size=25%,noswap") {
        Err(Errno::INVAL) => mount(c"mode=700,size=25%"),
        other => other,
    };
    mounted.map_err(|errno| failed("mount a tmpfs on", errno.into()))
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

/// A mount's root is on another device than the folder around it: sure for a tmpfs, which never shares one.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let here = fs::symlink_metadata(path)?;
    let around = fs::symlink_metadata(path.join(".."))?;
    Ok(here.dev() != around.dev())
}
