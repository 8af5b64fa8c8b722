//! What a Pod may be told of itself: `fieldRef` and `resourceFieldRef`.

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::pod::DownwardValue;
use super::tree::Path;
use super::{check_env, names};

/// In files (`VAL:validVolumeDownwardAPIFieldPathExpressions`); labels and annotations one by one too.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

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
                check_env::unknown(field, &FIELDS, &path, checker);
                return None;
            }
        },
    })
}

/// `key` of `FIELD['key']`.
fn key_of<'a>(field: &str, written: &'a str) -> Option<&'a str> {
    written.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// As in a variable, but that the container must be named.
fn amount(
    written: &api::ResourceFieldSelector,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<DownwardValue> {
    let container = written.container_name.as_deref().unwrap_or_default();
    if container.is_empty() {
        checker.required(&path.key("containerName"));
    }
    check_env::amount(written, container, spec, path, checker).map(DownwardValue::Amount)
}
