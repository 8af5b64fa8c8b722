//! A decoded Kubernetes Pod → our checked [`Pod`], by Kubernetes' rules (`pkg/apis/core/validation`).

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::check_env::OfPod;
use super::findings::Findings;
use super::names::{self, Verdict};
use super::pod::{Pod, PodId};
use super::tree::{Node, Path};
use super::{
    check_annotations, check_container, check_names, check_resources, check_restart, check_security,
    check_volume, defaults, uid,
};

/// All annotations of one object together, as in Kubernetes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// A `v1` `Pod` but for its status: that is what another node said of its own Pod, perhaps in words of a newer Kubernetes.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
    #[serde(rename = "apiVersion")]
    _version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

/// Reports what is wrong, in Kubernetes' words, at the field's place.
pub(super) struct Checker<'a> {
    pub root: &'a Node,
    pub findings: &'a mut Findings,
}

impl Checker<'_> {
    pub fn error(&mut self, path: &Path, message: impl std::fmt::Display) {
        self.findings.error(self.root.place_of(path), Some(path), format!("{path}: {message}"));
    }

    pub fn required(&mut self, path: &Path) {
        self.error(path, "Required value");
    }

    pub fn invalid(&mut self, path: &Path, value: impl std::fmt::Debug, reason: impl std::fmt::Display) {
        self.error(path, format!("Invalid value: {value:?}: {reason}"));
    }

    /// Checks a name that must be there.
    pub fn name(&mut self, path: &Path, name: &str, rule: fn(&str) -> Verdict) {
        if name.is_empty() {
            self.required(path);
        } else if let Err(reason) = rule(name) {
            self.invalid(path, name, reason);
        }
    }

    /// Reports `value` if it was in `seen` before.
    pub fn unique<T: Hash + Eq>(&mut self, path: &Path, seen: &mut HashSet<T>, value: T, shown: &str) {
        if !seen.insert(value) {
            self.error(path, format!("Duplicate value: {shown:?}"));
        }
    }

    /// The meaning of `written`, or `default` where it is absent or no word of `words` (which is reported).
    pub fn word<T: Copy>(
        &mut self,
        path: &Path,
        written: Option<&str>,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(written) = written.filter(|text| !text.is_empty()) else { return default };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == written) {
            return *meaning;
        }
        let supported: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.error(
            path,
            format!("Unsupported value: {written:?}: supported values: {}", supported.join(", ")),
        );
        default
    }
}

/// Checks `document`, which was decoded from `root`; `None` if anything is wrong with it.
pub(super) fn pod(
    document: Document,
    root: &Node,
    source: Value,
    node_name: &str,
    findings: &mut Findings,
) -> Option<Pod> {
    // What is wrong elsewhere in the file does not decide about this Pod: look at its own findings only.
    let mut own = Findings::like(findings);
    let mut checker = Checker { root, findings: &mut own };
    let id = identity(&document.metadata, node_name, &mut checker);
    let (labels, annotations) = metadata(&document.metadata, &mut checker);
    let Some(spec) = &document.spec else {
        checker.required(&Path::of("spec"));
        findings.append(own);
        return None;
    };
    check_restart::of_pod(spec, &mut checker);
    let termination_grace = check_restart::termination_grace(spec, &mut checker);
    let active_deadline = check_restart::active_deadline(spec, &mut checker);
    let max_restart_period = check_annotations::max_restart_period(&annotations, &mut checker);
    let recreate = check_annotations::recreate(&annotations, &mut checker);
    let after = check_annotations::after(&annotations, &id, node_name, &mut checker);
    let restart_on_change = check_annotations::restart_on_change(&annotations, &mut checker);
    let ingress = check_annotations::ingress(&annotations, &mut checker);
    check_annotations::known(&annotations, check_annotations::OF_PODS, &mut checker);
    let host_network = spec.host_network.unwrap_or_default();
    let ips = check_annotations::ips(&annotations, host_network, &mut checker);
    let bandwidth = check_annotations::bandwidth(&annotations, &mut checker);
    let own_names = check_names::own_names(spec, &id, &mut checker);
    let host_aliases = check_names::host_aliases(spec, &mut checker);
    let dns = check_names::dns(spec, &mut checker);
    let image_pull_secrets = image_pull_secrets(spec, &mut checker);
    let volumes = check_volume::volumes(spec, &mut checker);
    let of_pod = OfPod { id: &id, labels: &labels, annotations: &annotations, node_name, spec };
    let containers = check_container::containers(&of_pod, termination_grace, &mut checker);
    let resources = check_resources::of_pod(spec, &containers, &mut checker);
    let security = check_security::of_pod(spec, &mut checker);
    let priority_class_name = check_restart::priority_class_name(spec, &mut checker);
    let whole = !own.has_errors();
    findings.append(own);
    if !whole {
        return None;
    }
    let uid = uid::of(&source, node_name);
    let shown = defaults::apply(&source, &id, &uid, node_name, resources.as_ref());
    Some(Pod {
        hostname: (!host_network).then_some(own_names.hostname),
        subdomain: own_names.subdomain,
        hostname_is_fqdn: own_names.hostname_is_fqdn,
        host_aliases,
        dns,
        id,
        uid,
        labels,
        annotations,
        containers,
        volumes,
        image_pull_secrets,
        termination_grace,
        active_deadline,
        max_restart_period,
        recreate,
        restart_on_change,
        after,
        ingress,
        ips,
        bandwidth,
        host_network,
        host_pid: spec.host_pid.unwrap_or_default(),
        host_ipc: spec.host_ipc.unwrap_or_default(),
        share_process_namespace: spec.share_process_namespace.unwrap_or_default(),
        host_users: spec.host_users.unwrap_or(true),
        fs_group: security.fs_group,
        fs_group_change_policy: security.fs_group_change_policy,
        supplemental_groups: security.supplemental_groups,
        supplemental_groups_policy: security.supplemental_groups_policy,
        sysctls: security.sysctls,
        resources,
        priority: check_restart::priority(spec),
        priority_class_name,
        node_name: node_name.to_owned(),
        object: shown,
        source,
    })
}

fn identity(metadata: &ObjectMeta, node_name: &str, checker: &mut Checker<'_>) -> PodId {
    let root = Path::of("metadata");
    let written = metadata.name.as_deref().unwrap_or_default();
    let name = format!("{written}-{}", node_name.to_lowercase());
    let path = root.key("name");
    if written.is_empty() {
        checker.required(&path);
    } else if let Err(reason) = names::dns_subdomain(written) {
        checker.invalid(&path, written, reason);
    } else if let Err(reason) = names::dns_subdomain(&name) {
        checker.invalid(&path, &name, format!("with the node's name appended: {reason}"));
    }
    let namespace = metadata.namespace.as_deref().filter(|text| !text.is_empty()).unwrap_or("default");
    checker.name(&root.key("namespace"), namespace, names::dns_label);
    PodId { namespace: namespace.to_owned(), name }
}

pub(super) type Pairs = BTreeMap<String, String>;

fn metadata(metadata: &ObjectMeta, checker: &mut Checker<'_>) -> (Pairs, Pairs) {
    let labels = metadata.labels.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let path = Path::of("metadata.labels");
    for (key, value) in &labels {
        if let Err(reason) = names::qualified_name(key) {
            checker.invalid(&path.key(key), key, reason);
        }
        if let Err(reason) = names::label_value(value) {
            checker.invalid(&path.key(key), value, reason);
        }
    }
    let path = Path::of("metadata.annotations");
    for key in annotations.keys() {
        if let Err(reason) = names::qualified_name(&key.to_lowercase()) {
            checker.invalid(&path.key(key), key, reason);
        }
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        checker.error(&path, format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes"));
    }
    (labels, annotations)
}

fn image_pull_secrets(spec: &PodSpec, checker: &mut Checker<'_>) -> Vec<String> {
    let list = Path::of("spec.imagePullSecrets");
    let mut names = Vec::new();
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            checker.required(&list.index(index).key("name"));
        }
        names.push(secret.name.clone());
    }
    names
}
