//! `fileKeyRef`: a variable from an env file in an emptyDir of the Pod (`validateFileKeySelector`, KEP-3721).

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::pod::{EnvValue, FileKeyRef};
use super::tree::Path;
use super::{check_mount, names};

/// Bytes, as with the kubelet.
const MAX_KEY: usize = 128;

pub(super) fn file_key(
    written: &api::FileKeySelector,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> EnvValue {
    let api::FileKeySelector { key, optional, path: file, volume_name } = written;
    empty_dir(volume_name, spec, &path.key("volumeName"), checker);
    checker.name(&path.key("path"), file, names::file_path);
    let key_path = path.key("key");
    checker.name(&key_path, key, names::env_name);
    if key.len() > MAX_KEY {
        checker.error(&key_path, format!("Too long: may not be more than {MAX_KEY} bytes"));
    }
    EnvValue::File(FileKeyRef {
        volume: volume_name.clone(),
        path: file.clone(),
        key: key.clone(),
        optional: optional.unwrap_or_default(),
    })
}

fn empty_dir(name: &str, spec: &api::PodSpec, path: &Path, checker: &mut Checker<'_>) {
    check_mount::volume(name, spec, path, checker);
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == name);
    if volume.is_some_and(|volume| volume.empty_dir.is_none()) {
        checker.invalid(path, name, "referenced volume must be of type emptyDir");
    }
}
