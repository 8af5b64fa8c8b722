//! podkeep's own annotations: what Kubernetes has no field for.

use std::net::IpAddr;
use std::time::Duration;

use super::check::{Checker, Pairs};
use super::names;
use super::pod::{Ingress, PodId};
use super::quantity::Quantity;
use super::tree::Path;

const PREFIX: &str = "podkeep.io/";
/// What `crashLoopBackOff.maxContainerRestartPeriod` is for the node.
const MAX_RESTART_PERIOD: &str = "podkeep.io/max-container-restart-period";
const UPDATE: &str = "podkeep.io/update";
const AFTER: &str = "podkeep.io/after";
const RESTART_ON_CHANGE: &str = "podkeep.io/restart-on-change";
const INGRESS: &str = "podkeep.io/ingress";
const IPS: &str = "podkeep.io/ips";
/// Kubernetes' own; bits per second.
const BANDWIDTH: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];
/// Of a Secret: its values are encrypted, in this format.
pub(super) const SEALED: (&str, &str) = ("podkeep.io/sealed", "age");
/// All of a Pod, without the prefix.
pub(super) const OF_PODS: &[&str] =
    &["max-container-restart-period", "update", "after", "restart-on-change", "ingress", "ips"];
/// All of a Secret, without the prefix. A ConfigMap has none.
pub(super) const OF_SECRETS: &[&str] = &["sealed"];

fn path(key: &str) -> Path {
    Path::of("metadata.annotations").key(key)
}

/// A misspelt one would do nothing, silently. `known` are those of this kind, without the prefix.
pub(super) fn known(annotations: &Pairs, known: &[&str], checker: &mut Checker<'_>) {
    let ours = annotations.keys().filter_map(|key| key.strip_prefix(PREFIX));
    for name in ours.filter(|name| !known.contains(name)) {
        let hint = match names::nearest(name, known) {
            Some(nearest) => format!("; did you mean {PREFIX}{nearest}?"),
            None if known.is_empty() => ": there are none for this kind".to_owned(),
            None => format!(": there are {}", known.join(", ")),
        };
        checker
            .error(&path(&format!("{PREFIX}{name}")), format!("no annotation of podkeep is called so{hint}"));
    }
}

/// Whether a Secret's values are encrypted.
pub(super) fn sealed(annotations: &Pairs, checker: &mut Checker<'_>) {
    let (name, format) = SEALED;
    if let Some(text) = annotations.get(name).filter(|text| *text != format) {
        checker.invalid(
            &path(name),
            text,
            "the only value is \"age\", which says that each of the values is an age file",
        );
    }
}

pub(super) fn max_restart_period(annotations: &Pairs, checker: &mut Checker<'_>) -> Option<Duration> {
    let text = annotations.get(MAX_RESTART_PERIOD)?;
    match super::duration::max_restart_period(text) {
        Ok(period) => Some(period),
        Err(reason) => {
            checker.invalid(&path(MAX_RESTART_PERIOD), text, reason);
            None
        }
    }
}

/// Whether an edit of the Pod shall not wait until the new version can be prepared.
pub(super) fn recreate(annotations: &Pairs, checker: &mut Checker<'_>) -> bool {
    let Some(text) = annotations.get(UPDATE) else { return false };
    if text != "recreate" {
        let reason = "the only value is \"recreate\"; without the annotation a Pod is replaced when its new version can be prepared";
        checker.invalid(&path(UPDATE), text, reason);
    }
    true
}

/// Whether its containers shall start again when a ConfigMap or Secret changes that the Pod uses.
pub(super) fn restart_on_change(annotations: &Pairs, checker: &mut Checker<'_>) -> bool {
    let Some(text) = annotations.get(RESTART_ON_CHANGE) else { return false };
    if text != "true" && text != "false" {
        checker.invalid(&path(RESTART_ON_CHANGE), text, "must be \"true\" or \"false\"");
    }
    text == "true"
}

/// Who may reach the Pod.
pub(super) fn ingress(annotations: &Pairs, checker: &mut Checker<'_>) -> Ingress {
    let written = annotations.get(INGRESS).map(String::as_str);
    let all = [Ingress::None, Ingress::HostPort, Ingress::Pods, Ingress::All];
    let words = all.map(|ingress| (ingress.as_str(), ingress));
    checker.word(&path(INGRESS), written, &words, Ingress::All)
}

/// Addresses that it wants, each with the length of its network's prefix or without.
pub(super) fn ips(annotations: &Pairs, host_network: bool, checker: &mut Checker<'_>) -> Vec<String> {
    let Some(text) = annotations.get(IPS) else { return Vec::new() };
    let all: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
    if let Some(wrong) = all.iter().find(|one| !is_address(one)) {
        checker.invalid(
            &path(IPS),
            wrong,
            "must be an address, as 10.1.0.9 or fd00::9, or one with a prefix, as 10.1.0.9/16",
        );
    } else if host_network {
        checker.invalid(&path(IPS), text, "a Pod on the host's network has the host's addresses");
    }
    all
}

fn is_address(text: &str) -> bool {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse().is_ok_and(|length: u8| length <= most))
}

/// What may come in, what may go out; within the bounds of the kubelet (`pkg/util/bandwidth/utils.go`).
pub(super) fn bandwidth(annotations: &Pairs, checker: &mut Checker<'_>) -> [Option<u64>; 2] {
    BANDWIDTH.map(|key| {
        let text = annotations.get(key)?;
        let bits = Quantity::parse(text).map(Quantity::units).map_err(|error| error.to_string());
        let bits = bits.and_then(|bits| match bits {
            ..1_000 => Err("is unreasonably small (< 1kbit)".to_owned()),
            1_000_000_000_000_001.. => Err("is unreasonably large (> 1Pbit)".to_owned()),
            bits => Ok(bits),
        });
        bits.map_err(|reason| checker.invalid(&path(key), text, reason)).ok()
    })
}

/// Pods as their manifests name them, of the Pod's own namespace or as `namespace/name`.
pub(super) fn after(
    annotations: &Pairs,
    own: &PodId,
    node_name: &str,
    checker: &mut Checker<'_>,
) -> Vec<PodId> {
    let Some(text) = annotations.get(AFTER) else { return Vec::new() };
    let mut after = Vec::new();
    for written in text.split(',').map(str::trim) {
        let (namespace, name) = written.split_once('/').unwrap_or((&own.namespace, written));
        let whole = format!("{name}-{}", node_name.to_lowercase());
        if let Err(reason) = names::dns_label(namespace).and_then(|()| names::dns_subdomain(&whole)) {
            checker.invalid(&path(AFTER), written, reason);
            continue;
        }
        let id = PodId { namespace: namespace.to_owned(), name: whole };
        if id == *own {
            checker.invalid(&path(AFTER), written, "a Pod cannot come after itself");
        } else if !after.contains(&id) {
            after.push(id);
        }
    }
    after
}
