//! A container's variables and where they come from (`validateEnv`, `ValidateEnvFrom`).

use k8s_openapi::api::core::v1 as api;

use super::check::{Checker, Pairs};
use super::object::ObjectKind;
use super::pod::{Address, AmountRef, EnvFrom, EnvValue, EnvVar, KeyRef, ObjectRef, PodId, ResourceName};
use super::quantity::Quantity;
use super::tree::Path;
use super::{check_env_file, check_resources, names};

/// What of the Pod its containers may name.
pub(super) struct OfPod<'a> {
    pub id: &'a PodId,
    pub labels: &'a Pairs,
    pub annotations: &'a Pairs,
    pub node_name: &'a str,
    pub spec: &'a api::PodSpec,
}

/// What a `fieldRef` of a variable may name, beside one label and one annotation.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a `resourceFieldRef` may name, beside `hugepages-SIZE`.
const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Of bytes; all that is a power of ten or of two here.
const DIVISORS: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

pub(super) fn env(
    written: &api::Container,
    of_pod: &OfPod<'_>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Vec<EnvVar> {
    let list = path.key("env");
    let mut env = Vec::new();
    for (index, var) in written.env.iter().flatten().enumerate() {
        let path = list.index(index);
        checker.name(&path.key("name"), &var.name, names::env_name);
        let text = var.value.clone().unwrap_or_default();
        // Neither a name nor a value with a NUL can be handed to a process.
        if text.contains('\0') {
            checker.invalid(&path.key("value"), &text, "must not contain NUL");
        }
        let from = path.key("valueFrom");
        let value = match &var.value_from {
            None => EnvValue::Text(text),
            Some(source) => {
                if !text.is_empty() {
                    checker.error(&from, "Invalid value: may not be specified when `value` is not empty");
                }
                value_from(source, &written.name, of_pod, &from, checker).unwrap_or(EnvValue::Text(text))
            }
        };
        env.push(EnvVar { name: var.name.clone(), value });
    }
    env
}

/// `own`: the name of the container.
fn value_from(
    source: &api::EnvVarSource,
    own: &str,
    of_pod: &OfPod<'_>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<EnvValue> {
    let api::EnvVarSource { field_ref, resource_field_ref, config_map_key_ref, secret_key_ref, file_key_ref } =
        source;
    let named = [
        field_ref.is_some(),
        resource_field_ref.is_some(),
        config_map_key_ref.is_some(),
        secret_key_ref.is_some(),
        file_key_ref.is_some(),
    ];
    exactly_one(
        &named,
        "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        path,
        checker,
    );
    if let Some(selector) = field_ref {
        return field(selector, of_pod, &path.key("fieldRef"), checker);
    }
    if let Some(selector) = resource_field_ref {
        return amount(selector, own, of_pod.spec, &path.key("resourceFieldRef"), checker)
            .map(EnvValue::Amount);
    }
    if let Some(selector) = config_map_key_ref {
        let api::ConfigMapKeySelector { name, key, optional } = selector;
        let path = path.key("configMapKeyRef");
        return Some(EnvValue::Key(key_of(ObjectKind::ConfigMap, name, key, *optional, &path, checker)));
    }
    if let Some(selector) = secret_key_ref {
        let api::SecretKeySelector { name, key, optional } = selector;
        let path = path.key("secretKeyRef");
        return Some(EnvValue::Key(key_of(ObjectKind::Secret, name, key, *optional, &path, checker)));
    }
    let path = path.key("fileKeyRef");
    file_key_ref.as_ref().map(|selector| check_env_file::file_key(selector, of_pod.spec, &path, checker))
}

fn exactly_one(named: &[bool], which: &str, path: &Path, checker: &mut Checker<'_>) {
    match named.iter().filter(|is| **is).count() {
        0 => checker.error(path, format!("Invalid value: must specify one of: {which}")),
        1 => {}
        _ => checker.error(path, "Invalid value: may not have more than one field specified at a time"),
    }
}

fn field(
    selector: &api::ObjectFieldSelector,
    of_pod: &OfPod<'_>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<EnvValue> {
    let version = selector.api_version.as_deref().unwrap_or("v1");
    if version != "v1" {
        checker.error(
            &path.key("apiVersion"),
            format!("Unsupported value: {version:?}: supported values: \"v1\""),
        );
    }
    let path = path.key("fieldPath");
    let written = selector.field_path.as_str();
    let OfPod { id, labels, annotations, node_name, spec } = of_pod;
    if let Some((field, key)) = subscripted(written) {
        let (pairs, checked) = match field {
            "metadata.labels" => (labels, key.to_owned()),
            "metadata.annotations" => (annotations, key.to_lowercase()),
            _ => {
                checker.invalid(&path, written, "does not support subscript");
                return None;
            }
        };
        if let Err(reason) = names::qualified_name(&checked) {
            checker.invalid(&path, written, reason);
        }
        return Some(EnvValue::Field(pairs.get(key).cloned().unwrap_or_default()));
    }
    Some(match written {
        "metadata.name" => EnvValue::Field(id.name.clone()),
        "metadata.namespace" => EnvValue::Field(id.namespace.clone()),
        "metadata.uid" => EnvValue::Uid,
        "spec.nodeName" => EnvValue::Field((*node_name).to_owned()),
        "spec.serviceAccountName" => EnvValue::Field(spec.service_account_name.clone().unwrap_or_default()),
        "status.hostIP" => EnvValue::Address(Address::HostIp),
        "status.hostIPs" => EnvValue::Address(Address::HostIps),
        "status.podIP" => EnvValue::Address(Address::PodIp),
        "status.podIPs" => EnvValue::Address(Address::PodIps),
        "" => {
            checker.required(&path);
            return None;
        }
        "metadata.labels" | "metadata.annotations" => {
            checker.invalid(&path, written, format!("a variable takes one of them: {written}['KEY']"));
            return None;
        }
        _ => {
            unknown(written, &FIELDS, &path, checker);
            return None;
        }
    })
}

/// `metadata.labels['app']` → `metadata.labels`, `app`.
fn subscripted(written: &str) -> Option<(&str, &str)> {
    written.strip_suffix("']")?.split_once("['").filter(|(field, _)| !field.is_empty())
}

pub(super) fn unknown(written: &str, known: &[&'static str], path: &Path, checker: &mut Checker<'_>) {
    let hint = match names::nearest(written, known) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("supported values: {}", known.join(", ")),
    };
    checker.error(path, format!("Unsupported value: {written:?}: {hint}"));
}

pub(super) fn amount(
    selector: &api::ResourceFieldSelector,
    own: &str,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<AmountRef> {
    let container = selector.container_name.clone().filter(|name| !name.is_empty());
    if let Some(name) = &container {
        let init = spec.init_containers.iter().flatten();
        if !init.chain(&spec.containers).any(|other| other.name == *name) {
            checker.error(&path.key("containerName"), format!("Not found: {name:?}"));
        }
    }
    let written = selector.resource.as_str();
    if written.is_empty() {
        checker.required(&path.key("resource"));
        return None;
    }
    let split = written.split_once('.');
    let parts = split.filter(|(list, _)| matches!(*list, "limits" | "requests"));
    let resource = parts.and_then(|(_, name)| match name {
        "cpu" => Some(ResourceName::Cpu),
        "memory" => Some(ResourceName::Memory),
        "ephemeral-storage" => Some(ResourceName::EphemeralStorage),
        _ => check_resources::page_size_of(name).map(ResourceName::HugePages),
    });
    let Some(resource) = resource else {
        unknown(written, &AMOUNTS, &path.key("resource"), checker);
        return None;
    };
    let divisor = selector.divisor.as_ref().map(|quantity| quantity.0.as_str());
    let divisor = divisor_of(divisor.unwrap_or_default(), &resource, &path.key("divisor"), checker)?;
    let is_limit = parts.is_some_and(|(list, _)| list == "limits");
    let container = container.unwrap_or_else(|| own.to_owned());
    Some(AmountRef { container, is_limit, resource, divisor })
}

/// Zero counts as not written, and that is one: a core, a byte.
fn divisor_of(written: &str, resource: &ResourceName, path: &Path, checker: &mut Checker<'_>) -> Option<u64> {
    let one = if *resource == ResourceName::Cpu { 1000 } else { 1 };
    if written.is_empty() {
        return Some(one);
    }
    let quantity = match Quantity::parse(written) {
        Ok(quantity) => quantity,
        Err(reason) => {
            checker.invalid(path, written, reason);
            return None;
        }
    };
    let (divisor, fits) = match resource {
        ResourceName::Cpu => (quantity.milli(), matches!(quantity.milli(), 1 | 1000)),
        _ => (quantity.units(), quantity == Quantity::whole(quantity.units()) && is_unit(quantity.units())),
    };
    if divisor == 0 {
        return Some(one);
    }
    if !fits {
        let (values, name) = match resource {
            ResourceName::Cpu => ("1m and 1", "cpu"),
            ResourceName::Memory => (DIVISORS, "memory"),
            ResourceName::EphemeralStorage => (DIVISORS, "ephemeral-storage"),
            ResourceName::HugePages(_) => (DIVISORS, "hugepages"),
        };
        let reason = format!("only divisor's values {values} are supported with the {name} resource");
        checker.invalid(path, written, reason);
    }
    Some(divisor)
}

/// Whether it is one of [`DIVISORS`].
fn is_unit(bytes: u64) -> bool {
    (0..=6).any(|power| bytes == 1000u64.pow(power) || bytes == 1 << (10 * power))
}

fn key_of(
    kind: ObjectKind,
    name: &str,
    key: &str,
    optional: Option<bool>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> KeyRef {
    checker.name(&path.key("key"), key, names::data_key);
    KeyRef { object: object(kind, name, optional, path, checker), key: key.to_owned() }
}

fn object(
    kind: ObjectKind,
    name: &str,
    optional: Option<bool>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> ObjectRef {
    checker.name(&path.key("name"), name, names::dns_subdomain);
    ObjectRef { kind, name: name.to_owned(), optional: optional.unwrap_or_default() }
}

pub(super) fn env_from(written: &api::Container, path: &Path, checker: &mut Checker<'_>) -> Vec<EnvFrom> {
    let list = path.key("envFrom");
    let mut all = Vec::new();
    for (index, source) in written.env_from.iter().flatten().enumerate() {
        let path = list.index(index);
        let prefix = source.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() {
            checker.name(&path.key("prefix"), &prefix, names::env_name);
        }
        let named = [source.config_map_ref.is_some(), source.secret_ref.is_some()];
        exactly_one(&named, "`configMapRef` or `secretRef`", &path, checker);
        let (kind, name, optional, path) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => (ObjectKind::ConfigMap, &map.name, map.optional, path.key("configMapRef")),
            (None, Some(secret)) => {
                (ObjectKind::Secret, &secret.name, secret.optional, path.key("secretRef"))
            }
            (None, None) => continue,
        };
        all.push(EnvFrom { prefix, object: object(kind, name, optional, &path, checker) });
    }
    all
}
