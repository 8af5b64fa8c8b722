//! CVE-2024-21626: a descriptor of the host that is still open when the container's author is first obeyed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;

use rustix::fs::{Mode, OFlags};

use serde_json::json;

use crate::bench::Bench;
use crate::oci;

/// Directories of the host that somebody forgot to mark close-on-exec.
fn forgotten() -> Vec<OwnedFd> {
    let open = |_| rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    (0..5).map(open).collect()
}

#[test]
fn a_working_directory_behind_a_descriptor_is_refused() {
    let forgotten = forgotten();
    let highest = forgotten.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let mut bench = Bench::new();
    symlink("/proc/self/fd", bench.layer().join("fds")).unwrap();
    for number in 0..=highest {
        for way in ["/proc/self/fd", "/proc/1/fd", "/proc/thread-self/fd", "/fds"] {
            bench.image.working_dir = Some(format!("{way}/{number}"));
            let failure = bench.failure(&["pwd"]);
            assert!(failure.contains("working directory") || failure.contains(way), "{failure}");
        }
    }
    for way in ["/proc/self/cwd", "/proc/1/root", "/proc/self/root/../..", "/proc/self/fd/3/.."] {
        bench.image.working_dir = Some(way.to_owned());
        bench.failure(&["pwd"]);
    }
}

#[test]
fn a_working_directory_above_the_root_is_the_root() {
    let _forgotten = forgotten();
    let mut bench = Bench::new();
    symlink("../../../../../..", bench.layer().join("up")).unwrap();
    for way in ["/../../..", "/bin/../../../..", "/up", "/up/up/.."] {
        bench.image.working_dir = Some(way.to_owned());
        assert_eq!(bench.shell("pwd -P; ls -d bin/busybox").output, "/\nbin/busybox\n", "{way}");
    }
}

#[test]
fn a_relative_working_directory_is_taken_from_the_root() {
    let forgotten = forgotten();
    let mut bench = Bench::new();
    for way in ["..", "../../..", "bin/../../.."] {
        bench.image.working_dir = Some(way.to_owned());
        assert_eq!(bench.shell("pwd -P; ls -d bin/busybox").output, "/\nbin/busybox\n", "{way}");
    }
    for fd in &forgotten {
        bench.image.working_dir = Some(format!("proc/self/fd/{}", fd.as_raw_fd()));
        bench.failure(&["pwd"]);
    }
}

#[test]
fn a_loader_or_an_interpreter_behind_a_descriptor_is_not_found() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    let forgotten = forgotten();
    let on_the_host = std::env::current_exe().unwrap();
    let mut bench = Bench::new();
    for fd in &forgotten {
        let through = format!("#!/proc/self/fd/{}{}\n", fd.as_raw_fd(), on_the_host.display());
        let script = bench.layer().join("script");
        fs::write(&script, through).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let failure = bench.failure(&["/script"]);
        assert!(failure.starts_with("execute /script: ENOENT"), "{failure}");
    }
}

/// Engines and shells leave descriptors open to the runtime that they call.
#[test]
fn what_the_caller_of_oci_forgot_is_neither_inside_nor_a_way_out() {
    let forgotten = forgotten();
    let highest = forgotten.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let mut bench = oci::Bench::new();
    symlink("/proc/self/fd", bench.root("fds")).unwrap();
    let open = "ls /proc/self/fd | tr '\\n' ' '";
    // `ls` has one more open: the directory.
    assert_eq!(bench.shell("open", open).ok(), "0 1 2 3");
    // Podkeep's own lie behind those.
    let ways = || (3..=highest + 8).flat_map(|fd| [format!("/proc/self/fd/{fd}"), format!("/fds/{fd}")]);
    for way in ways() {
        bench.config["process"]["cwd"] = json!(way);
        let said = bench.shell("cwd", "pwd");
        assert!(said.code == Some(1) && said.err.contains("working directory"), "{said:?}");
    }
    bench.config["process"]["cwd"] = json!("/");
    bench.script("sleep 1000");
    bench.start("web");
    assert_eq!(bench.call(&["exec", "web", "sh", "-c", open]).ok(), "0 1 2 3");
    for way in ways() {
        bench.call(&["exec", "--cwd", &way, "web", "pwd"]).fails_with(255, "working directory");
    }
    assert_eq!(
        bench.call(&["exec", "--cwd", "/proc/self/fd/../../..", "web", "ls", "-d", "bin"]).ok(),
        "bin"
    );
}
