use super::*;
use crate::manifest::object::{Hidden, Sealed};
use crate::manifest::pod::{AmountRef, PodId, ResourceName, Resources};
use crate::manifest::{Uid, pod};

const PASSWORD: &str = "geheim $(A)";

/// `a` with `A=1`, `b.c=2` and the binary `raw`, the Secret `s` with `key`, `bytes` and `nul`, and `sealed` with `x`, which nobody
/// could decrypt.
fn objects() -> Vec<Object> {
    let object = |kind, name: &str, data: &[(&str, &[u8])], binary: &[&str]| Object {
        id: ObjectId { kind, namespace: "team".to_owned(), name: name.to_owned() },
        type_: String::new(),
        data: data.iter().map(|(key, value)| (key.to_string(), Hidden::new(value.to_vec()))).collect(),
        binary: binary.iter().map(|key| key.to_string()).collect(),
        sealed: Vec::new(),
        place: (1, 1),
    };
    let mut sealed = object(ObjectKind::Secret, "sealed", &[], &[]);
    sealed.sealed.push(Sealed { key: "x".into(), file: Hidden::new(vec![1]), why: "it is locked".into() });
    vec![
        sealed,
        object(ObjectKind::ConfigMap, "a", &[("A", b"1"), ("b.c", b"2"), ("raw", &[0xff])], &["raw"]),
        object(
            ObjectKind::Secret,
            "s",
            &[("key", PASSWORD.as_bytes()), ("bytes", &[0xff]), ("nul", b"a\0b")],
            &[],
        ),
    ]
}

fn of(kind: ObjectKind, name: &str, optional: bool) -> ObjectRef {
    ObjectRef { kind, name: name.to_owned(), optional }
}

fn key(name: &str, object: ObjectRef, key: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: EnvValue::Key(KeyRef { object, key: key.to_owned() }) }
}

fn from(prefix: &str, object: ObjectRef) -> EnvFrom {
    EnvFrom { prefix: prefix.to_owned(), object }
}

/// A Pod of the namespace `team` with these containers.
fn pod_of(containers: Vec<Container>) -> Pod {
    let id = PodId { namespace: "team".to_owned(), name: "web-edge7".to_owned() };
    Pod::plain(id, Uid::parse(&"a".repeat(32)).unwrap(), containers)
}

fn container(env_from: Vec<EnvFrom>, env: Vec<EnvVar>) -> Container {
    Container { env_from, env, ..Container::plain("c", "i") }
}

fn facts() -> NodeFacts {
    NodeFacts {
        addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        pod_addresses: vec!["10.203.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        allocatable: pod::Allocatable { cpu_milli: 4000, memory: 8 << 30, ephemeral_storage: 10_000_000_001 },
    }
}

/// Of the volume `v`: `env` with `A=1` and `B`, `broken`, and one that cannot be read.
fn env_file(named: &FileKeyRef) -> io::Result<Option<String>> {
    Ok(match named.path.as_str() {
        "env" => Some("A='1'\nB='$(A)'\n".to_owned()),
        "broken" => Some("\nA=geheim\n".to_owned()),
        "unreadable" => return Err(io::Error::other("it is no regular file")),
        _ => None,
    })
}

fn in_file(name: &str, path: &str, key: &str, optional: bool) -> EnvVar {
    let named = FileKeyRef { volume: "v".to_owned(), path: path.to_owned(), key: key.to_owned(), optional };
    EnvVar { name: name.to_owned(), value: EnvValue::File(named) }
}

/// The first container's variables, `NAME=value` each.
fn resolved(pod: &Pod, purpose: Purpose) -> Result<Vec<String>, String> {
    let objects = objects();
    let find = |id: &ObjectId| objects.iter().find(|object| object.id == *id);
    let sources = Sources { pod, objects: &find, node: &facts, file: &env_file };
    let environment = environment(&pod.containers[0], sources, purpose).map_err(|error| error.to_string())?;
    Ok(environment.variables().iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn start(env_from: Vec<EnvFrom>, env: Vec<EnvVar>) -> Result<Vec<String>, String> {
    resolved(&pod_of(vec![container(env_from, env)]), Purpose::Start)
}

const MAP: ObjectKind = ObjectKind::ConfigMap;
const SECRET: ObjectKind = ObjectKind::Secret;

#[test]
fn a_value_sees_only_the_variables_before_it() {
    let env =
        [("A", "$(B)"), ("B", "$(A)+"), ("A", "$(B)-$(A)")].map(|(name, value)| EnvVar::text(name, value));
    assert_eq!(start(Vec::new(), env.to_vec()).unwrap(), ["A=$(B)+-$(B)", "B=$(B)+"]);
}

#[test]
fn env_counts_more_than_env_from_and_the_later_more_than_the_earlier() {
    let all =
        vec![from("", of(MAP, "a", false)), from("P_", of(MAP, "a", false)), from("", of(MAP, "none", true))];
    let env = vec![EnvVar::text("A", "$(A)+$(P_A)"), EnvVar::text("B", "$(b.c)")];
    assert_eq!(start(all, env).unwrap(), ["A=1+1", "b.c=2", "P_A=1", "P_b.c=2", "B=2"]);
}

#[test]
fn what_comes_from_elsewhere_is_not_expanded_but_may_be_named() {
    let env = vec![
        EnvVar::text("A", "1"),
        key("PASSWORD", of(SECRET, "s", false), "key"),
        EnvVar { name: "FIELD".to_owned(), value: EnvValue::Field("$(A)".to_owned()) },
        EnvVar::text("URL", "db://$(PASSWORD)@db"),
    ];
    let expected = ["A=1", "PASSWORD=geheim $(A)", "FIELD=$(A)", "URL=db://geheim $(A)@db"];
    assert_eq!(start(Vec::new(), env).unwrap(), expected);
}

#[test]
fn what_is_missing_is_named_in_the_kubelets_words_unless_it_is_optional() {
    let cases = [
        (key("V", of(MAP, "none", false), "A"), "configmap \"none\" not found"),
        (key("V", of(SECRET, "a", false), "A"), "secret \"a\" not found"),
        (key("V", of(MAP, "a", false), "B"), "couldn't find key B in ConfigMap team/a"),
        (key("V", of(MAP, "a", false), "raw"), "couldn't find key raw in ConfigMap team/a"),
        (key("V", of(SECRET, "s", false), "B"), "couldn't find key B in Secret team/s"),
        (
            key("V", of(SECRET, "s", true), "bytes"),
            "the key bytes of Secret team/s cannot be a variable: it is not UTF-8, or holds a zero byte",
        ),
        (
            key("V", of(SECRET, "s", true), "nul"),
            "the key nul of Secret team/s cannot be a variable: it is not UTF-8, or holds a zero byte",
        ),
    ];
    for (variable, expected) in cases {
        assert_eq!(start(Vec::new(), vec![variable]).unwrap_err(), expected);
    }
    for (object, named) in
        [(of(MAP, "none", true), "A"), (of(MAP, "a", true), "B"), (of(SECRET, "s", true), "B")]
    {
        assert_eq!(start(Vec::new(), vec![key("V", object, named)]).unwrap(), [""; 0]);
    }
    let all = vec![from("", of(SECRET, "none", false))];
    assert_eq!(start(all, Vec::new()).unwrap_err(), "secret \"none\" not found");
}

#[test]
fn what_stays_sealed_is_not_what_is_missing() {
    let closed = "the key x of Secret team/sealed cannot be decrypted: it is locked";
    for optional in [false, true] {
        let variable = vec![key("V", of(SECRET, "sealed", optional), "x")];
        assert_eq!(start(Vec::new(), variable).unwrap_err(), closed);
        let all = vec![from("", of(SECRET, "sealed", optional))];
        assert_eq!(start(all, Vec::new()).unwrap_err(), closed);
    }
    let pod = pod_of(vec![container(vec![from("", of(SECRET, "sealed", false))], Vec::new())]);
    assert_eq!(resolved(&pod, Purpose::Beside).unwrap(), [""; 0]);
    assert_eq!(resolved(&pod, Purpose::Show).unwrap(), ["x=<from Secret sealed key x>"]);
}

#[test]
fn a_process_beside_the_others_goes_without_what_is_gone() {
    let env = vec![
        key("V", of(MAP, "none", false), "A"),
        key("W", of(MAP, "a", false), "B"),
        key("Y", of(SECRET, "s", false), "nul"),
        EnvVar::text("X", "x"),
    ];
    let pod = pod_of(vec![container(vec![from("", of(SECRET, "none", false))], env)]);
    assert_eq!(resolved(&pod, Purpose::Beside).unwrap(), ["X=x"]);
}

#[test]
fn what_is_shown_says_where_a_value_is_from_and_not_the_value() {
    let env = vec![
        key("PASSWORD", of(SECRET, "s", false), "key"),
        key("GONE", of(SECRET, "none", false), "key"),
        EnvVar::text("URL", "db://$(PASSWORD)@db"),
    ];
    let pod = pod_of(vec![container(vec![from("P_", of(MAP, "a", false))], env)]);
    assert_eq!(
        resolved(&pod, Purpose::Show).unwrap(),
        [
            "P_A=<from ConfigMap a key A>",
            "P_b.c=<from ConfigMap a key b.c>",
            "PASSWORD=<from Secret s key key>",
            "GONE=<from Secret none key key>",
            "URL=db://<from Secret s key key>@db",
        ]
    );
}

#[test]
fn variables_of_a_file_are_there_when_that_is() {
    let env = vec![
        in_file("ONE", "env", "A", false),
        in_file("TWO", "env", "B", false),
        in_file("NONE", "env", "C", true),
        in_file("GONE", "none", "A", true),
        EnvVar::text("BOTH", "$(ONE)$(TWO)"),
    ];
    assert_eq!(start(Vec::new(), env).unwrap(), ["ONE=1", "TWO=$(A)", "BOTH=1$(A)"]);
    for (variable, expected) in [
        (in_file("V", "env", "C", false), "environment variable key \"C\" not found in file env of volume v"),
        (
            in_file("V", "none", "A", false),
            "environment variable key \"A\" not found in file none of volume v",
        ),
        (
            in_file("V", "broken", "A", true),
            "couldn't parse env file broken of volume v: line 2: value must be enclosed in single quotes",
        ),
        (
            in_file("V", "unreadable", "A", true),
            "couldn't parse env file unreadable of volume v: it is no regular file",
        ),
    ] {
        let pod = pod_of(vec![container(Vec::new(), vec![variable])]);
        assert_eq!(resolved(&pod, Purpose::Start).unwrap_err(), expected);
        assert_eq!(resolved(&pod, Purpose::Beside).unwrap(), [""; 0], "{expected}");
        // It cannot be there yet.
        assert!(
            resolved(&pod, Purpose::Rehearsal).unwrap()[0].starts_with("V=<from volume v file "),
            "{expected}"
        );
        assert!(
            resolved(&pod, Purpose::Show).unwrap()[0].starts_with("V=<from volume v file "),
            "{expected}"
        );
    }
}

#[test]
fn all_variables_of_one_file_are_of_one_moment() {
    let looked = std::cell::Cell::new(0);
    let file = |named: &FileKeyRef| {
        looked.set(looked.get() + 1);
        env_file(named)
    };
    let env = vec![in_file("ONE", "env", "A", false), in_file("TWO", "env", "B", false)];
    let pod = pod_of(vec![container(Vec::new(), env)]);
    let sources = Sources { pod: &pod, objects: &|_| None, node: &facts, file: &file };
    environment(&pod.containers[0], sources, Purpose::Start).unwrap();
    assert_eq!(looked.get(), 1);
}

#[test]
fn a_pod_without_a_network_has_no_address_and_one_on_the_hosts_has_the_hosts() {
    let all = [Address::HostIp, Address::HostIps, Address::PodIp, Address::PodIps];
    let variable = |address| EnvVar { name: format!("{address:?}"), value: EnvValue::Address(address) };
    let mut pod = pod_of(vec![container(Vec::new(), all.map(variable).to_vec())]);
    let host = ["HostIp=10.0.0.7", "HostIps=10.0.0.7,fd00::7"];
    assert_eq!(
        resolved(&pod, Purpose::Start).unwrap(),
        [host[0], host[1], "PodIp=10.203.0.2", "PodIps=10.203.0.2,fd00::2"]
    );
    pod.host_network = true;
    let own = ["PodIp=10.0.0.7", "PodIps=10.0.0.7,fd00::7"];
    assert_eq!(resolved(&pod, Purpose::Start).unwrap(), [host, own].concat());
}

#[test]
fn amounts_are_divided_and_rounded_up_and_come_from_the_node_where_nothing_limits_them() {
    let amounts = |cpu_milli, memory| pod::Amounts {
        cpu_milli,
        memory,
        ephemeral_storage: Some(3 << 20),
        hugepages: [("2Mi".to_owned(), 4 << 20)].into(),
    };
    let limited = Container {
        resources: Resources {
            requests: amounts(Some(1100), Some(1)),
            limits: amounts(Some(1500), Some(64 << 20)),
        },
        ..Container::plain("limited", "i")
    };
    let cases = [
        ("limited", true, ResourceName::Cpu, 1000, "2"),
        ("limited", true, ResourceName::Cpu, 1, "1500"),
        ("limited", false, ResourceName::Cpu, 1000, "2"),
        ("limited", true, ResourceName::Memory, 1, "67108864"),
        ("limited", true, ResourceName::Memory, 1 << 20, "64"),
        ("limited", true, ResourceName::Memory, 1_000_000, "68"),
        ("limited", false, ResourceName::Memory, 1 << 20, "1"),
        ("limited", true, ResourceName::HugePages("2Mi".to_owned()), 1 << 20, "4"),
        ("limited", true, ResourceName::EphemeralStorage, 1 << 20, "3"),
        ("c", true, ResourceName::Cpu, 1000, "4"),
        ("c", true, ResourceName::Memory, 1 << 30, "8"),
        ("c", true, ResourceName::EphemeralStorage, 1_000_000_000, "11"),
        ("c", false, ResourceName::Memory, 1, "0"),
        ("c", true, ResourceName::HugePages("2Mi".to_owned()), 1, "0"),
    ];
    for (name, is_limit, resource, divisor, expected) in cases {
        let shown = format!("{name} {is_limit} {resource:?} {divisor}");
        let amount = AmountRef { container: name.to_owned(), is_limit, resource, divisor };
        let env = vec![EnvVar { name: "V".to_owned(), value: EnvValue::Amount(amount) }];
        let pod = pod_of(vec![container(Vec::new(), env), limited.clone()]);
        assert_eq!(resolved(&pod, Purpose::Start).unwrap(), [format!("V={expected}")], "{shown}");
    }
}

#[test]
fn a_pods_own_limit_counts_before_the_nodes() {
    let amount =
        AmountRef { container: "c".to_owned(), is_limit: true, resource: ResourceName::Memory, divisor: 1 };
    let env = vec![EnvVar { name: "V".to_owned(), value: EnvValue::Amount(amount) }];
    let mut pod = pod_of(vec![container(Vec::new(), env)]);
    let limits = pod::Amounts { memory: Some(7), ..Default::default() };
    pod.resources = Some(Resources { limits, ..Default::default() });
    assert_eq!(resolved(&pod, Purpose::Start).unwrap(), ["V=7"]);
}

#[test]
fn variables_are_expanded_in_a_command_that_asks_how_the_container_is() {
    let env = [EnvVar::text("A", "1"), EnvVar::text("B", "$(A)+"), key("S", of(SECRET, "s", false), "key")];
    let command = ["is", "$(B)", "$(C)", "$$(A)", "[$(S)]"].map(str::to_owned);
    assert_eq!(expanded_command(&command, &env), ["is", "1+", "$(C)", "$(A)", "[]"]);
}
