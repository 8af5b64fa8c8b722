//! `securityContext`, namespaces of the host, and resources: what is read from them and what is refused.

use podkeep::manifest::forbidden_sysctls;
use podkeep::manifest::pod::{
    AppArmorProfile, FsGroupChangePolicy, Pod, ProcMount, QosClass, SeccompProfile, SupplementalGroupsPolicy,
};

use super::{errors, read};

/// `{pod}` goes into the Pod's spec, `{container}` into its first container; both in one line of YAML.
fn manifest(pod: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{pod}\ncontainers: [{{name: c, image: i:1, {container}}}, \
         {{name: d, image: i:1}}]}}}}\n"
    )
}

fn pod(pod: &str, container: &str) -> Pod {
    let text = manifest(pod, container);
    let mut pods = read(&text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).pods;
    let pod = pods.swap_remove(0);
    let mut again = podkeep::manifest::from_source(&pod.source, "edge7").unwrap();
    // What is shown keeps the empty maps that a person wrote.
    again.object = pod.object.clone();
    assert_eq!(again, pod, "what is saved gives the same Pod");
    pod
}

#[test]
fn a_pod_that_says_nothing_has_nothing() {
    let pod = pod("", "");
    assert!(pod.host_users && !pod.host_pid && !pod.host_ipc && !pod.share_process_namespace);
    assert_eq!((pod.fs_group, pod.supplemental_groups.len(), pod.sysctls.len()), (None, 0, 0));
    assert_eq!((&pod.resources, &pod.priority_class_name), (&None, &None));
    let security = &pod.containers[0].security;
    assert_eq!(security, &Default::default());
    assert_eq!(security.seccomp_profile(true), &SeccompProfile::RuntimeDefault);
    assert_eq!(security.seccomp_profile(false), &SeccompProfile::Unconfined);
}

#[test]
fn what_means_nothing_is_nothing() {
    let empty = pod(
        "resources: {limits: {}}, securityContext: {seLinuxOptions: {}, sysctls: []}, ",
        "securityContext: {seLinuxOptions: {}}",
    );
    assert_eq!((&empty.resources, &empty.containers[0].security.selinux), (&None, &None));
    assert_eq!(empty.uid, pod("", "").uid);
}

#[test]
fn the_containers_word_wins_over_the_pods() {
    let pod = pod(
        "securityContext: {runAsUser: 1, runAsGroup: 2, runAsNonRoot: true, seccompProfile: {type: Unconfined}, \
         appArmorProfile: {type: Localhost, localhostProfile: p}, seLinuxOptions: {level: s0, type: t}}, ",
        "securityContext: {runAsUser: 5, runAsNonRoot: false, seLinuxOptions: {level: s1}, \
         seccompProfile: {type: Localhost, localhostProfile: a/b.json}, appArmorProfile: {type: Unconfined}}",
    );
    let [own, inherited] = [&pod.containers[0].security, &pod.containers[1].security];
    assert_eq!((own.run_as_user, own.run_as_group, own.run_as_non_root), (Some(5), Some(2), false));
    assert_eq!(own.seccomp, Some(SeccompProfile::Localhost("a/b.json".to_owned())));
    assert_eq!(own.apparmor, Some(AppArmorProfile::Unconfined));
    let level =
        |options: &podkeep::manifest::pod::SeLinuxOptions| (options.level.clone(), options.kind.clone());
    assert_eq!(own.selinux.as_ref().map(level), Some((Some("s1".to_owned()), None)), "as a whole");

    assert_eq!((inherited.run_as_user, inherited.run_as_non_root), (Some(1), true));
    assert_eq!(inherited.seccomp, Some(SeccompProfile::Unconfined));
    assert_eq!(inherited.apparmor, Some(AppArmorProfile::Localhost("p".to_owned())));
    assert_eq!(inherited.selinux.as_ref().map(level), Some((Some("s0".to_owned()), Some("t".to_owned()))));
}

#[test]
fn a_privileged_container_has_no_seccomp_profile() {
    let profile = "securityContext: {privileged: true, seccompProfile: {type: RuntimeDefault}}";
    let pod = pod("", profile);
    assert_eq!(pod.containers[0].security.seccomp_profile(true), &SeccompProfile::Unconfined);
}

#[test]
fn settings_of_the_whole_pod_are_read() {
    let pod = pod(
        "hostPID: true, hostIPC: true, priorityClassName: system-node-critical, securityContext: {fsGroup: 7, \
         fsGroupChangePolicy: OnRootMismatch, supplementalGroups: [8, 9], supplementalGroupsPolicy: Strict, \
         sysctls: [{name: net/ipv4/conf/eth0.1/forwarding, value: '1'}]}, ",
        "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN]}}",
    );
    assert!(pod.host_pid && pod.host_ipc && pod.host_users);
    assert_eq!((pod.fs_group, &pod.supplemental_groups[..]), (Some(7), &[8, 9][..]));
    assert_eq!(pod.fs_group_change_policy, FsGroupChangePolicy::OnRootMismatch);
    assert_eq!(pod.supplemental_groups_policy, SupplementalGroupsPolicy::Strict);
    assert_eq!(pod.sysctls[0].name, "net.ipv4.conf.eth0/1.forwarding");
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    assert_eq!(pod.containers[0].security.allow_privilege_escalation, Some(false));
}

#[test]
fn a_pod_with_ids_of_its_own_may_see_all_of_its_proc() {
    let pod = pod("hostUsers: false, ", "securityContext: {procMount: Unmasked}");
    assert!(!pod.host_users);
    assert_eq!(pod.containers[0].security.proc_mount, ProcMount::Unmasked);
}

#[test]
fn containers_may_share_their_processes_with_ids_of_their_own_too() {
    let pod = pod("hostUsers: false, shareProcessNamespace: true, ", "");
    assert!(pod.share_process_namespace && !pod.host_users && !pod.host_pid);
}

#[test]
fn what_kubernetes_refuses_is_refused() {
    let cases = [
        (
            "hostPID: true, shareProcessNamespace: true, ",
            "",
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            "hostUsers: false, hostNetwork: true, ",
            "",
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
        ),
        ("hostUsers: false, hostPID: true, ", "", "spec.hostPID: Forbidden: when `hostUsers` is false"),
        ("hostUsers: false, hostIPC: true, ", "", "spec.hostIPC: Forbidden: when `hostUsers` is false"),
        ("priorityClassName: A, ", "", "spec.priorityClassName: Invalid value: \"A\""),
        (
            "securityContext: {fsGroup: 2147483648}, ",
            "",
            "spec.securityContext.fsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
        ),
        ("securityContext: {runAsUser: -1}, ", "", "spec.securityContext.runAsUser: Invalid value: -1"),
        (
            "securityContext: {supplementalGroups: [1, -1]}, ",
            "",
            "spec.securityContext.supplementalGroups[1]: Invalid value: -1",
        ),
        (
            "securityContext: {supplementalGroupsPolicy: Some}, ",
            "",
            "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"Some\": supported values: \"Merge\", \"Strict\"",
        ),
        (
            "securityContext: {fsGroupChangePolicy: Never}, ",
            "",
            "spec.securityContext.fsGroupChangePolicy: Unsupported value",
        ),
        (
            "securityContext: {sysctls: [{value: a}]}, ",
            "",
            "spec.securityContext.sysctls[0].name: Required value",
        ),
        (
            "securityContext: {sysctls: [{name: net..a, value: a}]}, ",
            "",
            "spec.securityContext.sysctls[0].name: Invalid value: \"net..a\": must have at most 253",
        ),
        (
            "securityContext: {sysctls: [{name: net.a, value: a}, {name: net/a, value: b}]}, ",
            "",
            "spec.securityContext.sysctls[1].name: Duplicate value: \"net/a\"",
        ),
        (
            "hostIPC: true, securityContext: {sysctls: [{name: kernel.sem, value: a}]}, ",
            "",
            "may not be set with 'hostIPC' = true",
        ),
        (
            "hostNetwork: true, securityContext: {sysctls: [{name: net.a, value: a}]}, ",
            "",
            "may not be set with 'hostNetwork' = true",
        ),
        (
            "securityContext: {sysctls: [{name: vm.swappiness, value: '1'}]}, ",
            "",
            "it is not a Pod's but the machine's",
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost}}, ",
            "",
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            "securityContext: {seccompProfile: {localhostProfile: a}}, ",
            "",
            "spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: /a}}",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"/a\": must be a relative path",
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: a/../b}}",
            "must not contain '..'",
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: Unconfined, localhostProfile: a}}",
            "can only be set when seccomp type is Localhost",
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: runtime/default}}",
            "supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
        ),
        (
            "",
            "securityContext: {appArmorProfile: {type: Localhost}}",
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
        ),
        (
            "",
            "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: ' a'}}",
            "must not be padded with whitespace",
        ),
        (
            "",
            "securityContext: {appArmorProfile: {type: Unconfined, localhostProfile: a}}",
            "can only be set when AppArmor type is Localhost",
        ),
        (
            "",
            "securityContext: {procMount: Unmasked}",
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
        ),
        ("", "securityContext: {procMount: None}", "procMount: Unsupported value: \"None\""),
        (
            "",
            "securityContext: {allowPrivilegeEscalation: false, privileged: true}",
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            "",
            "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}",
            "and `capabilities.Add` CAP_SYS_ADMIN",
        ),
        (
            "",
            "securityContext: {runAsGroup: 4294967296}",
            "spec.containers[0].securityContext.runAsGroup: Invalid value: 4294967296",
        ),
        (
            "",
            "resources: {limits: {hugepages-2Mi: 4Mi}}",
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ),
        ("", "resources: {limits: {cpu: 1, hugepages-2Mi: 3Mi}}", "must be a whole number of pages of 2Mi"),
        ("", "resources: {limits: {cpu: 1, hugepages-big: 3Mi}}", "must be the size of a page, such as 2Mi"),
        (
            "",
            "resources: {limits: {cpu: 1}, requests: {hugepages-2Mi: 2Mi}}",
            "spec.containers[0].resources.limits.hugepages-2Mi: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            "",
            "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}, requests: {hugepages-2Mi: 2Mi}}",
            "must be equal to hugepages-2Mi limit of 4194304",
        ),
        ("", "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi, hugepages-2048Ki: 4Mi}}", "Duplicate value"),
        (
            "",
            "resources: {limits: {ephemeral-storage: 1Gi}, requests: {ephemeral-storage: 2Gi}}",
            "spec.containers[0].resources.requests.ephemeral-storage: Invalid value: \"2Gi\": must be less than or equal to ephemeral-storage limit of 1Gi",
        ),
        ("", "resources: {limits: {ephemeral-storage: -1}}", "must be greater than or equal to 0"),
        (
            "",
            "resources: {limits: {ephemeral_storage: 1}}",
            "not supported yet: spec.containers[0].resources.limits.ephemeral_storage; did you mean ephemeral-storage?",
        ),
        (
            "resources: {limits: {cpu: 1, ephemeral-storage: 1Gi}}, ",
            "",
            "spec.resources.limits.ephemeral-storage: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
        ),
        (
            "resources: {limits: {memory: 1, hugepages-2Mi: 2Mi}}, ",
            "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}}",
            "spec.containers[0].resources.limits.hugepages-2Mi: Invalid value: \"4194304\": must be less than or equal to pod limits of 2097152",
        ),
        (
            "resources: {requests: {cpu: 1}}, ",
            "resources: {requests: {cpu: 1500m}}",
            "spec.resources.requests.cpu: Invalid value: \"1000m\": must be greater than or equal to aggregate container requests of 1500m",
        ),
        (
            "resources: {limits: {memory: 1Mi}}, ",
            "resources: {limits: {memory: 2Mi}, requests: {memory: 1Mi}}",
            "spec.containers[0].resources.limits.memory: Invalid value: \"2097152\": must be less than or equal to pod limits of 1048576",
        ),
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 2}}, ",
            "",
            "spec.resources.requests.cpu: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "resources: {limits: {example.com/gpu: 1}}, ",
            "",
            "not supported yet: spec.resources.limits[example.com/gpu]",
        ),
        ("resources: {claims: [{name: a}]}, ", "", "spec.resources.claims: one node has no resource claims"),
    ];
    for (pod, container, expected) in cases {
        let found = errors(&manifest(pod, container));
        assert!(found.iter().any(|error| error.contains(expected)), "{pod}{container}: {found:?}");
        assert!(
            found.iter().all(|error| error.starts_with("pod.yaml:1:") || error.starts_with("pod.yaml:2:"))
        );
    }
}

#[test]
fn what_is_wrong_in_the_pods_settings_is_said_once() {
    let text = manifest("securityContext: {runAsUser: -1, seccompProfile: {type: a}}, ", "");
    assert_eq!(errors(&text).len(), 2, "{:?}", errors(&text));
}

#[test]
fn an_apparmor_profile_that_podkeep_does_not_have_is_warned_of_once() {
    let text = manifest("securityContext: {appArmorProfile: {type: RuntimeDefault}}, ", "");
    let warnings = read(&text).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].message.contains("podkeep brings no AppArmor profile"));
}

#[test]
fn the_old_annotation_still_names_an_apparmor_profile() {
    let with = |value: &str, container: &str| {
        let annotation =
            format!("annotations: {{container.apparmor.security.beta.kubernetes.io/c: {value}}}");
        let pod = "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: pods}}, ";
        manifest(pod, container).replace("name: a}", &format!("name: a, {annotation}}}"))
    };
    let chosen = |text: &str| read(text).unwrap().pods[0].containers[0].security.apparmor.clone();
    assert_eq!(chosen(&with("localhost/old", "")), Some(AppArmorProfile::Localhost("old".to_owned())));
    let own = "securityContext: {appArmorProfile: {type: Unconfined}}";
    assert_eq!(chosen(&with("localhost/old", own)), Some(AppArmorProfile::Unconfined));
    assert!(errors(&with("complain", ""))[0].contains("invalid AppArmor profile name"));
}

#[test]
fn safe_sysctls_are_anybodys_and_others_the_nodes_to_allow() {
    let pod = pod(
        "securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}, {name: kernel.msgmax, value: '1'}, \
         {name: net.core.somaxconn, value: '1'}]}, ",
        "",
    );
    let forbidden = |allowed: &[&str]| {
        let allowed: Vec<String> = allowed.iter().map(|pattern| (*pattern).to_owned()).collect();
        forbidden_sysctls(&pod, &allowed)
    };
    let msgmax = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
    let somaxconn = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    assert_eq!(forbidden(&[]), [msgmax, somaxconn]);
    assert_eq!(forbidden(&["kernel.msg", "net.core*"]), [msgmax]);
    assert!(forbidden(&["kernel.msg*", "net/core/somaxconn"]).is_empty());
}

#[test]
fn pages_are_a_limit_and_do_not_count_for_the_class() {
    let pod = pod("", "resources: {limits: {hugepages-2048Ki: 4Mi}, requests: {cpu: 0}}");
    let resources = &pod.containers[0].resources;
    assert_eq!(resources.limits.hugepages.get("2Mi"), Some(&(4 << 20)));
    assert_eq!(resources.requests.hugepages, resources.limits.hugepages);
    assert_eq!(pod.qos_class(), QosClass::BestEffort);
}

#[test]
fn the_pods_own_resources_decide_its_class() {
    let class = |of_pod: &str, of_container: &str| pod(of_pod, of_container).qos_class();
    let container = "resources: {limits: {cpu: 100m, memory: 1Mi}}";
    assert_eq!(class("", container), QosClass::Burstable, "the other container has none");
    assert_eq!(
        class("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1, memory: 1Gi}}, ", container),
        QosClass::Guaranteed
    );
    assert_eq!(class("resources: {limits: {cpu: 1, memory: 1Gi}}, ", ""), QosClass::Guaranteed);
    assert_eq!(
        class("resources: {limits: {cpu: 1, memory: 1Gi}}, ", container),
        QosClass::Burstable,
        "requests are the containers'"
    );
    assert_eq!(class("resources: {limits: {cpu: 1}}, ", ""), QosClass::Burstable);
    assert_eq!(class("resources: {limits: {cpu: 0, hugepages-2Mi: 2Mi}}, ", ""), QosClass::BestEffort);
}

#[test]
fn what_the_pod_does_not_request_its_containers_do() {
    let pod = pod(
        "resources: {limits: {cpu: 2, memory: 1Gi}}, ",
        "resources: {requests: {cpu: 500m}, limits: {hugepages-2Mi: 2Mi}}",
    );
    let resources = pod.resources.as_ref().unwrap();
    assert_eq!((resources.requests.cpu_milli, resources.limits.cpu_milli), (Some(500), Some(2000)));
    assert_eq!(resources.requests.memory, Some(1 << 30));
    assert_eq!(resources.limits.hugepages.get("2Mi"), Some(&(2 << 20)));
    let shown = &pod.object["spec"]["resources"];
    assert_eq!(shown["requests"]["cpu"], "500m");
    assert_eq!((&shown["limits"]["cpu"], &shown["requests"]["memory"]), (&"2".into(), &"1073741824".into()));
}
