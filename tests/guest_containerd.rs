//! containerd with podkeep as its runtime (`io.containerd.runc.v2`, whose `BinaryName` is ours): containers of an imported
//! image run, are looked into, paused, killed and deleted.
//!
//! Run with `scripts/vm test guest_containerd`; anywhere else these tests fail.
//! Guest: --root debian

#[path = "harness/traces.rs"]
mod traces;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/library/busybox:1.35";

/// containerd with folders of its own, and the name under which podkeep is an OCI runtime.
struct Containerd {
    dir: tempfile::TempDir,
    daemon: Child,
    runtime: PathBuf,
}

impl Containerd {
    fn start() -> Containerd {
        assert_eq!(
            std::env::var("PODKEEP_GUEST").as_deref(),
            Ok("1"),
            "not in the guest: use `scripts/vm test`"
        );
        // A disk: an overlay's upper folder cannot be on every tmpfs.
        let dir = tempfile::Builder::new().prefix("containerd-").tempdir_in("/var/tmp").unwrap();
        let runtime = dir.path().join("podkeep-oci");
        symlink(std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it"), &runtime).unwrap();
        let config = dir.path().join("config.toml");
        fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n").unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(&config);
        daemon.arg("--root").arg(dir.path().join("root")).arg("--state").arg(dir.path().join("state"));
        daemon.arg("--address").arg(dir.path().join("socket"));
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = daemon.spawn().unwrap();
        let containerd = Containerd { dir, daemon, runtime };
        wait_until("containerd answers", || containerd.ctr(&["version"]).status.success());
        let images = PathBuf::from(std::env::var_os("PODKEEP_IMAGES").expect("scripts/vm sets it"));
        let archive = images.join("busybox.tar");
        containerd.ok(&["images", "import", "--index-name", IMAGE, archive.to_str().unwrap()]);
        containerd
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.dir.path().join("socket")).args(args);
        ctr.stdin(Stdio::null()).output().unwrap()
    }

    /// Its standard output, without the last line's end.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.ctr(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {args:?}: {errors}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Output {
        let runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", self.runtime.to_str().unwrap()];
        self.ctr(&[&["run"], runtime.as_slice(), flags, &[IMAGE, id], command].concat())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// `RUNNING`, `STOPPED` …; `None` if there is no such task.
    fn status(&self, id: &str) -> Option<String> {
        let list = self.ok(&["tasks", "list"]);
        let mut lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words[0] == id).map(|words| words[2].to_owned())
    }

    fn wait_for_status(&self, id: &str, status: &str) {
        wait_until(&format!("{id} is {status}"), || self.status(id).as_deref() == Some(status));
    }
}

impl Drop for Containerd {
    /// Also after a failure: what is mounted cannot be deleted with the folder.
    fn drop(&mut self) {
        for id in self.ok(&["containers", "list", "--quiet"]).lines() {
            self.ctr(&["tasks", "delete", "--force", id]);
            self.ctr(&["containers", "delete", id]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if thread::panicking() {
            eprintln!("--- containerd's log\n{}---", self.log());
        }
    }
}

fn wait_until(what: &str, mut found: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !found() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_container_runs_is_looked_into_is_killed_and_is_deleted() {
    let containerd = Containerd::start();
    let script = "trap exit TERM; while :; do sleep 0.1; done";
    let flags = ["--detach", "--memory-limit", "67108864", "--cgroup", "/ctr-test/steady"];
    let output = containerd.run(&flags, "steady", &["sh", "-c", script]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), containerd.log());
    assert_eq!(containerd.status("steady").as_deref(), Some("RUNNING"));

    let exec = |id: &str, command: &[&str]| {
        containerd.ctr(&[&["tasks", "exec", "--exec-id", id, "steady"], command].concat())
    };
    // In the container's namespaces and cgroup: it sees the first process, and has its limit.
    let output = exec("e1", &["cat", "/proc/1/comm", "/proc/self/cgroup"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sh\n0::/ctr-test/steady\n", "{output:?}");
    let limit = fs::read_to_string("/sys/fs/cgroup/ctr-test/steady/memory.max").unwrap();
    assert_eq!(limit, "67108864\n");
    assert_eq!(exec("e2", &["sh", "-c", "exit 7"]).status.code(), Some(7), "exec hands the exit code on");
    let processes = containerd.ok(&["tasks", "ps", "steady"]);
    assert!(processes.lines().count() >= 2, "{processes}");
    let metrics = containerd.ok(&["tasks", "metrics", "steady"]);
    assert!(metrics.contains("memory.usage"), "{metrics}");

    containerd.ok(&["tasks", "pause", "steady"]);
    assert_eq!(containerd.status("steady").as_deref(), Some("PAUSED"));
    containerd.ok(&["tasks", "resume", "steady"]);
    assert_eq!(containerd.status("steady").as_deref(), Some("RUNNING"));

    containerd.ok(&["tasks", "kill", "--signal", "SIGTERM", "steady"]);
    containerd.wait_for_status("steady", "STOPPED");
    containerd.ok(&["tasks", "delete", "steady"]);
    containerd.ok(&["containers", "delete", "steady"]);
    assert_eq!(containerd.status("steady"), None);
    assert_eq!(traces::of(Path::new("/run"), "steady"), Vec::<String>::new());
}

#[test]
fn a_command_that_ends_by_itself_gives_its_output_and_its_code() {
    let containerd = Containerd::start();
    let script = "id -u; echo to stderr >&2; exit 5";
    let output = containerd.run(&["--rm"], "brief", &["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(5), "{output:?}\n{}", containerd.log());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("to stderr"), "{output:?}");
    assert_eq!(traces::of(Path::new("/run"), "brief"), Vec::<String>::new());
}

#[test]
fn a_program_that_is_not_there_is_told_and_leaves_nothing() {
    let containerd = Containerd::start();
    let output = containerd.run(&["--rm"], "pathless", &["/no/such/program"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.to_lowercase().contains("no such file or directory"), "{said}");
    containerd.ctr(&["containers", "delete", "pathless"]);
    assert_eq!(traces::of(Path::new("/run"), "pathless"), Vec::<String>::new());
}

#[test]
fn a_container_that_is_killed_outright_is_deleted_by_force() {
    let containerd = Containerd::start();
    let output = containerd.run(&["--detach"], "outright", &["sleep", "1000"]);
    assert!(output.status.success(), "{output:?}\n{}", containerd.log());
    containerd.ok(&["tasks", "delete", "--force", "outright"]);
    containerd.ok(&["containers", "delete", "outright"]);
    assert_eq!(traces::of(Path::new("/run"), "outright"), Vec::<String>::new());
}
