//! What `securityContext` makes of a container, and which Pods it keeps from running.
//!
//! Run with `scripts/vm test guest_security_context`; anywhere else these tests fail.

mod harness;
#[path = "guest_security_context/users.rs"]
mod users;

use std::fs;

use harness::manifest::ShellPod;
use harness::{Node, Options, process, wait_until};

/// Lines of `/proc/self/status`, without their tabs.
const RESTRAINTS: &str = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'";

/// A job with further lines of its spec and of its container.
fn job_with(spec: &str, container: &str, script: &str) -> String {
    let spec = format!("restartPolicy: Never\n{spec}");
    ShellPod { name: "job", script, spec: &spec, container }.yaml()
}

#[test]
fn the_pods_groups_are_the_processs() {
    let node = Node::start(Options::default());
    let groups = |policy: &str| {
        let context = format!(
            "securityContext: {{runAsUser: 1000, runAsGroup: 20, supplementalGroups: [5000, 6000], fsGroup: 7000{policy}}}"
        );
        node.output_of(&job_with(&context, "", "sed -n 's/^Groups:\\t//p' /proc/self/status"))
    };
    assert_eq!(groups("").trim(), "20 5000 6000 7000");
    assert_eq!(groups(", supplementalGroupsPolicy: Strict").trim(), "20 5000 6000 7000");
}

#[test]
fn only_the_image_groups_are_left_out_by_a_strict_policy() {
    let node = Node::start(Options::default());
    let groups = |policy: &str| {
        let context = format!("securityContext: {{supplementalGroups: [5000]{policy}}}");
        node.output_of(&job_with(&context, "", "id -G; id -G root"))
    };
    let merged = groups("");
    let (process, image) = merged.trim().split_once('\n').unwrap();
    assert_eq!(process, format!("{image} 5000"));
    assert!(groups(", supplementalGroupsPolicy: Strict").starts_with("0 5000\n"));
}

#[test]
fn restraints_are_what_the_manifest_says() {
    let node = Node::start(Options::default());
    let restraints =
        |context: &str| node.output_of(&job_with("", &format!("securityContext: {context}"), RESTRAINTS));
    assert_eq!(restraints("{}"), "NoNewPrivs:0\nSeccomp:2\n");
    assert_eq!(restraints("{allowPrivilegeEscalation: false}"), "NoNewPrivs:1\nSeccomp:2\n");
    assert_eq!(restraints("{seccompProfile: {type: Unconfined}}"), "NoNewPrivs:0\nSeccomp:0\n");
    assert_eq!(restraints("{privileged: true}"), "NoNewPrivs:0\nSeccomp:0\n");
}

#[test]
fn the_node_says_what_a_container_has_that_asks_for_no_profile() {
    let node = Node::start(Options { config: "seccompDefault: false", ..Options::default() });
    assert_eq!(node.output_of(&job_with("", "", RESTRAINTS)), "NoNewPrivs:0\nSeccomp:0\n");
    let asked = "securityContext: {seccompProfile: {type: RuntimeDefault}}";
    assert_eq!(node.output_of(&job_with("", asked, RESTRAINTS)), "NoNewPrivs:0\nSeccomp:2\n");
}

#[test]
fn who_must_not_be_root_is_not_started_as_root() {
    let node = Node::start(Options::default());
    let refused = |user: &str| {
        let context = format!("securityContext: {{runAsNonRoot: true{user}}}");
        node.manifest("job.yaml", &job_with(&context, "", "true"));
        let message = node.wait_for("the refusal", |list| {
            let main = list.pod("job")?.container("main")?;
            (main.waiting() == Some("CreateContainerConfigError")).then(|| main.message().to_owned())
        });
        node.remove("job.yaml");
        node.wait_gone("job");
        message
    };
    assert_eq!(refused(""), "container has runAsNonRoot and image will run as root");
    assert_eq!(refused(", runAsUser: 0"), "container's runAsUser breaks non-root policy");
    let other = "securityContext: {runAsNonRoot: true, runAsUser: 5}";
    assert_eq!(node.output_of(&job_with(other, "", "id -u")), "5\n");
}

#[test]
fn a_sysctl_that_the_node_does_not_allow_keeps_the_pod_out() {
    let node = Node::start(Options::default());
    let sysctls = "securityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}]}";
    node.manifest("job.yaml", &job_with(sysctls, "", "true"));
    let refusal = "SysctlForbidden: forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    wait_until("the refusal", || node.node_log_text().contains(refusal).then_some(()));
    assert!(node.list().pod("job").is_some_and(|pod| pod.phase() == "Pending"));
}

#[test]
fn a_sysctl_is_set_in_the_pods_namespaces_and_nowhere_else() {
    let node = Node::start(Options { config: "allowedUnsafeSysctls: [kernel.msg*]", ..Options::default() });
    let ours = || fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let before = ours();
    let sysctls = "securityContext: {sysctls: [{name: kernel.msgmax, value: '4321'}, \
                   {name: net/ipv4/ip_unprivileged_port_start, value: '7'}]}";
    let show = "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(node.output_of(&job_with(sysctls, "", show)), "4321\n7\n");
    assert_eq!(ours(), before);
}

/// Found in review: the pipes of its output were made for an id of the host's that is somebody else's, or none.
#[test]
fn an_id_beyond_the_user_namespace_is_refused_before_anything_is_made_for_it() {
    let node = Node::start(Options::default());
    let asked = "hostUsers: false\nsecurityContext: {runAsUser: 2147483647}";
    node.manifest("job.yaml", &job_with(asked, "", "true"));
    let message = node.wait_for("the refusal", |list| {
        let main = list.pod("job")?.container("main")?;
        (main.waiting() == Some("CreateContainerError")).then(|| main.message().to_owned())
    });
    assert!(message.contains("the user 2147483647 does not exist in the Pod's user namespace"), "{message}");
    let pods = fs::read_dir(node.run().join("pods")).unwrap().flatten();
    let left: Vec<_> = pods
        .flat_map(|pod| fs::read_dir(pod.path()).unwrap().flatten())
        .filter(|entry| std::os::unix::fs::FileTypeExt::is_fifo(&entry.file_type().unwrap()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_profile_from_the_nodes_folder_forbids_what_it_says() {
    let node = Node::start(Options::default());
    let folder = node.root().join("seccomp/team");
    fs::create_dir_all(&folder).unwrap();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    fs::write(folder.join("no-mkdir.json"), profile).unwrap();
    let context = |name: &str| {
        format!("securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: team/{name}}}}}")
    };
    let script = "mkdir /tmp/a 2>&1; touch /tmp/b && echo fine";
    let output = node.output_of(&job_with(&context("no-mkdir.json"), "", script));
    assert!(output.contains("not supported") && output.ends_with("fine\n"), "{output}");

    node.manifest("job.yaml", &job_with(&context("missing.json"), "", "true"));
    let message = node.wait_for("the refusal", |list| {
        let main = list.pod("job")?.container("main")?;
        (main.waiting() == Some("CreateContainerError")).then(|| main.message().to_owned())
    });
    assert!(
        message.contains("read the seccomp profile") && message.contains("team/missing.json"),
        "{message}"
    );
}

#[test]
fn the_hosts_processes_and_shared_memory_are_there_for_who_asks() {
    let node = Node::start(Options::default());
    let keeper = node.keeper();
    let show = format!(
        "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; ls -d /proc/{keeper}; cat /dev/shm/of-the-host"
    );
    let hosts = |kind| process::namespace(keeper, kind);
    fs::write("/dev/shm/of-the-host", "hello\n").unwrap();
    let output = node.output_of(&job_with("hostPID: true\nhostIPC: true", "", &show));
    assert_eq!(output, format!("{}\n{}\n/proc/{keeper}\nhello\n", hosts("pid"), hosts("ipc")));

    let own = node.output_of(&job_with("", "", &format!("{show} 2>/dev/null || true")));
    assert!(!own.contains(&hosts("pid")) && !own.contains(&hosts("ipc")) && !own.contains("hello"), "{own}");
}

#[test]
fn nothing_of_the_hosts_is_needed_for_a_pod_that_has_all_of_it() {
    let node = Node::start(Options::default());
    let spec = "hostNetwork: true\nhostPID: true\nhostIPC: true";
    let output =
        node.output_of(&job_with(spec, "", "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc"));
    let hosts = |kind| process::namespace(node.keeper(), kind);
    assert_eq!(output, format!("{}\n{}\n", hosts("net"), hosts("ipc")));
}

#[test]
fn containers_share_what_lies_in_dev_shm_and_it_outlives_them() {
    let node = Node::start(Options::default());
    let count = "echo run >>/dev/shm/runs; cat /dev/shm/other; stat -f -c %T /dev/shm; stat -c %a /dev/shm; \
                 [ $(wc -l </dev/shm/runs) = 2 ]";
    let other = "  - name: other\n    image: busybox:1.35\n    command: [sh, -c, 'echo shared >/dev/shm/other; exec sleep 1000']\n";
    let wait = format!("while ! [ -s /dev/shm/other ]; do sleep 0.1; done; {count}");
    let spec = "restartPolicy: OnFailure\nterminationGracePeriodSeconds: 1";
    let pod = ShellPod { name: "job", script: &wait.replace("$(", "$$("), spec, container: "" };
    node.manifest("job.yaml", &(pod.yaml() + other));
    assert_eq!(node.wait_terminated("job", "main"), ("Completed".to_owned(), 0));
    assert_eq!(node.ask(&["logs", "job", "-c", "main"]), "shared\ntmpfs\n1777\n");
    assert_eq!(node.list().pod("job").unwrap().container("main").unwrap().restarts(), 1);
    let mounted = || harness::census::mount_points().iter().any(|point| point.starts_with(node.base()));
    assert!(mounted());
    node.remove("job.yaml");
    node.wait_gone("job");
    assert!(!mounted(), "unmounted with the Pod");
}

#[test]
fn how_ready_the_kernel_is_to_kill_it_follows_from_its_class() {
    let node = Node::start(Options::default());
    let score = |resources: &str| {
        let output = node.output_of(&job_with("", resources, "cat /proc/self/oom_score_adj"));
        output.trim().parse::<i32>().unwrap()
    };
    assert_eq!(score(""), 1000);
    assert_eq!(score("resources: {limits: {cpu: 1, memory: 64Mi}}"), -997);
    let burstable = score("resources: {requests: {memory: 64Mi}}");
    assert!((3..1000).contains(&burstable), "{burstable}");
}
