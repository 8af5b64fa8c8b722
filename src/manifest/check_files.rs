//! Volumes made of files: which sources they have, and whether each file has a place and a mode.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::check_downward;
use super::defaults::FILE_MODE;
use super::names;
use super::object::ObjectKind;
use super::pod::{DownwardFile, FileSource, KeyToPath, ObjectRef, ObjectSource, VolumeKind};
use super::tree::Path;

pub(super) fn config_map_volume(
    written: &api::ConfigMapVolumeSource,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let api::ConfigMapVolumeSource { name, items, optional, default_mode } = written;
    let object = Object::new(ObjectKind::ConfigMap, name, items, *optional);
    of_object(object, "name", *default_mode, path, checker)
}

pub(super) fn secret_volume(
    written: &api::SecretVolumeSource,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let api::SecretVolumeSource { secret_name, items, optional, default_mode } = written;
    let object =
        Object::new(ObjectKind::Secret, secret_name.as_deref().unwrap_or_default(), items, *optional);
    of_object(object, "secretName", *default_mode, path, checker)
}

fn of_object(
    object: Object<'_>,
    name_key: &str,
    default_mode: Option<i32>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let default_mode = default_mode_of(default_mode, path, checker);
    let in_memory = object.kind == ObjectKind::Secret;
    let sources = vec![checked_object(object, name_key, path, &mut Paths::default(), checker)];
    VolumeKind::Files { sources, default_mode, in_memory }
}

pub(super) fn downward_volume(
    written: &api::DownwardAPIVolumeSource,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let default_mode = default_mode_of(written.default_mode, path, checker);
    let items = written.items.as_deref();
    let source = downward(items, spec, path, &mut Paths::default(), checker);
    VolumeKind::Files { sources: vec![source], default_mode, in_memory: true }
}

pub(super) fn projected_volume(
    written: &api::ProjectedVolumeSource,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> VolumeKind {
    let default_mode = default_mode_of(written.default_mode, path, checker);
    let list = path.key("sources");
    let (mut paths, mut sources) = (Paths::default(), Vec::new());
    for (index, written) in written.sources.iter().flatten().enumerate() {
        let path = list.index(index);
        let before = sources.len();
        for (key, object) in objects_of(written) {
            sources.push(checked_object(object, "name", &path.key(key), &mut paths, checker));
        }
        if let Some(api::DownwardAPIProjection { items }) = &written.downward_api {
            let path = path.key("downwardAPI");
            sources.push(downward(items.as_deref(), spec, &path, &mut paths, checker));
        }
        match sources.len() - before {
            1 => {}
            // One of those that are refused, which has been said.
            0 if checker.root.at(&path).is_some_and(|source| !source.is_empty()) => {}
            0 => checker.required(&path),
            _ => checker.error(&path, "may not specify more than 1 volume type"),
        }
    }
    VolumeKind::Files { sources, default_mode, in_memory: true }
}

fn objects_of(written: &api::VolumeProjection) -> Vec<(&'static str, Object<'_>)> {
    let mut objects = Vec::new();
    if let Some(api::ConfigMapProjection { name, items, optional }) = &written.config_map {
        objects.push(("configMap", Object::new(ObjectKind::ConfigMap, name, items, *optional)));
    }
    if let Some(api::SecretProjection { name, items, optional }) = &written.secret {
        objects.push(("secret", Object::new(ObjectKind::Secret, name, items, *optional)));
    }
    objects
}

/// What is written of a ConfigMap or Secret, wherever it stands.
struct Object<'a> {
    kind: ObjectKind,
    name: &'a str,
    items: &'a [api::KeyToPath],
    optional: bool,
}

impl<'a> Object<'a> {
    fn new(
        kind: ObjectKind,
        name: &'a str,
        items: &'a Option<Vec<api::KeyToPath>>,
        optional: Option<bool>,
    ) -> Object<'a> {
        let (items, optional) = (items.as_deref().unwrap_or_default(), optional.unwrap_or_default());
        Object { kind, name, items, optional }
    }
}

fn checked_object(
    object: Object<'_>,
    name_key: &str,
    path: &Path,
    paths: &mut Paths,
    checker: &mut Checker<'_>,
) -> FileSource {
    let Object { kind, name, items, optional } = object;
    checker.name(&path.key(name_key), name, names::dns_subdomain);
    let list = path.key("items");
    let items = items.iter().enumerate().map(|(index, item)| {
        let path = list.index(index);
        checker.name(&path.key("key"), &item.key, names::data_key);
        paths.add(&item.path, &path.key("path"), checker);
        let mode = mode(item.mode, &path.key("mode"), checker);
        KeyToPath { key: item.key.clone(), path: item.path.clone(), mode }
    });
    let object = ObjectRef { kind, name: name.to_owned(), optional };
    FileSource::Object(ObjectSource { object, items: items.collect() })
}

fn downward(
    items: Option<&[api::DownwardAPIVolumeFile]>,
    spec: &api::PodSpec,
    path: &Path,
    paths: &mut Paths,
    checker: &mut Checker<'_>,
) -> FileSource {
    let list = path.key("items");
    let mut files = Vec::new();
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = list.index(index);
        paths.add(&item.path, &path.key("path"), checker);
        let mode = mode(item.mode, &path.key("mode"), checker);
        if let Some(value) = check_downward::value(item, spec, &path, checker) {
            files.push(DownwardFile { path: item.path.clone(), mode, value });
        }
    }
    FileSource::Downward(files)
}

fn default_mode_of(written: Option<i32>, path: &Path, checker: &mut Checker<'_>) -> u32 {
    mode(written, &path.key("defaultMode"), checker).unwrap_or(FILE_MODE)
}

fn mode(written: Option<i32>, path: &Path, checker: &mut Checker<'_>) -> Option<u32> {
    let written = written?;
    let mode = u32::try_from(written).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        checker.invalid(path, written, "must be a number between 0 and 0777 (octal), both inclusive");
    }
    mode
}

/// The files of one volume so far.
#[derive(Default)]
struct Paths(BTreeSet<String>);

impl Paths {
    fn add(&mut self, written: &str, path: &Path, checker: &mut Checker<'_>) {
        if written.is_empty() {
            checker.required(path);
        } else if let Err(reason) = names::file_path(written) {
            checker.invalid(path, written, reason);
        } else if let Some(reason) = self.conflict(written) {
            checker.invalid(path, written, reason);
        } else {
            self.0.insert(written.to_owned());
        }
    }

    /// Why this path cannot stand beside those that are there.
    fn conflict(&self, path: &str) -> Option<String> {
        if self.0.contains(path) {
            return Some("two files of one path".to_owned());
        }
        let above =
            path.match_indices('/').map(|(end, _)| &path[..end]).find(|above| self.0.contains(*above));
        let inside = format!("{path}/");
        let below = || self.0.range(inside.clone()..).next().is_some_and(|other| other.starts_with(&inside));
        let both = above.or_else(|| below().then_some(path))?;
        Some(format!("{both:?} would be a file and a folder"))
    }
}
