//! Mounts that come later: whether a volume lies where it can see the host's and show the host its own (`mountPropagation`), and
//! what containers have left mounted in an emptyDir.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::UnmountFlags;

use super::{Error, error};
use crate::manifest::Pod;
use crate::manifest::pod::{MountPropagation, Volume};

/// As containerd does when it makes the container (`ensureShared`, `ensureSharedOrSlave`): without it, the container would wait for
/// mounts that never come. `place`: where a volume lies, if it is there.
pub(super) fn check(pod: &Pod, place: &dyn Fn(&Volume) -> Option<PathBuf>) -> Result<(), Error> {
    for mount in pod.containers.iter().flat_map(|container| &container.mounts) {
        if mount.propagation == MountPropagation::None {
            continue;
        }
        let Some(volume) = pod.volumes.iter().find(|volume| volume.name == mount.volume) else { continue };
        let Some(path) = place(volume) else { continue };
        let around = mount_around(&path).map_err(error(volume, "find the mount of", &path))?;
        let both = mount.propagation == MountPropagation::Bidirectional;
        if !around.is_shared && (both || !around.is_slave) {
            return Err(Error::NotShared { volume: volume.name.clone(), path, mount: around.point });
        }
    }
    Ok(())
}

/// Whether a container may leave mounts in that volume.
pub(super) fn may_hold_mounts(pod: &Pod, volume: &Volume) -> bool {
    let mut mounts = pod.containers.iter().flat_map(|container| &container.mounts);
    mounts.any(|mount| mount.volume == volume.name && mount.propagation == MountPropagation::Bidirectional)
}

/// Unmounts all that is mounted below a folder of our own, the last first.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    let folder = match fs::canonicalize(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let mounts = fs::read("/proc/self/mountinfo")?;
    let points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| Mount::of(line).map(|(_, it)| it.point));
    let below: Vec<PathBuf> = points.filter(|point| *point != folder && point.starts_with(&folder)).collect();
    for point in below.iter().rev() {
        match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with the one that was mounted around it.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What `/proc/PID/mountinfo` says of a mount (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    is_shared: bool,
    is_slave: bool,
}

impl Mount {
    /// With the mount's number.
    fn of(line: &[u8]) -> Option<(u64, Mount)> {
        let mut words = line.split(|byte| *byte == b' ');
        let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let point = PathBuf::from(OsString::from_vec(unescaped(words.nth(3)?)));
        let marks = || words.clone().skip(1).take_while(|word| *word != b"-");
        let is = |mark: &[u8]| marks().any(|word| word.starts_with(mark));
        Some((number, Mount { point, is_shared: is(b"shared:"), is_slave: is(b"master:") }))
    }
}

fn mount_around(path: &Path) -> io::Result<Mount> {
    let number = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id;
    let mounts = fs::read("/proc/self/mountinfo")?;
    let mut all = mounts.split(|byte| *byte == b'\n').filter_map(Mount::of);
    all.find(|(id, _)| *id == number)
        .map(|(_, mount)| mount)
        .ok_or_else(|| io::Error::other("it is in none that podkeep sees"))
}

/// Space, tab, newline and backslash stand there as `\040` and so on.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                out.push(escaped);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> (u64, String, bool, bool) {
        let (number, mount) = Mount::of(line.as_bytes()).unwrap();
        (number, mount.point.to_str().unwrap().to_owned(), mount.is_shared, mount.is_slave)
    }

    #[test]
    fn a_line_says_where_a_mount_is_and_who_its_peers_are() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount(line), (36, "/mnt2".to_owned(), false, true));
        let line = "36 35 98:0 / /a\\040b\\134c rw shared:2 master:1 - ext3 /dev/root rw,shared:7";
        assert_eq!(mount(line), (36, "/a b\\c".to_owned(), true, true));
        let line = "36 35 98:0 / / rw - ext3 shared:1 rw";
        assert_eq!(mount(line), (36, "/".to_owned(), false, false));
        assert_eq!(Mount::of(b""), None);
    }

    #[test]
    fn every_place_is_in_a_mount() {
        assert!(mount_around(Path::new("/proc/self")).unwrap().point.starts_with("/proc"));
    }
}
