//! What a Pod may be told of itself: `fieldRef` and `resourceFieldRef`.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::check::Checker;
use super::names;
use super::pod::{AmountRef, DownwardValue, ResourceName};
use super::quantity::Quantity;
use super::tree::Path;

/// In files (`VAL:validVolumeDownwardAPIFieldPathExpressions`); labels and annotations one by one too.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Thousandths of a core (`VAL:validContainerResourceDivisorForCPU`).
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
/// Bytes.
const MEMORY_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `None` if that is wrong, which was said then.
pub(super) fn value(
    written: &api::DownwardAPIVolumeFile,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<DownwardValue> {
    match (&written.field_ref, &written.resource_field_ref) {
        (Some(field), None) => self::field(field, &path.key("fieldRef"), checker),
        (None, Some(amount)) => self::amount(amount, spec, &path.key("resourceFieldRef"), checker),
        (Some(_), Some(_)) => {
            checker.error(path, "fieldRef and resourceFieldRef can not be specified simultaneously");
            None
        }
        (None, None) => {
            checker.error(path, "Required value: one of fieldRef and resourceFieldRef is required");
            None
        }
    }
}

fn field(
    written: &api::ObjectFieldSelector,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<DownwardValue> {
    let version = written.api_version.as_deref().unwrap_or_default();
    if !matches!(version, "" | "v1") {
        checker.invalid(&path.key("apiVersion"), version, "must be \"v1\"");
    }
    let path = path.key("fieldPath");
    let field = written.field_path.as_str();
    Some(match field {
        "" => {
            checker.required(&path);
            return None;
        }
        "metadata.annotations" => DownwardValue::Annotations,
        "metadata.labels" => DownwardValue::Labels,
        "metadata.name" => DownwardValue::Name,
        "metadata.namespace" => DownwardValue::Namespace,
        "metadata.uid" => DownwardValue::Uid,
        _ => match (key_of("metadata.labels", field), key_of("metadata.annotations", field)) {
            (Some(key), _) => {
                checker.name(&path, key, names::qualified_name);
                DownwardValue::Label(key.to_owned())
            }
            // Annotations' keys are checked without regard to case, as where they are set.
            (_, Some(key)) => {
                checker.name(&path, &key.to_lowercase(), names::qualified_name);
                DownwardValue::Annotation(key.to_owned())
            }
            _ => {
                unsupported(field, &FIELDS, &path, checker);
                return None;
            }
        },
    })
}

/// `key` of `FIELD['key']`.
fn key_of<'a>(field: &str, written: &'a str) -> Option<&'a str> {
    written.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

fn amount(
    written: &api::ResourceFieldSelector,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<DownwardValue> {
    let container = written.container_name.as_deref().unwrap_or_default();
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if container.is_empty() {
        checker.required(&path.key("containerName"));
    } else if !containers.into_iter().any(|one| one.name == container) {
        checker.error(&path.key("containerName"), format!("Not found: {container:?}"));
    }
    let (resource, is_limit) = resource(&written.resource, &path.key("resource"), checker)?;
    let divisor = divisor(written.divisor.as_ref(), &resource, &path.key("divisor"), checker)?;
    Some(DownwardValue::Amount(AmountRef { container: container.to_owned(), is_limit, resource, divisor }))
}

fn resource(written: &str, path: &Path, checker: &mut Checker<'_>) -> Option<(ResourceName, bool)> {
    const KNOWN: [&str; 4] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let is_limit = written.starts_with("limits.");
    let name = written.strip_prefix("limits.").or_else(|| written.strip_prefix("requests."));
    let of = match name {
        Some("cpu") => ResourceName::Cpu,
        Some("memory") => ResourceName::Memory,
        Some("ephemeral-storage") => {
            let message = format!("not supported yet: {path}: {written}");
            checker.findings.error(checker.root.place_of(path), Some(path), message);
            return None;
        }
        Some(pages) if pages.starts_with("hugepages-") => match super::check_resources::page_size_of(pages) {
            Some(size) => ResourceName::HugePages(size),
            None => {
                checker.invalid(path, written, "must name a size of pages, such as hugepages-2Mi");
                return None;
            }
        },
        _ if written.is_empty() => {
            checker.required(path);
            return None;
        }
        _ => {
            unsupported(written, &KNOWN, path, checker);
            return None;
        }
    };
    Some((of, is_limit))
}

/// In the units of [`AmountRef::divisor`]; 1 where none, or zero, is written.
fn divisor(
    written: Option<&ApiQuantity>,
    of: &ResourceName,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<u64> {
    let written = written.map_or("", |quantity| quantity.0.as_str());
    let known: &[&'static str] = if *of == ResourceName::Cpu { &CPU_DIVISORS } else { &MEMORY_DIVISORS };
    let parsed = Quantity::parse(if matches!(written, "" | "0") { "1" } else { written });
    let meant = |known: &&&'static str| parsed.is_ok() && Quantity::parse(known) == parsed;
    match (parsed, known.iter().find(meant)) {
        (Ok(quantity), Some(_)) if *of == ResourceName::Cpu => Some(quantity.milli()),
        (Ok(quantity), Some(_)) => Some(quantity.units()),
        _ => {
            unsupported(written, known, path, checker);
            None
        }
    }
}

fn unsupported(written: &str, known: &[&'static str], path: &Path, checker: &mut Checker<'_>) {
    let meant = names::nearest(written, known);
    let meant = meant.map(|name| format!("did you mean {name:?}? ")).unwrap_or_default();
    let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
    checker.error(
        path,
        format!("Unsupported value: {written:?}: {meant}supported values: {}", known.join(", ")),
    );
}
