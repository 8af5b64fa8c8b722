//! One container at a time, from a busybox layer made by hand to its output and exit status.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oci_spec::runtime::Spec;
use podkeep::container::environment::{NodeFacts, Purpose, Sources, environment};
use podkeep::container::seccomp;
use podkeep::container::{
    self, Bind, ImageConfig, Namespaces, Overlay, Parent, Plan, PodNamespaces, Recipe, ResolvedUser, Root,
    Setting, Spawned, StartError, Stdio, SubPath,
};
use podkeep::manifest::pod::{Container, Pod, PodId, PullPolicy, Uid};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

const APPLETS: &[&str] = &[
    "cat", "chroot", "echo", "env", "false", "grep", "hostname", "id", "ip", "ls", "mkdir", "mknod", "mount",
    "pwd", "readlink", "sh", "sleep", "stat", "touch", "true", "umask", "wc", "sort", "tr", "dd", "umount",
    "setsid", "unshare",
];

/// A machine's worth of folders for one container.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub pod: Pod,
    pub image: ImageConfig,
    pub user: ResolvedUser,
    pub binds: Vec<Bind>,
    pub sub_paths: Vec<SubPath>,
    pub lower: Vec<String>,
    /// The default profile unless the container is privileged.
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
    pub cgroup: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    Off,
    Default,
}

/// What became of a container that ran to its end.
#[derive(Debug)]
pub struct Outcome {
    pub output: String,
    pub status: Option<i32>,
}

/// A container that has reached exec, and is killed when this goes.
pub struct Running {
    pub spawned: Spawned,
    pub output: OwnedFd,
}

impl Bench {
    pub fn new() -> Bench {
        assert_eq!(std::env::var("PODKEEP_GUEST").as_deref(), Ok("1"), "not in the guest");
        let dir = tempfile::tempdir().unwrap();
        for name in ["layers/a", "upper", "work", "root"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("container-test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir_all(&cgroup).unwrap();
        let bench = Bench {
            dir,
            pod: pod(),
            image: ImageConfig::default(),
            user: ResolvedUser { uid: 0, gid: 0, additional_gids: vec![0], home: "/root".to_owned() },
            binds: Vec::new(),
            sub_paths: Vec::new(),
            lower: vec!["a".to_owned()],
            seccomp: Seccomp::Default,
            no_new_privileges: false,
            cgroup,
        };
        bench.fill_layer();
        bench
    }

    fn fill_layer(&self) {
        let bin = self.layer().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/run/vm/busybox", bin.join("busybox")).unwrap();
        fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
    }

    /// The bottom layer.
    pub fn layer(&self) -> PathBuf {
        self.dir.path().join("layers/a")
    }

    pub fn container(&mut self) -> &mut Container {
        &mut self.pod.containers[0]
    }

    pub fn root(&self) -> Overlay {
        let dir = self.dir.path();
        Overlay {
            layers_dir: dir.join("layers"),
            lower: self.lower.clone(),
            upper: dir.join("upper"),
            work: dir.join("work"),
            mount_at: dir.join("root"),
            volumes: Vec::new(),
        }
    }

    fn program(&self) -> Option<Arc<seccomp::Program>> {
        let security = &self.pod.containers[0].security;
        let confined = self.seccomp == Seccomp::Default && !security.privileged;
        confined.then(|| seccomp::default_program(container::permitted_capabilities(security).unwrap()))
    }

    fn spec(&self) -> Spec {
        let container = &self.pod.containers[0];
        let sources =
            Sources { pod: &self.pod, objects: &|_| None, node: &NodeFacts::default, file: &|_| Ok(None) };
        let recipe = Recipe {
            pod: &self.pod,
            container,
            environment: &environment(container, sources, Purpose::Start).unwrap(),
            image: &self.image,
            user: &self.user,
            hostname: self.pod.hostname.as_deref().unwrap_or("guest"),
            binds: self.binds.clone(),
            open_files: None,
            cgroup: PathBuf::from("/").join(self.cgroup.file_name().unwrap()),
            resources: Default::default(),
            oom_score_adj: None,
            ids: None,
            shm: None,
            lsm: Default::default(),
        };
        let mut spec = container::spec(&recipe).unwrap();
        let process = spec.process_mut().as_mut().unwrap();
        process.set_no_new_privileges(Some(self.no_new_privileges));
        spec
    }

    pub fn start(&self) -> Result<Running, StartError> {
        self.start_as(Parent::Caller, None)
    }

    pub fn start_as(&self, parent: Parent, pid_out: Option<&AtomicU32>) -> Result<Running, StartError> {
        let (plan, output) = self.plan(None);
        let cgroup = File::open(&self.cgroup).unwrap();
        let spawned = container::spawn(&plan, Some(cgroup.as_fd()), parent, pid_out).unwrap();
        let progress = spawned.report.next(&plan);
        let running = Running { spawned, output };
        progress.map(|_| running)
    }

    /// The plan of the container's process, which waits for `start` if there is one, and the end of its output.
    pub fn plan(&self, start: Option<OwnedFd>) -> (Plan, OwnedFd) {
        // The writable layer is volatile: the kernel mounts none a second time while this says that it was not synced.
        let _ = fs::remove_dir_all(self.root().work.join("work/incompat"));
        let wanted = PodNamespaces {
            hostname: self.pod.hostname.as_deref(),
            host_network: self.pod.host_network,
            ..PodNamespaces::default()
        };
        let namespaces = Namespaces::create(&wanted).unwrap();
        let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdout = theirs.try_clone().unwrap();
        let stdio = Stdio::Streams { stdin: None, stdout, stderr: theirs };
        let spec = self.spec();
        let setting = Setting {
            start,
            seccomp: self.program(),
            sub_paths: self.sub_paths.clone(),
            ..Setting::new(Root::Overlay(self.root()), namespaces, stdio)
        };
        let plan = container::plan(&spec, setting).unwrap();
        container::limit_devices(&spec, File::open(&self.cgroup).unwrap().as_fd()).unwrap();
        (plan, output)
    }

    /// Runs a shell script to its end.
    pub fn shell(&mut self, script: &str) -> Outcome {
        self.container().command = ["/bin/sh", "-c", script].map(str::to_owned).into();
        self.run()
    }

    pub fn run(&mut self) -> Outcome {
        self.start().unwrap_or_else(|error| panic!("{error}")).finish()
    }

    /// The sentence of a start that fails.
    pub fn failure(&mut self, command: &[&str]) -> String {
        self.container().command = command.iter().map(|word| (*word).to_owned()).collect();
        match self.start() {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
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
    pub fn finish(self) -> Outcome {
        let mut output = String::new();
        File::from(self.output.try_clone().unwrap()).read_to_string(&mut output).unwrap();
        let status = reap(&self.spawned);
        Outcome { output, status: status.and_then(|status| status.exit_status()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.spawned.pidfd, rustix::process::Signal::KILL);
        reap(&self.spawned);
    }
}

fn reap(spawned: &Spawned) -> Option<WaitIdStatus> {
    waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten()
}

fn pod() -> Pod {
    let container = Container {
        pull_policy: PullPolicy::Never,
        command: vec!["true".to_owned()],
        ..Container::plain("main", "busybox")
    };
    Pod {
        termination_grace: Duration::ZERO,
        hostname: Some("web".to_owned()),
        node_name: "guest".to_owned(),
        ..Pod::plain(
            PodId { namespace: "default".to_owned(), name: "web-guest".to_owned() },
            Uid::parse(&"0".repeat(32)).unwrap(),
            vec![container],
        )
    }
}
