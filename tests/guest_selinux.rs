//! `seLinuxOptions`: the labels of a container's process and files, on a machine with a SELinux policy.
//!
//! What a label forbids is the policy's matter: the one here names labels and lets everything pass (permissive).
//! Run with `scripts/vm test guest_selinux`; anywhere else these tests fail.
//! Guest: --root debian --append security=selinux --append selinux=1 --append enforcing=0

mod harness;

use std::fs;
use std::process::Command;
use std::sync::Once;

use harness::manifest::ShellPod;
use harness::{Node, Options};

/// The smallest policy that the kernel takes and that knows a container's labels, in CIL.
const POLICY: &str = "
(handleunknown allow) (mls true)
(class process (transition dyntransition)) (class file (relabelfrom relabelto)) (classorder (process file))
(sid kernel) (sid security) (sid unlabeled) (sidorder (kernel security unlabeled))
(sensitivity s0) (sensitivityorder (s0))
(category c1) (category c2) (categoryorder (c1 c2)) (sensitivitycategory s0 (c1 c2))
(level low (s0)) (level high (s0 (c1 c2))) (levelrange all (low high))
(type kernel_t) (type container_t) (type container_file_t)
(role system_r) (role object_r)
(roletype system_r kernel_t) (roletype system_r container_t) (roletype object_r container_file_t)
(user system_u) (userrole system_u system_r) (userrole system_u object_r)
(userlevel system_u low) (userrange system_u all)
(sidcontext kernel (system_u system_r kernel_t (low low)))
(sidcontext security (system_u system_r kernel_t (low low)))
(sidcontext unlabeled (system_u system_r kernel_t (low low)))
(allow kernel_t container_t (process (transition)))
(allow kernel_t container_file_t (file (relabelfrom relabelto)))
(fsuse xattr ext4 (system_u object_r container_file_t (low low)))
";

/// A node on a machine with the policy.
fn node() -> Node {
    static LOADED: Once = Once::new();
    LOADED.call_once(load_policy);
    Node::start(Options::default())
}

fn load_policy() {
    let dir = tempfile::tempdir().unwrap();
    let (source, policy) = (dir.path().join("policy.cil"), dir.path().join("policy"));
    fs::write(&source, POLICY).unwrap();
    let mut compiler = Command::new("secilc");
    // The format that every kernel from 5.14 on reads.
    compiler.args(["--policyvers=33", "--filecontext=/dev/null", "--output"]).arg(&policy).arg(&source);
    assert!(compiler.status().unwrap().success());
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", flags, None).unwrap();
    // In one write, as the kernel wants it.
    fs::write("/sys/fs/selinux/load", fs::read(&policy).unwrap()).unwrap();
}

const LEVELLED: &str = "securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}";
const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILE: &str = "system_u:object_r:container_file_t:s0:c1,c2";

#[test]
fn process_and_files_have_the_labels_of_the_manifest() {
    let node = node();
    let pid = run_levelled(&node);
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    assert_eq!(label.trim_end_matches('\0'), PROCESS);
    for place in ["", "dev/shm", "bin/busybox", "dev/termination-log", "etc/hosts", "etc/resolv.conf"] {
        assert_eq!(file_label(&format!("/proc/{pid}/root/{place}")), FILE, "/{place}");
    }
}

/// Runs the Pod `web` until the end of the test; its PID.
fn run_levelled(node: &Node) -> u32 {
    let spec = "terminationGracePeriodSeconds: 1";
    let pod = ShellPod { name: "web", script: "exec sleep 1000", spec, container: LEVELLED };
    node.manifest("web.yaml", &pod.yaml());
    node.wait_running("web", "main")
}

fn file_label(path: &str) -> String {
    let mut label = [0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut label[..]).unwrap();
    String::from_utf8_lossy(&label[..length]).trim_end_matches('\0').to_owned()
}

#[test]
fn a_container_that_asks_for_nothing_keeps_the_nodes_label() {
    let node = node();
    let script = "cat /proc/self/attr/current";
    let job = ShellPod { name: "job", script, spec: "restartPolicy: Never", container: "" };
    assert!(node.output_of(&job.yaml()).starts_with("system_u:system_r:kernel_t:s0\0"));
}

#[test]
fn a_command_in_the_container_has_its_label() {
    let node = node();
    run_levelled(&node);
    let label = node.ask(&["exec", "web", "--", "cat", "/proc/self/attr/current"]);
    assert_eq!(label.trim_end_matches('\0'), PROCESS);
}

#[test]
fn a_label_that_the_policy_does_not_have_starts_nothing_and_says_so() {
    let node = node();
    let container = "securityContext: {seLinuxOptions: {type: no_such_t}}";
    let job = ShellPod { name: "job", script: "true", spec: "restartPolicy: Never", container };
    node.manifest("job.yaml", &job.yaml());
    let message = node.wait_for("the refusal", |list| {
        let main = list.pod("job")?.container("main")?;
        (!main.message().is_empty()).then(|| main.message().to_owned())
    });
    assert!(
        message.contains("no_such_t") && message.contains("policy that is loaded has no such label"),
        "{message}"
    );
}
