//! Where volumes are mounted: what is read of it, and what is refused where it stands.

use podkeep::manifest::pod::{Access, MountPropagation, SubPath, VolumeMount};

use super::{SIMPLE, errors, read};

/// A Pod whose mount says this too; `spec` is a line of its spec.
fn with(lines: &str, spec: &str) -> String {
    let pod = SIMPLE.replace("mountPath: /data", &format!("mountPath: /data\n      {lines}"));
    pod.replace("  volumes:\n", &format!("  {spec}\n  volumes:\n"))
}

const PRIVILEGED: &str = "mountPropagation: Bidirectional\n    securityContext: {privileged: true}";

fn mount(lines: &str) -> VolumeMount {
    let read = read(&with(lines, "")).unwrap_or_else(|errors| panic!("{lines}: {errors:?}"));
    read.pods.into_iter().next().unwrap().containers.remove(0).mounts.remove(0)
}

#[test]
fn a_mount_says_how_much_of_a_volume_and_what_may_be_done_there() {
    let plain = mount("readOnly: false");
    assert_eq!((plain.sub_path, plain.access), (None, Access::ReadWrite));
    assert_eq!(plain.propagation, MountPropagation::None);
    let sub_path = |lines: &str| mount(lines).sub_path.unwrap();
    assert_eq!(sub_path("subPath: a/..b/$(C)"), SubPath::Plain("a/..b/$(C)".to_owned()));
    assert_eq!(sub_path("subPathExpr: a/$(POD)"), SubPath::Expression("a/$(POD)".to_owned()));
    assert_eq!(mount("subPath: ''\n      subPathExpr: ''").sub_path, None);
    let access = |lines: &str| mount(&format!("readOnly: true\n      {lines}")).access;
    assert_eq!(access("recursiveReadOnly: Disabled"), Access::ReadOnly);
    for word in ["IfPossible", "Enabled"] {
        let lines = format!("recursiveReadOnly: {word}\n      mountPropagation: None");
        assert_eq!(access(&lines), Access::RecursiveReadOnly);
    }
    let propagation = |lines: &str| mount(lines).propagation;
    assert_eq!(propagation("mountPropagation: HostToContainer"), MountPropagation::HostToContainer);
    assert_eq!(propagation(PRIVILEGED), MountPropagation::Bidirectional);
}

#[test]
fn what_is_wrong_with_a_mount_is_named_at_its_place() {
    let mount = "error: spec.containers[0].volumeMounts[0]";
    for (lines, place, expected) in [
        ("subPath: /a", "16:16", "subPath: Invalid value: \"/a\": must be a relative path"),
        ("subPath: a/../b", "16:16", "subPath: Invalid value: \"a/../b\": must not contain '..'"),
        ("subPathExpr: /$(A)", "16:20", "subPathExpr: Invalid value: \"/$(A)\": must be a relative path"),
        ("subPathExpr: $(A)/..", "16:20", "subPathExpr: Invalid value: \"$(A)/..\": must not contain '..'"),
        (
            "subPath: a\n      subPathExpr: b",
            "17:20",
            "subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive",
        ),
        (
            "mountPropagation: Bidirectional",
            "16:25",
            "mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            "mountPropagation: Both",
            "16:25",
            "mountPropagation: Unsupported value: \"Both\": supported values: \"None\", \"HostToContainer\", \
             \"Bidirectional\"",
        ),
        (
            "recursiveReadOnly: Enabled",
            "16:26",
            "recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ),
        (
            "recursiveReadOnly: Always",
            "16:26",
            "recursiveReadOnly: Unsupported value: \"Always\": supported values: \"Disabled\", \"IfPossible\", \"Enabled\"",
        ),
        (
            "readOnly: true\n      mountPropagation: HostToContainer\n      recursiveReadOnly: IfPossible",
            "18:26",
            "recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
        ),
    ] {
        assert_eq!(errors(&with(lines, "")), [format!("pod.yaml:{place}: {mount}.{expected}")], "{lines}");
    }
    let alone = errors(&with(PRIVILEGED, "hostUsers: false"));
    let expected =
        "mountPropagation: Forbidden: when `hostUsers` is false no mount of the container reaches the host";
    assert_eq!(alone, [format!("pod.yaml:16:25: {mount}.{expected}")]);
}

#[test]
fn nothing_may_be_mounted_inside_of_what_the_host_sees() {
    let inside = "mountPropagation: Bidirectional\n    - {name: data, mountPath: /data/a}\n    - {name: data, mountPath: /database}\n    \
        securityContext: {privileged: true}";
    let why = "whose mountPropagation is Bidirectional: the host would see it, and keep it";
    let expected =
        format!("spec.containers[0].volumeMounts[1].mountPath: Forbidden: /data/a lies in /data, {why}");
    assert_eq!(errors(&with(inside, "")), [format!("pod.yaml:17:31: error: {expected}")]);
    let words = with(&format!("{PRIVILEGED}\n    terminationMessagePath: /data/words"), "");
    let expected =
        format!("spec.containers[0].terminationMessagePath: Forbidden: /data/words lies in /data, {why}");
    assert_eq!(errors(&words), [format!("pod.yaml:18:29: error: {expected}")]);
    let dev = errors(&with(PRIVILEGED, "").replace("mountPath: /data", "mountPath: /dev"));
    assert!(dev.len() == 1 && dev[0].contains("Forbidden: /dev/termination-log lies in /dev"), "{dev:?}");
}

#[test]
fn a_place_twice_and_a_volume_that_is_not_there_are_named() {
    let twice = with("subPath: a\n    - {name: data, mountPath: data/./, subPath: b}", "");
    let expected = "spec.containers[0].volumeMounts[1].mountPath: Duplicate value: \"data/./\"";
    assert_eq!(errors(&twice), [format!("pod.yaml:17:31: error: {expected}")]);
    let other = SIMPLE.replace("name: data\n      mountPath", "name: logs\n      mountPath");
    let expected = "spec.containers[0].volumeMounts[0].name: Not found: \"logs\"";
    assert_eq!(errors(&other), [format!("pod.yaml:14:13: error: {expected}")]);
}
