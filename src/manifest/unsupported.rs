//! Fields that Kubernetes knows and podkeep does not honour (yet): refused by name, never ignored.
//!
//! A row goes when its field is honoured. A field without a row is honoured, or means something to a cluster only
//! (`nodeSelector`, `affinity`, `tolerations` …) and is ignored.

use super::findings::Findings;
use super::tree::{Data, Node, Path};

/// One field that is refused.
struct Row {
    /// Relative to the Pod; `*` is every element of a list or every value of a map. What is said of `containers` goes for
    /// `initContainers` too.
    path: &'static str,
    /// Values that say what podkeep does anyway.
    same: &'static [&'static str],
    why: Why,
}

enum Why {
    NotYet,
    /// One node cannot give it; what to do instead.
    Instead(&'static str),
}

const fn not_yet(path: &'static str, same: &'static [&'static str]) -> Row {
    Row { path, same, why: Why::NotYet }
}

const fn instead(path: &'static str, same: &'static [&'static str], sentence: &'static str) -> Row {
    Row { path, same, why: Why::Instead(sentence) }
}

const NO_ACCOUNTS: &str =
    "there are no service accounts without an API server: give credentials as files (hostPath)";
const LINUX: &str = "this node runs Linux containers only: leave it out";
const CLUSTER_VOLUME: &str = "one node has no cluster storage: use hostPath or emptyDir";

const ROWS: &[Row] = &[
    not_yet("spec.securityContext.seLinuxChangePolicy", &[]),
    not_yet("spec.containers.*.stdin", &["false"]),
    not_yet("spec.containers.*.stdinOnce", &["false"]),
    not_yet("spec.containers.*.tty", &["false"]),
    instead("spec.ephemeralContainers", &[], "they are added to a running Pod through an API server only"),
    instead("spec.os.name", &["linux"], LINUX),
    instead("spec.resourceClaims", &[], "one node has no resource claims: mount the device with hostPath"),
    instead("spec.resources.claims", &[], "one node has no resource claims: mount the device with hostPath"),
    instead(
        "spec.containers.*.resources.claims",
        &[],
        "one node has no resource claims: mount the device with hostPath",
    ),
    instead("spec.runtimeClassName", &[], "podkeep runs the containers itself: leave it out"),
    instead("spec.schedulingGates", &[], "no scheduler would ever open them: leave them out"),
    instead("spec.serviceAccount", &["default"], NO_ACCOUNTS),
    instead("spec.serviceAccountName", &["default"], NO_ACCOUNTS),
    instead("spec.securityContext.windowsOptions", &[], LINUX),
    instead("spec.containers.*.securityContext.windowsOptions", &[], LINUX),
    instead(
        "spec.containers.*.volumeDevices",
        &[],
        "one node has no volume claims: mount the device with hostPath",
    ),
    instead(
        "spec.volumes.*.projected.sources.*.serviceAccountToken",
        &[],
        "there are no service accounts without an API server: give a token as a Secret",
    ),
    instead(
        "spec.volumes.*.projected.sources.*.clusterTrustBundle",
        &[],
        "there are no trust bundles without an API server: give certificates as a ConfigMap",
    ),
    instead(
        "spec.volumes.*.projected.sources.*.podCertificate",
        &[],
        "nobody signs certificates without an API server: give one with its key as a Secret",
    ),
];

/// Volume sources that may work one day; any other that is not honoured belongs to a cluster.
const VOLUMES_LATER: &[&str] = &["iscsi", "nfs"];
const VOLUMES: &[&str] =
    &["configMap", "downwardAPI", "emptyDir", "hostPath", "image", "projected", "secret"];

/// Names every field of `pod` that is not honoured.
pub(crate) fn check(pod: &Node, node_name: &str, findings: &mut Findings) {
    for row in ROWS {
        let mut steps: Vec<&str> = row.path.split('.').collect();
        let mut found = |node: &Node, path: &Path| refuse(row, pod, node, path, findings);
        visit(pod, &Path::default(), &steps, &mut found);
        if steps[1] == "containers" {
            steps[1] = "initContainers";
            visit(pod, &Path::default(), &steps, &mut found);
        }
    }
    check_volumes(pod, findings);
    warn_of_cluster(pod, node_name, findings);
}

fn visit(node: &Node, path: &Path, steps: &[&str], found: &mut dyn FnMut(&Node, &Path)) {
    match steps {
        [] => found(node, path),
        ["*", rest @ ..] => {
            for (index, item) in node.items().iter().enumerate() {
                visit(item, &path.index(index), rest, found);
            }
        }
        [key, rest @ ..] => {
            if let Some(value) = node.get(key) {
                visit(value, &path.key(key), rest, found);
            }
        }
    }
}

fn refuse(row: &Row, pod: &Node, node: &Node, path: &Path, findings: &mut Findings) {
    let scalar = node.scalar().unwrap_or_default();
    let says_nothing = node.is_empty() || matches!(&node.data, Data::Text(text) if text.is_empty());
    if says_nothing || row.same.contains(&scalar.as_str()) {
        return;
    }
    let message = match row.why {
        Why::Instead(sentence) => format!("{path}: {sentence}"),
        Why::NotYet if row.same.is_empty() => format!("not supported yet: {path}"),
        Why::NotYet => format!("not supported yet: {path}: {scalar}"),
    };
    findings.error(pod.place_of(path), Some(path), message);
}

fn check_volumes(pod: &Node, findings: &mut Findings) {
    let list = Path::of("spec.volumes");
    for (index, volume) in pod.at(&list).map_or(&[][..], Node::items).iter().enumerate() {
        for entry in volume.entries() {
            let key = entry.key.as_str();
            if key == "name" || VOLUMES.contains(&key) || entry.value.data == Data::Null {
                continue;
            }
            let path = list.index(index).key(key);
            let message = if VOLUMES_LATER.contains(&key) {
                format!("not supported yet: {path}")
            } else {
                format!("{path}: {CLUSTER_VOLUME}")
            };
            findings.error(entry.place, Some(&path), message);
        }
    }
}

fn warn_of_cluster(pod: &Node, node_name: &str, findings: &mut Findings) {
    let path = Path::of("spec.nodeName");
    if let Some(other) =
        pod.at(&path).and_then(Node::text).filter(|name| !name.is_empty() && *name != node_name)
    {
        let message = format!("{path}: the Pod was meant for {other:?}, this node is {node_name:?}: ignored");
        findings.warn(pod.place_of(&path), Some(&path), message);
    }
}
