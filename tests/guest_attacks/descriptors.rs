//! CVE-2024-21626: a descriptor of the host that is still open when the container's author is first obeyed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;

use rustix::fs::{Mode, OFlags};

use crate::bench::Bench;

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
