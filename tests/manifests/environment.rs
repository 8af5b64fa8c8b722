//! Where variables come from: what is read of it, and what is refused.

use podkeep::manifest::ObjectKind;
use podkeep::manifest::from_source;
use podkeep::manifest::pod::{
    Address, AmountRef, EnvFrom, EnvValue, FileKeyRef, KeyRef, ObjectRef, Pod, ResourceName,
};

use super::{SIMPLE, errors, read};

/// `SIMPLE` with these lines in its container, from line 9 on.
fn with(lines: &str) -> String {
    SIMPLE.replace("    resources:\n", &format!("{lines}    resources:\n"))
}

fn pod(lines: &str) -> Pod {
    let pod = read(&with(lines)).unwrap_or_else(|errors| panic!("{lines}: {errors:?}")).pods.remove(0);
    assert_eq!(from_source(&pod.source, "edge7").unwrap(), pod);
    pod
}

fn value(from: &str) -> EnvValue {
    pod(&format!("    env: [{{name: V, valueFrom: {{{from}}}}}]\n")).containers.remove(0).env.remove(0).value
}

fn object(kind: ObjectKind, name: &str, optional: bool) -> ObjectRef {
    ObjectRef { kind, name: name.to_owned(), optional }
}

#[test]
fn every_source_of_a_variable_is_read() {
    let field = |text: &str| EnvValue::Field(text.to_owned());
    assert_eq!(value("fieldRef: {fieldPath: metadata.name}"), field("web-edge7"));
    assert_eq!(value("fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}"), field("default"));
    assert_eq!(value("fieldRef: {fieldPath: metadata.uid}"), EnvValue::Uid);
    assert_eq!(value("fieldRef: {fieldPath: spec.nodeName}"), field("edge7"));
    assert_eq!(value("fieldRef: {fieldPath: spec.serviceAccountName}"), field(""));
    assert_eq!(value("fieldRef: {fieldPath: status.hostIP}"), EnvValue::Address(Address::HostIp));
    assert_eq!(value("fieldRef: {fieldPath: status.podIPs}"), EnvValue::Address(Address::PodIps));
    assert_eq!(value("fieldRef: {fieldPath: \"metadata.labels['none']\"}"), field(""));
    let of =
        |kind, name: &str, optional| KeyRef { object: object(kind, name, optional), key: "k".to_owned() };
    assert_eq!(
        value("configMapKeyRef: {name: a, key: k}"),
        EnvValue::Key(of(ObjectKind::ConfigMap, "a", false))
    );
    assert_eq!(
        value("secretKeyRef: {name: b, key: k, optional: true}"),
        EnvValue::Key(of(ObjectKind::Secret, "b", true))
    );
    let of_file = |optional| {
        EnvValue::File(FileKeyRef {
            volume: "data".to_owned(),
            path: "d/config.env".to_owned(),
            key: "A b".to_owned(),
            optional,
        })
    };
    let written = "fileKeyRef: {volumeName: data, path: d/config.env, key: A b";
    assert_eq!(value(&format!("{written}}}")), of_file(false));
    assert_eq!(value(&format!("{written}, optional: true}}")), of_file(true));
}

#[test]
fn labels_and_annotations_are_taken_one_by_one() {
    let text = with(
        "    env:\n    - {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}\n    \
         - {name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['example.com/Note']\"}}}\n",
    );
    let text = text.replace(
        "  name: web\nspec",
        "  name: web\n  labels: {app: shop}\n  annotations: {example.com/Note: $(X)}\nspec",
    );
    let env = read(&text).unwrap().pods.remove(0).containers.remove(0).env;
    let values: Vec<_> = env.into_iter().map(|variable| variable.value).collect();
    assert_eq!(values, [EnvValue::Field("shop".to_owned()), EnvValue::Field("$(X)".to_owned())]);
}

#[test]
fn amounts_have_a_divisor_in_their_own_unit() {
    let amount = |rest: &str| match value(&format!("resourceFieldRef: {{{rest}}}")) {
        EnvValue::Amount(amount) => amount,
        other => panic!("{rest}: {other:?}"),
    };
    let of =
        |is_limit, resource, divisor| AmountRef { container: "web".to_owned(), is_limit, resource, divisor };
    assert_eq!(amount("resource: limits.cpu"), of(true, ResourceName::Cpu, 1000));
    assert_eq!(amount("resource: requests.cpu, divisor: 1m"), of(false, ResourceName::Cpu, 1));
    assert_eq!(amount("resource: limits.memory, divisor: '0'"), of(true, ResourceName::Memory, 1));
    assert_eq!(amount("resource: limits.memory, divisor: 1Mi"), of(true, ResourceName::Memory, 1 << 20));
    assert_eq!(amount("resource: limits.memory, divisor: 1E"), of(true, ResourceName::Memory, 10u64.pow(18)));
    let storage = ResourceName::EphemeralStorage;
    assert_eq!(amount("resource: limits.ephemeral-storage, divisor: 1k"), of(true, storage, 1000));
    let pages = ResourceName::HugePages("2Mi".to_owned());
    assert_eq!(amount("resource: requests.hugepages-2048Ki"), of(false, pages, 1));
    assert_eq!(amount("containerName: web, resource: limits.cpu"), of(true, ResourceName::Cpu, 1000));
}

#[test]
fn all_keys_of_an_object_may_be_variables() {
    let pod = pod(
        "    envFrom:\n    - configMapRef: {name: a}\n    - prefix: DB_\n      secretRef: {name: b, optional: true}\n",
    );
    let from = |prefix: &str, object| EnvFrom { prefix: prefix.to_owned(), object };
    assert_eq!(
        pod.containers[0].env_from,
        [
            from("", object(ObjectKind::ConfigMap, "a", false)),
            from("DB_", object(ObjectKind::Secret, "b", true))
        ]
    );
    let named: Vec<_> = pod.objects().map(|object| object.id_in("n").to_string()).collect();
    assert_eq!(named, ["ConfigMap n/a", "Secret n/b"]);
}

/// Where `needle` stands in the line 10 of a text, from 1.
fn column(text: &str, needle: &str) -> usize {
    text.lines().nth(9).and_then(|line| line.find(needle)).expect("it is there") + 1
}

#[test]
fn what_is_wrong_with_a_source_is_named_at_its_place() {
    for (from, place, expected) in [
        (
            "fieldRef: {fieldPath: metadata.nmae}",
            "metadata.nmae",
            ".fieldRef.fieldPath: Unsupported value: \"metadata.nmae\": did you mean \"metadata.name\"?",
        ),
        (
            "fieldRef: {fieldPath: spec}",
            "spec",
            ".fieldRef.fieldPath: Unsupported value: \"spec\": supported values: metadata.name, metadata.namespace, \
             metadata.uid, spec.nodeName, spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP, status.podIPs",
        ),
        (
            "fieldRef: {fieldPath: metadata.labels}",
            "metadata.labels",
            ".fieldRef.fieldPath: Invalid value: \"metadata.labels\": a variable takes one of them: metadata.labels['KEY']",
        ),
        (
            "fieldRef: {fieldPath: \"spec.nodeName['a']\"}",
            "\"spec.nodeName",
            ".fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": does not support subscript",
        ),
        (
            "fieldRef: {apiVersion: v2, fieldPath: metadata.uid}",
            "v2",
            ".fieldRef.apiVersion: Unsupported value: \"v2\": supported values: \"v1\"",
        ),
        ("fieldRef: {}", "fieldRef", ".fieldRef.fieldPath: Required value"),
        (
            "resourceFieldRef: {resource: limits.cpus}",
            "limits.cpus",
            ".resourceFieldRef.resource: Unsupported value: \"limits.cpus\": did you mean \"limits.cpu\"?",
        ),
        (
            "resourceFieldRef: {resource: limits.cpu, divisor: 1k}",
            "1k",
            ".resourceFieldRef.divisor: Invalid value: \"1k\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            "resourceFieldRef: {resource: limits.memory, divisor: 2Mi}",
            "2Mi",
            ".resourceFieldRef.divisor: Invalid value: \"2Mi\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, \
             1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        (
            "resourceFieldRef: {containerName: app, resource: limits.cpu}",
            "app",
            ".resourceFieldRef.containerName: Not found: \"app\"",
        ),
        ("configMapKeyRef: {key: k}", "configMapKeyRef", ".configMapKeyRef.name: Required value"),
        ("secretKeyRef: {name: a}", "secretKeyRef", ".secretKeyRef.key: Required value"),
        (
            "fileKeyRef: {volumeName: date, path: p, key: k}",
            "date",
            ".fileKeyRef.volumeName: Not found: \"date\"; did you mean \"data\"?",
        ),
        (
            "fileKeyRef: {volumeName: host, path: p, key: k}",
            "host",
            ".fileKeyRef.volumeName: Invalid value: \"host\": referenced volume must be of type emptyDir",
        ),
        ("fileKeyRef: {path: p, key: k}", "fileKeyRef", ".fileKeyRef.volumeName: Required value"),
        ("fileKeyRef: {volumeName: data, key: k}", "fileKeyRef", ".fileKeyRef.path: Required value"),
        ("fileKeyRef: {volumeName: data, path: p}", "fileKeyRef", ".fileKeyRef.key: Required value"),
        (
            "fileKeyRef: {volumeName: data, path: ../p, key: k}",
            "../p",
            ".fileKeyRef.path: Invalid value: \"../p\": must not contain '..'",
        ),
        (
            "fileKeyRef: {volumeName: data, path: /p, key: k}",
            "/p",
            ".fileKeyRef.path: Invalid value: \"/p\": must be a relative path",
        ),
        (
            "fileKeyRef: {volumeName: data, path: p, key: k=}",
            "k=",
            ".fileKeyRef.key: Invalid value: \"k=\": a valid environment variable name must consist only of printable ASCII \
             characters other than '='",
        ),
        (
            &format!("fileKeyRef: {{volumeName: data, path: p, key: {}}}", "k".repeat(129)),
            "kkk",
            ".fileKeyRef.key: Too long: may not be more than 128 bytes",
        ),
        (
            "configMapKeyRef: {name: a, key: k}, secretKeyRef: {name: a, key: k}",
            "valueFrom",
            ": Invalid value: may not have more than one field specified at a time",
        ),
    ] {
        let text = with(&format!("    env:\n    - {{name: V, valueFrom: {{{from}}}}}\n"));
        let text = format!("{text}  - {{name: host, hostPath: {{path: /srv}}}}\n");
        let column = column(&text, place);
        let expected = format!("pod.yaml:10:{column}: error: spec.containers[0].env[0].valueFrom{expected}");
        assert_eq!(errors(&text), [expected], "{from}");
    }
}

#[test]
fn a_variable_has_one_source_and_a_prefix_is_a_variables_name() {
    for (lines, expected) in [
        (
            "    env:\n    - {name: V, value: a, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}\n",
            "10:27: error: spec.containers[0].env[0].valueFrom: Invalid value: may not be specified when `value` is not empty",
        ),
        (
            "    envFrom:\n    - prefix: A=\n      secretRef: {name: b}\n",
            "10:15: error: spec.containers[0].envFrom[0].prefix: Invalid value: \"A=\": a valid environment variable name must \
             consist only of printable ASCII characters other than '='",
        ),
        (
            "    envFrom:\n    - prefix: A\n",
            "10:7: error: spec.containers[0].envFrom[0]: Invalid value: must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            "    envFrom:\n    - secretRef: {name: B}\n",
            "10:25: error: spec.containers[0].envFrom[0].secretRef.name: Invalid value: \"B\": a lowercase RFC 1123 subdomain \
             must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric \
             character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
    ] {
        assert_eq!(errors(&with(lines)), [format!("pod.yaml:{expected}")], "{lines}");
    }
}
