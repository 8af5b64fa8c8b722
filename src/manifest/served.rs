//! What an API server adds to a Pod (`kubectl get pod -o yaml`): taken away again, so that its manifest is left.

use super::findings::Findings;
use super::tree::{Node, Path};

/// Metadata that only a server sets.
pub(super) const METADATA: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generation",
    "ownerReferences",
    "finalizers",
    "generateName",
];

/// The volume that a server injects with a service account's token.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Of what `kubectl apply` was last given, all of it: of a Secret, its values too.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes away status, a server's metadata and the injected token; says so where it could be missed.
pub(crate) fn strip(pod: &mut Node, findings: &mut Findings) {
    remove(pod, "status");
    if let Some(metadata) = pod.get_mut("metadata") {
        METADATA.iter().for_each(|key| remove(metadata, key));
    }
    let Some(spec) = pod.get_mut("spec") else { return };
    strip_account(spec, findings);
    strip_token(spec, findings);
}

fn strip_account(spec: &mut Node, findings: &mut Findings) {
    for key in ["serviceAccountName", "serviceAccount"] {
        let Some(account) = spec.get(key).filter(|account| account.text() == Some("default")) else {
            continue;
        };
        let path = Path::of("spec").key(key);
        findings.warn(
            account.place,
            Some(&path),
            format!("{path}: there are no service accounts here: dropped"),
        );
        remove(spec, key);
    }
}

fn strip_token(spec: &mut Node, findings: &mut Findings) {
    let mut dropped = Vec::new();
    if let Some(volumes) = spec.get_mut("volumes").and_then(Node::items_mut) {
        let mut index = 0;
        volumes.retain(|volume| {
            let token = is_token(volume);
            if let Some(name) = token {
                let path = Path::of("spec.volumes").index(index);
                let message = format!("{path}: there is no API server: the token volume {name} is dropped");
                findings.warn(volume.place, Some(&path), message);
                dropped.push(name.to_owned());
            }
            index += 1;
            token.is_none()
        });
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Node::items_mut).into_iter().flatten() {
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Node::items_mut) {
                let of_dropped = |name: &str| dropped.iter().any(|token| token == name);
                mounts.retain(|mount| !mount.get("name").and_then(Node::text).is_some_and(of_dropped));
            }
        }
    }
}

fn is_token(volume: &Node) -> Option<&str> {
    let name = volume.get("name")?.text()?;
    let projected = volume.get("projected").is_some_and(|projected| !projected.is_empty());
    (projected && name.starts_with(TOKEN_VOLUME)).then_some(name)
}

fn remove(map: &mut Node, key: &str) {
    if let Some(entries) = map.entries_mut() {
        entries.retain(|entry| entry.key != key);
    }
}
