//! Bundles with a busybox root, and `podkeep oci` called as engines call it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use super::busybox_root;

/// The emulated machine is slow, and more so when the real one is busy. What takes longer will not come any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bundle, and the folder of the containers that are made from it. They are removed when it goes.
pub struct Bench {
    dir: tempfile::TempDir,
    pub config: Value,
}

/// What a call has said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Without its last line end.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.trim_end().to_owned()
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[track_caller]
    pub fn fails_with(self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words), "{self:?}");
    }
}

impl Bench {
    pub fn new() -> Bench {
        assert_eq!(std::env::var("PODKEEP_GUEST").as_deref(), Ok("1"), "not in the guest");
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench { dir, config: config() };
        busybox_root::fill(&bench.path("bundle/rootfs"));
        symlink(std::env::var_os("PODKEEP_BIN").unwrap(), bench.path("podkeep-oci")).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self, name: &str) -> PathBuf {
        self.path("bundle/rootfs").join(name)
    }

    /// Sets what the container's shell runs.
    pub fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }

    pub fn save(&self) {
        fs::write(self.path("bundle/config.json"), self.config.to_string()).unwrap();
    }

    /// By the name that engines call.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("podkeep-oci"));
        command.arg("--root").arg(self.path("state")).args(args).stdin(Stdio::null());
        command
    }

    /// Output goes to files: what is left in the background may keep a pipe open for ever.
    pub fn call(&self, args: &[&str]) -> Said {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut command = self.command(args);
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let status = command.status().unwrap();
        Said { code: status.code(), out: text_of(out), err: text_of(err) }
    }

    pub fn create(&self, id: &str) -> Said {
        self.save();
        let bundle = self.path("bundle");
        self.call(&["create", "--bundle", bundle.to_str().unwrap(), id])
    }

    /// Created and started.
    #[allow(dead_code)] // of those that share this file, only the attacks start one apart
    pub fn start(&self, id: &str) {
        self.create(id).ok();
        self.call(&["start", id]).ok();
    }

    /// In the foreground.
    pub fn run(&self, id: &str) -> Said {
        self.save();
        let bundle = self.path("bundle");
        self.call(&["run", "--bundle", bundle.to_str().unwrap(), id])
    }

    pub fn shell(&mut self, id: &str, script: &str) -> Said {
        self.script(script);
        self.run(id)
    }

    pub fn state(&self, id: &str) -> Value {
        self.call(&["state", id]).json()
    }

    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self, id: &str) -> u32 {
        self.state(id)["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// A hook that appends its name and what `script` prints to `hooks.log`.
    pub fn hook(&self, name: &str, script: &str) -> Value {
        let log = self.path("hooks.log");
        let script = format!("echo \"{name} $({script})\" >> {}", log.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin:/sbin"]})
    }

    pub fn hooks_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("hooks.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What is left of containers: state, and cgroups.
    pub fn left(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect()
        };
        let mut left = names(&self.path("state"));
        left.extend(
            names(Path::new("/sys/fs/cgroup/oci-test")).into_iter().filter(|path| Path::new(path).is_dir()),
        );
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().unwrap();
            let said = self.call(&["delete", "--force", &id]);
            if !std::thread::panicking() {
                assert_eq!(said.code, Some(0), "{said:?}");
            }
        }
    }
}

fn text_of(mut file: File) -> String {
    use std::io::Seek;
    let mut text = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Looks again and again until it is so, for what nothing tells of.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is read from a terminal until its other end is closed.
pub fn read_terminal(mut master: File) -> String {
    let mut text = Vec::new();
    let mut space = [0; 1024];
    while let Ok(length @ 1..) = master.read(&mut space) {
        text.extend_from_slice(&space[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The terminal that comes to a `--console-socket`.
pub fn receive_terminal(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let message = ancillary.drain().next().expect("no terminal came");
    let RecvAncillaryMessage::ScmRights(mut fds) = message else { panic!("no terminal came") };
    OwnedFd::into(fds.next().unwrap())
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn config() -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"];
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "oci",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "annotations": {"a": "b"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": "/oci-test/one",
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "cgroup"},
            ],
        },
    })
}
