//! CVE-2016-9962: a container that sees the host's processes must not look into podkeep's child, which is what the container
//! will be and still has what is podkeep's, before it executes its program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, process, wait_until};

/// Holds whoever executes a file in the middle of execve: with a lease on it, the kernel first asks us to give that up.
/// In Python, because taking a lease is nothing that safe Rust can do.
const HOLD: &str = "
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
signal.sigwait([signal.SIGIO])
print('asked', flush=True)
sys.stdin.read()
";

struct Hold {
    python: Child,
    /// Its end gives the file free.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Hold {
    fn of(program: &str) -> Hold {
        // What takes longer than this has its lease broken; 45 seconds are few on an emulated machine.
        fs::write("/proc/sys/fs/lease-break-time", "600").unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", HOLD, program]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().unwrap();
        let (stdin, stdout) = (python.stdin.take(), BufReader::new(python.stdout.take().unwrap()));
        let mut hold = Hold { python, stdin, stdout };
        hold.expect("held\n");
        hold
    }

    fn expect(&mut self, line: &str) {
        let mut said = String::new();
        self.stdout.read_line(&mut said).unwrap();
        assert_eq!(said, line);
    }

    fn release(mut self) {
        drop(self.stdin.take());
        assert!(self.python.wait().unwrap().success());
    }
}

#[test]
fn a_child_that_has_not_executed_yet_is_closed_to_who_sees_the_hosts_processes() {
    let node = Node::start(Options::default());
    let spec = "hostPID: true\nterminationGracePeriodSeconds: 1";
    let attacker = ShellPod { name: "attacker", script: "exec sleep 1000", spec, container: "" };
    node.manifest("attacker.yaml", &attacker.yaml());
    node.wait_running("attacker", "main");

    let bin = node.base().join("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("sleep");
    fs::copy("/run/vm/busybox", &program).unwrap();
    let mut hold = Hold::of(program.to_str().unwrap());
    let victim = "apiVersion: v1\nkind: Pod\nmetadata: {name: victim}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
                  volumes: [{name: bin, hostPath: {path: BIN}}]\n  containers:\n  - name: main\n    image: busybox:1.35\n    \
                  command: [/host/sleep, '1000']\n    volumeMounts: [{name: bin, mountPath: /host}]\n";
    node.manifest("victim.yaml", &victim.replace("BIN", bin.to_str().unwrap()));
    hold.expect("asked\n");

    // It has the attacker's user and capabilities by now, so nothing else stands between the two.
    // Its parent is not the keeper yet.
    let is_the_victim = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains("victim"))
    };
    let victim =
        wait_until("the victim's process is there", || process::all().into_iter().find(is_the_victim));
    let of_the_victim = |field| process::status(victim, field).unwrap();
    assert_eq!(
        of_the_victim("CapPrm"),
        process::status(node.wait_running("attacker", "main"), "CapPrm").unwrap()
    );
    let look = format!(
        "for place in exe cwd root fd/1 ns/mnt; do readlink /proc/{victim}/$place; done 2>&1; \
         head -c 1 /proc/{victim}/mem 2>&1; cat /proc/{victim}/environ 2>&1; true"
    );
    let seen = node.ask(&["exec", "attacker", "--", "sh", "-c", &look]);
    let told: Vec<_> = seen.lines().filter(|line| !line.contains("ermission denied")).collect();
    assert!(told.is_empty(), "{seen}");

    hold.release();
    node.wait_running("victim", "main");
    let seen = node.ask(&["exec", "attacker", "--", "readlink", &format!("/proc/{victim}/exe")]);
    assert_eq!(seen, "/host/sleep\n", "what has executed is open to its like");
}
