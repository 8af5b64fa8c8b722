//! Sealed Secrets: seen by containers as any other, and by nobody else.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::harness::manifest::ShellPod;
use super::harness::{Node, Options, wait_until};
use super::{holds, secret, wait_for_files, web};

/// Made by age itself, and the key that opens it.
const BY_AGE: &str = include_str!("../fixtures/age/secret.yaml");
const KEY: &str = include_str!("../fixtures/age/secret.key");

/// What `podkeep seal` makes of a manifest that is never on a disk.
fn sealed(node: &Node, plain: &str) -> String {
    let mut command = node.podkeep();
    let mut child = command.arg("seal").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(plain.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A Pod that has the key `a` of a Secret in its environment.
fn with_variable(name: &str, secret: &str) -> String {
    let spec = "terminationGracePeriodSeconds: 0\n";
    let container = &format!("env: [{{name: A, valueFrom: {{secretKeyRef: {{name: {secret}, key: a}}}}}}]\n");
    ShellPod { name, script: "exec sleep 1000", spec, container }.yaml()
}

/// Waits until the container has been started with this.
fn wait_for_variable(pid: u32, expected: &str) {
    let is_there = || {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|variable| variable == expected.as_bytes()))
    };
    wait_until(expected, || is_there().then_some(()));
}

fn wait_until_it_says(node: &Node, pod: &str, reason: &str, message: &str) {
    node.wait_for(message, |list| {
        let pod = list.pod(pod)?;
        let main = pod.container("main")?;
        let said = [pod.message(), main.message()].contains(&message);
        (said && main.waiting() == Some(reason)).then_some(())
    });
}

#[test]
fn what_is_sealed_is_opened_in_memory_alone_and_changes_as_any_secret_does() {
    let node = Node::start(Options::default());
    node.manifest("by-age.yaml", BY_AGE);
    node.manifest("web.yaml", &web());
    node.manifest("env.yaml", &with_variable("env", "by-age"));
    let key = node.root().join("seal.key");
    let closed = "the key a of Secret default/by-age cannot be decrypted";
    let missing = format!(
        "{closed}: this node has no key for sealed Secrets: {} is not there (`podkeep seal --public-key` makes one)",
        key.display()
    );
    wait_until_it_says(&node, "env", "CreateContainerConfigError", &missing);

    // Its key is made when it is first asked for; another one than what age was given.
    let recipient = node.ask(&["seal", "--public-key"]);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o400);
    node.manifest("by-age.yaml", &format!("# once more\n{BY_AGE}"));
    let for_others = format!("{closed}: it is for others than {}", recipient.trim());
    wait_until_it_says(&node, "env", "CreateContainerConfigError", &for_others);
    OpenOptions::new().append(true).open(&key).unwrap().write_all(KEY.as_bytes()).unwrap();
    node.manifest("by-age.yaml", BY_AGE);
    wait_for_variable(node.wait_running("env", "main"), "A=geheim-age");

    let plain = secret("geheim-1", "geheim-2");
    node.manifest("s.yaml", &sealed(&node, &plain));
    let pid = node.wait_running("web", "main");
    wait_for_files(pid, &[("a", "geheim-1"), ("b", "geheim-2")]);
    node.manifest("s.yaml", &sealed(&node, &plain.replace("geheim-1", "geheim-3")));
    wait_for_files(pid, &[("a", "geheim-3"), ("b", "geheim-2")]);
    assert_eq!(node.wait_running("web", "main"), pid, "without a restart");
    node.manifest("s.yaml", &sealed(&node, &plain).replace("BEGIN AGE", "BEGIN"));
    node.wait_for("what is wrong with the file", |list| {
        list.problems().iter().any(|problem| problem.contains("not an age file")).then_some(())
    });

    // To a new worker it is what it was last, too.
    node.wait_for_new_worker(node.kill_worker());
    node.manifest("late.yaml", &with_variable("late", "s"));
    wait_for_variable(node.wait_running("late", "main"), "A=geheim-3\n");

    for folder in [node.root(), node.run().join("pods"), node.manifests(), node.logs()] {
        assert!(!holds(&folder, b"geheim"), "{}", folder.display());
    }
    let told = [&["describe", "env"] as &[&str], &["events"], &["inspect", "env", "--spec"]]
        .map(|args| node.ask(args));
    assert!(!told.concat().contains("geheim") && !node.node_log_text().contains("geheim"), "{told:?}");
    assert!(node.node_log_text().contains(&for_others));
    node.stop();
}
