//! Documents of kind Secret: what is read from them, what is refused, and that no value is ever shown.

use podkeep::manifest::object::{DOCKER_CFG, DOCKER_CONFIG_JSON, Object};

use super::{SIMPLE, errors, read};

/// Base64 of `geheim`.
const ENCODED: &str = "Z2VoZWlt";

fn manifest(lines: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{lines}")
}

fn secret(lines: &str) -> Object {
    let mut secrets = read(&manifest(lines)).unwrap_or_else(|errors| panic!("{lines}: {errors:?}")).objects;
    assert_eq!(secrets.len(), 1);
    secrets.remove(0)
}

#[test]
fn data_is_decoded_and_string_data_counts_more() {
    let secret = secret(&format!(
        "data: {{a: {ENCODED}, b: {ENCODED}, c: null, d: \"Z2Vo\\nZWlt\\n\"}}\nstringData: {{b: 'no: base64'}}\n"
    ));
    let value = |key| secret.data[key].bytes();
    assert_eq!(
        [value("a"), value("b"), value("c"), value("d")],
        [b"geheim" as &[u8], b"no: base64", b"", b"geheim"]
    );
    assert_eq!(secret.id.to_string(), "Secret default/s");
    assert_eq!(secret.type_, "Opaque");
}

#[test]
fn a_type_has_its_key() {
    let docker = secret("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{}'}\n");
    assert_eq!(docker.of_type(DOCKER_CONFIG_JSON), Some(b"{}" as &[u8]));
    assert_eq!(docker.of_type(DOCKER_CFG), None);
    for lines in [
        "type: example.com/own\ndata: {}\n",
        "type: kubernetes.io/basic-auth\nstringData: {password: a}\n",
        "type: kubernetes.io/tls\nstringData: {tls.crt: a, tls.key: b}\nimmutable: true\n",
        "type: kubernetes.io/ssh-auth\nstringData: {ssh-privatekey: a}\n",
    ] {
        assert_eq!(secret(lines).of_type(DOCKER_CONFIG_JSON), None, "{lines}");
    }
}

#[test]
fn what_is_wrong_is_named_at_its_place_without_the_value() {
    let long = "A".repeat((1 << 20) / 3 * 4 + 8);
    for (lines, expected) in [
        ("data:\n  a: geheim!\n", "6:6: error: data.a: not base64 (text as it is belongs into stringData)"),
        (
            "stringData:\n  a: 1234567\n",
            "6:6: error: stringData.a: expected a string (quote it to make it a string)",
        ),
        ("data:\n  a: [geheim]\n", "6:7: error: data.a: expected a string"),
        ("data: geheim\n", "5:7: error: data: expected a map"),
        ("stringDta: {a: geheim}\n", "5:1: error: unknown field: stringDta; did you mean `stringData`?"),
        (
            "type: 5\n",
            "5:7: error: type: expected a string, found the integer `5` (quote it to make it a string)",
        ),
        (
            "stringData:\n  a/b: geheim\n",
            "6:3: error: stringData[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric \
             characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')",
        ),
        (
            "type: kubernetes.io/dockerconfigjson\nstringData: {.dockercfg: geheim}\n",
            "1:1: error: data[.dockerconfigjson]: Required value: a Secret of the type kubernetes.io/dockerconfigjson \
             has this key",
        ),
        (
            "type: kubernetes.io/basic-auth\nstringData: {user: geheim}\n",
            "1:1: error: data: Required value: username or password",
        ),
        (&format!("data:\n  a: {long}\n"), "1:1: error: data: Too long: may not be more than 1048576 bytes"),
    ] {
        assert_eq!(errors(&manifest(lines)), [format!("pod.yaml:{expected}")]);
    }
    let without_name = manifest("").replace("  name: s\n", "  namespace: a\n");
    assert_eq!(errors(&without_name), ["pod.yaml:3:1: error: metadata.name: Required value"]);
    let other_version = manifest("").replace("apiVersion: v1", "apiVersion: v2");
    assert_eq!(errors(&other_version).len(), 1);
}

#[test]
fn no_value_is_shown() {
    let secret = secret(&format!("data: {{a: {ENCODED}}}\n"));
    let shown = format!("{secret:?}");
    assert!(shown.contains("\"a\"") && !shown.contains("geheim") && !shown.contains("103"), "{shown}");
}

#[test]
fn secrets_stand_beside_pods_and_in_lists() {
    let own = manifest("stringData: {a: b}\n");
    let both = read(&format!("{own}---\n{SIMPLE}")).unwrap();
    assert_eq!((both.pods.len(), both.objects.len(), both.documents), (1, 1, 2));
    let item = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"n"}}"#;
    let list = format!(r#"{{"apiVersion":"v1","kind":"SecretList","items":[{item}]}}"#);
    assert_eq!(read(&list).unwrap().objects[0].id.to_string(), "Secret n/s");
    assert_eq!(
        errors(&format!("{own}---\n{own}")),
        ["pod.yaml:10:9: error: a second Secret default/s in this file"]
    );
}

#[test]
fn what_kubectl_adds_is_accepted() {
    let got = manifest(
        "  namespace: team\n  uid: 0b1d\n  resourceVersion: '5'\n  creationTimestamp: '2026-01-02T03:04:05Z'\n\
         type: Opaque\ndata: {a: Z2VoZWlt}\n",
    );
    assert_eq!(read(&got).unwrap().objects[0].id.to_string(), "Secret team/s");
}

#[test]
fn a_pod_names_its_secrets() {
    let text = SIMPLE.replace("spec:\n", "spec:\n  imagePullSecrets: [{name: b}, {name: a}]\n");
    assert_eq!(read(&text).unwrap().pods[0].image_pull_secrets, ["b", "a"]);
    assert_eq!(
        errors(&text.replace("{name: a}", "{name: ''}")),
        ["pod.yaml:6:40: error: spec.imagePullSecrets[1].name: Required value"]
    );
}
