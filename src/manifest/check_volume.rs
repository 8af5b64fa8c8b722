//! Volumes.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::check_container;
use super::check_files;
use super::check_resources;
use super::names;
use super::pod::{HostPathKind, Medium, Volume, VolumeKind};
use super::quantity::Quantity;
use super::tree::Path;

pub(super) fn volumes(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Vec<Volume> {
    let list = Path::of("spec.volumes");
    let mut seen = HashSet::new();
    let mut volumes = Vec::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = list.index(index);
        checker.name(&path.key("name"), &volume.name, names::dns_label);
        if !volume.name.is_empty() {
            checker.unique(&path.key("name"), &mut seen, &volume.name, &volume.name);
        }
        volumes.push(Volume { name: volume.name.clone(), kind: kind(volume, spec, &path, checker) });
    }
    volumes
}

/// A volume without a source is an `emptyDir`, as in Kubernetes. Other sources are refused before.
fn kind(volume: &api::Volume, spec: &api::PodSpec, path: &Path, checker: &mut Checker<'_>) -> VolumeKind {
    let mut kinds = Vec::new();
    if let Some(written) = &volume.host_path {
        kinds.push(host_path_volume(written, &path.key("hostPath"), checker));
    }
    if let Some(written) = &volume.empty_dir {
        kinds.push(empty_dir_volume(written, spec, &path.key("emptyDir"), checker));
    }
    if let Some(written) = &volume.image {
        kinds.push(image_volume(written, &path.key("image"), checker));
    }
    if let Some(written) = &volume.config_map {
        kinds.push(check_files::config_map_volume(written, &path.key("configMap"), checker));
    }
    if let Some(written) = &volume.secret {
        kinds.push(check_files::secret_volume(written, &path.key("secret"), checker));
    }
    if let Some(written) = &volume.downward_api {
        kinds.push(check_files::downward_volume(written, spec, &path.key("downwardAPI"), checker));
    }
    if let Some(written) = &volume.projected {
        kinds.push(check_files::projected_volume(written, spec, &path.key("projected"), checker));
    }
    if kinds.len() > 1 {
        checker.error(path, "may not specify more than 1 volume type");
    }
    kinds.pop().unwrap_or(VolumeKind::EmptyDir { medium: Medium::Disk, size_limit: None })
}

fn image_volume(written: &api::ImageVolumeSource, path: &Path, checker: &mut Checker<'_>) -> VolumeKind {
    let reference = check_container::image(written.reference.as_deref(), &path.key("reference"), checker);
    let policy = written.pull_policy.as_deref();
    let pull_policy = check_container::pull_policy(policy, &reference, &path.key("pullPolicy"), checker);
    VolumeKind::Image { reference, pull_policy }
}

fn host_path_volume(
    written: &api::HostPathVolumeSource,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let words = [
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    let kind = checker.word(&path.key("type"), written.type_.as_deref(), &words, HostPathKind::Unchecked);
    let path = path.key("path");
    if written.path.is_empty() {
        checker.required(&path);
    } else if !written.path.starts_with('/') {
        checker.invalid(&path, &written.path, "must be an absolute path");
    } else {
        plain_path(&written.path, &path, checker);
    }
    VolumeKind::HostPath { path: written.path.clone(), kind }
}

/// A path that leads nowhere but down.
pub(super) fn plain_path(written: &str, path: &Path, checker: &mut Checker<'_>) {
    if written.split('/').any(|part| part == "..") {
        checker.invalid(path, written, "must not contain '..'");
    }
    if written.contains('\0') {
        checker.invalid(path, written, "must not contain NUL");
    }
}

/// A limit of zero is none (`K/eviction/eviction_manager.go:emptyDirLimitEviction`).
fn empty_dir_volume(
    written: &api::EmptyDirVolumeSource,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let medium = medium(written.medium.as_deref().unwrap_or_default(), spec, &path.key("medium"), checker);
    let path = path.key("sizeLimit");
    let size_limit = written.size_limit.as_ref().and_then(|limit| match Quantity::parse(&limit.0) {
        Ok(limit) => Some(limit.units()),
        Err(reason) => {
            checker.invalid(&path, &limit.0, reason);
            None
        }
    });
    VolumeKind::EmptyDir { medium, size_limit: size_limit.filter(|bytes| *bytes > 0) }
}

const HUGE: &str = "HugePages";

fn medium(written: &str, spec: &api::PodSpec, path: &Path, checker: &mut Checker<'_>) -> Medium {
    match written {
        "" => return Medium::Disk,
        "Memory" => return Medium::Memory,
        _ => {}
    }
    let size = written.strip_prefix(HUGE).and_then(|rest| match rest {
        "" => Some(None),
        _ => check_resources::bytes_of_page(rest.strip_prefix('-')?).map(Some),
    });
    let Some(size) = size else {
        let hint = match names::nearest(written, &["Memory", HUGE]) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => "supported values: \"\", \"Memory\", \"HugePages\", \"HugePages-2Mi\" and other sizes"
                .to_owned(),
        };
        checker.error(path, format!("Unsupported value: {written:?}: {hint}"));
        return Medium::Disk;
    };
    match huge_page(size, &check_resources::page_sizes(spec)) {
        Ok(size) => Medium::HugePages(size),
        Err(reason) => {
            checker.invalid(path, written, reason);
            Medium::Disk
        }
    }
}

/// The size of its pages, where the Pod asks for such (`V/emptydir/empty_dir.go:getPageSizeMountOption`).
fn huge_page(written: Option<u64>, asked: &BTreeSet<u64>) -> Result<u64, &'static str> {
    const NOT_ASKED: &str =
        "hugePages storage requested, but there is no resource request for huge pages of that size";
    match (written, asked.len()) {
        (Some(size), _) => asked.get(&size).copied().ok_or(NOT_ASKED),
        (None, 2..) => Err("can't be used if containers request multiple huge page sizes"),
        (None, _) => asked
            .first()
            .copied()
            .ok_or("hugePages storage requested, but there is no resource request for huge pages"),
    }
}
