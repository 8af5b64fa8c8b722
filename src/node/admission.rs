//! What this machine and its configuration refuse a Pod, before anything is made for it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::container::Lsm;
use crate::manifest::pod::AppArmorProfile;
use crate::manifest::quantity::Quantity;
use crate::manifest::{Pod, forbidden_sysctls, host_name_length};
use crate::network;
use crate::order;

/// Has a folder for each size of pages that this machine has.
const PAGE_SIZES: &str = "/sys/kernel/mm/hugepages";

/// Why a Pod is not admitted. Begins with the reason that the kubelet gives, where it has one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("SysctlForbidden: {0}: a node allows sysctls beyond the safe ones with allowedUnsafeSysctls")]
    Sysctl(String),
    #[error(
        "AppArmor: container {container} asks for the profile {profile:?}, and this machine has no AppArmor"
    )]
    AppArmor { container: String, profile: String },
    #[error("setHostnameAsFQDN: {name}: {reason}: give it a shorter hostname or subdomain")]
    HostName { name: String, reason: String },
    #[error("this machine has no pages of {size} (hugepages-{size}): {PAGE_SIZES} names those it has")]
    PageSize { size: String },
}

/// Says whether the Pod may be here at all.
///
/// # Errors
/// The first reason why not. None of them goes away by itself.
pub fn admit(pod: &Pod, allowed_unsafe_sysctls: &[String], lsm: Lsm) -> Result<(), Refusal> {
    let forbidden = forbidden_sysctls(pod, allowed_unsafe_sysctls);
    if !forbidden.is_empty() {
        return Err(Refusal::Sysctl(forbidden.join(", ")));
    }
    for container in pod.containers.iter().filter(|_| !lsm.apparmor) {
        if let Some(AppArmorProfile::Localhost(profile)) = &container.security.apparmor {
            return Err(Refusal::AppArmor { container: container.name.clone(), profile: profile.clone() });
        }
    }
    match page_sizes(pod).into_iter().find(|size| !has_pages(Path::new(PAGE_SIZES), size)) {
        Some(size) => Err(Refusal::PageSize { size: size.to_owned() }),
        None => Ok(()),
    }
}

/// What the kernel shall call the Pod's machine: only the configuration's `clusterDomain` makes the whole name.
///
/// # Errors
/// When it is too long for a kernel. It is not cut: half a name is another one.
pub fn host_name(pod: &Pod, cluster_domain: &str) -> Result<Option<String>, Refusal> {
    let name = network::host_name(pod, cluster_domain);
    match name.as_deref().map_or(Ok(()), host_name_length) {
        Ok(()) => Ok(name),
        Err(reason) => Err(Refusal::HostName { name: name.unwrap_or_default(), reason }),
    }
}

/// What the Pod asks for that has no effect on this machine, as sentences.
pub fn unheeded(pod: &Pod, lsm: Lsm) -> Vec<String> {
    let labelled = pod.containers.iter().filter(|container| container.security.selinux.is_some());
    let sentence =
        |name: &str| format!("container {name}: seLinuxOptions: ignored, this machine has no SELinux");
    match lsm.selinux {
        true => Vec::new(),
        false => labelled.map(|container| sentence(&container.name)).collect(),
    }
}

fn page_sizes(pod: &Pod) -> BTreeSet<&str> {
    let all = pod.containers.iter().map(|container| &container.resources).chain(&pod.resources);
    order::set(all.flat_map(|resources| resources.limits.hugepages.keys()).map(String::as_str))
}

fn has_pages(folder: &Path, size: &str) -> bool {
    let bytes = Quantity::parse(size).map_or(0, Quantity::units);
    folder.join(format!("hugepages-{}kB", bytes / 1024)).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::decode;

    const NONE: Lsm = Lsm { apparmor: false, selinux: false };

    /// `spec` goes into the Pod's spec, `container` into its container.
    fn pod(spec: &str, container: &str) -> Pod {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, \
             spec: {{{spec}, containers: [{{name: c, image: i:1, {container}}}]}}}}"
        );
        let pods = decode(Path::new("a.yaml"), text.as_bytes(), "n").map(|manifest| manifest.pods);
        pods.unwrap_or_else(|errors| panic!("{errors:?}")).swap_remove(0)
    }

    #[test]
    fn a_name_that_the_kernel_does_not_take_keeps_the_pod_out() {
        let of = |cluster_domain: &str| {
            host_name(&pod("subdomain: s, setHostnameAsFQDN: true", ""), cluster_domain)
                .map_err(|refused| refused.to_string())
        };
        assert_eq!(of("c.local"), Ok(Some("a-n.s.default.svc.c.local".to_owned())));
        assert_eq!(of(&"d".repeat(46)).map(|name| name.unwrap().len()), Ok(64));
        let refused = of(&"d".repeat(47)).unwrap_err();
        assert!(refused.contains("must be no more than 64 bytes, and this has 65"), "{refused}");
    }

    #[test]
    fn a_sysctl_that_the_node_does_not_allow_keeps_the_pod_out() {
        let pod = pod("securityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}]}", "");
        let refused = admit(&pod, &[], NONE).unwrap_err().to_string();
        assert!(
            refused.starts_with("SysctlForbidden: forbidden sysctl: \"net.core.somaxconn\""),
            "{refused}"
        );
        assert_eq!(admit(&pod, &["net.core.*".to_owned()], NONE), Ok(()));
    }

    #[test]
    fn a_profile_that_nothing_could_enforce_keeps_the_pod_out() {
        let pod =
            pod("hostname: a", "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: p}}");
        let refused = Refusal::AppArmor { container: "c".to_owned(), profile: "p".to_owned() };
        assert_eq!(admit(&pod, &[], NONE), Err(refused));
        assert_eq!(admit(&pod, &[], Lsm { apparmor: true, ..NONE }), Ok(()));
    }

    #[test]
    fn pages_of_a_size_that_no_machine_has_keep_the_pod_out() {
        let pod = pod("hostname: a", "resources: {limits: {cpu: 1, hugepages-3Mi: 3Mi}}");
        assert_eq!(admit(&pod, &[], NONE), Err(Refusal::PageSize { size: "3Mi".to_owned() }));
        let sizes = tempfile::tempdir().unwrap();
        std::fs::create_dir(sizes.path().join("hugepages-2048kB")).unwrap();
        assert!(has_pages(sizes.path(), "2Mi") && !has_pages(sizes.path(), "1Gi"));
    }

    #[test]
    fn a_label_without_selinux_is_spoken_of() {
        let pod = pod("securityContext: {seLinuxOptions: {level: s0}}", "");
        assert_eq!(unheeded(&pod, NONE).len(), 1);
        assert!(unheeded(&pod, Lsm { selinux: true, ..NONE }).is_empty());
    }
}
