//! One `Spec`, two runtimes: what the node makes of a Pod, run by crun, looks the same from inside as when podkeep runs it.
//!
//! What the two may do in different ways is named in `guest_same_view/view.rs`; everything else has to be equal.
//!
//! Run with `scripts/vm test guest_same_view`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;
#[path = "guest_same_view/view.rs"]
mod view;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use harness::manifest::ShellPod;
use harness::{Node, Options};
use view::View;

/// Its output is a [`View`]; the Pod then stays, so that its volumes do.
const LOOK_AND_STAY: &str = concat!(include_str!("guest_same_view/look.sh"), "\nexec sleep 1000\n");

/// A profile of the node's folder.
const NO_MKDIR: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;

/// Where both containers come from: a node on which the Pod `view` runs.
struct Bench {
    node: Node,
}

impl Bench {
    /// `others`: further containers, as they stand in the manifest.
    fn new(spec: &str, container: &str, others: &str) -> Bench {
        let node =
            Node::start(Options { config: "podPidsLimit: 100\npodNetwork: Loopback", ..Options::default() });
        fs::create_dir_all(node.root().join("seccomp")).unwrap();
        fs::write(node.root().join("seccomp/no-mkdir.json"), NO_MKDIR).unwrap();
        let manifest = ShellPod { name: "view", script: LOOK_AND_STAY, spec, container }.yaml() + others;
        node.manifest("view.yaml", &manifest);
        Bench { node }
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
        let layers = fs::read_dir(self.node.root().join("images/layers")).unwrap();
        let mut paths = layers.map(|layer| layer.unwrap().path());
        paths.find(|path| !path.ends_with("mount-points")).unwrap()
    }

    fn view(&self, text: &str) -> View {
        let spec = self.spec();
        let paths = |name: &str| -> Vec<String> {
            let paths = spec["linux"][name].as_array().cloned().unwrap_or_default();
            paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect()
        };
        View::parse(text, &paths("maskedPaths"), &paths("readonlyPaths"))
    }

    /// The node's own.
    fn spec(&self) -> Value {
        let spec = self.node.ask(&["inspect", "view", "-c", "main", "--spec"]);
        serde_json::from_str(&spec).expect("a config.json")
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

#[test]
fn the_plan_is_that_of_the_container_that_runs() {
    let bench = Bench::new(
        "terminationGracePeriodSeconds: 1\nshareProcessNamespace: true",
        "securityContext: {runAsUser: 1000}\nworkingDir: /tmp",
        "  - {name: side, image: 'busybox:1.35', command: [sleep, '1000']}\n",
    );
    bench.node.wait_running("view", "main");
    bench.node.wait_running("view", "side");
    let plan = |container: &str| bench.node.ask(&["inspect", "view", "-c", container, "--plan"]);
    let (main, side) = (plan("main"), plan("side"));
    for step in ["join the pid namespace", "enter working directory /tmp", "set uid 1000", "pivot root"] {
        assert!(main.lines().any(|line| line == step), "{step} is missing:\n{main}");
    }
    assert_eq!((main.lines().last(), side.lines().last()), (Some("execute sh"), Some("execute sleep")));

    // Where it cannot be told, it is said why.
    let refused = |args: &[&str]| {
        let output = bench.node.try_ask(&[&["inspect"], args].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["view", "--plan"]).contains("choose one with -c: main, side"));
    assert!(refused(&["nobody", "--spec"]).contains("there is no Pod default/nobody"));
}
