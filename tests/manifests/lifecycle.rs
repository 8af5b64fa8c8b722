//! Init containers, restart policies, hooks and probes: Kubernetes' rules for them, each at its place.

use podkeep::manifest::pod::{ProbeAction, Restart, RestartPolicy};

use super::errors;

/// Errors of a Pod with this in its spec and in its container, without the words of what is not carried out yet.
fn wrong(pod: &str, container: &str) -> Vec<String> {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{pod}\ncontainers: [{{name: c, image: i:1,\n\
         ports: [{{name: web, containerPort: 80}}],\n{container}}}]}}}}\n"
    );
    errors(&text).into_iter().filter(|error| !error.contains("not supported yet")).collect()
}

#[track_caller]
fn is_wrong(pod: &str, container: &str, expected: &[&str]) {
    let found = wrong(pod, container);
    let as_expected = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.ends_with(expected));
    assert!(as_expected, "{pod} {container}: {found:#?}");
}

#[test]
fn what_kubernetes_accepts_is_accepted() {
    let init = "initContainers: [{name: i, image: i:1}, {name: s, image: i:1, restartPolicy: Always, \
                livenessProbe: {exec: {command: [a]}}, lifecycle: {preStop: {sleep: {seconds: 30}}}}],";
    let all = "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}, \
               {action: RestartAllContainers, exitCodes: {operator: NotIn}}], \
               lifecycle: {stopSignal: SIGRTMIN+3, postStart: {httpGet: {port: 80, host: h, scheme: HTTPS}}}, \
               startupProbe: {grpc: {port: 1}, periodSeconds: 0}, \
               readinessProbe: {successThreshold: 5, tcpSocket: {port: web}}, \
               livenessProbe: {terminationGracePeriodSeconds: 1, httpGet: {port: web, httpHeaders: [{name: X-a, value: b}]}}";
    is_wrong(init, all, &[]);
    is_wrong("activeDeadlineSeconds: 1, priority: -5,", "", &[]);
}

#[test]
fn names_are_unique_over_all_containers_and_host_ports_over_those_that_run_together() {
    is_wrong(
        "initContainers: [{name: c, image: i:1}],",
        "",
        &["pod.yaml:2:21: error: spec.containers[0].name: Duplicate value: \"c\""],
    );
    let init = |more| {
        format!(
            "hostNetwork: true, initContainers: [{{name: i, image: i:1, {more} ports: [{{containerPort: 80}}]}}],"
        )
    };
    is_wrong(&init(""), "", &[]);
    is_wrong(
        &init("restartPolicy: Always,"),
        "",
        &["spec.containers[0].ports[0].containerPort: Duplicate value: \"80/TCP\""],
    );
}

#[test]
fn an_init_container_has_neither_hooks_nor_probes() {
    is_wrong(
        "initContainers: [{name: i, image: i:1, lifecycle: {}, \nlivenessProbe: {exec: {command: [a]}}}],",
        "",
        &[
            "pod.yaml:1:96: error: spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            "pod.yaml:2:1: error: spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
}

#[test]
fn restart_rules_by_kubernetes_rules() {
    is_wrong(
        "",
        "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
        &["restartPolicyRules: spec.containers[0].restartPolicy must be specified where there are rules"],
    );
    is_wrong(
        "",
        "restartPolicy: Sometimes",
        &[
            "restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    is_wrong(
        "",
        "restartPolicy: Never, restartPolicyRules: [{action: Stop}]",
        &[
            "restartPolicyRules[0].exitCodes: Required value",
            "restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
        ],
    );
    let rule = "{action: Restart, exitCodes: {operator: In, values: [1]}}";
    let rules = vec![rule; 21].join(",");
    is_wrong(
        "",
        &format!("restartPolicy: Never, restartPolicyRules: [{rules}]"),
        &["restartPolicyRules: Too many: 21: must have at most 20 items"],
    );
    let codes = vec!["1"; 256].join(",");
    is_wrong(
        "",
        &format!(
            "restartPolicy: Never, restartPolicyRules: [{{action: Restart, exitCodes: {{operator: In, values: [{codes}]}}}}]"
        ),
        &["exitCodes.values: Too many: 256: must have at most 255 items"],
    );
}

#[test]
fn hooks_by_kubernetes_rules() {
    let hook = |written: &str| format!("lifecycle: {{preStop: {written}}}");
    let cases = [
        ("{}", "preStop: Required value: must specify a handler type"),
        (
            "{sleep: {seconds: 1}, exec: {command: [a]}}",
            "preStop: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "{tcpSocket: {port: 1}}",
            "tcpSocket: a hook cannot do that, with the kubelet neither: use exec or httpGet",
        ),
        (
            "{sleep: {seconds: 31}}",
            "sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        ("{exec: {command: []}}", "preStop.exec.command: Required value"),
        (
            "{httpGet: {port: nope}}",
            "preStop.httpGet.port: Not found: \"nope\": no port of this container has that name",
        ),
        (
            "{httpGet: {port: '80'}}",
            "preStop.httpGet.port: Invalid value: \"80\": must contain at least one letter (a-z)",
        ),
    ];
    for (written, expected) in cases {
        is_wrong("", &hook(written), &[expected]);
    }
    is_wrong(
        "",
        "lifecycle: {stopSignal: TERM}",
        &["stopSignal: Unsupported value: no signal's name, as SIGTERM is: \"TERM\""],
    );
}

#[test]
fn probes_by_kubernetes_rules() {
    let cases = [
        ("livenessProbe: {}", "livenessProbe: Required value: must specify a handler type"),
        (
            "livenessProbe: {exec: {command: [a]}, successThreshold: 2}",
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "startupProbe: {exec: {command: [a]}, periodSeconds: -1}",
            "startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "readinessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 5}",
            "terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
        ),
        (
            "livenessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 0}",
            "terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "livenessProbe: {httpGet: {port: 0}}",
            "livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, scheme: http}}",
            "scheme: Unsupported value: \"http\": supported values: \"HTTP\", \"HTTPS\"",
        ),
        ("livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a:b', value: c}]}}", "'[-A-Za-z0-9]+')"),
        (
            "livenessProbe: {grpc: {port: 65536}}",
            "livenessProbe.grpc.port: Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
    ];
    for (written, expected) in cases {
        is_wrong("", written, &[expected]);
    }
}

#[test]
fn what_a_probe_and_its_pod_do_not_say_is_kubernetes_default() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i:1, \
                startupProbe: {httpGet: {port: 80}, periodSeconds: 0}}]}}";
    let pod = super::read(text).unwrap().pods.swap_remove(0);
    let container = &pod.containers[0];
    let probe = container.probes.startup.as_ref().unwrap();
    let seconds = [probe.initial_delay, probe.period, probe.timeout, pod.termination_grace];
    assert_eq!(seconds.map(|time| time.as_secs()), [0, 10, 1, 30]);
    assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
    assert_eq!((probe.termination_grace, pod.active_deadline), (None, None));
    let ProbeAction::HttpGet(get) = &probe.action else { panic!("{:?}", probe.action) };
    assert_eq!((get.path.as_str(), get.https, &get.host), ("/", false, &None));
    assert_eq!(container.restart, Restart::by(RestartPolicy::Always));
}

#[test]
fn the_pods_own_numbers() {
    is_wrong(
        "activeDeadlineSeconds: 0,",
        "",
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    let annotated = |period: &str| {
        errors(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, annotations: {{podkeep.io/max-container-restart-period: {period}}}}}, \
             spec: {{containers: [{{name: c, image: i:1}}]}}}}\n"
        ))
    };
    assert!(annotated("20s").is_empty());
    assert!(
        annotated("5m1s")[0].ends_with("Invalid value: \"5m1s\": expected a duration between 1s and 300s")
    );
}

#[test]
fn podkeeps_own_annotations() {
    let annotated = |annotation: &str| {
        errors(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, annotations: {{{annotation}}}}}, \
             spec: {{containers: [{{name: c, image: i:1}}]}}}}\n"
        ))
    };
    for sound in [
        "podkeep.io/update: recreate",
        "podkeep.io/after: \"b, other/c\"",
        "podkeep.io/restart-on-change: 'false'",
        "example.com/after: a",
        "podkeep.io/ips: \"10.22.0.9, fd00::9/64\"",
        "kubernetes.io/ingress-bandwidth: 10M",
    ] {
        assert_eq!(annotated(sound), [""; 0], "{sound}");
    }
    for (wrong, end) in [
        (
            "podkeep.io/update: maybe",
            "the only value is \"recreate\"; without the annotation a Pod is replaced when its new version can be prepared",
        ),
        ("podkeep.io/restart-on-change: 'yes'", "must be \"true\" or \"false\""),
        ("podkeep.io/after: \"b,\"", "Invalid value: \"\": "),
        ("podkeep.io/after: a", "a Pod cannot come after itself"),
        ("podkeep.io/upate: recreate", "did you mean podkeep.io/update?"),
        ("podkeep.io/ips: \"10.22.0.9, 10.22.0\"", "Invalid value: \"10.22.0\": must be an address"),
        ("podkeep.io/ips: 10.22.0.9/33", "must be an address"),
        ("kubernetes.io/ingress-bandwidth: fast", "quantities must match"),
        ("kubernetes.io/egress-bandwidth: '999'", "is unreasonably small (< 1kbit)"),
        ("kubernetes.io/egress-bandwidth: 1001T", "is unreasonably large (> 1Pbit)"),
        (
            "podkeep.io/frobnicate: a",
            "there are max-container-restart-period, update, after, restart-on-change",
        ),
    ] {
        let errors = annotated(wrong);
        assert!(errors.len() == 1 && errors[0].contains(end), "{wrong}: {errors:?}");
    }
}

#[test]
fn a_termination_message_has_a_path_that_can_be_mounted_and_a_known_policy() {
    is_wrong("", "terminationMessagePath: /tmp/words, terminationMessagePolicy: FallbackToLogsOnError", &[]);
    is_wrong("", "terminationMessagePath: '', terminationMessagePolicy: ''", &[]);
    let refused = [
        (
            "terminationMessagePath: /a/../b",
            "terminationMessagePath: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        ("terminationMessagePath: /", "terminationMessagePath: Invalid value: \"/\": must not be the root"),
        (
            "terminationMessagePolicy: Logs",
            "terminationMessagePolicy: Unsupported value: \"Logs\": supported values: \"File\", \"FallbackToLogsOnError\"",
        ),
    ];
    for (container, sentence) in refused {
        is_wrong("", container, &[&format!("spec.containers[0].{sentence}")]);
    }
}
