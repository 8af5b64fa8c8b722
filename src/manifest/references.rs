//! Keys that Pods name, to be held against the objects that stand beside them: a ConfigMap may be in another file.

use std::path::Path as FilePath;

use super::names;
use super::object::{Object, ObjectId};
use super::pod::{EnvValue, Pod, Role};
use super::tree::{Node, Path};
use super::{Diagnostic, Severity};

/// A key of a ConfigMap or Secret that a Pod cannot do without, and where that is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub object: ObjectId,
    pub key: String,
    field: String,
    place: (usize, usize),
}

/// `document` is what `pod` was read from.
pub(super) fn of(pod: &Pod, document: &Node) -> Vec<Reference> {
    let mut references = Vec::new();
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
            if named.object.optional {
                continue;
            }
            let selector = match named.object.kind {
                super::ObjectKind::ConfigMap => "configMapKeyRef",
                super::ObjectKind::Secret => "secretKeyRef",
            };
            let path = env.index(index).key("valueFrom").key(selector).key("key");
            let place = document.place_of(&path);
            references.push(Reference {
                object: named.object.id_in(&pod.id.namespace),
                key: named.key.clone(),
                field: path.to_string(),
                place: (place.line, place.column),
            });
        }
    }
    references
}

/// What the objects lack that Pods of `file` name. An object that is not there may be elsewhere: nothing is said of it.
pub fn lacking(file: &FilePath, references: &[Reference], objects: &[&Object]) -> Vec<Diagnostic> {
    let mut lacking = Vec::new();
    for Reference { object: id, key, field, place: (line, column) } in references {
        let Some(object) = objects.iter().find(|object| object.id == *id) else { continue };
        if object.variable(key).is_some() {
            continue;
        }
        let known: Vec<&str> = object.variables().collect();
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
