//! Where containers mount volumes.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::check_volume::plain_path;
use super::names;
use super::pod::{Access, MountPropagation, SubPath, TerminationMessage, VolumeMount};
use super::tree::Path;

pub(super) fn mounts(
    container: &api::Container,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Vec<VolumeMount> {
    let list = path.key("volumeMounts");
    let mut seen = HashSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = list.index(index);
        volume(&mount.name, spec, &path.key("name"), checker);
        let mount_path = mount_path(&mount.mount_path, &path.key("mountPath"), checker);
        checker.unique(&path.key("mountPath"), &mut seen, mount_path.clone(), &mount.mount_path);
        let propagation = propagation(mount, container, spec, &path, checker);
        mounts.push(VolumeMount {
            volume: mount.name.clone(),
            mount_path,
            sub_path: sub_path(mount, &path, checker),
            access: access(mount, propagation, &path, checker),
            propagation,
        });
    }
    let last_words = container.termination_message_path.as_deref().filter(|at| !at.is_empty());
    let last_words = last_words.unwrap_or(TerminationMessage::PATH);
    let places = mounts.iter().enumerate();
    let mut places: Vec<(Path, &str)> = places
        .map(|(index, mount)| (list.index(index).key("mountPath"), mount.mount_path.as_str()))
        .collect();
    places.push((path.key("terminationMessagePath"), last_words));
    nothing_inside_of_what_the_host_sees(&mounts, &places, checker);
    mounts
}

/// What podkeep mounts for the container itself would appear on the host, and stay there.
fn nothing_inside_of_what_the_host_sees(
    mounts: &[VolumeMount],
    places: &[(Path, &str)],
    checker: &mut Checker<'_>,
) {
    for both in mounts.iter().filter(|mount| mount.propagation == MountPropagation::Bidirectional) {
        let around = both.mount_path.as_str();
        for (path, at) in places.iter().filter(|(_, at)| *at != around) {
            if std::path::Path::new(at).starts_with(around) {
                let why = format!("{at} lies in {around}, whose mountPropagation is Bidirectional");
                checker.error(path, format!("Forbidden: {why}: the host would see it, and keep it"));
            }
        }
    }
}

/// A volume of the Pod, by its name.
pub(super) fn volume(name: &str, spec: &api::PodSpec, path: &Path, checker: &mut Checker<'_>) {
    if name.is_empty() {
        return checker.required(path);
    }
    let known: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    if !known.contains(&name) {
        let hint = names::nearest(name, &known).map(|nearest| format!("; did you mean {nearest:?}?"));
        checker.error(path, format!("Not found: {name:?}{}", hint.unwrap_or_default()));
    }
}

/// The path made absolute, as the kubelet does, and without what means nothing in it.
pub(super) fn mount_path(written: &str, path: &Path, checker: &mut Checker<'_>) -> String {
    if written.is_empty() {
        checker.required(path);
        return String::new();
    }
    plain_path(written, path, checker);
    if written.contains(':') {
        checker.invalid(path, written, "must not contain ':'");
    }
    let parts: Vec<&str> = written.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() {
        checker.invalid(path, written, "must not be the root");
    }
    format!("/{}", parts.join("/"))
}

/// `validateVolumeMounts` of Kubernetes.
fn sub_path(mount: &api::VolumeMount, path: &Path, checker: &mut Checker<'_>) -> Option<SubPath> {
    let plain = mount.sub_path.as_deref().filter(|written| !written.is_empty());
    let expression = mount.sub_path_expr.as_deref().filter(|written| !written.is_empty());
    let expression_path = path.key("subPathExpr");
    for (written, path) in [(plain, &path.key("subPath")), (expression, &expression_path)] {
        let Some(written) = written else { continue };
        if written.starts_with('/') {
            checker.invalid(path, written, "must be a relative path");
        }
        plain_path(written, path, checker);
    }
    if let (Some(_), Some(expression)) = (plain, expression) {
        checker.invalid(&expression_path, expression, "subPathExpr and subPath are mutually exclusive");
    }
    let expression = expression.map(|written| SubPath::Expression(written.to_owned()));
    expression.or_else(|| plain.map(|written| SubPath::Plain(written.to_owned())))
}

fn access(
    mount: &api::VolumeMount,
    propagation: MountPropagation,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Access {
    // Every kernel that podkeep runs on can do it, so it always is possible.
    let words = [("Disabled", false), ("IfPossible", true), ("Enabled", true)];
    let path = path.key("recursiveReadOnly");
    let recursive = checker.word(&path, mount.recursive_read_only.as_deref(), &words, false);
    let read_only = mount.read_only.unwrap_or_default();
    if recursive && !read_only {
        checker.error(&path, "Forbidden: may only be specified when readOnly is true");
    }
    if recursive && propagation != MountPropagation::None {
        checker
            .error(&path, "Forbidden: may only be specified when mountPropagation is None or not specified");
    }
    match (read_only, recursive) {
        (false, _) => Access::ReadWrite,
        (true, false) => Access::ReadOnly,
        (true, true) => Access::RecursiveReadOnly,
    }
}

fn propagation(
    mount: &api::VolumeMount,
    container: &api::Container,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> MountPropagation {
    let words = [
        ("None", MountPropagation::None),
        ("HostToContainer", MountPropagation::HostToContainer),
        ("Bidirectional", MountPropagation::Bidirectional),
    ];
    let path = path.key("mountPropagation");
    let written = mount.mount_propagation.as_deref();
    let propagation = checker.word(&path, written, &words, MountPropagation::None);
    if propagation == MountPropagation::Bidirectional {
        let security = container.security_context.as_ref();
        if !security.and_then(|security| security.privileged).unwrap_or_default() {
            let who = "Bidirectional mount propagation is available only to privileged containers";
            checker.error(&path, format!("Forbidden: {who}"));
        }
        if spec.host_users == Some(false) {
            // The kernel makes what a new user namespace sees of shared mounts their slaves (mount_namespaces(7)).
            checker.error(
                &path,
                "Forbidden: when `hostUsers` is false no mount of the container reaches the host",
            );
        }
    }
    propagation
}
