//! The Linux part of the OCI runtime specification: a `Spec`, and what its process sees.

#[path = "guest_plan/bench.rs"]
mod bench;
#[path = "harness/busybox_root.rs"]
mod busybox_root;
#[path = "guest_plan/filters.rs"]
mod filters;
#[path = "guest_plan/joined.rs"]
mod joined;
#[path = "guest_plan/mounted.rs"]
mod mounted;

use std::fs;
use std::os::unix::fs::MetadataExt;

use bench::Bench;
use oci_spec::runtime::{Hook, Process};
use podkeep::container::Progress;
use podkeep::sys::fork_guard::ForkGuard;
use serde_json::json;

/// Nothing allocates between clone and exec: a process that did would end instead of becoming its program.
#[global_allocator]
static ALLOCATOR: ForkGuard = ForkGuard;

/// `net:[4026531840]`, the test's own.
fn own_namespace(name: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

/// A user namespace of its own: 1,000,000 to 1,065,535 of the host.
fn with_users(bench: &mut Bench) {
    bench.add_namespace(json!({"type": "user"}));
    let mapping = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65_536}]);
    bench.spec["linux"]["uidMappings"] = mapping.clone();
    bench.spec["linux"]["gidMappings"] = mapping;
    bench.give_root_to(1_000_000);
}

#[test]
fn a_user_namespace_has_its_maps_and_owns_the_other_namespaces() {
    let mut bench = Bench::new();
    with_users(&mut bench);
    let script = "cat /proc/self/uid_map; id -u; touch /made; stat -c %u /made; hostname inner; hostname; \
                  ip link set lo down && echo down; ls -la /dev/null; echo x > /dev/null && echo null";
    let output = bench.run(script).success();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[..3], ["0", "1000000", "65536"], "{output}");
    assert_eq!(words[3..7], ["0", "0", "inner", "down"], "{output}");
    assert!(output.ends_with("null"), "{output}");
    assert_eq!(fs::metadata(bench.rootfs().join("made")).unwrap().uid(), 1_000_000);
}

#[test]
fn an_overlay_in_a_user_namespace_shows_roots_layers_as_its_own() {
    let mut bench = Bench::new();
    with_users(&mut bench);
    let output = bench.run_on_overlay(
        "stat -c %u /bin/busybox; touch /new; stat -c %u /new; rm /bin/wc; ls /bin/wc",
        1_000_000,
    );
    assert!(output.output.starts_with("0\n0\n"), "{output:?}");
    assert!(output.output.contains("No such file"), "{output:?}");
}

#[test]
fn owners_in_an_idmapped_mount_are_the_containers() {
    let mut bench = Bench::new();
    with_users(&mut bench);
    let volume = bench.directory("volume");
    fs::write(volume.join("file"), "x").unwrap();
    bench.mount(
        json!({"destination": "/mapped", "type": "bind", "source": volume, "options": ["bind", "idmap"]}),
    );
    bench.mount(json!({"destination": "/plain", "type": "bind", "source": volume, "options": ["bind"]}));
    let output = bench.run("stat -c %u /mapped/file /plain/file; touch /mapped/new").success();
    assert_eq!(output, "0\n65534");
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
}

#[test]
fn a_mounts_own_maps_need_no_user_namespace() {
    let mut bench = Bench::new();
    let volume = bench.directory("volume");
    fs::write(volume.join("file"), "x").unwrap();
    let mapping = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    bench.mount(json!({"destination": "/mapped", "type": "bind", "source": volume, "options": ["bind"],
        "uidMappings": mapping, "gidMappings": mapping}));
    assert_eq!(bench.run("stat -c %u /mapped/file").success(), "5000");
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let mut bench = Bench::new();
    bench.add_namespace(json!({"type": "time"}));
    bench.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}});
    let output = bench.run("cat /proc/uptime").success();
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{output}");
}

#[test]
fn namespaces_are_joined_by_path() {
    let mut first = Bench::new();
    let running = first.start("hostname first; mount -t tmpfs none /mnt; echo up; exec sleep 1000");
    running.wait_for("up");
    let pid = running.pid();
    let mut second = Bench::new();
    for (kind, name) in [("uts", "uts"), ("ipc", "ipc"), ("network", "net"), ("pid", "pid")] {
        second.namespace(kind)["path"] = json!(format!("/proc/{pid}/ns/{name}"));
    }
    // In a PID namespace that somebody else made, pid 1 is theirs.
    let output = second.run("hostname; echo $$; cat /proc/1/cmdline | tr '\\0' ' '").success();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines[0], lines[2]), ("first", "sleep 1000"), "{output}");
    assert_ne!(lines[1], "1");
    let wrong = first_error(|bench| bench.namespace("uts")["path"] = json!(format!("/proc/{pid}/ns/net")));
    assert!(wrong.contains("another kind"), "{wrong}");
}

fn first_error(change: impl FnOnce(&mut Bench)) -> String {
    let mut bench = Bench::new();
    change(&mut bench);
    bench.try_start("true").unwrap_err()
}

#[test]
fn sysctls_are_written_in_its_namespaces_and_nowhere_else() {
    let mut bench = Bench::new();
    bench.spec["linux"]["sysctl"] =
        json!({"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shmmax": "123456"});
    let output =
        bench.run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmax").success();
    assert_eq!(output, "77\n123456");
    let host = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_ne!(host.trim(), "77");
    let refused = first_error(|bench| bench.spec["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/x"}));
    assert!(refused.contains("would change the host's"), "{refused}");
    let refused = first_error(|bench| {
        bench.remove_namespace("network");
        bench.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    assert!(refused.contains("no such namespace of its own"), "{refused}");
}

/// CVE-2019-19921, CVE-2025-52881: the container's own `/proc` is never written to.
#[test]
fn a_sysctl_is_not_redirected_by_what_lies_at_proc() {
    let mut bench = Bench::new();
    let volume = bench.directory("fake/sys/net/ipv4");
    fs::write(volume.join("ip_unprivileged_port_start"), "").unwrap();
    let fake = bench.path("fake");
    bench.mounts().retain(|mount| mount["destination"] != "/proc");
    bench.mount(json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]}));
    bench.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77"});
    bench.run("true").success();
    assert_eq!(fs::read_to_string(volume.join("ip_unprivileged_port_start")).unwrap(), "");
}

#[test]
fn mount_options_become_attributes() {
    let mut bench = Bench::new();
    let volume = bench.directory("volume");
    let options = ["rbind", "nosuid", "nodev", "noexec", "noatime", "rro"];
    bench.mount(json!({"destination": "/a", "type": "bind", "source": volume, "options": options}));
    bench.mount(json!({"destination": "/b", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=0700", "size=64k", "unbindable"]}));
    bench.mount(json!({"destination": "/b", "options": ["remount", "ro"]}));
    let output =
        bench.run("grep -E ' /(a|b) ' /proc/self/mountinfo; touch /a/x; touch /b/x; stat -c %a /b").output;
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].contains(" /a ro,nosuid,nodev,noexec,noatime "), "{output}");
    assert!(lines[1].contains(" /b ro,nosuid ") && lines[1].contains("unbindable"), "{output}");
    assert_eq!(output.matches("Read-only").count(), 2, "{output}");
    assert!(output.ends_with("700\n"), "{output}");
}

#[test]
fn a_tmpfs_takes_over_what_it_hides() {
    let mut bench = Bench::new();
    let hidden = bench.rootfs().join("data/deep");
    fs::create_dir_all(&hidden).unwrap();
    fs::write(hidden.join("file"), "content").unwrap();
    std::os::unix::fs::symlink("deep/file", bench.rootfs().join("data/link")).unwrap();
    std::os::unix::fs::chown(hidden.join("file"), Some(7), Some(8)).unwrap();
    bench
        .mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    let output = bench.run("cat /data/link; stat -c ' %u %g' /data/deep/file; echo y > /data/new").success();
    assert_eq!(output, "content 7 8");
    assert!(!bench.rootfs().join("data/new").exists());
}

#[test]
fn mounts_spread_only_as_asked() {
    let mut bench = Bench::new();
    let shared = bench.directory("shared");
    bench.host(&["mount", "--bind"], &[&shared, &shared]);
    bench.host(&["mount", "--make-shared"], &[&shared]);
    for (name, way) in [("out", "rshared"), ("in", "rslave"), ("alone", "rprivate")] {
        bench.directory(&format!("shared/{name}"));
        bench.mount(json!({"destination": format!("/{name}"), "type": "bind", "source": shared,
            "options": ["rbind", way]}));
    }
    let running = bench.start(
        "mkdir /out/made; mount -t tmpfs made /out/made; echo up; read line < /fifo; \
         grep -c ' /in/late ' /proc/self/mountinfo; grep -c ' /alone/late ' /proc/self/mountinfo; exit 0",
    );
    running.wait_for("up");
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(host.contains("shared/made "), "a mount below an rshared one is seen by the host");
    let late = bench.directory("shared/late");
    bench.host(&["mount", "-t", "tmpfs", "late"], &[&late]);
    bench.feed("go");
    let output = running.finish();
    bench.host(&["umount"], &[&late]);
    bench.host(&["umount"], &[&shared.join("made")]);
    bench.host(&["umount"], &[&shared]);
    assert_eq!(output.output, "up\n1\n0\n");
}

#[test]
fn a_limit_a_priority_and_a_personality_are_set() {
    let mut bench = Bench::new();
    bench.spec["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    bench.spec["process"]["oomScoreAdj"] = json!(-500);
    bench.spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    bench.spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bench.spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    let script =
        "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; cut -d' ' -f19,41 /proc/self/stat; uname -m";
    assert_eq!(bench.run(script).success(), "100\n200\n-500\n5 3\ni686");
}

#[test]
fn ambient_capabilities_are_a_plain_users_too() {
    let mut bench = Bench::new();
    bench.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let set = json!(["CAP_NET_RAW", "CAP_KILL"]);
    bench.spec["process"]["capabilities"] =
        json!({"bounding": set, "effective": set, "permitted": set, "ambient": ["CAP_NET_RAW"]});
    let output = bench.run("grep Cap /proc/self/status").success();
    let value = |name: &str| {
        let line = output.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(value("CapAmb"), 1 << 13);
    assert_eq!((value("CapEff"), value("CapPrm"), value("CapInh")), (1 << 13, 1 << 13, 1 << 13));
    assert_eq!(value("CapBnd"), 1 << 13 | 1 << 5);
}

/// CVE-2022-29162: what a `Spec` says of it is not heeded, for programs with the same file capabilities would get them.
#[test]
fn nothing_is_inheritable_that_is_not_ambient() {
    let mut bench = Bench::new();
    bench.spec["process"]["capabilities"]["inheritable"] = json!(["CAP_CHOWN", "CAP_NET_ADMIN"]);
    assert_eq!(bench.run("grep CapInh /proc/self/status | tr -d '\\t'").success(), "CapInh:0000000000000000");
}

#[test]
fn a_terminal_comes_from_its_own_pts_and_is_its_console() {
    let mut bench = Bench::new();
    bench.spec["process"]["terminal"] = json!(true);
    bench.spec["process"]["consoleSize"] = json!({"height": 24, "width": 91});
    let output = bench.run_on_terminal("tty; stty size; tty < /dev/console; echo done > /dev/tty");
    assert_eq!(output.output.replace('\r', ""), "/dev/pts/0\n24 91\n/dev/console\ndone\n");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let host = json!([{"type": "mount", "path": "/proc/1/ns/mnt"}]);
    for (place, value, name) in [
        ("/vm", json!({"kernel": {"path": "/vmlinux"}}), "vm"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/linux/netDevices", json!({"eth0": {"name": "inner"}}), "linux.netDevices"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}), "linux.memoryPolicy"),
        ("/process/execCPUAffinity", json!({"initial": "0"}), "process.execCPUAffinity"),
        ("/linux/namespaces", host, "linux.namespaces: a mount namespace by its path"),
    ] {
        let error = first_error(|bench| {
            let (parent, field) = place.rsplit_once('/').unwrap();
            bench.spec.pointer_mut(parent).unwrap()[field] = value;
        });
        assert_eq!(error, format!("the spec asks for `{name}`, which podkeep does not support"));
    }
}

/// Hooks find everything mounted and the root not pivoted; a program starts when it is told to.
#[test]
fn a_process_waits_for_hooks_and_for_its_start() {
    let mut bench = Bench::new();
    bench.setting.hooks = true;
    bench.setting.start = true;
    let mut running = bench.start("echo started");
    assert_eq!(running.next(), Progress::Created);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", running.pid())).unwrap();
    assert!(mounts.contains(&format!(" {}/proc ", bench.rootfs().display())), "{mounts}");
    running.go_on();
    assert_eq!(running.next(), Progress::Ready);
    assert_eq!(running.received(), "");
    bench.give_start();
    assert_eq!(running.next(), Progress::Executed);
    assert_eq!(running.finish().output, "started\n");
}

#[test]
fn a_program_that_is_missing_is_told_before_the_start() {
    let mut bench = Bench::new();
    bench.setting.start = true;
    bench.spec["process"]["args"] = json!(["/bin/nothing"]);
    let error = bench.start_as_it_is().try_next().unwrap_err();
    assert!(error.starts_with("find /bin/nothing: ENOENT"), "{error}");
}

#[test]
fn a_command_in_a_container_has_no_more_rights_than_that() {
    let mut bench = Bench::new();
    let running = bench.start("echo up; exec sleep 1000");
    running.wait_for("up");
    let process: Process = serde_json::from_value(bench.spec["process"].clone()).unwrap();
    let compare = "for i in mnt pid net ipc uts cgroup; do [ $(readlink /proc/self/ns/$i) = $(readlink /proc/1/ns/$i) ] \
                   && echo $i; done; grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid)' /proc/self/status > /a; \
                   grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid)' /proc/1/status > /b; cmp /a /b && echo same; \
                   cmp /proc/self/cgroup /proc/1/cgroup && echo cgroup; ls /proc/self/fd | wc -l; pwd";
    let outcome = bench.exec(&running, &process, compare);
    assert_eq!(outcome.success(), "mnt\npid\nnet\nipc\nuts\ncgroup\nsame\ncgroup\n4\n/");
}

#[test]
fn a_hook_runs_inside_with_the_state_on_its_input() {
    let mut bench = Bench::new();
    let running = bench.start("echo up; exec sleep 1000");
    running.wait_for("up");
    let mut hook = Hook::default();
    hook.set_path("/bin/sh".into())
        .set_args(Some(["sh", "-c", "cat; hostname; echo $VALUE"].map(String::from).to_vec()));
    hook.set_env(Some(vec!["VALUE=given".to_owned(), "PATH=/bin".to_owned()]));
    assert_eq!(bench.hook(&running, &hook, "{\"ociVersion\":1}\n"), "{\"ociVersion\":1}\nbench\ngiven\n");
}

/// Whoever clones is told what failed there too.
#[test]
fn a_failure_before_the_process_is_inside_is_told() {
    let mut bench = Bench::new();
    with_users(&mut bench);
    bench.spec["process"]["oomScoreAdj"] = json!(5000);
    let error = bench.try_start("true").unwrap_err();
    assert_eq!(error, "set oom_score_adj to 5000: EINVAL");
}

#[test]
fn nothing_of_all_this_stays_on_the_host() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut bench = Bench::new();
    with_users(&mut bench);
    bench.run("true").success();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}
