//! Volumes made of files: what is read of them, and what is refused where it stands.

use podkeep::manifest::pod::{AmountRef, DownwardValue, FileSource, ResourceName, Volume, VolumeKind};

use podkeep::manifest::ObjectKind;

use super::{SIMPLE, errors, read};

/// A Pod whose volume is this, in one line.
fn with(volume: &str) -> String {
    SIMPLE.replace("emptyDir: {}", volume)
}

fn volume(text: &str) -> (Vec<FileSource>, u32) {
    let read = read(&with(text)).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let Volume { kind, .. } = read.pods.into_iter().next().unwrap().volumes.remove(0);
    match kind {
        VolumeKind::Files { sources, default_mode, .. } => (sources, default_mode),
        other => panic!("{text}: {other:?}"),
    }
}

/// Key, path and mode.
type Items = Vec<(String, String, Option<u32>)>;

fn objects(sources: Vec<FileSource>) -> Vec<(ObjectKind, String, bool, Items)> {
    let object = |source| match source {
        FileSource::Object(source) => {
            let items = source.items.into_iter().map(|item| (item.key, item.path, item.mode)).collect();
            (source.object.kind, source.object.name, source.object.optional, items)
        }
        FileSource::Downward(_) => panic!("no object"),
    };
    sources.into_iter().map(object).collect()
}

fn downward(text: &str) -> DownwardValue {
    let (sources, _) = volume(&format!("downwardAPI: {{items: [{{path: a, {text}}}]}}"));
    match sources.into_iter().next() {
        Some(FileSource::Downward(mut files)) => files.remove(0).value,
        other => panic!("{other:?}"),
    }
}

/// In YAML 1.1, which Kubernetes reads, a number that begins with 0 is octal.
#[test]
fn an_object_gives_all_its_keys_or_some_at_other_places() {
    let (sources, mode) = volume("configMap: {name: m}");
    assert_eq!((mode, objects(sources)), (0o644, vec![(ObjectKind::ConfigMap, "m".into(), false, vec![])]));
    let (sources, mode) = volume(
        "secret: {secretName: s.x, optional: true, defaultMode: 0400, \
         items: [{key: k, path: a/..b}, {key: k, path: c, mode: 256}, {key: l, path: d, mode: 0o777}]}",
    );
    let items = [("k", "a/..b", None), ("k", "c", Some(0o400)), ("l", "d", Some(0o777))];
    let items = items.map(|(key, path, mode)| (key.to_owned(), path.to_owned(), mode)).into();
    assert_eq!((mode, objects(sources)), (0o400, vec![(ObjectKind::Secret, "s.x".into(), true, items)]));
    let pod = &read(&with("secret: {secretName: s}")).unwrap().pods[0];
    assert_eq!(pod.object["spec"]["volumes"][0]["secret"]["defaultMode"], 420);
}

#[test]
fn a_projected_volume_has_sources_of_three_kinds_in_their_order() {
    let (sources, mode) = volume(
        "projected: {defaultMode: 0440, sources: [{secret: {name: s}}, {configMap: {name: m, items: []}}, \
         {downwardAPI: {items: [{path: d/name, fieldRef: {fieldPath: metadata.name}}]}}]}",
    );
    assert_eq!((sources.len(), mode), (3, 0o440));
    assert!(matches!(&sources[2], FileSource::Downward(files) if files[0].value == DownwardValue::Name));
    assert_eq!(objects(sources[..2].to_vec()).len(), 2);
    assert!(volume("projected: {}").0.is_empty());
}

#[test]
fn a_pod_may_be_told_of_itself() {
    let field = |path: &str| downward(&format!("fieldRef: {{fieldPath: \"{path}\"}}"));
    assert_eq!(field("metadata.uid"), DownwardValue::Uid);
    assert_eq!(field("metadata.labels"), DownwardValue::Labels);
    assert_eq!(field("metadata.labels['app']"), DownwardValue::Label("app".into()));
    assert_eq!(field("metadata.annotations['x.y/Z']"), DownwardValue::Annotation("x.y/Z".into()));
    let amount = |resource: &str, divisor: &str| {
        downward(&format!(
            "resourceFieldRef: {{containerName: web, resource: {resource}, divisor: \"{divisor}\"}}"
        ))
    };
    let expected = |is_limit, resource, divisor| {
        DownwardValue::Amount(AmountRef { container: "web".into(), is_limit, resource, divisor })
    };
    assert_eq!(amount("limits.cpu", "0"), expected(true, ResourceName::Cpu, 1000));
    assert_eq!(amount("requests.cpu", "1m"), expected(false, ResourceName::Cpu, 1));
    assert_eq!(amount("limits.memory", "1Mi"), expected(true, ResourceName::Memory, 1 << 20));
    let pages = ResourceName::HugePages("2Mi".into());
    assert_eq!(amount("limits.hugepages-2048Ki", "1Ki"), expected(true, pages, 1 << 10));
}

#[test]
fn what_is_wrong_with_files_is_named_at_its_place() {
    let long = "a".repeat(256);
    let fields = "supported values: metadata.annotations, metadata.labels, metadata.name, metadata.namespace, metadata.uid";
    let mut others = Vec::new();
    for (volume, expected) in [
        ("configMap: {}", "18:5: error: spec.volumes[0].configMap.name: Required value"),
        (
            "secret: {secretName: S}",
            "18:26: error: spec.volumes[0].secret.secretName: Invalid value: \"S\": a",
        ),
        (
            "secret: {secretName: s, defaultMode: 01000}",
            "18:42: error: spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and \
             0777 (octal), both inclusive",
        ),
        (
            "secret: {secretName: s, items: [{key: k, path: a, mode: -1}]}",
            "18:61: error: spec.volumes[0].secret.items[0].mode: Invalid value: -1: must be a number between",
        ),
        (
            "configMap: {name: m, items: [{key: k, path: /a}]}",
            "18:49: error: spec.volumes[0].configMap.items[0].path: Invalid value: \"/a\": must be a relative path",
        ),
        ("configMap: {name: m, items: [{key: k, path: a/../b}]}", "\"a/../b\": must not contain '..'"),
        ("configMap: {name: m, items: [{key: k, path: ..a}]}", "\"..a\": must not start with '..'"),
        (
            "configMap: {name: m, items: [{key: k, path: a//b}]}",
            "must be a plain path of a file, such as 'a/b'",
        ),
        (
            &format!("configMap: {{name: m, items: [{{key: k, path: {long}}}]}}"),
            "must be no longer than a path",
        ),
        (
            "configMap: {name: m, items: [{key: k/l, path: a}]}",
            "18:40: error: spec.volumes[0].configMap.items[0].key",
        ),
        (
            "configMap: {name: m, items: [{path: a}]}",
            "18:35: error: spec.volumes[0].configMap.items[0].key: Required",
        ),
        (
            "configMap: {name: m, items: [{key: k, path: a}, {key: l, path: a}]}",
            "18:68: error: spec.volumes[0].configMap.items[1].path: Invalid value: \"a\": two files of one path",
        ),
        (
            "projected: {sources: [{secret: {name: s, items: [{key: k, path: a/b}]}}, \
             {downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}}]}",
            "sources[1].downwardAPI.items[0].path: Invalid value: \"a\": \"a\" would be a file and a folder",
        ),
        (
            "projected: {sources: [{secret: {name: s, items: [{key: k, path: a}, {key: k, path: a/b}]}}]}",
            "sources[0].secret.items[1].path: Invalid value: \"a/b\": \"a\" would be a file and a folder",
        ),
        ("projected: {sources: [{}]}", "spec.volumes[0].projected.sources[0]: Required value"),
        (
            "projected: {sources: [{secret: {name: s}, configMap: {name: m}}]}",
            "spec.volumes[0].projected.sources[0]: may not specify more than 1 volume type",
        ),
        (
            "projected: {sources: [{serviceAccountToken: {path: t}}]}",
            "18:28: error: spec.volumes[0].projected.sources[0].serviceAccountToken: there are no service accounts \
             without an API server: give a token as a Secret",
        ),
        (
            "projected: {sources: [{clusterTrustBundle: {path: t, name: all}}]}",
            "there are no trust bundles without an API server: give certificates as a ConfigMap",
        ),
        (
            "secret: {secretName: s}\n    emptyDir: {}",
            "spec.volumes[0]: may not specify more than 1 volume type",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.nam}}]}",
            "18:59: error: spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: \
             \"metadata.nam\": did you mean \"metadata.name\"?",
        ),
        ("downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}", fields),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: \"metadata.labels['a b']\"}}]}",
            "fieldPath: Invalid value: \"a b\": name part must consist of",
        ),
        (
            "downwardAPI: {items: [{path: a}]}",
            "items[0]: Required value: one of fieldRef and resourceFieldRef is",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}",
            "items[0].resourceFieldRef.containerName: Required value",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: x, resource: limits.cpu}}]}",
            "resourceFieldRef.containerName: Not found: \"x\"",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: web, resource: limits.cpus}}]}",
            "did you mean \"limits.cpu\"?",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: web, resource: limits.cpu, divisor: 2}}]}",
            "divisor: Invalid value: \"2\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: web, resource: limits.memory, divisor: 1m}}]}",
            "divisor: Invalid value: \"1m\": only divisor's values 1, 1k",
        ),
    ] {
        let errors = errors(&with(volume));
        if errors.len() != 1 || !errors[0].contains(expected) {
            others.push((volume.to_owned(), errors));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}
