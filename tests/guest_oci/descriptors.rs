//! Descriptors that a caller hands on to a process, and those that it does not.

use std::fs;
use std::process::Command;

use crate::bench::{Bench, Said, said};

/// Calls podkeep from a shell that has the file `given` open as 3 and 4, and what `setting` sets.
fn call(bench: &Bench, setting: &str, args: &[&str]) -> Said {
    let given = bench.path("given");
    fs::write(&given, "given").unwrap();
    let podkeep = bench.command(args);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec 3<\"$0\" 4<\"$0\"; {setting} exec \"$@\"")]).arg(&given);
    said(command.arg(podkeep.get_program()).args(podkeep.get_args()).output().unwrap())
}

/// What is open (for `ls` one more: the directory), what comes from 3, and what is said of it.
const SHOW: &str =
    "ls /proc/self/fd | tr '\\n' ' '; cat <&3 2>/dev/null; echo \" $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES\"";

#[test]
fn descriptors_are_handed_on_only_if_asked() {
    let mut bench = Bench::new();
    bench.script(SHOW);
    bench.save();
    let bundle = bench.path("bundle");
    let bundle = bundle.to_str().unwrap();
    let run = |setting: &str, preserve: &str| {
        call(&bench, setting, &["run", "--preserve-fds", preserve, "-b", bundle, "web"])
    };
    assert_eq!(run("", "1").ok(), "0 1 2 3 4 given");
    assert_eq!(run("", "0").ok(), "0 1 2 3");
    run("", "900").fails_with(1, "is not open");
    // Those of socket activation, as systemd tells of them. 1 is the process inside.
    let listening = "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web;";
    assert_eq!(run(listening, "0").ok(), "0 1 2 3 4 given 1 1 web");
    assert_eq!(run(listening, "1").ok(), "0 1 2 3 4 5 given 1 1 web");
    assert_eq!(run("export LISTEN_FDS=1 LISTEN_PID=1;", "0").ok(), "0 1 2 3", "meant for somebody else");
}

#[test]
fn exec_hands_them_on_only_if_asked_too() {
    let mut bench = Bench::new();
    bench.script("sleep 1000");
    bench.start("web");
    let exec = |setting: &str, preserve: &str| {
        call(&bench, setting, &["exec", "--preserve-fds", preserve, "web", "sh", "-c", SHOW])
    };
    assert_eq!(exec("", "1").ok(), "0 1 2 3 4 given");
    assert_eq!(exec("", "0").ok(), "0 1 2 3");
    exec("", "900").fails_with(255, "is not open");
    let listening = "export LISTEN_FDS=2 LISTEN_PID=$$;";
    assert_eq!(exec(listening, "0").ok(), "0 1 2 3 4 5 given 2 1");
}
