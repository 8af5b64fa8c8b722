//! emptyDir: a folder that lives as long as its Pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::mount::MountFlags;

use super::{Error, Owner, tmpfs};
use crate::manifest::pod::{Medium, Volume};

/// Everyone may write to it, whatever the umask (`V/emptydir/empty_dir.go:setupDir`).
const MODE: u32 = 0o777;

pub(super) fn prepare(
    volume: &Volume,
    medium: Medium,
    size_limit: Option<u64>,
    path: &Path,
    owner: Owner,
) -> Result<(), Error> {
    let error =
        |doing| move |cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause };
    match medium {
        Medium::Disk => fs::create_dir_all(path).map_err(error("make"))?,
        Medium::Memory => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            tmpfs::mount(&volume.name, path, flags, MODE, size_limit)?;
        }
    }
    // What an earlier boot gave to a group is the group's still, with its bit, which says that all below is.
    let group = Some(owner.user).filter(|_| owner.fs_group.is_none());
    if owner.user != 0 {
        chown(path, Some(owner.user), group).map_err(error("set the owner of"))?;
    }
    let permissions = fs::metadata(path).map_err(error("look at"))?.permissions();
    if permissions.mode() & 0o777 == MODE {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(error("set the mode of"))
}
