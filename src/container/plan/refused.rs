//! What the OCI runtime specification knows and podkeep does not do: refused by name, never ignored.

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::PlanError;

pub(super) fn check(spec: &Spec) -> Result<(), PlanError> {
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref();
    let asked = [
        (spec.vm().is_some(), "vm"),
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (linux.is_some_and(joins_mount_namespace), "linux.namespaces: a mount namespace by its path"),
        (linux.is_some_and(|linux| linux.intel_rdt().is_some()), "linux.intelRdt"),
        (linux.is_some_and(|linux| linux.memory_policy().is_some()), "linux.memoryPolicy"),
        (
            linux
                .is_some_and(|linux| linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
            "linux.netDevices",
        ),
        (process.is_some_and(|process| process.exec_cpu_affinity().is_some()), "process.execCPUAffinity"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, field)) => Err(PlanError::NotSupported(field)),
        None => Ok(()),
    }
}

/// Its mounts, and its root, would be made in the place of those that whoever made it has: another container's, or the host's.
fn joins_mount_namespace(linux: &Linux) -> bool {
    let mut listed = linux.namespaces().iter().flatten();
    listed.any(|one| one.typ() == LinuxNamespaceType::Mount && one.path().is_some())
}
