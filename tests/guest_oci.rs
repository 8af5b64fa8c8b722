//! `podkeep oci`: an OCI runtime's command line, as podman and containerd call it.

#[path = "harness/bundle.rs"]
mod bundle;
#[path = "guest_oci/runtime.rs"]
mod runtime;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use runtime::Runtime;
use serde_json::json;

#[test]
fn a_container_goes_from_create_to_delete() {
    let runtime = Runtime::new();
    runtime.script("echo hello > /out; exec sleep 1000");
    runtime.ok(&["create", "--pid-file", "pid", "c1"]);
    let state = runtime.json(&["state", "c1"]);
    assert_eq!((state["status"].as_str(), state["ociVersion"].as_str()), (Some("created"), Some("1.2.0")));
    assert_eq!(state["bundle"], runtime.bundle().to_str().unwrap());
    assert_eq!(fs::read_to_string(runtime.path("pid")).unwrap(), state["pid"].to_string());
    assert!(!runtime.path("rootfs/out").exists(), "it has not started");
    assert!(runtime.error(&["create", "c1"]).contains("container with id exists"));

    runtime.ok(&["start", "c1"]);
    runtime.wait_for_file("rootfs/out", "hello\n");
    assert_eq!(runtime.json(&["state", "c1"])["status"], "running");
    assert!(runtime.error(&["start", "c1"]).contains("cannot start a container that is running"));
    assert!(runtime.error(&["delete", "c1"]).contains("not stopped"));

    runtime.ok(&["kill", "c1", "KILL"]);
    runtime.wait_for_status("c1", "stopped");
    assert!(runtime.error(&["kill", "c1", "15"]).contains("container not running"));
    runtime.ok(&["delete", "c1"]);
    assert!(runtime.error(&["state", "c1"]).contains("container does not exist"));
    runtime.ok(&["delete", "--force", "c1"]);
    runtime.nothing_is_left();
}

#[test]
fn run_ends_as_its_program_does() {
    let runtime = Runtime::new();
    for (script, code, output) in [("echo out; exit 7", 7, "out\n"), ("exit 0", 0, ""), ("cat", 0, "typed")] {
        runtime.script(script);
        let mut command = runtime.command(&["run", "c1"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed").unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stdout).as_ref()),
            (Some(code), output)
        );
        runtime.nothing_is_left();
    }
}

#[test]
fn what_cannot_start_leaves_nothing_and_is_told_in_the_log() {
    let runtime = Runtime::new();
    runtime.change(|spec| spec["process"]["args"] = json!(["/bin/nothing"]));
    let error = runtime.error(&["--log", "log", "--log-format", "json", "create", "c1"]);
    assert!(error.contains("find /bin/nothing: ENOENT"), "{error}");
    let line: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(runtime.path("log")).unwrap()).unwrap();
    assert!(line["level"] == "error" && line["msg"].as_str().unwrap().contains("/bin/nothing"), "{line}");
    runtime.nothing_is_left();
    let refused = runtime.error(&["--systemd-cgroup", "create", "c1"]);
    assert!(refused.contains("--cgroup-manager=cgroupfs"), "{refused}");
    assert_eq!(runtime.command(&["create", "../c1"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn exec_runs_beside_and_hands_its_code_on() {
    let runtime = Runtime::new();
    runtime.running("c1");
    let output =
        runtime.command(&["exec", "c1", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; hostname; exit 9"]);
    let output = { output }.output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(9), "sleep 1000 bench\n")
    );
    let ids = runtime.ok(&[
        "exec",
        "--user",
        "12:34",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "c1",
        "sh",
        "-c",
        "id -u; id -g; echo $A; pwd",
    ]);
    assert_eq!(ids, "12\n34\nb\n/tmp\n");
    assert_eq!(runtime.command(&["exec", "c1", "/bin/nothing"]).output().unwrap().status.code(), Some(255));
    assert!(runtime.error(&["exec", "--user", "4294967296", "c1", "id"]).contains("is no user"));

    fs::write(
        runtime.path("process.json"),
        json!({"user": {"uid": 5, "gid": 6}, "args": ["/bin/sh", "-c", "id -u > /ran"], "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"],
                "effective": ["CAP_DAC_OVERRIDE"], "ambient": ["CAP_DAC_OVERRIDE"]}}).to_string(),
    )
    .unwrap();
    runtime.ok(&["exec", "--detach", "--pid-file", "exec-pid", "--process", "process.json", "c1"]);
    runtime.wait_for_file("rootfs/ran", "5\n");
    assert!(fs::read_to_string(runtime.path("exec-pid")).unwrap().parse::<u32>().is_ok());
    runtime.ok(&["delete", "--force", "c1"]);
    runtime.nothing_is_left();
}

#[test]
fn a_terminal_is_sent_over_the_console_socket() {
    let runtime = Runtime::new();
    runtime.change(|spec| spec["process"]["terminal"] = json!(true));
    runtime.script("tty; exec sleep 1000");
    assert!(runtime.error(&["create", "c1"]).contains("--console-socket"));
    let terminal = runtime.console(&["create", "--console-socket", "console", "c1"]);
    runtime.ok(&["start", "c1"]);
    assert_eq!(runtime::first_line(&terminal), "/dev/pts/0");
    let second = runtime.console(&["exec", "--tty", "--detach", "--console-socket", "console", "c1", "tty"]);
    assert_eq!(runtime::first_line(&second), "/dev/pts/1");
    runtime.ok(&["delete", "--force", "c1"]);
}

#[test]
fn hooks_run_in_their_order_with_the_state() {
    let runtime = Runtime::new();
    // `hostname` tells in whose namespaces a hook runs.
    let hook = |name: &str, log: &str| {
        let script =
            format!("read -r state; echo {name} $(hostname) >> {log}; echo \"$state\" > {log}.{name}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let outside = runtime.path("hooks");
    let outside = outside.to_str().unwrap();
    runtime.change(|spec| {
        spec["hooks"] = json!({
            "prestart": hook("prestart", outside), "createRuntime": hook("createRuntime", outside),
            "createContainer": hook("createContainer", outside), "startContainer": hook("startContainer", "/inside"),
            "poststart": hook("poststart", outside), "poststop": hook("poststop", outside),
        });
    });
    runtime.script("exec sleep 1000");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    runtime.ok(&["create", "c1"]);
    let created = format!("prestart {host}\ncreateRuntime {host}\ncreateContainer bench\n");
    assert_eq!(fs::read_to_string(outside).unwrap(), created);
    let state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(format!("{outside}.createRuntime")).unwrap()).unwrap();
    assert_eq!((state["id"].as_str(), state["status"].as_str()), (Some("c1"), Some("creating")));
    runtime.ok(&["start", "c1"]);
    assert_eq!(fs::read_to_string(runtime.path("rootfs/inside")).unwrap(), "startContainer bench\n");
    runtime.ok(&["delete", "--force", "c1"]);
    assert_eq!(fs::read_to_string(outside).unwrap(), format!("{created}poststart {host}\npoststop {host}\n"));
}

#[test]
fn a_hook_that_fails_or_hangs_ends_the_container() {
    let runtime = Runtime::new();
    let with = |args: serde_json::Value, timeout: serde_json::Value| {
        runtime.change(|spec| {
            spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": args, "timeout": timeout}]});
        });
        let error = runtime.error(&["create", "c1"]);
        runtime.nothing_is_left();
        error
    };
    let failed = with(json!(["sh", "-c", "echo this is why; exit 3"]), json!(null));
    assert!(failed.contains("ended with 3: this is why"), "{failed}");
    let hung = with(json!(["sh", "-c", "exec sleep 1000"]), json!(1));
    assert!(hung.contains("has not ended within 1 s"), "{hung}");
}

#[test]
fn it_is_paused_listed_measured_and_limited() {
    let runtime = Runtime::new();
    runtime.change(|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50},
            "unified": {"memory.high": "33554432"}});
    });
    let group = runtime.running("c1");
    let value = |file: &str| fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!(
        (value("memory.max"), value("pids.max"), value("memory.high")),
        ("67108864".into(), "50".into(), "33554432".into())
    );

    runtime.ok(&["pause", "c1"]);
    assert_eq!(runtime.json(&["state", "c1"])["status"], "paused");
    assert!(runtime.error(&["exec", "c1", "true"]).contains("paused"));
    runtime.ok(&["resume", "c1"]);
    assert!(runtime.error(&["resume", "c1"]).contains("not paused"));

    runtime.ok(&["update", "--memory", "134217728", "--pids-limit", "60", "c1"]);
    assert_eq!((value("memory.max"), value("pids.max")), ("134217728".into(), "60".into()));
    let stats = runtime.json(&["events", "--stats", "c1"]);
    assert_eq!((stats["type"].as_str(), stats["id"].as_str()), (Some("stats"), Some("c1")));
    assert_eq!(stats["data"]["pids"]["limit"], 60, "{stats}");
    assert!(stats["data"]["memory"]["usage"]["usage"].as_u64() > Some(0), "{stats}");

    let listed = runtime.json(&["list", "--format", "json"]);
    assert_eq!((listed[0]["id"].as_str(), listed[0]["status"].as_str()), (Some("c1"), Some("running")));
    assert_eq!(runtime.ok(&["list", "--quiet"]), "c1\n");
    assert!(runtime.ok(&["ps", "c1"]).contains("sleep 1000"));
    assert_eq!(runtime.json(&["ps", "--format", "json", "c1"]).as_array().unwrap().len(), 1);
    runtime.ok(&["kill", "--all", "c1", "KILL"]);
    runtime.wait_for_status("c1", "stopped");
    runtime.ok(&["delete", "c1"]);
    runtime.nothing_is_left();
}

#[test]
fn only_the_descriptors_that_shall_stay_are_there() {
    let runtime = Runtime::new();
    runtime.script("ls /proc/self/fd; cat <&3");
    fs::write(runtime.path("passed"), "passed on").unwrap();
    let run = runtime.command(&["run", "--preserve-fds", "1", "c1"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 3<passed"]).current_dir(runtime.bundle());
    command.arg(run.get_program()).args(run.get_args());
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n4\npassed on");
}

#[test]
fn it_says_what_it_is() {
    let runtime = Runtime::new();
    let version = runtime.ok(&["--version"]);
    assert!(version.starts_with("podkeep-oci version ") && version.contains("spec: 1.2.0"), "{version}");
    let features = runtime.json(&["features"]);
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("time")));
    runtime.ok(&["spec", "--bundle", "."]);
    let spec: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(runtime.path("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"][0], "sh");
}
