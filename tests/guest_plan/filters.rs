//! What becomes of a process whose system call a seccomp profile answers with each of the actions.

use std::process::Command;

use serde_json::json;

use crate::bench::{Bench, Outcome};

/// `umask` of a shell is a system call of its own process, and the only thing that it is used for here.
const SCRIPT: &str = "trap 'echo caught' SYS; umask 7; umask; echo on";

fn answered_with(action: &str) -> Outcome {
    let mut bench = Bench::new();
    bench.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["umask"], "action": action}],
    });
    bench.run(SCRIPT)
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
