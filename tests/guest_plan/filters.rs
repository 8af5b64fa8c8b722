//! What becomes of a process whose system call a seccomp profile answers with each of the actions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use rustix::fs::Mode;
use serde_json::json;

use crate::bench::{Bench, Outcome};

/// `umask` of a shell is a system call of its own process, and the only thing that it is used for here.
const SCRIPT: &str = "trap 'echo caught' SYS; umask 7; umask; echo on";

/// Set for this program where it runs inside of a container.
const INSIDE: &str = "PODKEEP_TEST_INSIDE";

/// A container in which `umask` is answered so.
fn answering_with(action: &str) -> Bench {
    let mut bench = Bench::new();
    bench.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["umask"], "action": action}],
    });
    bench
}

fn answered_with(action: &str) -> Outcome {
    answering_with(action).run(SCRIPT)
}

#[test]
fn each_action_does_what_it_is_called() {
    let said = |action: &str| {
        let outcome = answered_with(action);
        assert_eq!(outcome.status, Some(0), "{action}: {outcome:?}");
        outcome.output
    };
    assert_eq!(said("SCMP_ACT_ALLOW"), "0007\non\n");
    assert_eq!(said("SCMP_ACT_LOG"), "0007\non\n");
    let log = Command::new("dmesg").output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&log).contains("type=1326"), "the kernel has logged it");
    // A signal that the process can catch.
    let trapped = said("SCMP_ACT_TRAP");
    assert!(trapped.starts_with("caught\n") && trapped.ends_with("on\n"), "{trapped}");
    // Without a tracer: ENOSYS, which leaves the mask as it is.
    let traced = said("SCMP_ACT_TRACE");
    assert!(!traced.contains("0007") && traced.ends_with("on\n"), "{traced}");
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"] {
        let outcome = answered_with(action);
        assert_eq!((outcome.status, outcome.output.as_str()), (None, ""), "{action}");
    }
}

/// In a program with one thread the two are the same.
#[test]
fn a_thread_is_killed_alone_and_a_process_as_a_whole() {
    if std::env::var_os(INSIDE).is_some() {
        return outlive_a_thread();
    }
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
        let outcome = in_a_second_thread(action);
        assert_eq!((outcome.status, outcome.signal), (Some(0), None), "{action}: {outcome:?}");
        assert!(
            outcome.output.contains("the thread is gone, the process goes on\n"),
            "{action}: {outcome:?}"
        );
    }
    let outcome = in_a_second_thread("SCMP_ACT_KILL_PROCESS");
    assert_eq!((outcome.status, outcome.signal), (None, Some(libc::SIGSYS)), "{outcome:?}");
    assert!(outcome.output.contains("a thread calls umask\n"), "{outcome:?}");
}

/// Runs this test in a container.
fn in_a_second_thread(action: &str) -> Outcome {
    let mut bench = answering_with(action);
    fs::copy(std::env::current_exe().unwrap(), bench.rootfs().join("threads")).unwrap();
    let test = "filters::a_thread_is_killed_alone_and_a_process_as_a_whole";
    bench.run(&format!("{INSIDE}=1 exec /threads --exact {test} --nocapture"))
}

fn outlive_a_thread() {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        send.send(rustix::thread::gettid()).unwrap();
        println!("a thread calls umask");
        rustix::process::umask(Mode::empty());
        println!("it came back");
        std::process::exit(1);
    });
    let thread = Path::new("/proc/self/task").join(receive.recv().unwrap().to_string());
    // Whoever is killed so sends no word, and leaves nothing to join.
    while thread.exists() {
        std::thread::yield_now();
    }
    println!("the thread is gone, the process goes on");
}
