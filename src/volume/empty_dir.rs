//! emptyDir: a folder that lives as long as its Pod, on disk or in memory.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount};

use super::Error;
use crate::manifest::pod::{Medium, Volume};

/// Everyone may write to it, whatever the umask (`V/emptydir/empty_dir.go:setupDir`).
const MODE: u32 = 0o777;

pub(super) fn prepare(
    volume: &Volume,
    medium: Medium,
    size_limit: Option<u64>,
    path: &Path,
    owner: u32,
) -> Result<(), Error> {
    let error =
        |doing| move |cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause };
    fs::create_dir_all(path).map_err(error("make"))?;
    if medium == Medium::Memory && !is_mount_point(path).map_err(error("look at"))? {
        mount_tmpfs(path, size_limit).map_err(error("mount a tmpfs on"))?;
    }
    if owner != 0 {
        chown(path, Some(owner), Some(owner)).map_err(error("set the owner of"))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(error("set the mode of"))
}

pub(super) fn unmount(volume: &Volume, path: &Path) -> Result<(), Error> {
    let failed =
        |doing, cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause };
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
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let here = fs::symlink_metadata(path)?;
    let around = fs::symlink_metadata(path.join(".."))?;
    Ok(here.dev() != around.dev())
}

fn mount_tmpfs(path: &Path, size_limit: Option<u64>) -> io::Result<()> {
    let mut options = format!("mode={MODE:o}");
    if let Some(bytes) = size_limit {
        options.push_str(&format!(",size={bytes}"));
    }
    let options = CString::new(options)?;
    Ok(mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}
