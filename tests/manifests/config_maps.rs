//! Documents of kind ConfigMap, and whether they have the keys that Pods name.

use std::path::Path;

use podkeep::manifest::{Object, lacking};

use super::{SIMPLE, errors, only_object, read};

fn manifest(lines: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n{lines}")
}

fn config_map(lines: &str) -> Object {
    only_object(&manifest(lines))
}

#[test]
fn data_is_text_and_binary_data_is_for_files_only() {
    let map = config_map(
        "data: {LOG_LEVEL: debug, app.ini: \"[a]\\n\"}\nbinaryData: {raw: /wA=}\nimmutable: true\n",
    );
    assert_eq!(map.id.to_string(), "ConfigMap default/a");
    let value = |key| map.data[key].bytes();
    assert_eq!(
        [value("LOG_LEVEL"), value("app.ini"), value("raw")],
        [b"debug" as &[u8], b"[a]\n", &[0xff, 0]]
    );
    assert_eq!(map.variables().collect::<Vec<_>>(), ["LOG_LEVEL", "app.ini"]);
    assert_eq!((map.variable("raw"), map.variable("none")), (None, None));
}

#[test]
fn what_is_wrong_is_named_at_its_place() {
    for (lines, expected) in [
        ("data:\n  port: 80\n", "6:9: error: data.port: expected a string (quote it to make it a string)"),
        (
            "binaryData:\n  raw: '!'\n",
            "6:8: error: binaryData.raw: not base64 (text as it is belongs into data)",
        ),
        (
            "data: {a: b}\nbinaryData:\n  a: Yg==\n",
            "7:6: error: binaryData.a: Invalid value: \"a\": duplicate of key present in data",
        ),
        ("stringData: {a: b}\n", "5:1: error: unknown field: stringData: a ConfigMap has none"),
        ("dta: {a: b}\n", "5:1: error: unknown field: dta; did you mean `data`?"),
    ] {
        assert_eq!(errors(&manifest(lines)), [format!("pod.yaml:{expected}")]);
    }
    let long = "a".repeat((1 << 20) + 1);
    let too_long = errors(&manifest(&format!("data: {{a: {long}}}\n")));
    assert_eq!(too_long, ["pod.yaml:1:1: error: data: Too long: may not be more than 1048576 bytes"]);
    let twice = manifest("data: {a: b}\n");
    assert_eq!(
        errors(&format!("{twice}---\n{twice}")),
        ["pod.yaml:10:9: error: a second ConfigMap default/a in this file"]
    );
    // A Secret may have the same name.
    let secret = twice.replace("ConfigMap", "Secret").replace("\ndata", "\nstringData");
    assert_eq!(read(&format!("{twice}---\n{secret}")).unwrap().objects.len(), 2);
}

#[test]
fn a_key_that_an_object_lacks_is_named_where_a_pod_asks_for_it() {
    let from = |kind: &str, name: &str, rest: &str| {
        format!("    - name: V\n      valueFrom:\n        {kind}: {{name: {name}, key: log_level{rest}}}\n")
    };
    let env = [
        from("configMapKeyRef", "a", ""),
        from("configMapKeyRef", "a", ", optional: true"),
        from("configMapKeyRef", "elsewhere", ""),
        from("secretKeyRef", "a", ""),
    ];
    let pod = SIMPLE.replace("    resources:\n", &format!("    env:\n{}    resources:\n", env.concat()));
    let references = read(&pod).unwrap().references;
    let other = config_map("data: {LOG_LEVEL: debug}\nbinaryData: {log_level: aQ==}\n");
    let said: Vec<_> =
        lacking(Path::new("pod.yaml"), &references, &[&other]).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["pod.yaml:12:41: error: spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Not found: \
          \"log_level\": ConfigMap default/a has no such key; did you mean \"LOG_LEVEL\"?"]
    );
    let right = config_map("data: {log_level: debug}\n");
    assert_eq!(lacking(Path::new("pod.yaml"), &references, &[&right]), []);
}

#[test]
fn a_key_that_an_object_lacks_is_named_where_a_volume_asks_for_it() {
    let map = config_map("data: {a: x}\nbinaryData: {raw: /wA=}\n");
    let said = |volume: &str| {
        let references = read(&SIMPLE.replace("emptyDir: {}", volume)).unwrap().references;
        let said = lacking(Path::new("pod.yaml"), &references, &[&map]);
        said.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(said("configMap: {name: a, items: [{key: raw, path: p}]}"), [""; 0]);
    assert_eq!(said("configMap: {name: a, optional: true, items: [{key: b, path: p}]}"), [""; 0]);
    assert_eq!(
        said("configMap: {name: a, items: [{key: raw, path: p}, {key: b, path: q}]}"),
        [
            "pod.yaml:18:61: error: spec.volumes[0].configMap.items[1].key: Not found: \"b\": ConfigMap default/a has \
          no such key; did you mean \"a\"?"
        ]
    );
    let projected = said(
        "projected: {sources: [{secret: {name: s}}, {configMap: {name: a, items: [{key: b, path: q}]}}]}",
    );
    assert!(
        projected[0].contains("spec.volumes[0].projected.sources[1].configMap.items[0].key: Not found"),
        "{projected:?}"
    );
}
