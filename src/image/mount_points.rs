//! The layer below every image: empty places for what is mounted into each container.
//!
//! Hardly an image has a `/proc` or an `/etc/hosts`. Made in a container's writable layer when it starts, those of `/etc` would cost a
//! copy of that folder and three new files on the disk, half a millisecond of a start that takes three. Here they are made once. What
//! an image says of the same paths, it says above this: a link, a whiteout, another mode.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Error;

/// Its name among the layers: none that a layer of an image can get.
pub const MOUNT_POINTS: &str = "mount-points";

const FOLDERS: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes what is missing of it. Nothing is synced: what a power cut takes is made again.
pub(super) fn make(layers: &Path) -> Result<(), Error> {
    let layer = layers.join(MOUNT_POINTS);
    for name in FOLDERS {
        make_one(&layer.join(name), 0o755, |path| fs::create_dir(path))?;
    }
    for name in FILES {
        make_one(&layer.join(name), 0o644, |path| File::create_new(path).map(drop))?;
    }
    Ok(())
}

/// With that mode whatever the umask.
fn make_one(path: &Path, mode: u32, make: fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    match make(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::io("create", path)(error)),
        _ => Ok(()),
    }
}
