//! podman with podkeep as its runtime (`--runtime`): containers run, are looked into, stop and are removed.
//!
//! Run with `scripts/vm test guest_podman`; anywhere else these tests fail.
//! Guest: --root debian

#[path = "harness/traces.rs"]
mod traces;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where `podkeep oci` keeps what it knows, unless `--root` says otherwise.
const RUNTIME_FILES: &str = "/run/podkeep/oci";

/// podman with a storage of its own, and the name under which podkeep is an OCI runtime.
struct Podman {
    dir: tempfile::TempDir,
    runtime: PathBuf,
}

impl Podman {
    fn new() -> Podman {
        assert_eq!(
            std::env::var("PODKEEP_GUEST").as_deref(),
            Ok("1"),
            "not in the guest: use `scripts/vm test`"
        );
        // A disk: an overlay's upper folder cannot be on every tmpfs.
        let dir = tempfile::Builder::new().prefix("podman-").tempdir_in("/var/tmp").unwrap();
        let runtime = dir.path().join("podkeep-oci");
        symlink(std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it"), &runtime).unwrap();
        let podman = Podman { dir, runtime };
        let images = PathBuf::from(std::env::var_os("PODKEEP_IMAGES").expect("scripts/vm sets it"));
        let archive = format!("oci-archive:{}", images.join("busybox.tar").display());
        podman.ok(&["pull", "--quiet", &archive]);
        podman
    }

    fn run(&self, args: &[&str]) -> Output {
        let place = |name: &str| self.dir.path().join(name);
        Command::new("podman")
            .arg("--runtime")
            .arg(&self.runtime)
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
            .arg("--root")
            .arg(place("storage"))
            .arg("--runroot")
            .arg(place("run"))
            .arg("--tmpdir")
            .arg(place("tmp"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Its standard output, without the last line's end.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn image(&self) -> String {
        self.ok(&["images", "--quiet"])
    }
}

impl Drop for Podman {
    /// Also after a failure: what podman has mounted cannot be deleted with the folder.
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        self.run(&["umount", "--all", "--force"]);
        let storage = self.dir.path().join("storage/overlay");
        let _ = rustix::mount::unmount(&storage, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_container_runs_is_looked_into_stops_and_is_removed() {
    let podman = Podman::new();
    let image = podman.image();
    let id = podman.ok(&[
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        "c1",
        "--memory",
        "64m",
        "--hostname",
        "inside",
        &image,
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 1; done",
    ]);
    assert_eq!(podman.ok(&["inspect", "--format", "{{.State.Status}} {{.OCIRuntime}}", "c1"]), {
        format!("running {}", podman.runtime.display())
    });
    assert_eq!(podman.ok(&["exec", "c1", "hostname"]), "inside");
    // In the container's namespaces and cgroup: it sees the first process, and has its limit.
    assert_eq!(podman.ok(&["exec", "c1", "cat", "/proc/1/comm"]), "sh");
    assert_eq!(podman.ok(&["exec", "c1", "cat", "/sys/fs/cgroup/memory.max"]), "67108864");
    let code = podman.run(&["exec", "c1", "sh", "-c", "exit 7"]).status.code();
    assert_eq!(code, Some(7), "exec hands the exit code on");

    podman.ok(&["stop", "--time", "20", "c1"]);
    assert_eq!(
        podman.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "c1"]),
        "exited 3"
    );
    assert_eq!(podman.ok(&["logs", "c1"]), "up\nbye");
    podman.ok(&["rm", "c1"]);
    assert_eq!(traces::of(Path::new(RUNTIME_FILES), &id), Vec::<String>::new());
}

#[test]
fn a_command_that_ends_by_itself_gives_its_output_and_its_code() {
    let podman = Podman::new();
    let image = podman.image();
    let run = |script: &str| podman.run(&["run", "--rm", "--network", "none", &image, "sh", "-c", script]);
    let output = run("id -u; echo to stderr >&2; exit 5");
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"0\n".as_slice(), b"to stderr\n".as_slice())
    );
    for (program, code) in [("/no/such/program", 127), ("/etc", 126)] {
        let refused = podman.run(&["run", "--rm", "--network", "none", &image, program]);
        assert_eq!(refused.status.code(), Some(code), "{}", String::from_utf8_lossy(&refused.stderr));
    }
}
