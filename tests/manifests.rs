//! Manifests of every kind through the public entry points.

#[path = "manifests/config_maps.rs"]
mod config_maps;
#[path = "manifests/environment.rs"]
mod environment;
#[path = "manifests/files.rs"]
mod files;
#[path = "manifests/lifecycle.rs"]
mod lifecycle;
#[path = "manifests/mounts.rs"]
mod mounts;
#[path = "manifests/names.rs"]
mod names;
#[path = "manifests/sealed.rs"]
mod sealed;
#[path = "manifests/secrets.rs"]
mod secrets;
#[path = "manifests/security.rs"]
mod security;
#[path = "manifests/volumes.rs"]
mod volumes;

use std::path::Path;

use podkeep::manifest::pod::{PullPolicy, QosClass, VolumeKind};
use podkeep::manifest::{Diagnostic, Manifest, Object, decode, from_source};

const SIMPLE: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: web
    image: nginx:1.27
    resources:
      limits:
        cpu: 1
        memory: 64Mi
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    emptyDir: {}
";

fn read(text: &str) -> Result<Manifest, Vec<Diagnostic>> {
    decode(Path::new("pod.yaml"), text.as_bytes(), "edge7")
}

/// The ConfigMap or Secret that is all there is.
fn only_object(text: &str) -> Object {
    let mut objects = read(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).objects;
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

fn errors(text: &str) -> Vec<String> {
    read(text).err().into_iter().flatten().map(|diagnostic| diagnostic.to_string()).collect()
}

#[test]
fn a_simple_pod_is_read_and_read_again_from_its_source() {
    let manifest = read(SIMPLE).unwrap();
    let pod = &manifest.pods[0];
    assert_eq!(pod.id.to_string(), "default/web-edge7");
    assert_eq!(pod.hostname.as_deref(), Some("web-edge7"));
    assert_eq!(pod.qos_class(), QosClass::Guaranteed);
    assert_eq!(pod.containers[0].pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(pod.containers[0].resources.requests.cpu_milli, Some(1000));
    assert!(matches!(pod.volumes[0].kind, VolumeKind::EmptyDir { .. }));
    assert_eq!(pod.object["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
    assert_eq!(&from_source(&pod.source, "edge7").unwrap(), pod);
}

#[test]
fn the_uid_is_pinned_and_depends_on_content_only() {
    let uid = |text: &str| read(text).unwrap().pods[0].uid.to_string();
    assert_eq!(uid(SIMPLE), "767dd838b103937a1e26816ab25d20f8");
    let same = SIMPLE.replace("name: web\n", "name: \"web\" # a comment\n").replace("cpu: 1", "cpu: '1'");
    assert_eq!(uid(&same), uid(SIMPLE));
    let with_status =
        format!("{SIMPLE}  hostNetwork: null\nstatus: {{phase: [7], ofANewerKubernetes: true}}\n");
    assert_eq!(uid(&with_status), uid(SIMPLE));
    let other = SIMPLE.replace("1.27", "1.28");
    assert_eq!(uid(&other), "3535979c98960ded1935501610896532");
}

#[test]
fn everything_wrong_is_named_at_its_place() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "image: nginx",
            "imgae: nginx",
            &[
                "pod.yaml:7:5: error: spec.containers[0].image: Required value",
                "pod.yaml:8:5: error: unknown field: spec.containers[0].imgae; did you mean `image`?",
            ],
        ),
        (
            "name: web\n    image: nginx:1.27",
            "name: 5\n    image: on",
            &[
                "pod.yaml:7:11: error: spec.containers[0].name: expected a string, found the integer `5` (quote it to make it a string)",
                "pod.yaml:8:12: error: spec.containers[0].image: expected a string, found the boolean `true` (quote it to make it a string)",
            ],
        ),
        (
            "  volumes:\n",
            "  securityContext: {seLinuxChangePolicy: Recursive}\n  volumes:\n",
            &["pod.yaml:16:42: error: not supported yet: spec.securityContext.seLinuxChangePolicy"],
        ),
        (
            "name: data\n      mountPath",
            "name: date\n      mountPath",
            &[
                "pod.yaml:14:13: error: spec.containers[0].volumeMounts[0].name: Not found: \"date\"; did you mean \"data\"?",
            ],
        ),
        (
            "    emptyDir: {}",
            "    emptyDir: {}\n    emptyDir: {}",
            &["pod.yaml:19:5: error: the key `emptyDir` stands here a second time"],
        ),
        (
            "64Mi",
            "64Mb",
            &[
                "pod.yaml:12:17: error: spec.containers[0].resources.limits.memory: Invalid value: \"64Mb\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': a unit has no B at its end: M is 10^6, Mi is 2^20",
            ],
        ),
        (
            "    emptyDir: {}",
            "\temptyDir: {}",
            &["pod.yaml:18:1: error: this line begins with a tab, and YAML is indented with spaces"],
        ),
        (
            "mountPath: /data",
            "mountPath: /data\n      readOnly: \"true\"",
            &[
                "pod.yaml:16:17: error: spec.containers[0].volumeMounts[0].readOnly: expected a boolean, found the string \"true\" (write it without quotes)",
            ],
        ),
        (
            "image: nginx:1.27",
            "image: nginx:1.27\n    ports: [{containerPort: \"80\"}]",
            &[
                "pod.yaml:9:29: error: spec.containers[0].ports[0].containerPort: expected an integer of 32 bits, found the string \"80\" (write it without quotes)",
            ],
        ),
        (
            "kind: Pod",
            "kind: Deployment",
            &[
                "pod.yaml:2:7: error: kind Deployment of v1 cannot be placed here: only Pods can, and ConfigMaps and Secrets that they use",
            ],
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(errors(&SIMPLE.replacen(from, to, 1)), *expected, "{to}");
    }
}

#[test]
fn an_image_may_be_a_volume() {
    let with = |image: &str| SIMPLE.replace("emptyDir: {}", &format!("image: {image}"));
    let volume = |image: &str| read(&with(image)).unwrap().pods.remove(0).volumes.remove(0).kind;
    let kind =
        |reference: &str, pull_policy| VolumeKind::Image { reference: reference.to_owned(), pull_policy };
    assert_eq!(volume("{reference: 'a:1'}"), kind("a:1", PullPolicy::IfNotPresent));
    assert_eq!(volume("{reference: a}"), kind("a", PullPolicy::Always));
    assert_eq!(volume("{reference: a, pullPolicy: Never}"), kind("a", PullPolicy::Never));
    let pod = &read(&with("{reference: a}")).unwrap().pods[0];
    assert_eq!(pod.images().collect::<Vec<_>>(), ["nginx:1.27", "a"]);
    assert_eq!(pod.object["spec"]["volumes"][0]["image"]["pullPolicy"], "Always");
    for (image, expected) in [
        ("{pullPolicy: Never}", "spec.volumes[0].image.reference: Required value"),
        (
            "{reference: a, pullPolicy: Once}",
            "spec.volumes[0].image.pullPolicy: Unsupported value: \"Once\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            "{reference: a}\n    hostPath: {path: /a}",
            "spec.volumes[0]: may not specify more than 1 volume type",
        ),
    ] {
        let errors = errors(&with(image));
        assert!(errors.len() == 1 && errors[0].ends_with(expected), "{image}: {errors:?}");
    }
}

#[test]
fn several_documents_lists_json_and_emptiness() {
    let second = SIMPLE.replacen("name: web", "name: db", 1);
    assert_eq!(read(&format!("{SIMPLE}---\n{second}---\n# end\n")).unwrap().pods.len(), 2);
    assert!(read("# nothing\n").unwrap().pods.is_empty());
    assert!(read("").unwrap().pods.is_empty());
    let pod = read(SIMPLE).unwrap().pods[0].source.to_string();
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{pod}]}}");
    assert_eq!(read(&list).unwrap().pods, read(SIMPLE).unwrap().pods);
    assert_eq!(errors(&format!("{SIMPLE}---\n{SIMPLE}")).len(), 1);
}

#[test]
fn bombs_and_depth_end_with_an_error() {
    let mut bomb = "a: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("b{level}: &a{level} [{}]\n", vec![alias; 10].join(","));
    }
    assert!(!errors(&bomb).is_empty());
    assert!(!errors(&"[".repeat(10 << 20)).is_empty());
    assert!(!errors(&"- ".repeat(5000)).is_empty());
    assert!(!errors("a: &a [*a, *a]").is_empty());
    assert!(!errors(&" ".repeat((10 << 20) + 1)).is_empty());
}

#[test]
fn kubectls_own_output_is_accepted() {
    let fixture = |name: &str| {
        let path = Path::new("tests/fixtures/manifests").join(name);
        decode(&path, &std::fs::read(&path).unwrap(), "edge7").unwrap()
    };
    assert!(fixture("kubectl-run.yaml").warnings.is_empty());
    let got = fixture("kubectl-get.yaml");
    assert_eq!(got.warnings.len(), 4, "{:?}", got.warnings);
    assert!(got.pods[0].volumes.is_empty() && got.pods[0].containers[0].mounts.is_empty());
}

#[test]
fn no_field_of_the_pod_api_is_unknown() {
    let data = Path::new("../shared/data/pods");
    if !data.is_dir() {
        println!("did not run: {} is missing", data.display());
        return;
    }
    let mut folders = vec![data.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let found = decode(&path, &std::fs::read(&path).unwrap(), "edge7").err().unwrap_or_default();
            for diagnostic in found {
                let message = diagnostic.to_string();
                assert!(!message.contains("unknown field") && !message.contains("expected"), "{message}");
            }
        }
    }
    assert!(files > 100, "{files}");
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Path::new("x"), &bytes, "n");
        }

        #[test]
        fn cut_and_changed_manifests_never_panic(at in 0..SIMPLE.len(), put in "[\\PC\n:&*{}\\[\\]-]{0,6}", drop in 0usize..20) {
            let text = format!("{}{put}{}", &SIMPLE[..at], &SIMPLE[(at + drop).min(SIMPLE.len())..]);
            let _ = read(&text);
            let _ = read(&SIMPLE[..at]);
        }
    }
}
