//! A document of kind ConfigMap or Secret → our checked [`Object`], by Kubernetes' rules (`ValidateConfigMap`,
//! `ValidateSecret`). No message holds a value.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::check::Checker;
use super::check_annotations::{self, OF_SECRETS, SEALED};
use super::findings::Findings;
use super::object::{DOCKER_CFG, DOCKER_CONFIG_JSON, Hidden, Object, ObjectId, ObjectKind, Sealed};
use super::tree::{Data, Entry, Node, Path, Place};
use super::{names, typed};
use crate::order;
use crate::seal;

/// Bytes of all values of one object, as in Kubernetes.
const MAX_BYTES: usize = 1 << 20;

/// In a Secret, and in a ConfigMap.
const NOT_BASE64: [&str; 2] =
    ["not base64 (text as it is belongs into stringData)", "not base64 (text as it is belongs into data)"];

const OPAQUE: &str = "Opaque";
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

/// Keys that a type must have.
const REQUIRED: &[(&str, &str)] = &[
    DOCKER_CONFIG_JSON,
    DOCKER_CFG,
    ("kubernetes.io/ssh-auth", "ssh-privatekey"),
    ("kubernetes.io/tls", "tls.crt"),
    ("kubernetes.io/tls", "tls.key"),
];

/// All of an object but its values. `None` in the place of a value: its name is known, and it was looked at before, or is below.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(rename = "type")]
    type_: Option<String>,
    // Who can edit the file can make it anew under the same name: nothing to be heeded.
    #[serde(rename = "immutable")]
    _immutable: Option<bool>,
    #[serde(rename = "apiVersion")]
    _version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "data")]
    _data: Option<IgnoredAny>,
    #[serde(rename = "stringData")]
    _string_data: Option<IgnoredAny>,
    #[serde(rename = "binaryData")]
    _binary_data: Option<IgnoredAny>,
}

/// A value and where it stands.
struct Placed {
    place: Place,
    value: Hidden,
}

/// What a map of values is called, and how a value becomes bytes.
type Values = (&'static str, fn(&str) -> Option<Vec<u8>>);

/// The two maps of a kind: of a key that stands in both, a Secret's second one counts.
fn maps(kind: ObjectKind) -> [Values; 2] {
    match kind {
        ObjectKind::ConfigMap => [("data", as_it_is), ("binaryData", decoded)],
        ObjectKind::Secret => [("data", decoded), ("stringData", as_it_is)],
    }
}

/// Fields that only the other kind has.
fn foreign(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::ConfigMap => &["type", "stringData"],
        ObjectKind::Secret => &["binaryData"],
    }
}

/// `None` if anything is wrong with it.
pub(super) fn object(kind: ObjectKind, mut node: Node, findings: &mut Findings) -> Option<Object> {
    let mut own = Findings::like(findings);
    for key in foreign(kind).iter().filter(|key| node.get(key).is_some()) {
        let path = Path::of(key);
        own.error(node.place_of(&path), Some(&path), format!("unknown field: {key}: a {kind} has none"));
    }
    // Before anything else looks at the document: what is said of a wrong type holds the value.
    let [(first, first_bytes), (second, second_bytes)] = maps(kind);
    let is_sealed = kind == ObjectKind::Secret && is_sealed(&node);
    let (first, second) = (take(&mut node, first), take(&mut node, second));
    let head = typed::decode::<Head>(&mut node, &mut own);
    let mut values = BTreeMap::new();
    read_values(first, first_bytes, is_sealed, &mut values, &mut own);
    let mut others = BTreeMap::new();
    read_values(second, second_bytes, is_sealed, &mut others, &mut own);
    let object = head.map(|head| {
        let binary = match kind {
            ObjectKind::ConfigMap => order::set(others.keys().cloned()),
            ObjectKind::Secret => BTreeSet::new(),
        };
        if kind == ObjectKind::ConfigMap {
            refuse_duplicates(&values, &others, &mut own);
        }
        values.append(&mut others);
        let mut checker = Checker { root: &node, findings: &mut own };
        let id = identity(kind, &head.metadata, &mut checker);
        check_own_annotations(kind, &head.metadata, &mut checker);
        let type_ = match kind {
            ObjectKind::ConfigMap => String::new(),
            ObjectKind::Secret => {
                head.type_.filter(|type_| !type_.is_empty()).unwrap_or_else(|| OPAQUE.to_owned())
            }
        };
        check_keys(&type_, &values, &mut checker);
        let asked = REQUIRED.iter().find(|(of_type, _)| *of_type == type_);
        let place = asked.and_then(|(_, key)| Some(values.get(*key)?.place)).unwrap_or(node.place);
        let mut object = Object {
            id,
            type_,
            data: BTreeMap::new(),
            binary,
            sealed: Vec::new(),
            place: (place.line, place.column),
        };
        for (key, Placed { value, .. }) in values {
            match is_sealed {
                true => object.sealed.push(Sealed { key, file: value, why: String::new() }),
                false => drop(object.data.insert(key, value)),
            }
        }
        object
    });
    let whole = !own.has_errors();
    findings.append(own);
    object.filter(|_| whole)
}

fn take(node: &mut Node, key: &str) -> Option<Entry> {
    let entries = node.entries_mut()?;
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(at))
}

fn refuse_duplicates(
    values: &BTreeMap<String, Placed>,
    others: &BTreeMap<String, Placed>,
    findings: &mut Findings,
) {
    for (key, placed) in others.iter().filter(|(key, _)| values.contains_key(*key)) {
        let path = Path::of("binaryData").key(key);
        let message = format!("{path}: Invalid value: {key:?}: duplicate of key present in data");
        findings.error(placed.place, Some(&path), message);
    }
}

fn identity(kind: ObjectKind, metadata: &ObjectMeta, checker: &mut Checker<'_>) -> ObjectId {
    let path = Path::of("metadata");
    let name = metadata.name.clone().unwrap_or_default();
    checker.name(&path.key("name"), &name, names::dns_subdomain);
    let namespace = metadata.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    checker.name(&path.key("namespace"), &namespace, names::dns_label);
    ObjectId { kind, namespace, name }
}

/// Whether it says so, rightly or not: what means to be sealed is not taken for plain.
fn is_sealed(node: &Node) -> bool {
    node.at(&Path::of("metadata.annotations").key(SEALED.0)).is_some()
}

fn check_own_annotations(kind: ObjectKind, metadata: &ObjectMeta, checker: &mut Checker<'_>) {
    let Some(annotations) = &metadata.annotations else { return };
    let known = if kind == ObjectKind::Secret { OF_SECRETS } else { &[] };
    check_annotations::known(annotations, known, checker);
    check_annotations::sealed(annotations, checker);
}

/// Reads one map of values.
fn read_values(
    map: Option<Entry>,
    bytes: fn(&str) -> Option<Vec<u8>>,
    is_sealed: bool,
    values: &mut BTreeMap<String, Placed>,
    findings: &mut Findings,
) {
    let Some(map) = map else { return };
    let path = Path::of(&map.key);
    let entries = match map.value.data {
        Data::Map(entries) => entries,
        Data::Null => return,
        _ => return findings.error(map.value.place, Some(&path), format!("{path}: expected a map")),
    };
    for Entry { key, place, value } in entries {
        let path = path.key(&key);
        if let Err(reason) = names::data_key(&key) {
            findings.error(place, Some(&path), format!("{path}: Invalid value: {key:?}: {reason}"));
        }
        let mut read = match &value.data {
            Data::Null => Ok(Vec::new()),
            Data::Text(text) => {
                bytes(text).ok_or(NOT_BASE64[usize::from(map.key == "binaryData")].to_owned())
            }
            Data::List(_) | Data::Map(_) => Err("expected a string".to_owned()),
            _ => Err("expected a string (quote it to make it a string)".to_owned()),
        };
        if is_sealed {
            read = read.and_then(|bytes| seal::file(bytes).map_err(|error| error.to_string()));
        }
        match read {
            Ok(bytes) => drop(values.insert(key, Placed { place: value.place, value: Hidden::new(bytes) })),
            Err(reason) => findings.error(value.place, Some(&path), format!("{path}: {reason}")),
        }
    }
}

fn as_it_is(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

/// Base64 as Go reads it: line breaks mean nothing in it.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.replace(['\n', '\r'], "")).ok()
}

fn check_keys(type_: &str, values: &BTreeMap<String, Placed>, checker: &mut Checker<'_>) {
    let data = Path::of("data");
    for (_, key) in REQUIRED.iter().filter(|(of_type, key)| *of_type == type_ && !values.contains_key(*key)) {
        checker.error(&data.key(key), format!("Required value: a Secret of the type {type_} has this key"));
    }
    let has = |key| values.contains_key(key);
    if type_ == BASIC_AUTH && !has("username") && !has("password") {
        checker.error(&data, "Required value: username or password");
    }
    let size: usize = values.values().map(|placed| placed.value.bytes().len()).sum();
    if size > MAX_BYTES {
        checker.error(&data, format!("Too long: may not be more than {MAX_BYTES} bytes"));
    }
}
