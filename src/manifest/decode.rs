//! Documents → Pods, ConfigMaps and Secrets: what kind each is, what a server added to it, its types, its rules.

use std::path::Path as FilePath;

use super::findings::Findings;
use super::object::ObjectKind;
use super::tree::{Data, Node, Path};
use super::{
    Diagnostic, MAX_BYTES, Manifest, Pod, check, check_object, references, served, text, typed, uid,
    unsupported,
};

/// How deep a `List` may hold another.
const MAX_LISTS: usize = 4;

/// Decodes a manifest file: YAML or JSON, any number of documents, `kind: List` too.
///
/// # Errors
/// Everything that is wrong, with the warnings, sorted by place.
pub fn decode(file: &FilePath, bytes: &[u8], node_name: &str) -> Result<Manifest, Vec<Diagnostic>> {
    let mut findings = Findings::new(file);
    let mut manifest = Manifest::default();
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, a manifest at most {MAX_BYTES}", bytes.len());
        findings.error(super::tree::Place::START, None, message);
    } else {
        for document in text::documents(bytes, &mut findings) {
            manifest.documents += 1;
            read_object(document, node_name, &mut manifest, &mut findings, MAX_LISTS);
        }
    }
    finish(manifest, findings)
}

/// Decodes a saved [`Pod::source`] again: the same Pod with the same uid.
///
/// # Errors
/// What is wrong with it, as if it stood in a file named `source`; all places are its start.
pub fn from_source(source: &serde_json::Value, node_name: &str) -> Result<Pod, Vec<Diagnostic>> {
    let mut findings = Findings::new(FilePath::new("source"));
    let mut manifest = Manifest::default();
    read_object(Node::from_json(source), node_name, &mut manifest, &mut findings, 0);
    if manifest.pods.is_empty() && !findings.has_errors() {
        findings.error(super::tree::Place::START, None, "the saved document holds no Pod");
    }
    let mut manifest = finish(manifest, findings)?;
    Ok(manifest.pods.swap_remove(0))
}

fn finish(mut manifest: Manifest, findings: Findings) -> Result<Manifest, Vec<Diagnostic>> {
    let failed = findings.has_errors();
    manifest.warnings = findings.into_sorted();
    if failed { Err(manifest.warnings) } else { Ok(manifest) }
}

/// Reads one document or one item of a list.
fn read_object(node: Node, node_name: &str, manifest: &mut Manifest, findings: &mut Findings, lists: usize) {
    if !matches!(node.data, Data::Map(_)) {
        findings.error(node.place, None, "expected an object with apiVersion and kind");
        return;
    }
    match (required_text(&node, "apiVersion", findings), required_text(&node, "kind", findings)) {
        (Some("v1"), Some("Pod")) => read_pod(node, node_name, manifest, findings),
        (Some("v1"), Some("ConfigMap")) => read_data(ObjectKind::ConfigMap, node, manifest, findings),
        (Some("v1"), Some("Secret")) => read_data(ObjectKind::Secret, node, manifest, findings),
        (Some("v1"), Some("List" | "PodList" | "ConfigMapList" | "SecretList")) => {
            read_list(node, node_name, manifest, findings, lists)
        }
        (Some(version), Some(kind)) => refuse_kind(&node, version, kind, findings),
        _ => {}
    }
}

fn required_text<'a>(node: &'a Node, key: &str, findings: &mut Findings) -> Option<&'a str> {
    let path = Path::of(key);
    match node.get(key) {
        Some(value) if !value.is_empty() && value.text() != Some("") => {
            let text = value.text();
            if text.is_none() {
                findings.error(value.place, Some(&path), format!("{key}: expected a string"));
            }
            text
        }
        _ => {
            findings.error(node.place_of(&path), Some(&path), format!("{key}: Required value"));
            None
        }
    }
}

fn refuse_kind(node: &Node, version: &str, kind: &str, findings: &mut Findings) {
    let path = Path::of("kind");
    let message = match (version, kind) {
        (_, "Pod" | "ConfigMap" | "Secret" | "List") => {
            let path = Path::of("apiVersion");
            let message = format!("apiVersion: a {kind} has the version \"v1\", not {version:?}");
            findings.error(node.place_of(&path), Some(&path), message);
            return;
        }
        _ => format!(
            "kind {kind} of {version} cannot be placed here: only Pods can, and ConfigMaps and Secrets that they use"
        ),
    };
    findings.error(node.place_of(&path), Some(&path), message);
}

fn read_list(node: Node, node_name: &str, manifest: &mut Manifest, findings: &mut Findings, lists: usize) {
    let Data::Map(entries) = node.data else { return };
    for entry in entries {
        match (entry.key.as_str(), entry.value.data) {
            ("apiVersion" | "kind" | "metadata", _) | ("items", Data::Null) => {}
            ("items", Data::List(items)) if lists > 0 => {
                for item in items {
                    read_object(item, node_name, manifest, findings, lists - 1);
                }
            }
            ("items", Data::List(_)) => findings.error(entry.place, None, "lists in lists in lists"),
            ("items", _) => findings.error(entry.place, None, "items: expected a list"),
            (key, _) => findings.error(entry.place, None, format!("unknown field: {key}")),
        }
    }
}

fn read_pod(mut node: Node, node_name: &str, manifest: &mut Manifest, findings: &mut Findings) {
    let well_typed = typed::decode::<check::Document>(&mut node, findings).is_some();
    served::strip(&mut node, findings);
    unsupported::check(&node, node_name, findings);
    if !well_typed {
        return;
    }
    // Once more, now without what a server added: the types are known to fit.
    let mut same = Findings::new(FilePath::new(""));
    let Some(document) = typed::decode::<check::Document>(&mut node, &mut same) else { return };
    let source = uid::canonical(&node);
    let place = node.place_of(&Path::of("metadata.name"));
    let Some(pod) = check::pod(document, &node, source, node_name, findings) else { return };
    if manifest.pods.iter().any(|other| other.id == pod.id) {
        findings.error(
            place,
            Some(&Path::of("metadata.name")),
            format!("a second Pod {} in this file", pod.id),
        );
    } else {
        manifest.references.extend(references::of(&pod, &node));
        manifest.pods.push(pod);
    }
}

fn read_data(kind: ObjectKind, node: Node, manifest: &mut Manifest, findings: &mut Findings) {
    let path = Path::of("metadata.name");
    let place = node.place_of(&path);
    let Some(object) = check_object::object(kind, node, findings) else { return };
    if manifest.objects.iter().any(|other| other.id == object.id) {
        findings.error(place, Some(&path), format!("a second {} in this file", object.id));
    } else {
        manifest.objects.push(object);
    }
}
