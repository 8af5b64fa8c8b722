//! Pod's container and image configuration → OCI runtime `Spec`.

mod capabilities;
mod devices;
mod mounts;
mod namespaces;
mod process;
mod security;

use std::sync::LazyLock;

use oci_spec::runtime::{Linux, LinuxResources, Root, Spec};

use super::recipe::Recipe;
use crate::manifest::pod::ProcMount;
use crate::order;
pub(super) use capabilities::mask as capability_mask;
pub use capabilities::permitted as permitted_capabilities;
pub(super) use process::DEFAULT_PATH;

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither the manifest nor the image says what to run")]
    NothingToRun,
    #[error("`{0}` is no capability")]
    UnknownCapability(String),
    #[error(
        "the Pod has a user namespace of its own (hostUsers: false), but no range of ids was given to it"
    )]
    NoIds,
    #[error(
        "the {what} {id} does not exist in the Pod's user namespace, which has the ids below {size}: \
         userNamespaces.idsPerPod of the configuration makes it larger"
    )]
    IdOutsideRange { what: &'static str, id: u32, size: u32 },
    #[error("list the devices of the host: {0}")]
    Devices(#[source] std::io::Error),
    #[error("describe the container: {0}")]
    Spec(#[source] oci_spec::OciSpecError),
}

/// Paths of the kernel that tell of the host or reach into it (`pkg/securitycontext` of Kubernetes).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What may be read but not written (from the same place).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Describes the container as an OCI runtime `Spec`, as containerd would for the kubelet, but for its seccomp profile: that is
/// compiled already ([`Setting::seccomp`](super::Setting::seccomp)).
///
/// Reads nothing of the host but the names of its CPUs and, for a privileged container, of its devices.
///
/// # Errors
/// When there is nothing to run, a capability has no such name, or `/dev` cannot be listed.
pub fn spec(recipe: &Recipe<'_>) -> Result<Spec, Error> {
    let mut root = Root::default();
    root.set_path("rootfs".into());
    root.set_readonly(Some(recipe.container.security.read_only_root));

    let mut spec = Spec::default();
    spec.set_root(Some(root))
        // Without a UTS namespace of its own it would be the host's name that is set: a runtime has to refuse that.
        .set_hostname(recipe.pod.hostname.as_ref().map(|_| recipe.hostname.to_owned()))
        .set_mounts(Some(mounts::mounts(recipe)))
        .set_linux(Some(linux(recipe)?))
        .set_process(Some(process::process(recipe)?));
    Ok(spec)
}

fn linux(recipe: &Recipe<'_>) -> Result<Linux, Error> {
    let security = &recipe.container.security;
    let privileged = security.privileged;
    let covered = !privileged && security.proc_mount == ProcMount::Default;
    let mut linux = Linux::default();
    linux
        .set_resources(Some(resources(recipe)))
        .set_cgroups_path(Some(recipe.cgroup.clone()))
        .set_namespaces(Some(namespaces::namespaces(recipe)))
        .set_devices(if privileged { Some(devices::of_the_host().map_err(Error::Devices)?) } else { None })
        .set_sysctl(security::sysctls(recipe.pod))
        .set_mount_label(security::mount_label(recipe))
        .set_masked_paths(covered.then(masked))
        .set_readonly_paths(covered.then(|| READ_ONLY.map(str::to_owned).into()));
    if let Some(ids) = namespaces::own_ids(recipe)? {
        let mappings = vec![namespaces::mapping(ids)?];
        linux.set_uid_mappings(Some(mappings.clone())).set_gid_mappings(Some(mappings));
    }
    Ok(linux)
}

/// The limits, and which devices may be used: all of them where the container is privileged.
fn resources(recipe: &Recipe<'_>) -> LinuxResources {
    let mut resources = recipe.resources.clone();
    let privileged = recipe.container.security.privileged;
    resources.set_devices((!privileged).then(super::devices::default_rules));
    resources
}

fn masked() -> Vec<String> {
    MASKED.iter().map(|path| (*path).to_owned()).chain(THERMAL_THROTTLES.iter().cloned()).collect()
}

/// One per CPU that has it: reading it tells what other containers do (as Kubernetes since 1.34). Looked for once.
static THERMAL_THROTTLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut found: Vec<String> = cpus
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    order::sort(&mut found);
    found
});

#[cfg(test)]
pub(super) mod tests;
