//! Kubernetes' defaults (`pkg/apis/core/v1/defaults.go`), written into the object that is shown.

use serde_json::{Map, Value, json};

use super::pod::{Amounts, PodId, PullPolicy, Resources, TerminationMessage, Uid};

/// `terminationGracePeriodSeconds` where none is written.
pub(super) const GRACE_SECONDS: i64 = 30;

/// `defaultMode` of volumes made of files.
pub(super) const FILE_MODE: u32 = 0o644;

/// `Always` for the tag `latest` or none, otherwise `IfNotPresent`; a digest never changes what it names.
pub(super) fn pull_policy(image: &str) -> PullPolicy {
    if image.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    // A colon before the last slash belongs to a registry's port.
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

/// `source`, a `v1` `Pod` whose types and rules are checked, with its full name, uid, node and every default.
/// `resources` are the Pod's own, whose defaults come from its containers.
pub(super) fn apply(
    source: &Value,
    id: &PodId,
    uid: &Uid,
    node_name: &str,
    resources: Option<&Resources>,
) -> Value {
    let mut pod = source.clone();
    let metadata = &mut pod["metadata"];
    metadata["name"] = json!(id.name);
    metadata["namespace"] = json!(id.namespace);
    metadata["uid"] = json!(uid.as_str());
    let spec = &mut pod["spec"];
    spec["nodeName"] = json!(node_name);
    fill(
        spec,
        json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": GRACE_SECONDS, "enableServiceLinks": true, "securityContext": {}}),
    );
    if let Some(Resources { requests, limits }) = resources {
        fill(spec, json!({"resources": {}}));
        for (list, amounts) in [("requests", requests), ("limits", limits)] {
            fill(&mut spec["resources"], json!({list: {}}));
            fill(&mut spec["resources"][list], quantities(amounts));
        }
    }
    let host_network = spec["hostNetwork"].as_bool().unwrap_or_default();
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            fill_container(container, host_network);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        fill_volume(volume);
    }
    pod
}

fn quantities(amounts: &Amounts) -> Value {
    let cpu = amounts.cpu_milli.map(|milli| ("cpu".to_owned(), json!(format!("{milli}m"))));
    let memory = amounts.memory.map(|bytes| ("memory".to_owned(), json!(bytes.to_string())));
    let pages = amounts.hugepages.iter();
    let pages = pages.map(|(size, bytes)| (format!("hugepages-{size}"), json!(bytes.to_string())));
    Value::Object(cpu.into_iter().chain(memory).chain(pages).collect())
}

fn fill_container(container: &mut Value, host_network: bool) {
    let policy = shown_policy(&container["image"]);
    fill(
        container,
        json!({"imagePullPolicy": policy, "resources": {}, "terminationMessagePath": TerminationMessage::PATH,
            "terminationMessagePolicy": "File"}),
    );
    if let Some(limits) = container["resources"].get("limits").cloned() {
        fill(&mut container["resources"], json!({"requests": {}}));
        fill(&mut container["resources"]["requests"], limits);
    }
    fill_probes_and_hooks(container);
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(port, json!({"protocol": "TCP"}));
        if host_network {
            let number = port["containerPort"].clone();
            fill(port, json!({"hostPort": number}));
        }
    }
}

fn fill_probes_and_hooks(container: &mut Value) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(key) {
            fill(
                probe,
                json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
            );
            fill_handler(probe);
        }
    }
    for key in ["postStart", "preStop"] {
        container.pointer_mut(&format!("/lifecycle/{key}")).map(fill_handler);
    }
}

fn fill_handler(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        fill(get, json!({"path": "/", "scheme": "HTTP"}));
    }
    if let Some(grpc) = handler.get_mut("grpc") {
        fill(grpc, json!({"service": ""}));
    }
}

fn shown_policy(image: &Value) -> &'static str {
    match pull_policy(image.as_str().unwrap_or_default()) {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn fill_volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.len() == 1) {
        fill(volume, json!({"emptyDir": {}}));
    }
    if let Some(host_path) = volume.get_mut("hostPath") {
        fill(host_path, json!({"type": ""}));
    }
    for kind in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(files) = volume.get_mut(kind) {
            fill(files, json!({"defaultMode": FILE_MODE}));
        }
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = shown_policy(&image["reference"]);
        fill(image, json!({"pullPolicy": policy}));
    }
}

/// Adds what `object` does not have; an empty string counts as absent, as in Go.
fn fill(object: &mut Value, defaults: Value) {
    let (Value::Object(object), Value::Object(defaults)) = (object, defaults) else { return };
    for (key, value) in defaults {
        let absent = |map: &Map<String, Value>| map.get(&key).is_none_or(|old| old.is_null() || old == "");
        if absent(object) {
            object.insert(key, value);
        }
    }
}
