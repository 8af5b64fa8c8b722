//! `appArmorProfile`: what confines a container and every process in it, and what keeps it from starting.
//!
//! Run with `scripts/vm test guest_apparmor`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Once;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Node, Options};

/// Allows everything but one file, in whichever mount namespace a path is seen.
const PROFILE: &str = "profile podkeep-test flags=(attach_disconnected) {\n  file,\n  capability,\n  network,\n  \
                       signal,\n  deny /tmp/forbidden rwl,\n}\n";

const LOCALHOST: &str = "appArmorProfile: {type: Localhost, localhostProfile: podkeep-test}";

/// What the process is confined by, and whether it is.
const TRY: &str = "cat /proc/self/attr/current; echo 2>/dev/null >/tmp/forbidden || echo denied; \
                   echo >/tmp/other && echo fine";
const CONFINED: &str = "podkeep-test (enforce)\ndenied\nfine\n";

/// A node on a machine where the profile is loaded.
fn node() -> Node {
    static LOADED: Once = Once::new();
    LOADED.call_once(load_profile);
    Node::start(Options::default())
}

fn load_profile() {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("securityfs", "/sys/kernel/security", "securityfs", flags, None).unwrap();
    let mut parser = Command::new("apparmor_parser");
    parser.args(["--replace", "--skip-cache"]).stdin(Stdio::piped());
    let mut parser = parser.spawn().unwrap();
    parser.stdin.take().unwrap().write_all(PROFILE.as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success());
}

fn job(container: &str, script: &str) -> String {
    ShellPod { name: "job", script, spec: "restartPolicy: Never", container }.yaml()
}

fn job_with(context: &str) -> String {
    job(&format!("securityContext: {{{context}}}"), TRY)
}

#[test]
fn a_profile_of_this_machine_confines_the_container() {
    let node = node();
    assert_eq!(node.output_of(&job_with(LOCALHOST)), CONFINED);
}

#[test]
fn it_does_so_without_new_privileges_and_for_another_user_too() {
    let node = node();
    for more in ["allowPrivilegeEscalation: false", "allowPrivilegeEscalation: false, runAsUser: 1000"] {
        assert_eq!(node.output_of(&job_with(&format!("{more}, {LOCALHOST}"))), CONFINED, "{more}");
    }
}

#[test]
fn no_other_type_confines_anything() {
    let node = node();
    for context in ["", "appArmorProfile: {type: Unconfined}", "appArmorProfile: {type: RuntimeDefault}"] {
        assert_eq!(node.output_of(&job_with(context)), "unconfined\nfine\n", "{context}");
    }
    let warning = "podkeep brings no AppArmor profile";
    assert!(node.node_log_text().contains(warning), "RuntimeDefault is warned of");
}

#[test]
fn a_command_in_the_container_is_confined_like_it() {
    let node = node();
    let pod = ShellPod {
        name: "web",
        script: "exec sleep 1000",
        spec: "terminationGracePeriodSeconds: 1",
        container: &format!("securityContext: {{{LOCALHOST}}}"),
    };
    node.manifest("web.yaml", &pod.yaml());
    node.wait_running("web", "main");
    assert_eq!(node.ask(&["exec", "web", "--", "sh", "-c", TRY]), CONFINED);

    node.manifest("free.yaml", &shell_pod("free", "exec sleep 1000"));
    node.wait_running("free", "main");
    assert_eq!(node.ask(&["exec", "free", "--", "cat", "/proc/self/attr/current"]), "unconfined\n");
}

/// The files through which a profile is asked for would be the volume's, and the process unconfined (CVE-2019-16884).
#[test]
fn a_volume_over_proc_does_not_keep_the_profile_away() {
    let node = node();
    let forged = node.base().join("forged");
    fs::create_dir_all(forged.join("thread-self/attr/apparmor")).unwrap();
    let file = forged.join("thread-self/attr/apparmor/exec");
    fs::write(&file, "").unwrap();
    let spec = format!(
        "terminationGracePeriodSeconds: 1\nvolumes: [{{name: forged, hostPath: {{path: {}}}}}]",
        forged.display()
    );
    let container =
        format!("securityContext: {{{LOCALHOST}}}\nvolumeMounts: [{{name: forged, mountPath: /proc}}]");
    let pod = ShellPod { name: "web", script: "exec sleep 1000", spec: &spec, container: &container };
    node.manifest("web.yaml", &pod.yaml());
    let pid = node.wait_running("web", "main");
    let label = fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap();
    assert_eq!((label.as_str(), fs::read(&file).unwrap()), ("podkeep-test (enforce)\n", Vec::new()));
}

#[test]
fn a_profile_that_is_not_loaded_starts_nothing_and_says_so() {
    let node = node();
    let missing = "appArmorProfile: {type: Localhost, localhostProfile: missing}";
    node.manifest("job.yaml", &job_with(missing));
    let message = node.wait_for("the refusal", |list| {
        let main = list.pod("job")?.container("main")?;
        (main.waiting() == Some("CreateContainerError")).then(|| main.message().to_owned())
    });
    assert!(message.contains("the AppArmor profile missing is not loaded"), "{message}");
}
