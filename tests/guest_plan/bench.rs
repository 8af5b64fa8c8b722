//! One container from a `Spec` written as JSON and a busybox root, to its output and its end.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::{Hook, Process, Spec};
use podkeep::container::{
    self, ExecSetting, Namespaces, News, Overlay, Parent, Plan, Progress, Root, Setting, Spawned, Stdio,
    Target,
};
use podkeep::sys::spawner::{Places, Spawner};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use super::busybox_root;

/// A machine's worth of folders for one container.
pub struct Bench {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    pub spec: Value,
    pub setting: Waits,
}

/// What the process waits for.
#[derive(Clone, Copy, Default)]
pub struct Waits {
    pub hooks: bool,
    pub start: bool,
}

/// What became of a container that ran to its end.
#[derive(Debug)]
pub struct Outcome {
    pub output: String,
    pub status: Option<i32>,
    /// What has ended it, where that was a signal.
    pub signal: Option<i32>,
}

impl Outcome {
    /// The output without its last line end.
    pub fn success(self) -> String {
        assert_eq!(self.status, Some(0), "{}", self.output);
        self.output.trim_end().to_owned()
    }
}

/// A process, killed when this goes.
#[derive(Debug)]
pub struct Running {
    spawned: Spawned,
    /// Until it has executed: it holds copies of the streams, and nobody would see the end of the output.
    plan: Option<Plan>,
    output: File,
    heard: std::cell::RefCell<String>,
}

impl Bench {
    pub fn new() -> Bench {
        assert_eq!(std::env::var("PODKEEP_GUEST").as_deref(), Ok("1"), "not in the guest");
        // On the disk: before kernel 6.3, a tmpfs cannot show its files as another user's.
        fs::create_dir_all("/var/lib").unwrap();
        let dir = tempfile::tempdir_in("/var/lib").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("plan-test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir_all(&cgroup).unwrap();
        busybox_root::fill(&dir.path().join("rootfs"));
        let bench = Bench { dir, cgroup, spec: spec(), setting: Waits::default() };
        let made = Command::new("mkfifo").args([bench.path("rootfs/fifo"), bench.path("start")]).status();
        assert!(made.unwrap().success());
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn cgroup_name(&self) -> &str {
        self.cgroup.file_name().unwrap().to_str().unwrap()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    pub fn give_root_to(&self, id: u32) {
        for path in [self.rootfs(), self.path("rootfs/fifo")] {
            chown(path, Some(id), Some(id)).unwrap();
        }
    }

    pub fn mounts(&mut self) -> &mut Vec<Value> {
        self.spec["mounts"].as_array_mut().unwrap()
    }

    pub fn mount(&mut self, mount: Value) {
        self.mounts().push(mount);
    }

    fn namespaces(&mut self) -> &mut Vec<Value> {
        self.spec["linux"]["namespaces"].as_array_mut().unwrap()
    }

    pub fn namespace(&mut self, kind: &str) -> &mut Value {
        self.namespaces().iter_mut().find(|namespace| namespace["type"] == kind).unwrap()
    }

    pub fn add_namespace(&mut self, namespace: Value) {
        self.namespaces().push(namespace);
    }

    pub fn remove_namespace(&mut self, kind: &str) {
        self.namespaces().retain(|namespace| namespace["type"] != kind);
    }

    /// A command of the guest itself.
    pub fn host(&self, command: &[&str], paths: &[&Path]) {
        let status = Command::new(command[0]).args(&command[1..]).args(paths).status().unwrap();
        assert!(status.success(), "{command:?} {paths:?}");
    }

    /// A line for who reads the container's `/fifo`.
    pub fn feed(&self, line: &str) {
        let mut fifo = OpenOptions::new().write(true).open(self.path("rootfs/fifo")).unwrap();
        writeln!(fifo, "{line}").unwrap();
    }

    pub fn give_start(&self) {
        OpenOptions::new().write(true).open(self.path("start")).unwrap().write_all(&[0]).unwrap();
    }

    pub fn run(&mut self, script: &str) -> Outcome {
        self.start(script).finish()
    }

    pub fn try_start(&mut self, script: &str) -> Result<Running, String> {
        self.script(script);
        let mut running = self.launch(Root::Directory(self.rootfs()), None)?;
        running.try_next().map(|_| running)
    }

    /// Up to exec, or to what it waits for.
    pub fn start(&mut self, script: &str) -> Running {
        self.script(script);
        let mut running = self.start_as_it_is();
        if !(self.setting.hooks || self.setting.start) {
            assert_eq!(running.next(), Progress::Executed);
        }
        running
    }

    pub fn start_as_it_is(&mut self) -> Running {
        self.launch(Root::Directory(self.rootfs()), None).unwrap_or_else(|error| panic!("{error}"))
    }

    fn script(&mut self, script: &str) {
        self.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }

    /// The busybox root as the only layer, which belongs to root; the upper one to `owner`.
    pub fn run_on_overlay(&mut self, script: &str, owner: u32) -> Outcome {
        self.script(script);
        chown(self.rootfs(), Some(0), Some(0)).unwrap();
        let (upper, work, mount_at) =
            (self.directory("upper"), self.directory("work"), self.directory("mount"));
        for path in [&upper, &work] {
            chown(path, Some(owner), Some(owner)).unwrap();
        }
        let layers_dir = self.directory("layers");
        fs::rename(self.rootfs(), layers_dir.join("rootfs")).unwrap();
        let overlay = Overlay {
            layers_dir,
            lower: vec!["rootfs".to_owned()],
            upper,
            work,
            mount_at,
            volumes: Vec::new(),
        };
        let mut running = self.launch(Root::Overlay(overlay), None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(running.next(), Progress::Executed);
        running.finish()
    }

    pub fn run_on_terminal(&mut self, script: &str) -> Outcome {
        self.script(script);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let root = Root::Directory(self.rootfs());
        let mut running = self.launch(root, Some(theirs.into())).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(running.next(), Progress::Executed);
        running.output = receive_descriptor(&ours).into();
        running.finish()
    }

    fn launch(&mut self, root: Root, console: Option<OwnedFd>) -> Result<Running, String> {
        let (plan, output) = self.plan(root, console)?;
        self.spawn(plan, output)
    }

    fn plan(&self, root: Root, console: Option<OwnedFd>) -> Result<(Plan, File), String> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let namespaces = Namespaces::open(&spec).map_err(|error| error.to_string())?;
        let (output, stdio) = match console {
            Some(console) => (File::open("/dev/null").unwrap(), Stdio::Terminal { console }),
            None => streams(),
        };
        let mut setting = Setting::new(root, namespaces, stdio);
        setting.hooks = self.setting.hooks;
        if self.setting.start {
            let fifo = OpenOptions::new().read(true).write(true).open(self.path("start"));
            setting.start = Some(fifo.unwrap().into());
        }
        let plan = container::plan(&spec, setting).map_err(|error| error.to_string())?;
        Ok((plan, output))
    }

    /// As the node's worker starts a container: by a spawner's thread, as our sibling. What it prints.
    pub fn run_by(&mut self, spawner: &Spawner, script: &str) -> String {
        self.script(script);
        let (plan, mut output) = self.plan(Root::Directory(self.rootfs()), None).unwrap();
        let (plan, cgroup) = (Arc::new(plan), File::open(&self.cgroup).unwrap());
        let place = || -> &'static AtomicU32 { Box::leak(Box::default()) };
        let places = Places { child: place(), midwife: place() };
        let report = container::spawn_by(spawner, &plan, cgroup.as_fd(), places).unwrap();
        while !matches!(report.news(&plan).unwrap(), Some(News::Further(Progress::Executed))) {
            poll(&mut [PollFd::new(&report, PollFlags::IN)], None).unwrap();
        }
        // It holds copies of the streams.
        while Arc::strong_count(&plan) > 1 {
            spawner.collect();
            std::thread::yield_now();
        }
        drop(plan);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    }

    /// A pause process, up to where it runs its program.
    pub fn pause(&self, namespaces: Namespaces) -> Running {
        let plan = container::pause_plan("web", &self.directory("empty"), namespaces, 500).unwrap();
        let mut running = self.spawn(plan, File::open("/dev/null").unwrap()).unwrap();
        assert_eq!(running.next(), Progress::Executed);
        running
    }

    fn spawn(&self, plan: Plan, output: File) -> Result<Running, String> {
        let cgroup = File::open(&self.cgroup).unwrap();
        let spawned = container::spawn(&plan, Some(cgroup.as_fd()), Parent::Caller, None);
        let spawned = spawned.map_err(|error| error.to_string())?;
        Ok(Running { spawned, plan: Some(plan), output, heard: String::new().into() })
    }

    pub fn exec(&self, running: &Running, process: &Process, script: &str) -> Outcome {
        let (output, stdio) = streams();
        let mut process = process.clone();
        process.set_args(Some(["/bin/sh", "-c", script].map(str::to_owned).into()));
        let setting = ExecSetting { stdio, preserve_fds: 0, keyring: None, adopt_orphans: false };
        let plan = container::exec_plan(&process, &self.target(running), setting).unwrap();
        let mut inside = self.spawn(plan, output).unwrap();
        assert_eq!(inside.next(), Progress::Executed);
        inside.finish()
    }

    pub fn hook(&self, running: &Running, hook: &Hook, state: &str) -> String {
        let (input, mut writer) = std::io::pipe().unwrap();
        writer.write_all(state.as_bytes()).unwrap();
        drop(writer);
        let (output, theirs) = std::io::pipe().unwrap();
        let target = self.target(running);
        let plan = container::hook_plan(hook, input.into(), theirs.as_fd(), Some(&target)).unwrap();
        drop(theirs);
        let mut inside = self.spawn(plan, File::from(OwnedFd::from(output))).unwrap();
        assert_eq!(inside.next(), Progress::Executed);
        inside.finish().output
    }

    fn target(&self, running: &Running) -> Target {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        Target::new(running.spawned.pidfd.try_clone().unwrap(), &spec).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        for _ in 0..1000 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.spawned.pid
    }

    pub fn next(&mut self) -> Progress {
        self.try_next().unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_next(&mut self) -> Result<Progress, String> {
        let progress = self.spawned.report.next(self.plan.as_ref().expect("it is still on its way"));
        if progress == Ok(Progress::Executed) {
            self.plan = None;
        }
        progress.map_err(|error| error.to_string())
    }

    pub fn go_on(&self) {
        self.spawned.report.go_on().unwrap();
    }

    /// Reads until the output ends with this line. Panics if the process ends first, be it between clone and exec, which its
    /// report cannot tell from exec.
    pub fn wait_for(&self, line: &str) {
        let mut byte = [0];
        while !self.heard.borrow().ends_with(&format!("{line}\n")) {
            let read = (&self.output).read(&mut byte).unwrap();
            assert_eq!(read, 1, "it has ended and never said {line}: {}", self.heard.borrow());
            self.heard.borrow_mut().push(char::from(byte[0]));
        }
    }

    /// What has come so far.
    pub fn received(&self) -> String {
        self.heard.borrow().clone()
    }

    pub fn finish(mut self) -> Outcome {
        self.plan = None;
        let mut output = self.heard.borrow().clone().into_bytes();
        let mut space = [0; 4096];
        loop {
            match (&self.output).read(&mut space) {
                Ok(0) => break,
                Ok(length) => output.extend_from_slice(&space[..length]),
                // The other end of a terminal is gone.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let status =
            waitid(WaitId::PidFd(self.spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        let output = String::from_utf8_lossy(&output).into_owned();
        Outcome { output, status: status.exit_status(), signal: status.terminating_signal() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.spawned.pidfd, rustix::process::Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.spawned.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Output and errors in one pipe.
fn streams() -> (File, Stdio) {
    let (output, theirs) = std::io::pipe().unwrap();
    let stdout = theirs.try_clone().unwrap().into();
    (OwnedFd::from(output).into(), Stdio::Streams { stdin: None, stdout, stderr: theirs.into() })
}

fn receive_descriptor(socket: &UnixStream) -> OwnedFd {
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let message = ancillary.drain().next().expect("no descriptor came");
    let RecvAncillaryMessage::ScmRights(mut fds) = message else { panic!("no descriptor came") };
    fds.next().unwrap()
}

/// Namespaces of its own but for user and time; its host name is `bench`.
fn spec() -> Value {
    let all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_KILL", "CAP_SETUID"];
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": all, "effective": all, "permitted": all},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "cgroup"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/acpi"],
            "readonlyPaths": ["/proc/bus"],
        },
    })
}
