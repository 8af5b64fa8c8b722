//! Keys that Pods name, to be held against the objects that stand beside them: a ConfigMap may be in another file.

use std::path::Path as FilePath;

use super::names;
use super::object::{Object, ObjectId, ObjectKind};
use super::pod::{EnvValue, FileSource, ObjectRef, ObjectSource, Pod, Role, VolumeKind};
use super::tree::{Node, Path};
use super::{Diagnostic, Severity};

/// A key of a ConfigMap or Secret that a Pod cannot do without, and where that is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub object: ObjectId,
    pub key: String,
    /// What `binaryData` has makes files, but no variables.
    is_variable: bool,
    field: String,
    place: (usize, usize),
}

/// `document` is what `pod` was read from.
pub(super) fn of(pod: &Pod, document: &Node) -> Vec<Reference> {
    let mut references = Vec::new();
    let mut add = |object: &ObjectRef, key: &str, is_variable, path: &Path| {
        let place = document.place_of(path);
        // What may be missing is no error.
        if !object.optional {
            references.push(Reference {
                object: object.id_in(&pod.id.namespace),
                key: key.to_owned(),
                is_variable,
                field: path.to_string(),
                place: (place.line, place.column),
            });
        }
    };
    let (mut inits, mut mains) = (0, 0);
    for container in &pod.containers {
        let (list, index) = match container.role {
            Role::Main => ("spec.containers", &mut mains),
            Role::Init | Role::Sidecar => ("spec.initContainers", &mut inits),
        };
        let env = Path::of(list).index(*index).key("env");
        *index += 1;
        for (index, variable) in container.env.iter().enumerate() {
            let EnvValue::Key(named) = &variable.value else { continue };
            let selector = match named.object.kind {
                ObjectKind::ConfigMap => "configMapKeyRef",
                ObjectKind::Secret => "secretKeyRef",
            };
            let path = env.index(index).key("valueFrom").key(selector).key("key");
            add(&named.object, &named.key, true, &path);
        }
    }
    for (index, volume) in pod.volumes.iter().enumerate() {
        let VolumeKind::Files { sources, .. } = &volume.kind else { continue };
        let path = Path::of("spec.volumes").index(index);
        let projected = path.key("projected").key("sources");
        for (index, source) in sources.iter().enumerate() {
            let FileSource::Object(ObjectSource { object, items }) = source else { continue };
            let kind = match object.kind {
                ObjectKind::ConfigMap => "configMap",
                ObjectKind::Secret => "secret",
            };
            let around = if document.at(&projected).is_some() { &projected.index(index) } else { &path };
            let list = around.key(kind).key("items");
            for (index, item) in items.iter().enumerate() {
                add(object, &item.key, false, &list.index(index).key("key"));
            }
        }
    }
    references
}

/// What the objects lack that Pods of `file` name. An object that is not there may be elsewhere: nothing is said of it.
pub fn lacking(file: &FilePath, references: &[Reference], objects: &[&Object]) -> Vec<Diagnostic> {
    let mut lacking = Vec::new();
    for Reference { object: id, key, is_variable, field, place: (line, column) } in references {
        let Some(object) = objects.iter().find(|object| object.id == *id) else { continue };
        let known: Vec<&str> = match is_variable {
            true => object.variables().collect(),
            false => object.keys().collect(),
        };
        if known.contains(&key.as_str()) {
            continue;
        }
        let hint = match names::nearest(key, &known) {
            Some(nearest) => format!("; did you mean {nearest:?}?"),
            None => String::new(),
        };
        lacking.push(Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: *line,
            column: *column,
            field: Some(field.clone()),
            message: format!("{field}: Not found: {key:?}: {id} has no such key{hint}"),
        });
    }
    lacking
}
