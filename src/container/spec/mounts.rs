//! What is mounted in a container: the kernel's own file systems, then the volumes and files of the Pod.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::container::recipe::{Bind, Recipe};
use crate::manifest::pod::{Access, MountPropagation};
use crate::order;

/// In the order of depth, so that a mount never hides one before it; a bind comes after a default of its depth.
pub(super) fn mounts(recipe: &Recipe<'_>) -> Vec<Mount> {
    let mut mounts = defaults(recipe);
    mounts.retain(|mount| !recipe.binds.iter().any(|bind| replaces(bind, mount.destination())));
    mounts.extend(recipe.binds.iter().map(bound));
    order::sort_by_key(&mut mounts, |mount| (is_seen_by_host(mount), depth(mount.destination())));
    mounts
}

/// A `Bidirectional` volume comes last: nothing of ours is ever mounted in one, as `/sys/fs/cgroup` would be in the host's
/// `/sys`, for it would be mounted on the host too.
fn is_seen_by_host(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|option| option == SEEN_BY_HOST)
}

const SEEN_BY_HOST: &str = "rshared";

/// As with containerd: a volume on the place of a default mount replaces it, and one on `/dev` all below it too.
fn replaces(bind: &Bind, default: &Path) -> bool {
    let at = Path::new(&bind.destination);
    at == default || (at == Path::new("/dev") && default.starts_with("/dev"))
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

fn defaults(recipe: &Recipe<'_>) -> Vec<Mount> {
    let kernel = if recipe.container.security.privileged { "rw" } else { "ro" };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", kernel]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        shared_memory(recipe),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", kernel]),
    ]
}

/// The host's where the Pod is on the host's IPC, else the Pod's, else one of the container's own.
fn shared_memory(recipe: &Recipe<'_>) -> Mount {
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let shared = |source: PathBuf, options: &[&str]| {
        let mut mount = mount("/dev/shm", "bind", "", &[&["rbind", "rprivate"], options].concat());
        mount.set_source(Some(source));
        mount
    };
    match &recipe.shm {
        _ if recipe.pod.host_ipc => shared("/dev/shm".into(), &[]),
        // It is mounted so on the host, but crun 1.8 drops what is not said here.
        Some(source) => shared(source.clone(), &SAFE),
        None => mount("/dev/shm", "tmpfs", "shm", &[&SAFE[..], &["mode=1777", "size=65536k"]].concat()),
    }
}

fn bound(bind: &Bind) -> Mount {
    // As containerd says it.
    let propagation = match bind.propagation {
        MountPropagation::None => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => SEEN_BY_HOST,
    };
    let mut options = vec!["rbind", propagation];
    options.extend(match bind.access {
        Access::ReadWrite => None,
        Access::ReadOnly => Some("ro"),
        Access::RecursiveReadOnly => Some("rro"),
    });
    options.extend(bind.mapped.then_some("idmap"));
    let mut mount = mount(&bind.destination, "bind", "", &options);
    mount.set_source(Some(bind.source.clone()));
    mount
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}
