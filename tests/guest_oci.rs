//! `podkeep oci` as engines use it: a container's life, exec, hooks, terminals, limits, and what is left afterwards.

#[path = "guest_oci/bench.rs"]
mod bench;
#[path = "harness/busybox_root.rs"]
mod busybox_root;
#[path = "guest_oci/descriptors.rs"]
mod descriptors;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use bench::{Bench, read_terminal, receive_terminal, said, wait_until};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::json;

const CGROUP: &str = "/sys/fs/cgroup/oci-test/one";

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let mut bench = Bench::new();
    bench.script("trap 'exit 3' TERM; touch /started; while :; do sleep 1; done");
    bench.create("web").ok();
    let state = bench.state("web");
    assert_eq!((&state["status"], &state["ociVersion"]), (&json!("created"), &json!("1.2.0")));
    assert_eq!((&state["id"], &state["annotations"]), (&json!("web"), &json!({"a": "b"})));
    assert_eq!(state["bundle"], json!(fs::canonicalize(bench.path("bundle")).unwrap()));
    assert!(!bench.root("started").exists());
    bench.create("web").fails_with(1, "exists already");
    bench.call(&["delete", "nobody"]).fails_with(1, "does not exist");

    bench.call(&["start", "web"]).ok();
    wait_until("it runs", || bench.root("started").exists());
    assert_eq!(bench.status("web"), "running");
    bench.call(&["start", "web"]).fails_with(1, "already running");
    bench.call(&["delete", "web"]).fails_with(1, "not stopped: running");

    bench.call(&["kill", "web", "SIGTERM"]).ok();
    wait_until("it has ended", || bench.status("web") == "stopped");
    assert_eq!(bench.state("web")["pid"], 0);
    bench.call(&["kill", "web", "9"]).fails_with(1, "container not running");
    bench.call(&["start", "web"]).fails_with(1, "has stopped");
    bench.call(&["delete", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    bench.call(&["state", "web"]).fails_with(1, "does not exist");
    bench.call(&["delete", "--force", "web"]).ok();
}

#[test]
fn a_created_container_can_be_deleted_and_a_running_one_by_force() {
    let bench = Bench::new();
    bench.create("web").ok();
    bench.call(&["delete", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    bench.call(&["delete", "--force", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn run_hands_its_exit_code_on_and_leaves_nothing() {
    let mut bench = Bench::new();
    let said = bench.shell("a", "echo out; echo err >&2; hostname; exit 7");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(7), "out\noci\n", "err\n"));
    assert_eq!(
        bench.shell("b", "kill -9 $$; kill -TERM 1; exec /bin/sleep 0").code,
        Some(0),
        "PID 1 is spared"
    );
    bench.config["process"]["args"] = json!(["/no/such/program"]);
    bench.run("c").fails_with(1, "No such file or directory");
    bench.config["process"]["args"] = json!(["/etc"]);
    bench.run("d").fails_with(1, "Permission denied");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn run_passes_signals_on() {
    let mut bench = Bench::new();
    bench.script("trap 'exit 5' USR1; touch /ready; while :; do sleep 1; done");
    bench.save();
    let bundle = bench.path("bundle");
    let mut run = bench.command(&["run", "-b", bundle.to_str().unwrap(), "web"]).spawn().unwrap();
    wait_until("it is ready", || bench.root("ready").exists());
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(5));
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn run_can_be_detached_and_kept() {
    let mut bench = Bench::new();
    bench.save();
    let bundle = bench.path("bundle");
    bench.call(&["run", "-d", "-b", bundle.to_str().unwrap(), "web"]).ok();
    assert_eq!(bench.status("web"), "running");
    bench.call(&["kill", "--all", "web", "KILL"]).ok();
    wait_until("it has ended", || bench.status("web") == "stopped");
    bench.call(&["delete", "web"]).ok();
    bench.script("exit 4");
    bench.save();
    let kept = bench.call(&["run", "--keep", "-b", bundle.to_str().unwrap(), "web"]);
    assert_eq!((kept.code, bench.status("web").as_str()), (Some(4), "stopped"));
}

/// Its first process's end would end nobody else.
#[test]
fn without_pids_of_its_own_all_of_a_container_are_killed() {
    let mut bench = Bench::new();
    bench.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    bench.script("sleep 1000 & sleep 1000 & touch /ready; wait");
    bench.start("web");
    wait_until("all are there", || bench.root("ready").exists());
    bench.call(&["kill", "web", "KILL"]).ok();
    let events = || fs::read_to_string(format!("{CGROUP}/cgroup.events")).unwrap();
    wait_until("nobody is left", || events().contains("populated 0"));
    wait_until("it has ended", || bench.status("web") == "stopped");
    bench.call(&["kill", "web", "KILL"]).fails_with(1, "container not running");
    bench.call(&["delete", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn the_root_is_moved_where_it_shall_not_be_pivoted() {
    let mut bench = Bench::new();
    bench.script("touch /ready; sleep 1000");
    bench.save();
    let (bundle, log) = (bench.path("bundle"), bench.path("log"));
    let global = ["--debug", "--log", log.to_str().unwrap()];
    let run = ["run", "-d", "--no-pivot", "-b", bundle.to_str().unwrap(), "web"];
    bench.call(&[&global[..], &run].concat()).ok();
    let steps = fs::read_to_string(&log).unwrap();
    assert!(steps.contains("move the root") && !steps.contains("pivot root"), "{steps}");
    wait_until("it runs in its root", || bench.root("ready").exists());
    // It lies over the host's, of which nothing is seen.
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", bench.pid("web"))).unwrap();
    assert!(mounts.lines().next().unwrap().contains("/bundle/rootfs / "), "{mounts}");
    assert_eq!(bench.call(&["exec", "web", "ls", "/ready"]).ok(), "/ready");
    let mounts = bench.call(&["exec", "web", "cat", "/proc/self/mountinfo"]).ok();
    assert!(mounts.lines().all(|line| !line.contains("cgroup")), "{mounts}");
}

#[test]
fn a_container_with_users_of_its_own_has_its_terminal() {
    let mut bench = Bench::new();
    let mapping = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65_536}]);
    bench.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    bench.config["linux"]["uidMappings"] = mapping.clone();
    bench.config["linux"]["gidMappings"] = mapping;
    std::os::unix::fs::chown(bench.root(""), Some(1_000_000), Some(1_000_000)).unwrap();
    let script = "id -u; tty; stat -c %u /dev/pts/0; echo typed > /dev/tty; set -- $(cat /proc/self/uid_map); echo $1 $2 $3";
    bench.config["process"]["terminal"] = json!(true);
    let text = bench.shell("web", script).ok().replace('\r', "");
    assert_eq!(text, "0\n/dev/pts/0\n0\ntyped\n0 1000000 65536");

    bench.config["process"]["terminal"] = json!(false);
    bench.script("sleep 1000");
    bench.start("web");
    assert_eq!(bench.call(&["exec", "-t", "web", "sh", "-c", script]).ok().replace('\r', ""), text);
    let status = fs::read_to_string(format!("/proc/{}/status", bench.pid("web"))).unwrap();
    assert!(status.contains("Uid:\t1000000\t"), "{status}");
    bench.call(&["delete", "--force", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn the_pid_file_has_the_first_process() {
    let bench = Bench::new();
    bench.save();
    let (bundle, file) = (bench.path("bundle"), bench.path("pid"));
    let create = ["create", "-b", bundle.to_str().unwrap(), "--pid-file", file.to_str().unwrap(), "web"];
    bench.call(&create).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), bench.pid("web").to_string());
    bench.call(&["start", "web"]).ok();
    let exec = ["exec", "-d", "--pid-file", file.to_str().unwrap(), "web", "sleep", "1000"];
    bench.call(&exec).ok();
    let pid = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline")).unwrap(), b"sleep\x001000\0");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), "0::/oci-test/one\n");
}

#[test]
fn exec_runs_inside_and_hands_the_exit_code_on() {
    let mut bench = Bench::new();
    fs::write(bench.root("etc/passwd"), "me:x:5:6::/home/me:/bin/sh\n").unwrap();
    bench.script("sleep 1000");
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    let script = "hostname; id -u; id -g; echo $HOME $A; pwd; exit 9";
    let exec = bench.call(&["exec", "-u", "5:6", "-e", "A=b", "--cwd", "/tmp", "web", "sh", "-c", script]);
    assert_eq!((exec.code, exec.out.as_str()), (Some(9), "oci\n5\n6\n/home/me b\n/tmp\n"));
    assert_eq!(bench.call(&["exec", "web", "sh", "-c", "kill -9 $$"]).code, Some(137));
    bench.call(&["exec", "web", "no-such"]).fails_with(255, "No such file or directory");
    bench.call(&["exec", "--cgroup", "x", "web", "true"]).fails_with(255, "not supported");

    let process = json!({"user": {"uid": 8, "gid": 9}, "args": ["id"], "cwd": "/", "env": ["PATH=/bin"]});
    let file = bench.path("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let told = bench.call(&["exec", "--process", file.to_str().unwrap(), "web"]).ok();
    assert_eq!(told, "uid=8 gid=9");

    bench.call(&["kill", "web", "KILL"]).ok();
    wait_until("it has ended", || bench.status("web") == "stopped");
    bench.call(&["exec", "web", "true"]).fails_with(255, "stopped container");
}

/// Found in review: setresuid(2) with 4294967295 changes nothing, so the process stayed the host's root.
#[test]
fn an_id_past_the_largest_runs_nothing() {
    let mut bench = Bench::new();
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    let file = bench.path("process.json");
    for user in [
        json!({"uid": u32::MAX, "gid": 0}),
        json!({"uid": 0, "gid": u32::MAX}),
        json!({"uid": 1u32 << 31, "gid": 0}),
        json!({"uid": 0, "gid": 0, "additionalGids": [u32::MAX]}),
    ] {
        let process = json!({"user": user, "args": ["touch", "/ran"], "cwd": "/", "env": ["PATH=/bin"]});
        fs::write(&file, process.to_string()).unwrap();
        let exec = bench.call(&["exec", "--process", file.to_str().unwrap(), "web"]);
        exec.fails_with(255, "is out of range");
        bench.config["process"]["user"] = user;
        bench.config["linux"]["cgroupsPath"] = json!("/oci-test/two");
        bench.shell("two", "touch /ran").fails_with(1, "is out of range");
        assert!(!bench.root("ran").exists());
    }
}

#[test]
fn exec_finds_a_container_that_hands_its_controllers_on() {
    let mut bench = Bench::new();
    bench.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}),
    );
    bench.script(
        "cd /sys/fs/cgroup && mkdir x && echo $$ > x/cgroup.procs && echo +pids > cgroup.subtree_control \
         && touch /ready; sleep 1000",
    );
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    wait_until("it has handed them on", || bench.root("ready").exists());
    assert_eq!(bench.call(&["exec", "web", "cat", "/proc/self/cgroup"]).ok(), "0::/x");
}

#[test]
fn mounts_begin_at_the_bundle_and_at_the_root() {
    let mut bench = Bench::new();
    fs::create_dir(bench.path("bundle/data")).unwrap();
    fs::write(bench.path("bundle/data/word"), "here\n").unwrap();
    bench.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "below/it", "type": "bind", "source": "data", "options": ["rbind", "ro"]}),
    );
    assert_eq!(bench.shell("web", "cat /below/it/word").ok(), "here");
}

#[test]
fn capabilities_that_cannot_be_had_are_told_and_left_out() {
    let mut bench = Bench::new();
    let sets = json!(["CAP_KILL", "CAP_FLY"]);
    bench.config["process"]["capabilities"] = json!({"bounding": sets, "effective": sets, "permitted": sets});
    let (log, bundle) = (bench.path("log"), bench.path("bundle"));
    bench.save();
    let arguments = ["--log", log.to_str().unwrap(), "run", "-d", "-b", bundle.to_str().unwrap(), "web"];
    bench.call(&arguments).ok();
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("level=warning") && told.contains("CAP_FLY is no capability"), "{told}");
    // Later calls read the same configuration.
    let shown =
        bench.call(&["exec", "web", "grep", "-h", "CapPrm", "/proc/1/status", "/proc/self/status"]).ok();
    assert_eq!(shown.matches("0000000000000020").count(), 2, "{shown}");
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": ["PATH=/bin"],
        "capabilities": {"bounding": sets, "permitted": sets}});
    let file = bench.path("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let exec = bench.call(&["exec", "--process", file.to_str().unwrap(), "web"]);
    assert!(exec.code == Some(0) && exec.err.contains("CAP_FLY is no capability"), "{exec:?}");
    bench.call(&["kill", "web", "KILL"]).ok();

    // Not ours to give: podkeep itself has less than the container asks for.
    let less = json!(["CAP_KILL", "CAP_SYS_BOOT"]);
    bench.config["process"]["capabilities"] = json!({"bounding": less, "permitted": less});
    bench.config["linux"]["cgroupsPath"] = json!("/oci-test/two");
    bench.script("grep CapPrm /proc/self/status");
    bench.save();
    let mut run = bench.command(&["run", "-b", bundle.to_str().unwrap(), "less"]);
    let bounded = std::thread::spawn(move || {
        // A thread's own, which its children have too.
        remove_capability_from_bounding_set(CapabilitySet::SYS_BOOT).unwrap();
        said(run.output().unwrap())
    });
    let less = bounded.join().unwrap();
    assert!(less.code == Some(0) && less.err.contains("CAP_SYS_BOOT cannot be given"), "{less:?}");
    assert!(less.out.trim().ends_with("0000000000000020"), "{less:?}");
}

#[test]
fn a_device_may_lie_outside_of_dev() {
    let mut bench = Bench::new();
    bench.config["linux"]["devices"] = json!([{"path": "/x/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o626, "uid": 3, "gid": 4}]);
    // The host's temporary folder may be one where devices cannot be opened.
    bench.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/x", "type": "tmpfs", "source": "x"}));
    let script = "stat -c '%t:%T %a %u:%g' /x/null && echo lost > /x/null && cat /x/null";
    assert_eq!(bench.shell("web", script).ok(), "1:3 626 3:4");
}

/// What is for mounts that are there already is left out, and what needs maps.
#[test]
fn every_option_that_features_lists_can_be_had_on_a_new_file_system() {
    let mut bench = Bench::new();
    let features = bench.call(&["features"]).json();
    let mut tried = Vec::new();
    for option in features["mountOptions"].as_array().unwrap() {
        let option = option.as_str().unwrap();
        let of_others = ["bind", "remount", "idmap", "private", "slave", "shared", "unbindable"];
        if !of_others.iter().any(|other| option.trim_start_matches('r') == other.trim_start_matches('r')) {
            tried.push(option.to_owned());
        }
    }
    assert!(tried.len() > 35, "{tried:?}");
    for option in &tried {
        let mount = json!({"destination": format!("/m/{option}"), "type": "tmpfs", "source": "x", "options": [option]});
        bench.config["mounts"].as_array_mut().unwrap().push(mount);
    }
    let said = bench
        .shell("web", "grep -c ' /m/' /proc/mounts; grep -E ' /m/(rnosuid|noexec|sync) ' /proc/mounts")
        .ok();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some(tried.len().to_string().as_str()), "{said}");
    for (line, word) in lines.zip(["noexec", "nosuid", "sync"]) {
        assert!(line.contains(word), "{said}");
    }
    for option in ["silent", "iversion", "noiversion"] {
        bench.config["mounts"].as_array_mut().unwrap().pop();
        let mount = json!({"destination": "/m/x", "type": "tmpfs", "source": "x", "options": [option]});
        bench.config["mounts"].as_array_mut().unwrap().push(mount);
        bench.run("web").fails_with(1, &format!("asks for `{option}`, which is not supported"));
    }
}

#[test]
fn a_terminal_comes_to_the_console_socket() {
    let mut bench = Bench::new();
    let socket = bench.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    bench.script("tty; ls -l /dev/console | cut -c1 2>/dev/null; read line; echo got $line");
    bench.config["process"]["terminal"] = json!(true);
    bench.config["process"]["consoleSize"] = json!({"height": 11, "width": 22});
    bench.create("web").fails_with(1, "--console-socket");
    bench.save();
    let bundle = bench.path("bundle");
    let create =
        ["create", "-b", bundle.to_str().unwrap(), "--console-socket", socket.to_str().unwrap(), "web"];
    bench.call(&create).ok();
    let mut master = receive_terminal(&listener);
    bench.call(&["start", "web"]).ok();
    master.write_all(b"words\n").unwrap();
    let text = read_terminal(master);
    assert!(text.contains("/dev/pts/0") && text.contains("got words"), "{text:?}");
}

#[test]
fn exec_with_a_terminal_by_socket_or_by_relay() {
    let bench = Bench::new();
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    let socket = bench.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let script = "stty size; tty; read line; echo got $line";
    let exec = ["exec", "-t", "-d", "--console-socket", socket.to_str().unwrap(), "web", "sh", "-c", script];
    bench.call(&exec).ok();
    let mut master = receive_terminal(&listener);
    master.write_all(b"words\n").unwrap();
    let text = read_terminal(master);
    assert!(text.contains("/dev/pts/0") && text.contains("got words"), "{text:?}");

    bench.call(&["exec", "-t", "-d", "web", "true"]).fails_with(255, "--console-socket");
    let mut exec = bench.command(&["exec", "-t", "web", "sh", "-c", &format!("{script}; exit 6")]);
    let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    exec.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = said(exec.wait_with_output().unwrap());
    assert_eq!(output.code, Some(6));
    assert!(output.out.contains("got typed\r\n"), "{output:?}");
}

#[test]
fn run_relays_a_terminal_and_its_size() {
    let mut bench = Bench::new();
    bench.script("stty size; read line; stty size; exit 2");
    bench.config["process"]["terminal"] = json!(true);
    bench.save();
    let bundle = bench.path("bundle");
    // A terminal of our own stands for the person's.
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    // Else it would become this test's own, whose end ends the test.
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let slave = options.open(name.to_str().unwrap()).unwrap();
    resize(&master, 33, 77);
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let mut run = bench.command(&["run", "-b", bundle.to_str().unwrap(), "web"]);
    let mut run = run.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).spawn().unwrap();
    let mut reader = File::from(master.try_clone().unwrap());
    let mut text = wait_for(&mut reader, String::new(), "33 77");
    resize(&master, 44, 88);
    // The shell of the person would have its terminal send it.
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    wait_until("the size has been taken over", || {
        bench.call(&["exec", "web", "sh", "-c", "stty size < /dev/pts/0"]).out.trim() == "44 88"
    });
    reader.write_all(b"\n").unwrap();
    text = wait_for(&mut reader, text, "44 88");
    assert_eq!(run.wait().unwrap().code(), Some(2), "{text}");
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    assert_eq!((before.local_modes, before.input_modes), (after.local_modes, after.input_modes));
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).unwrap();
}

fn wait_for(from: &mut File, mut text: String, words: &str) -> String {
    let mut byte = [0];
    while !text.contains(words) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn hooks_are_run_in_order_with_the_state_and_where_they_belong() {
    let mut bench = Bench::new();
    bench.script("sleep 1000");
    let outside = r#"grep -o '"status":"[a-z]*"' && hostname"#;
    // Inside, the log is not there: these write to the container's own.
    let inside = |name: &str| {
        let script = format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"') $(hostname) >> /inside.log");
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]})
    };
    bench.config["hooks"] = json!({
        "prestart": [bench.hook("prestart", outside)],
        "createRuntime": [bench.hook("createRuntime1", outside), bench.hook("createRuntime2", outside)],
        "createContainer": [bench.hook("createContainer", outside)],
        "startContainer": [inside("startContainer")],
        "poststart": [bench.hook("poststart", outside)],
        "poststop": [bench.hook("poststop", outside)],
    });
    let host = Command::new("hostname").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap().trim().to_owned();
    let line = |name: &str, status: &str, host: &str| format!("{name} \"status\":\"{status}\" {host}");
    bench.create("web").ok();
    let mut expected = vec![
        line("prestart", "creating", &host),
        line("createRuntime1", "creating", &host),
        line("createRuntime2", "creating", &host),
        line("createContainer", "creating", "oci"),
    ];
    let joined = |bench: &Bench| -> Vec<String> {
        bench.hooks_log().join("\n").replace("\"\n", "\" ").lines().map(str::to_owned).collect()
    };
    assert_eq!(joined(&bench), expected);
    bench.call(&["start", "web"]).ok();
    expected.push(line("poststart", "running", &host));
    assert_eq!(joined(&bench), expected);
    let inside = fs::read_to_string(bench.root("inside.log")).unwrap();
    assert_eq!(inside.trim(), line("startContainer", "created", "oci"));
    bench.call(&["delete", "--force", "web"]).ok();
    expected.push(line("poststop", "stopped", &host));
    assert_eq!(joined(&bench), expected);
}

#[test]
fn a_create_hook_that_fails_or_hangs_leaves_no_container() {
    let mut bench = Bench::new();
    let shell = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
    bench.config["hooks"] = json!({"createRuntime": [shell("echo sorry >&2; exit 3")]});
    bench.create("web").fails_with(1, "createRuntime hook /bin/sh: exited with 3: sorry");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    let mut hanging = shell("sleep 1000");
    hanging["timeout"] = json!(1);
    bench.config["hooks"] = json!({"createContainer": [hanging]});
    bench.create("web").fails_with(1, "has not ended within 1 seconds");
    assert!(bench.left().is_empty(), "{:?}", bench.left());

    bench.config["hooks"] = json!({"startContainer": [shell("exit 4")]});
    bench.create("web").ok();
    bench.call(&["start", "web"]).fails_with(1, "exited with 4");
    wait_until("it has ended", || bench.status("web") == "stopped");
    bench.call(&["delete", "web"]).ok();
    bench.config["hooks"] = json!({"poststart": [shell("exit 5")], "poststop": [shell("exit 6")]});
    bench.create("web").ok();
    let started = bench.call(&["start", "web"]);
    assert!(started.code == Some(0) && started.err.contains("exited with 5"), "{started:?}");
    let deleted = bench.call(&["delete", "-f", "web"]);
    assert!(deleted.code == Some(0) && deleted.err.contains("exited with 6"), "{deleted:?}");
}

#[test]
fn run_runs_the_hooks_of_start_too() {
    let mut bench = Bench::new();
    bench.script("cat /inside.log");
    let script = "echo before > /inside.log";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
    bench.config["hooks"] = json!({"startContainer": [hook]});
    assert_eq!(bench.run("web").ok(), "before");
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let mut bench = Bench::new();
    bench.script("while :; do echo x >> /ticks; sleep 0.05; done");
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    let ticks = || fs::metadata(bench.root("ticks")).map_or(0, |file| file.len());
    wait_until("it ticks", || ticks() > 4);
    bench.call(&["resume", "web"]).fails_with(1, "not paused");
    bench.call(&["pause", "web"]).ok();
    assert_eq!(bench.status("web"), "paused");
    assert!(fs::read_to_string(format!("{CGROUP}/cgroup.events")).unwrap().contains("frozen 1"));
    bench.call(&["exec", "web", "true"]).fails_with(255, "--ignore-paused");
    bench.call(&["pause", "web"]).fails_with(1, "not running");
    bench.call(&["resume", "web"]).ok();
    assert_eq!(bench.status("web"), "running");
    let before = ticks();
    wait_until("it goes on", || ticks() > before);
    bench.call(&["pause", "web"]).ok();
    bench.call(&["delete", "--force", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn limits_are_there_from_the_start_and_can_be_changed() {
    let mut bench = Bench::new();
    bench.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    let file = |name: &str| fs::read_to_string(format!("{CGROUP}/{name}")).unwrap().trim().to_owned();
    assert_eq!((file("memory.max"), file("pids.max")), ((64 << 20).to_string(), "20".to_owned()));
    bench.call(&["update", "--memory", "33554432", "--pids-limit", "-1", "--cpu-quota", "50000", "web"]).ok();
    let now = (file("memory.max"), file("pids.max"), file("cpu.max"));
    assert_eq!(now, ("33554432".to_owned(), "max".to_owned(), "50000 100000".to_owned()));

    let resources = json!({"pids": {"limit": 30}}).to_string();
    let input = bench.path("resources.json");
    fs::write(&input, resources).unwrap();
    let mut update = bench.command(&["update", "--resources", "-", "web"]);
    assert!(update.stdin(File::open(&input).unwrap()).status().unwrap().success());
    assert_eq!((file("pids.max"), file("memory.max")), ("30".to_owned(), "33554432".to_owned()));
}

#[test]
fn every_option_of_update_reaches_its_file() {
    assert!(Command::new("modprobe").arg("bfq").status().unwrap().success());
    let bench = Bench::new();
    bench.start("web");
    let file = |name: &str| fs::read_to_string(format!("{CGROUP}/{name}")).unwrap().trim().to_owned();
    for (options, name, value) in [
        ("--cpu-share 512", "cpu.weight", "59"),
        ("--cpu-period 50000 --cpu-quota 20000", "cpu.max", "20000 50000"),
        ("--cpu-burst 10000", "cpu.max.burst", "10000"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpuset-cpus 0", "cpuset.cpus", "0"),
        ("--cpuset-mems 0", "cpuset.mems", "0"),
        ("--memory 67108864 --memory-swap 100663296", "memory.swap.max", "33554432"),
        ("--memory-reservation 33554432", "memory.low", "33554432"),
        ("--blkio-weight 500", "io.bfq.weight", "default 500"),
    ] {
        let args = ["update"].into_iter().chain(options.split(' ')).chain(["web"]);
        bench.call(&args.collect::<Vec<_>>()).ok();
        assert_eq!(file(name), value, "{options}");
    }
    // What was not spoken of stays.
    assert_eq!((file("cpu.max"), file("memory.max")), ("20000 50000".to_owned(), "67108864".to_owned()));
    for (options, words) in [
        ("--blkio-weight 5", "a weight of 5 (10…1000 is allowed)"),
        ("--memory 67108864 --memory-swap 33554432", "less than the limit of memory"),
        ("--cpuset-cpus 700", "cpuset.cpus"),
    ] {
        let args = ["update"].into_iter().chain(options.split(' ')).chain(["web"]);
        bench.call(&args.collect::<Vec<_>>()).fails_with(1, words);
    }
}

/// Found here: device rules were passed over in silence, and so was the check.
#[test]
fn an_update_that_cannot_be_heeded_changes_nothing_and_says_so() {
    let mut bench = Bench::new();
    let own = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]);
    bench.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "devices": own});
    bench.script("touch /ready; sleep 1000");
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    wait_until("it uses memory", || bench.root("ready").exists());
    let limit = || fs::read_to_string(format!("{CGROUP}/memory.max")).unwrap().trim().to_owned();
    let update = |resources: serde_json::Value| {
        let input = bench.path("resources.json");
        fs::write(&input, resources.to_string()).unwrap();
        bench.call(&["update", "--resources", input.to_str().unwrap(), "web"])
    };
    let other = json!([{"allow": true, "access": "rwm"}]);
    update(json!({"devices": other, "memory": {"limit": 32 << 20}}))
        .fails_with(1, "device rules cannot be changed");
    let check = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    update(check).fails_with(1, "memory.limit: 4096 is no more than what is used now");
    let check = json!({"memory": {"limit": -1, "swap": 4096, "checkBeforeUpdate": true}});
    update(check).fails_with(1, "memory.swap: 4096 is no more than what is used now");
    assert_eq!(limit(), (64 << 20).to_string());
    // As containerd hands it back.
    update(json!({"devices": own, "memory": {"limit": 32 << 20, "checkBeforeUpdate": true}})).ok();
    assert_eq!(limit(), (32 << 20).to_string());
}

#[test]
fn a_weight_goes_where_the_scheduler_of_the_disk_looks() {
    assert!(Command::new("modprobe").arg("bfq").status().unwrap().success());
    let mut bench = Bench::new();
    bench.config["linux"]["resources"] = json!({"blockIO": {"weight": 500}});
    bench.create("web").ok();
    let weight = fs::read_to_string(format!("{CGROUP}/io.bfq.weight")).unwrap();
    assert_eq!(weight, "default 500\n");
}

#[test]
fn a_container_has_a_session_keyring_that_its_processes_share() {
    let mut bench = Bench::new();
    bench.script("cat /proc/keys >/keys; touch /ready; sleep 1000");
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    wait_until("it has looked", || bench.root("ready").exists());
    let ring = |keys: &str, id: &str| {
        let name = format!("_ses.{id}:");
        let line = keys.lines().find(|line| line.contains(&name))?;
        Some(line.split_whitespace().next()?.to_owned())
    };
    let of_first = ring(&fs::read_to_string(bench.root("keys")).unwrap(), "web");
    assert!(of_first.is_some());
    assert_eq!(ring(&bench.call(&["exec", "web", "cat", "/proc/keys"]).ok(), "web"), of_first);
    bench.call(&["delete", "--force", "web"]).ok();

    bench.script("cat /proc/keys");
    bench.save();
    let bundle = bench.path("bundle");
    let said = bench.call(&["run", "--no-new-keyring", "--bundle", bundle.to_str().unwrap(), "plain"]);
    assert_eq!(ring(&said.ok(), "plain"), None);
}

#[test]
fn stats_and_processes_are_told() {
    let mut bench = Bench::new();
    bench.script("sleep 1000 & sleep 1000 & touch /ready; wait");
    bench.create("web").ok();
    bench.call(&["start", "web"]).ok();
    wait_until("all are there", || bench.root("ready").exists());
    let event = bench.call(&["events", "--stats", "web"]).json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("web")));
    assert_eq!(event["data"]["pids"]["current"], 3);
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{event}");
    assert_eq!(bench.call(&["events", "web"]).code, Some(1), "there is only --stats");

    let pids = bench.call(&["ps", "--format", "json", "web"]).json();
    assert_eq!(pids.as_array().unwrap().len(), 3);
    assert!(pids.as_array().unwrap().contains(&json!(bench.pid("web"))));
    let table = bench.call(&["ps", "web", "-o", "pid,args"]).ok();
    assert_eq!(table.lines().filter(|line| line.contains("sleep 1000")).count(), 3, "{table}");
    bench.call(&["kill", "--all", "web", "TERM"]).ok();
}

#[test]
fn containers_are_listed() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(&["list", "-f", "json"]).json(), json!([]));
    bench.create("b").ok();
    bench.config["linux"]["cgroupsPath"] = json!("/oci-test/two");
    bench.create("a").ok();
    bench.call(&["start", "a"]).ok();
    let list = bench.call(&["list", "--format", "json"]).json();
    let told: Vec<_> =
        list.as_array().unwrap().iter().map(|one| (one["id"].clone(), one["status"].clone())).collect();
    assert_eq!(told, [(json!("a"), json!("running")), (json!("b"), json!("created"))]);
    assert_eq!(bench.call(&["list", "-q"]).ok(), "a\nb");
    assert!(bench.call(&["list"]).ok().starts_with("ID"));
}

#[test]
fn a_user_of_the_container_owns_its_streams() {
    let mut bench = Bench::new();
    bench.script("echo again > /proc/self/fd/1");
    bench.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bench.save();
    let bundle = bench.path("bundle");
    let output = bench.command(&["run", "-b", bundle.to_str().unwrap(), "web"]).output().unwrap();
    assert_eq!(said(output).ok(), "again");
}

#[test]
fn what_goes_wrong_stands_in_the_log() {
    let bench = Bench::new();
    let log = bench.path("log.json");
    let path = log.to_str().unwrap();
    bench.call(&["--log-format", "json", "--log", path, "start", "nobody"]).fails_with(1, "does not exist");
    let line: serde_json::Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container nobody does not exist")));
    bench.call(&["--systemd-cgroup", "list"]).fails_with(1, "--cgroup-manager=cgroupfs");
    bench.call(&["state", "../etc"]).fails_with(1, "invalid container ID");
    bench.call(&["exec", "--no-such-flag", "web", "true"]).fails_with(1, "--no-such-flag");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_cgroup_that_somebody_is_in_is_refused_and_left_alone() {
    let bench = Bench::new();
    fs::create_dir_all(CGROUP).unwrap();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(format!("{CGROUP}/cgroup.procs"), other.id().to_string()).unwrap();
    bench.create("web").fails_with(1, "has processes already");
    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    other.kill().unwrap();
    other.wait().unwrap();
    bench.create("web").ok();
}

#[test]
fn a_create_that_was_killed_can_be_deleted() {
    let mut bench = Bench::new();
    let file = bench.path("hooked");
    let script = format!("touch {}; exec sleep 1000", file.display());
    bench.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]},
    ]});
    bench.save();
    let bundle = bench.path("bundle");
    let mut create = bench.command(&["create", "-b", bundle.to_str().unwrap(), "web"]).spawn().unwrap();
    wait_until("the hook runs", || file.exists());
    assert_eq!(bench.status("web"), "creating");
    bench.call(&["start", "web"]).fails_with(1, "still being created");
    create.kill().unwrap();
    create.wait().unwrap();
    bench.call(&["delete", "--force", "web"]).ok();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[test]
fn the_config_that_spec_writes_can_be_run() {
    let bench = Bench::new();
    let bundle = bench.path("bundle");
    bench.call(&["spec", "-b", bundle.to_str().unwrap()]).ok();
    let text = fs::read_to_string(bench.path("bundle/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", "echo x > /dev/null && echo ran"]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    config["linux"]["cgroupsPath"] = json!("/oci-test/spec");
    fs::write(bench.path("bundle/config.json"), config.to_string()).unwrap();
    assert_eq!(bench.call(&["run", "-b", bundle.to_str().unwrap(), "web"]).ok(), "ran");
}
