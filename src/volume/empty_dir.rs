//! emptyDir: a folder that lives as long as its Pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::mount::MountFlags;

use super::in_memory::{self, Kind};
use super::{Error, Owner};
use crate::cgroup::PodLimits;
use crate::manifest::Pod;
use crate::manifest::pod::{Medium, Volume};

/// Everyone may write to it, whatever the umask (`V/emptydir/empty_dir.go:setupDir`).
pub(super) const MODE: u32 = 0o777;
/// In a tmpfs, nobody can take away what another user has put there: the kubelet leaves it the kernel's own mode.
pub(super) const TMPFS_MODE: u32 = 0o1777;

/// How large the file system of a volume in memory is, in bytes: no larger than what the Pod may use of the memory
/// (`V/emptydir/empty_dir.go:calculateEmptyDirMemorySize`).
pub(super) fn size(medium: Medium, size_limit: Option<u64>, pod: &Pod) -> Option<u64> {
    let of_pod = match medium {
        Medium::Memory => PodLimits::of(pod, None).memory_limit.filter(|bytes| *bytes > 0),
        Medium::Disk | Medium::HugePages(_) => None,
    };
    size_limit.into_iter().chain(of_pod).min()
}

/// `size`: see [`size`].
pub(super) fn prepare(
    volume: &Volume,
    medium: Medium,
    size: Option<u64>,
    path: &Path,
    owner: Owner,
) -> Result<(), Error> {
    let error =
        |doing| move |cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause };
    let (kind, mode) = match medium {
        Medium::Disk => (None, MODE),
        Medium::Memory => (Some(Kind::Unswapped), TMPFS_MODE),
        Medium::HugePages(page) => (Some(Kind::HugePages(page)), MODE),
    };
    match kind {
        None => fs::create_dir_all(path).map_err(error("make"))?,
        Some(kind) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            in_memory::mount(&volume.name, path, flags, mode, kind, size)?;
        }
    }
    // What an earlier boot gave to a group is the group's still, with its bit, which says that all below is.
    let group = Some(owner.user).filter(|_| owner.fs_group.is_none());
    if owner.user != 0 {
        chown(path, Some(owner.user), group).map_err(error("set the owner of"))?;
    }
    let permissions = fs::metadata(path).map_err(error("look at"))?.permissions();
    if permissions.mode() & mode == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(error("set the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_by_the_volume_and_by_what_all_containers_may_use() {
        let with = |first: &str, second: &str| {
            let container = |name: &str, limit: &str| {
                format!("{{name: {name}, image: i:1, resources: {{limits: {{{limit}}}}}}}")
            };
            let text = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{}, {}]}}}}",
                container("a", first),
                container("b", second)
            );
            let pods =
                crate::manifest::decode(Path::new("a.yaml"), text.as_bytes(), "n").map(|read| read.pods);
            pods.unwrap_or_else(|errors| panic!("{errors:?}")).swap_remove(0)
        };
        let (limited, half, none) = (with("memory: 20", "memory: 10"), with("memory: 20", ""), with("", ""));
        assert_eq!(size(Medium::Memory, Some(40), &limited), Some(30));
        assert_eq!(size(Medium::Memory, Some(25), &limited), Some(25));
        assert_eq!(size(Medium::Memory, None, &limited), Some(30));
        assert_eq!(size(Medium::Memory, Some(40), &half), Some(40), "one of them may use all");
        assert_eq!(size(Medium::Memory, None, &none), None);
        // Pages are not the memory that is limited so.
        assert_eq!(size(Medium::HugePages(2 << 20), None, &limited), None);
    }
}
