//! `podkeep exec`: a command in a container, with its rights, reaped whatever happens.
//!
//! Run with `scripts/vm test guest_exec`; anywhere else these tests fail.

mod harness;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use harness::manifest::{ShellPod, shell_pod};
use harness::{Node, Options, kill, process, wait_until};

/// Ends at once when it is told to, as the first process of a PID namespace does only if it listens.
const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn node_with(manifests: &[String]) -> Node {
    let node = Node::start(Options::default());
    for (place, text) in manifests.iter().enumerate() {
        node.manifest(&format!("{place}.yaml"), text);
    }
    node
}

fn web() -> Node {
    let node = node_with(&[shell_pod("web", OBEDIENT)]);
    node.wait_running("web", "main");
    node
}

fn exec(node: &Node, flags: &[&str], command: &[&str]) -> Command {
    let mut exec = node.podkeep();
    exec.arg("exec").args(flags).arg("web").arg("--").args(command);
    exec.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    exec
}

fn output(node: &Node, command: &[&str]) -> Output {
    exec(node, &[], command).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command that has said that it runs; it holds still until it is ended.
fn begin(node: &Node) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = exec(node, &[], &["sh", "-c", "echo begun; exec sleep 1000"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n", "{}", node.node_log_text());
    (child, out)
}

/// The host's PID of the only process in the container's cgroup that sleeps for so long.
fn sleeper(first: u32) -> u32 {
    let found = || {
        let all = process::in_cgroup(&process::cgroup(first));
        all.into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0")
        })
    };
    wait_until("the command runs", found)
}

#[test]
fn exit_codes_and_both_streams_are_handed_on() {
    let node = web();
    let done = output(&node, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(done.status.code(), Some(7), "{}", text(&done.stderr));
    assert_eq!((text(&done.stdout).as_str(), text(&done.stderr).as_str()), ("out\n", "err\n"));
    assert_eq!(output(&node, &["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let missing = output(&node, &["no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("ENOENT"), "{}", text(&missing.stderr));
    assert_eq!(output(&node, &["/etc"]).status.code(), Some(126));
    let nobody = node.podkeep().args(["exec", "nobody", "--", "true"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(125));
    assert!(text(&nobody.stderr).contains("there is no Pod"), "{}", text(&nobody.stderr));
    // A command that leaves something behind is not waited for longer than itself.
    assert_eq!(output(&node, &["sh", "-c", "sleep 1000 & exit 3"]).status.code(), Some(3));
}

#[test]
fn what_comes_in_goes_through_and_its_end_is_seen() {
    let node = web();
    let mut cat = exec(&node, &["-i"], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut input = cat.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let mut received = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    assert_eq!(cat.wait().unwrap().code(), Some(0));
    // Without -i there is nothing to read.
    assert_eq!(text(&output(&node, &["readlink", "/proc/self/fd/0"]).stdout), "/dev/null\n");
}

/// A terminal of ours: the side of a person, and the one that a command gets.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    resize(&master, rows, columns);
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_terminal_has_our_size_and_follows_it() {
    let node = web();
    let (person, ours) = terminal(33, 77);
    let script = "stty size; read answer; stty size; echo $answer $TERM; tty; exit 4";
    let mut command = exec(&node, &["-it"], &["sh", "-c", script]);
    let mut child = command.stdin(ours.try_clone().unwrap()).stdout(ours).spawn().unwrap();
    // The other end is seen to close when the command has ended.
    drop(command);
    let mut screen = BufReader::new(File::from(person.try_clone().unwrap()));
    let mut line = || {
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(line(), "33 77");
    resize(&person, 44, 55);
    kill(child.id(), Signal::WINCH);
    // It has the new size before it can read what is typed after the next answer.
    wait_until("the container's terminal has followed", || {
        let size = output(&node, &["sh", "-c", "stty size < /dev/pts/0"]);
        (text(&size.stdout).trim() == "44 55").then_some(())
    });
    (&File::from(person.try_clone().unwrap())).write_all(b"yes\r").unwrap();
    assert_eq!(line(), "yes", "the terminal's echo");
    assert_eq!(line(), "44 55");
    assert_eq!(line(), "yes xterm");
    assert_eq!(line(), "/dev/pts/0");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn it_has_the_containers_rights_and_no_more() {
    let tight = ShellPod {
        name: "web",
        script: OBEDIENT,
        spec: "terminationGracePeriodSeconds: 1",
        container: "securityContext:\n  runAsUser: 1234\n  runAsGroup: 99\n  allowPrivilegeEscalation: false\n  \
                    capabilities: {drop: [ALL]}",
    };
    let plain = shell_pod("web", OBEDIENT);
    for manifest in [tight.yaml(), plain] {
        let node = node_with(&[manifest]);
        let first = node.wait_running("web", "main");
        let shown = |pid: &str| {
            let script = format!(
                "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Umask):' /proc/{pid}/status; \
                 cat /proc/{pid}/cgroup /proc/{pid}/limits /proc/{pid}/oom_score_adj; \
                 for n in mnt pid net ipc uts cgroup user; do readlink /proc/{pid}/ns/$n; done; readlink /proc/{pid}/cwd"
            );
            text(&output(&node, &["sh", "-c", &script]).stdout)
        };
        let (own, container) = (shown("self"), shown("1"));
        assert!(own.contains("CapEff") && own.contains("Seccomp:\t2") && own.lines().count() > 20, "{own}");
        assert_eq!(own, container);
        // Nothing of the node's is open.
        let fds = text(&output(&node, &["sh", "-c", "ls /proc/$$/fd; true"]).stdout);
        assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
        let (mut child, _out) = begin(&node);
        let pid = sleeper(first);
        assert_eq!(process::cgroup(pid), process::cgroup(first));
        assert_eq!(process::parent(pid), node.keeper());
        kill(pid, Signal::KILL);
        assert_eq!(child.wait().unwrap().code(), Some(137));
    }
}

#[test]
fn two_at_once_do_not_wait_for_each_other_and_the_node_answers_meanwhile() {
    let node = web();
    let (mut first, _out) = begin(&node);
    let second = output(&node, &["echo", "second"]);
    assert_eq!((text(&second.stdout).as_str(), second.status.code()), ("second\n", Some(0)));
    assert!(node.try_list().is_some());
    assert!(first.try_wait().unwrap().is_none());
    // Who goes away takes the command along.
    let pid = sleeper(node.wait_running("web", "main"));
    kill(first.id(), Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(128 + 15));
    wait_until("the command is gone", || process::status(pid, "Pid").is_none().then_some(()));
}

#[test]
fn a_container_that_ends_takes_its_commands_along_and_restarts() {
    let node = web();
    let first = node.wait_running("web", "main");
    let (mut child, _out) = begin(&node);
    kill(first, Signal::KILL);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    wait_restarted(&node, first);
    assert_eq!(output(&node, &["true"]).status.code(), Some(0), "into the new one");
}

/// Found in review: the file's new content was the command's profile, so that it could do what the container could not.
#[test]
fn a_profile_that_was_rewritten_lets_no_command_do_more() {
    let node = Node::start(Options::default());
    let file = node.root().join("seccomp/team.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let strict = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    std::fs::write(&file, strict).unwrap();
    let pod = ShellPod {
        name: "web",
        script: OBEDIENT,
        spec: "terminationGracePeriodSeconds: 1",
        container: "securityContext: {seccompProfile: {type: Localhost, localhostProfile: team.json}}",
    };
    node.manifest("web.yaml", &pod.yaml());
    let first = node.wait_running("web", "main");
    let mkdir = || output(&node, &["mkdir", "/tmp/made"]);
    let refused = mkdir();
    assert_eq!(refused.status.code(), Some(1), "by the profile: {}", text(&refused.stderr));
    std::fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let lets_nobody_in = || {
        let refused = mkdir();
        assert_eq!(refused.status.code(), Some(125));
        assert!(text(&refused.stderr).contains("restart it"), "{}", text(&refused.stderr));
    };
    lets_nobody_in();
    let worker = node.worker().expect("it has answered");
    kill(worker, Signal::KILL);
    wait_until("there is a new worker", || node.worker().filter(|new| *new != worker));
    wait_until("it answers", || node.try_list());
    lets_nobody_in();
    // Other white space is no other profile.
    std::fs::write(&file, strict.replace('\n', " ")).unwrap();
    assert_eq!(mkdir().status.code(), Some(1));
    std::fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    kill(first, Signal::KILL);
    wait_restarted(&node, first);
    assert_eq!(mkdir().status.code(), Some(0), "the new one has the new profile");
}

/// As systemd or docker does in a privileged container. Found in review: the kernel lets no process in beside it then (EBUSY).
#[test]
fn a_container_that_hands_its_controllers_on_can_be_joined() {
    let script = format!(
        "cd /sys/fs/cgroup && mkdir x && echo 0 > x/cgroup.procs && echo +pids > cgroup.subtree_control && touch /ready; {OBEDIENT}"
    );
    let pod = ShellPod {
        name: "web",
        script: &script,
        spec: "terminationGracePeriodSeconds: 1",
        container: "securityContext: {privileged: true}",
    };
    let node = node_with(&[pod.yaml()]);
    let first = node.wait_running("web", "main");
    let ready = std::path::PathBuf::from(format!("/proc/{first}/root/ready"));
    wait_until("it has handed them on", || ready.exists().then_some(()));
    let shown = output(&node, &["cat", "/proc/self/cgroup"]);
    assert_eq!(text(&shown.stdout), "0::/x\n", "{}", text(&shown.stderr));
    kill(first, Signal::KILL);
    wait_restarted(&node, first);
}

fn wait_restarted(node: &Node, first: u32) {
    node.wait_for("it runs again", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|pid| *pid != first)
    });
}

#[test]
fn a_worker_killed_during_a_command_leaves_it_to_be_reaped_and_the_container_to_restart() {
    let node = web();
    let first = node.wait_running("web", "main");
    let (mut child, _out) = begin(&node);
    let pid = sleeper(first);
    let worker = node.worker().expect("it has answered");
    kill(worker, Signal::KILL);
    wait_until("there is a new worker", || node.worker().filter(|new| *new != worker));
    wait_until("it answers", || node.try_list());
    assert!(process::status(pid, "Pid").is_some(), "the command runs on");
    assert_eq!(
        output(&node, &["sh", "-c", "exit 5"]).status.code(),
        Some(5),
        "the new worker knows the image"
    );
    kill(first, Signal::KILL);
    wait_restarted(&node, first);
    assert!(process::status(pid, "Pid").is_none(), "reaped");
    assert_eq!(child.wait().unwrap().code(), Some(255));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("exit code is not known"), "{said}");
}
