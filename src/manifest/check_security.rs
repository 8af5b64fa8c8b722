//! `securityContext` of Pod and containers, and which namespaces of the host a Pod is in.

use std::collections::HashSet;
use std::str::FromStr;

use k8s_openapi::api::core::v1 as api;

use super::check::{Checker, Pairs};
use super::check_profiles::{apparmor, seccomp};
use super::pod::{
    FsGroupChangePolicy, ProcMount, SeLinuxOptions, Security, SupplementalGroupsPolicy, Sysctl,
};
use super::sysctl::{self, Namespace};
use super::tree::Path;

/// What the Pod's `securityContext` says for all of it.
pub(super) struct PodSecurity {
    pub fs_group: Option<u32>,
    pub fs_group_change_policy: FsGroupChangePolicy,
    pub supplemental_groups: Vec<u32>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub sysctls: Vec<Sysctl>,
}

pub(super) fn of_pod(spec: &api::PodSpec, checker: &mut Checker<'_>) -> PodSecurity {
    namespaces(spec, checker);
    let path = Path::of("spec.securityContext");
    let written = spec.security_context.clone().unwrap_or_default();
    // Here for their errors, once: what they say goes into each container's settings.
    id(written.run_as_user, &path.key("runAsUser"), checker);
    id(written.run_as_group, &path.key("runAsGroup"), checker);
    seccomp(written.seccomp_profile.as_ref(), &path, checker);
    apparmor(written.app_armor_profile.as_ref(), &path, checker);

    let policies = [("Merge", SupplementalGroupsPolicy::Merge), ("Strict", SupplementalGroupsPolicy::Strict)];
    let policy = written.supplemental_groups_policy.as_deref();
    let change_policies =
        [("Always", FsGroupChangePolicy::Always), ("OnRootMismatch", FsGroupChangePolicy::OnRootMismatch)];
    let change_policy = written.fs_group_change_policy.as_deref();
    let groups = path.key("supplementalGroups");
    let listed = written.supplemental_groups.iter().flatten().enumerate();
    PodSecurity {
        fs_group: id(written.fs_group, &path.key("fsGroup"), checker),
        supplemental_groups: listed
            .filter_map(|(index, gid)| id(Some(*gid), &groups.index(index), checker))
            .collect(),
        supplemental_groups_policy: checker.word(
            &path.key("supplementalGroupsPolicy"),
            policy,
            &policies,
            SupplementalGroupsPolicy::Merge,
        ),
        fs_group_change_policy: checker.word(
            &path.key("fsGroupChangePolicy"),
            change_policy,
            &change_policies,
            FsGroupChangePolicy::Always,
        ),
        sysctls: sysctls(&written, spec, &path.key("sysctls"), checker),
    }
}

fn namespaces(spec: &api::PodSpec, checker: &mut Checker<'_>) {
    let path = Path::of("spec");
    let host_pid = spec.host_pid.unwrap_or_default();
    if host_pid && spec.share_process_namespace.unwrap_or_default() {
        let reason = "ShareProcessNamespace and HostPID cannot both be enabled";
        checker.invalid(&path.key("shareProcessNamespace"), true, reason);
    }
    if spec.host_users.unwrap_or(true) {
        return;
    }
    let of_the_host =
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
    for (field, _) in of_the_host.into_iter().filter(|(_, host)| host.unwrap_or_default()) {
        checker.error(&path.key(field), "Forbidden: when `hostUsers` is false");
    }
}

fn sysctls(
    written: &api::PodSecurityContext,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Vec<Sysctl> {
    let mut seen = HashSet::new();
    let mut sysctls = Vec::new();
    for (index, sysctl) in written.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).key("name");
        let name = sysctl::dotted(&sysctl.name);
        if sysctl.name.is_empty() {
            checker.required(&path);
        } else if let Err(reason) = sysctl::valid_name(&sysctl.name) {
            checker.invalid(&path, &sysctl.name, reason);
        } else {
            checker.unique(&path, &mut seen, name.clone(), &sysctl.name);
            of_the_pod(&sysctl.name, &name, spec, &path, checker);
        }
        sysctls.push(Sysctl { name, value: sysctl.value.clone() });
    }
    sysctls
}

/// Written in a namespace that is the host's, or that does not exist, a sysctl would change the machine.
fn of_the_pod(written: &str, name: &str, spec: &api::PodSpec, path: &Path, checker: &mut Checker<'_>) {
    let host_ipc = spec.host_ipc.unwrap_or_default();
    let host_network = spec.host_network.unwrap_or_default();
    let reason = match sysctl::namespace(name) {
        Some(Namespace::Ipc) if host_ipc => "may not be set with 'hostIPC' = true",
        Some(Namespace::Net) if host_network => "may not be set with 'hostNetwork' = true",
        Some(_) => return,
        None => "it is not a Pod's but the machine's, or unknown: set it on the host",
    };
    checker.invalid(path, written, reason);
}

/// What the container and, where it is silent, the Pod say.
pub(super) fn of_container(
    written: &api::Container,
    spec: &api::PodSpec,
    annotations: &Pairs,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Security {
    let pod = spec.security_context.clone().unwrap_or_default();
    let pod_path = Path::of("spec.securityContext");
    let path = path.key("securityContext");
    let own = written.security_context.clone().unwrap_or_default();
    escalation(&own, &path, checker);
    let user = id(own.run_as_user, &path.key("runAsUser"), checker);
    let group = id(own.run_as_group, &path.key("runAsGroup"), checker);
    let proc_mount = proc_mount(&own, spec, &path, checker);
    let caps = own.capabilities.unwrap_or_default();
    let list = path.key("capabilities");
    // The Pod's own settings have been checked: nobody hears of them again.
    let mut quiet = super::findings::Findings::like(checker.findings);
    let mut unheard = Checker { root: checker.root, findings: &mut quiet };
    let pod_user = id(pod.run_as_user, &pod_path, &mut unheard);
    let pod_group = id(pod.run_as_group, &pod_path, &mut unheard);
    let pod_seccomp = seccomp(pod.seccomp_profile.as_ref(), &pod_path, &mut unheard);
    let pod_apparmor = apparmor(pod.app_armor_profile.as_ref(), &pod_path, &mut unheard);
    let annotated = super::check_profiles::annotated(&written.name, annotations, checker);
    Security {
        run_as_user: user.or(pod_user),
        run_as_group: group.or(pod_group),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or_default(),
        privileged: own.privileged.unwrap_or_default(),
        read_only_root: own.read_only_root_filesystem.unwrap_or_default(),
        allow_privilege_escalation: own.allow_privilege_escalation,
        proc_mount,
        seccomp: seccomp(own.seccomp_profile.as_ref(), &path, checker).or(pod_seccomp),
        apparmor: apparmor(own.app_armor_profile.as_ref(), &path, checker).or(annotated).or(pod_apparmor),
        selinux: selinux(own.se_linux_options).or_else(|| selinux(pod.se_linux_options)),
        capabilities_add: capabilities(caps.add, &list.key("add"), checker),
        capabilities_drop: capabilities(caps.drop, &list.key("drop"), checker),
    }
}

/// Kubernetes looks for the one spelling, `CAP_SYS_ADMIN`; `SYS_ADMIN` passes there, so it must here.
fn escalation(own: &api::SecurityContext, path: &Path, checker: &mut Checker<'_>) {
    if own.allow_privilege_escalation != Some(false) {
        return;
    }
    let path = path.key("allowPrivilegeEscalation");
    if own.privileged.unwrap_or_default() {
        let reason = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        checker.invalid(&path, false, reason);
    }
    let mut added = own.capabilities.iter().flat_map(|caps| caps.add.iter().flatten());
    if added.any(|name| name == "CAP_SYS_ADMIN") {
        let reason = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        checker.invalid(&path, false, reason);
    }
}

fn proc_mount(
    own: &api::SecurityContext,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> ProcMount {
    let words = [("Default", ProcMount::Default), ("Unmasked", ProcMount::Unmasked)];
    let path = path.key("procMount");
    let chosen = checker.word(&path, own.proc_mount.as_deref(), &words, ProcMount::Default);
    if chosen == ProcMount::Unmasked && spec.host_users.unwrap_or(true) {
        checker.invalid(&path, "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    chosen
}

/// `None` where nothing is said: an empty map is no options.
fn selinux(written: Option<api::SELinuxOptions>) -> Option<SeLinuxOptions> {
    let written = written?;
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let options = SeLinuxOptions {
        user: said(written.user),
        role: said(written.role),
        kind: said(written.type_),
        level: said(written.level),
    };
    (options != SeLinuxOptions::default()).then_some(options)
}

fn id(written: Option<i64>, path: &Path, checker: &mut Checker<'_>) -> Option<u32> {
    let id = written?;
    let in_range = u32::try_from(id).ok().filter(|id| i32::try_from(*id).is_ok());
    if in_range.is_none() {
        checker.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
    in_range
}

fn capabilities(written: Option<Vec<String>>, path: &Path, checker: &mut Checker<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (index, written) in written.into_iter().flatten().enumerate() {
        let upper = written.to_uppercase();
        let name = match upper.strip_prefix("CAP_").unwrap_or(&upper) {
            "ALL" => "ALL".to_owned(),
            short => format!("CAP_{short}"),
        };
        if name != "ALL" && caps::Capability::from_str(&name).is_err() {
            checker.invalid(&path.index(index), &written, "the kernel has no such capability");
        }
        names.push(name);
    }
    names
}
