//! Pod's container and image configuration → OCI runtime `Spec`.

mod capabilities;
mod devices;
mod mounts;
mod process;

use oci_spec::runtime::{
    Linux, LinuxNamespace, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Process, Root, Spec,
};

use super::recipe::Recipe;
use super::seccomp::default_profile;
pub(super) use capabilities::mask as capability_mask;
pub(super) use process::DEFAULT_PATH;

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither the manifest nor the image says what to run")]
    NothingToRun,
    #[error("`{0}` is no capability")]
    UnknownCapability(String),
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

/// Describes the container as an OCI runtime `Spec`, as containerd would for the kubelet.
///
/// Reads nothing of the host but the names of its CPUs and, for a privileged container, of its devices.
///
/// # Errors
/// When there is nothing to run, a capability has no such name, or `/dev` cannot be listed.
pub fn spec(recipe: &Recipe<'_>) -> Result<Spec, Error> {
    let mut root = Root::default();
    root.set_path("rootfs".into());
    root.set_readonly(Some(recipe.container.security.read_only_root));

    let process = process::process(recipe)?;
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_hostname(Some(recipe.hostname.to_owned()))
        .set_mounts(Some(mounts::mounts(recipe)))
        .set_linux(Some(linux(recipe, seccomp(recipe, &process))?))
        .set_process(Some(process));
    Ok(spec)
}

/// The default profile, for the capabilities that the process has.
fn seccomp(recipe: &Recipe<'_>, process: &Process) -> Option<LinuxSeccomp> {
    let sets = process.capabilities().as_ref();
    let permitted = sets.and_then(|sets| sets.permitted().as_ref()).map_or(0, capability_mask);
    (!recipe.container.security.privileged).then(|| (*default_profile(permitted)).clone())
}

fn linux(recipe: &Recipe<'_>, seccomp: Option<LinuxSeccomp>) -> Result<Linux, Error> {
    let privileged = recipe.container.security.privileged;
    let mut linux = Linux::default();
    linux
        .set_resources(if privileged { None } else { Some(resources()) })
        .set_cgroups_path(Some(recipe.cgroup.clone()))
        .set_namespaces(Some(namespaces(recipe)))
        .set_devices(if privileged { Some(devices::of_the_host().map_err(Error::Devices)?) } else { None })
        .set_seccomp(seccomp)
        .set_masked_paths(if privileged { None } else { Some(masked()) })
        .set_readonly_paths(if privileged { None } else { Some(READ_ONLY.map(str::to_owned).into()) });
    Ok(linux)
}

/// Only what no cgroup file says: limits are the node's to write, before the process exists.
fn resources() -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(super::devices::default_rules()));
    resources
}

fn masked() -> Vec<String> {
    MASKED.iter().map(|path| (*path).to_owned()).chain(thermal_throttles()).collect()
}

/// One per CPU that has it: reading it tells what other containers do (as Kubernetes since 1.34).
fn thermal_throttles() -> impl Iterator<Item = String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut found: Vec<String> = cpus
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    found.sort_unstable();
    found.into_iter()
}

fn namespaces(recipe: &Recipe<'_>) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let shared_with_host = |kind| match kind {
        Network => recipe.pod.host_network,
        Uts => recipe.pod.hostname.is_none(),
        _ => false,
    };
    [Mount, Pid, Cgroup, Ipc, Uts, Network]
        .into_iter()
        .filter(|kind| !shared_with_host(*kind))
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
