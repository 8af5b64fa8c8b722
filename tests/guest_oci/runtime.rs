//! `podkeep oci` with a bundle and a state folder of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use super::bundle;

/// As podman calls it: one program that is only this.
const NAME: &str = "podkeep-oci";

pub struct Runtime {
    dir: tempfile::TempDir,
    group: PathBuf,
}

impl Runtime {
    pub fn new() -> Runtime {
        assert_eq!(std::env::var("PODKEEP_GUEST").as_deref(), Ok("1"), "not in the guest");
        let dir = tempfile::tempdir().unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let group = format!("oci-test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime = Runtime { dir, group: Path::new("/sys/fs/cgroup").join(&group) };
        std::os::unix::fs::symlink(program(), runtime.path(NAME)).unwrap();
        bundle::fill_root(&runtime.path("rootfs"));
        let mut spec = bundle::spec();
        spec["linux"]["cgroupsPath"] = json!(format!("/{group}"));
        runtime.write(&spec);
        runtime
    }

    pub fn bundle(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, spec: &Value) {
        fs::write(self.path("bundle.json"), spec.to_string()).unwrap();
        fs::write(self.path("config.json"), spec.to_string()).unwrap();
    }

    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut spec: Value =
            serde_json::from_str(&fs::read_to_string(self.path("config.json")).unwrap()).unwrap();
        change(&mut spec);
        self.write(&spec);
    }

    pub fn script(&self, script: &str) {
        self.change(|spec| spec["process"]["args"] = json!(["/bin/sh", "-c", script]));
    }

    /// In the bundle's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        if args == ["spec", "--bundle", "."] {
            fs::remove_file(self.path("config.json")).unwrap();
        }
        let mut command = Command::new(self.path(NAME));
        command.current_dir(self.dir.path()).arg("--root").arg(self.path("state")).args(args);
        command
    }

    /// Its output. What it leaves running must not hold our pipes, so they are files.
    pub fn ok(&self, args: &[&str]) -> String {
        let (code, output, errors) = self.outcome(args);
        assert_eq!(code, Some(0), "{args:?}: {errors}");
        output
    }

    pub fn error(&self, args: &[&str]) -> String {
        let (code, _, errors) = self.outcome(args);
        assert_ne!(code, Some(0), "{args:?}");
        errors
    }

    fn outcome(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let (output, errors) = (self.path("stdout"), self.path("stderr"));
        let create = |path: &Path| File::create(path).unwrap();
        let status = self.command(args).stdout(create(&output)).stderr(create(&errors)).status().unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        (status.code(), read(&output), read(&errors))
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Makes and starts one that sleeps; its cgroup.
    pub fn running(&self, id: &str) -> PathBuf {
        self.script("echo up > /up; exec sleep 1000");
        self.ok(&["run", "--detach", id]);
        self.wait_for_file("rootfs/up", "up\n");
        let pid = self.json(&["state", id])["pid"].to_string();
        // `exec sleep` comes after the file.
        self.until(|| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
            command.starts_with(b"sleep")
        });
        self.group.clone()
    }

    pub fn wait_for_file(&self, name: &str, content: &str) {
        self.until(|| fs::read_to_string(self.path(name)).is_ok_and(|text| text == content));
    }

    pub fn wait_for_status(&self, id: &str, status: &str) {
        self.until(|| self.json(&["state", id])["status"] == status);
    }

    fn until(&self, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "not within 30 s");
            std::thread::yield_now();
        }
    }

    /// Runs a command that sends a terminal to `console`.
    pub fn console(&self, args: &[&str]) -> OwnedFd {
        let path = self.path("console");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        self.ok(args);
        let (socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
        let message = ancillary.drain().next().expect("no descriptor came");
        let RecvAncillaryMessage::ScmRights(mut fds) = message else { panic!("no descriptor came") };
        fds.next().unwrap()
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(fs::read_dir(self.path("state")).map_or(0, Iterator::count), 0);
        assert!(!self.group.exists(), "the cgroup is there");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{mounts}");
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", "c1"]).output();
    }
}

fn program() -> PathBuf {
    std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it").into()
}

pub fn first_line(terminal: &OwnedFd) -> String {
    let mut line = String::new();
    BufReader::new(File::from(terminal.try_clone().unwrap())).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
