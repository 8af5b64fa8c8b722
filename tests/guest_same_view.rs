//! One `Spec`, two runtimes: what podkeep makes of a Pod, run by crun, looks the same from inside as when podkeep runs it.
//!
//! What the two may do in different ways is named in `guest_same_view/view.rs`; everything else has to be equal.
//!
//! Run with `scripts/vm test guest_same_view`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;
#[path = "guest_same_view/view.rs"]
mod view;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use podkeep::container::{self, Bind, ImageConfig, Recipe, ResolvedUser, resources, seccomp, user};
use podkeep::manifest::pod::SeccompProfile;
use podkeep::manifest::{self, Pod};
use podkeep::volume;
use serde_json::{Value, json};

use harness::manifest::ShellPod;
use harness::{NODE_NAME, Node, Options};
use view::View;

/// Its output is a [`View`]; the Pod then stays, so that its volumes do.
const LOOK_AND_STAY: &str = concat!(include_str!("guest_same_view/look.sh"), "\nexec sleep 1000\n");

/// A profile of the node's folder.
const NO_MKDIR: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;

/// What both containers are made from: a node on which the Pod `view` runs.
struct Bench {
    node: Node,
    pod: Arc<Pod>,
}

impl Bench {
    /// `others`: further containers, as they stand in the manifest.
    fn new(spec: &str, container: &str, others: &str) -> Bench {
        let node = Node::start(Options { config: "podPidsLimit: 100", ..Options::default() });
        fs::create_dir_all(node.root().join("seccomp")).unwrap();
        fs::write(node.root().join("seccomp/no-mkdir.json"), NO_MKDIR).unwrap();
        let manifest = ShellPod { name: "view", script: LOOK_AND_STAY, spec, container }.yaml() + others;
        node.manifest("view.yaml", &manifest);
        let decoded = manifest::decode(Path::new("view.yaml"), manifest.as_bytes(), NODE_NAME).unwrap();
        let pod = Arc::new(decoded.pods.into_iter().next().unwrap());
        Bench { node, pod }
    }

    /// What the Pod's container sees, as podkeep runs it.
    fn by_podkeep(&self) -> View {
        self.node.wait_running("view", "main");
        let log = self.node.wait_for("the container has looked around", |_| {
            let log = self.node.ask(&["logs", "view", "-c", "main"]);
            log.contains(view::END).then_some(log)
        });
        self.view(&log)
    }

    /// What a container of the same `Spec` sees, as crun runs it.
    fn by_crun(&self) -> View {
        let bundle = tempfile::tempdir_in(self.node.base()).unwrap();
        let mut spec = self.spec();
        spec["root"]["path"] = json!(self.only_layer());
        spec["linux"]["cgroupsPath"] = json!("/same-view");
        // It must not stay.
        spec["process"]["args"] = json!(["sh", "-c", include_str!("guest_same_view/look.sh")]);
        fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
        let output = Command::new("crun")
            .args(["--cgroup-manager=cgroupfs", "run", "--bundle"])
            .arg(bundle.path())
            .arg("same-view")
            // It would give the container's user the device, were this /dev/null.
            .stdin(Stdio::piped())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "crun: {errors}");
        self.view(&String::from_utf8(output.stdout).unwrap())
    }

    /// The image has one layer, which podkeep has unpacked.
    fn only_layer(&self) -> PathBuf {
        let mut layers = fs::read_dir(self.node.root().join("images/layers")).unwrap();
        layers.next().unwrap().unwrap().path()
    }

    fn view(&self, text: &str) -> View {
        let spec = self.spec();
        let paths = |name: &str| -> Vec<String> {
            let paths = spec["linux"][name].as_array().cloned().unwrap_or_default();
            paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect()
        };
        View::parse(text, &paths("maskedPaths"), &paths("readonlyPaths"))
    }

    /// The node's word, from the same ingredients.
    fn spec(&self) -> Value {
        let container = &self.pod.containers[0];
        let folder = self.node.root().join("pods").join(self.pod.uid.as_str());
        let image = ImageConfig {
            env: vec!["PATH=/bin".to_owned()],
            cmd: vec!["sh".to_owned()],
            ..Default::default()
        };
        let permitted = container::permitted_capabilities(&container.security).unwrap();
        let recipe = Recipe {
            pod: &self.pod,
            container,
            image: &image,
            user: &self.user(),
            hostname: self.pod.hostname.as_deref().unwrap_or(NODE_NAME),
            binds: self.binds(&folder),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            cgroup: PathBuf::from("/replaced"),
            resources: resources::of_container(&self.pod, container, true),
            oom_score_adj: Some(resources::oom_score_adj(
                &self.pod,
                container,
                rustix::system::sysinfo().totalram,
            )),
            ids: None,
            shm: volume::shared_memory(&folder),
            lsm: container::Lsm::of_this_host(),
        };
        let mut spec = container::spec(&recipe).unwrap();
        // podkeep hands itself the compiled program beside it.
        let profile = match container.security.seccomp_profile(true) {
            SeccompProfile::Unconfined => None,
            SeccompProfile::RuntimeDefault => Some(seccomp::default_profile(permitted)),
            SeccompProfile::Localhost(_) => Some(Arc::new(seccomp::load(NO_MKDIR.as_bytes()).unwrap())),
        };
        spec.linux_mut().as_mut().unwrap().set_seccomp(profile.as_deref().cloned());
        serde_json::to_value(spec).unwrap()
    }

    fn user(&self) -> ResolvedUser {
        let security = &self.pod.containers[0].security;
        let read = |name: &str| fs::read(self.only_layer().join("etc").join(name)).ok();
        let (passwd, group) = (read("passwd"), read("group"));
        user::resolve("", security.run_as_user, security.run_as_group, passwd.as_deref(), group.as_deref())
            .unwrap()
    }

    fn binds(&self, folder: &Path) -> Vec<Bind> {
        let bind = |mount: &manifest::pod::VolumeMount| {
            let volume = self.pod.volumes.iter().find(|volume| volume.name == mount.volume).unwrap();
            Bind {
                source: volume::host_source(volume, folder).unwrap(),
                destination: mount.mount_path.clone(),
                read_only: mount.read_only,
                mapped: false,
            }
        };
        self.pod.containers[0].mounts.iter().map(bind).collect()
    }
}

fn assert_same_view(spec: &str, container: &str, others: &str) -> View {
    let bench = Bench::new(spec, container, others);
    let podkeep = bench.by_podkeep();
    let crun = bench.by_crun();
    podkeep.assert_equals(&crun);
    bench.node.stop();
    podkeep
}

#[test]
fn of_a_pod_that_asks_for_nothing() {
    assert_same_view("terminationGracePeriodSeconds: 1", "", "");
}

#[test]
fn of_a_pod_with_limits_volumes_and_few_rights() {
    assert_same_view(
        "terminationGracePeriodSeconds: 1\nvolumes:\n- {name: disk, emptyDir: {}}\n- {name: host, hostPath: {path: /usr/share}}",
        "securityContext:\n  runAsUser: 1000\n  runAsGroup: 2000\n  readOnlyRootFilesystem: true\n  \
         allowPrivilegeEscalation: false\n  capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}\n\
         workingDir: /tmp\nenv:\n- {name: COLOUR, value: blue}\n\
         resources:\n  requests: {cpu: 100m, memory: 16Mi}\n  limits: {cpu: 500m, memory: 64Mi}\n\
         volumeMounts:\n- {name: disk, mountPath: /data}\n- {name: host, mountPath: /host, readOnly: true}",
        "",
    );
}

#[test]
fn of_a_privileged_pod_on_the_hosts_network() {
    assert_same_view(
        "terminationGracePeriodSeconds: 1\nhostNetwork: true",
        "securityContext: {privileged: true}",
        "",
    );
}

#[test]
fn of_a_pod_with_groups_and_sysctls() {
    let view = assert_same_view(
        "terminationGracePeriodSeconds: 1\nvolumes:\n- {name: disk, emptyDir: {}}\nsecurityContext:\n  \
         supplementalGroups: [4000, 5000]\n  fsGroup: 6000\n  sysctls:\n  \
         - {name: net.ipv4.ip_unprivileged_port_start, value: '7'}\n  - {name: kernel.shm_rmid_forced, value: '1'}",
        "securityContext: {runAsUser: 1000}\nvolumeMounts:\n- {name: disk, mountPath: /data}",
        "",
    );
    assert_eq!(view.section("sysctls"), ["7", "1"]);
    assert!(view.section("status").iter().any(|line| line.ends_with("4000 5000 6000 ")));
}

#[test]
fn of_two_containers_under_a_profile_of_the_nodes() {
    let view = assert_same_view(
        "terminationGracePeriodSeconds: 1",
        "securityContext: {seccompProfile: {type: Localhost, localhostProfile: no-mkdir.json}}",
        "  - {name: side, image: 'busybox:1.35', command: [sleep, '1000']}\n",
    );
    assert!(view.section("profile")[0].contains("not supported"), "{view:?}");
}
