//! Init containers and sidecars: who starts after whom, who ends before whom, and what becomes of the Pod.
//!
//! Run with `scripts/vm test guest_init`; anywhere else these tests fail.

mod harness;

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Node, Options, kill, process, wait_until};

/// Says when it begins and when it is told to end.
fn talker(name: &str) -> String {
    format!(
        "trap 'echo {name} ends >> /shared/order; exit 0' TERM; echo {name} >> /shared/order; while :; do sleep 0.1; done"
    )
}

/// Goes on when a file of its name is there.
fn gate(name: &str) -> String {
    format!("while ! [ -e /shared/{name} ]; do sleep 0.1; done; echo {name} >> /shared/order")
}

/// A folder that all containers share, and that stays.
struct Shared(PathBuf);

impl Shared {
    fn of(node: &Node) -> Shared {
        let dir = node.base().join("shared");
        fs::create_dir_all(&dir).unwrap();
        Shared(dir)
    }

    fn open(&self, gate: &str) {
        fs::write(self.0.join(gate), "").unwrap();
    }

    fn order(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("order")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A Pod of these init containers (name, further fields, script) and one main container.
    fn pod(&self, name: &str, spec: &str, init: &[(&str, &str, String)], main: &str) -> String {
        let mount = "volumeMounts: [{name: shared, mountPath: /shared}]";
        let one = |(name, more, script): &(&str, &str, String)| {
            let command = serde_json::json!(["sh", "-c", script]);
            format!("- {{name: {name}, image: 'busybox:1.35', {more} {mount}, command: {command}}}")
        };
        let init: Vec<String> = init.iter().map(one).collect();
        let path = self.0.display();
        let volumes = format!("volumes: [{{name: shared, hostPath: {{path: {path}}}}}]");
        let spec = format!("{spec}\n{volumes}\ninitContainers:\n{}", init.join("\n"));
        ShellPod { name, script: main, spec: &spec, container: mount }.yaml()
    }
}

const SIDECAR: &str = "restartPolicy: Always,";

fn position(order: &[String], line: &str) -> usize {
    order.iter().position(|other| other == line).unwrap_or_else(|| panic!("no {line} in {order:?}"))
}

#[test]
fn init_containers_start_in_order_and_sidecars_end_last_and_in_reverse() {
    let node = Node::start(Options::default());
    let shared = Shared::of(&node);
    let init = [
        ("first", "", "echo first >> /shared/order; echo said".to_owned()),
        ("proxy", SIDECAR, talker("proxy")),
        ("agent", SIDECAR, talker("agent")),
        ("last", "", gate("last")),
    ];
    node.manifest(
        "web.yaml",
        &shared.pod("web", "terminationGracePeriodSeconds: 20", &init, &talker("main")),
    );

    node.wait_running("web", "last");
    wait_until("the sidecars", || (shared.order().len() == 3).then_some(()));
    let list = node.list();
    let web = list.pod("web").unwrap();
    assert_eq!(web.phase(), "Pending");
    assert_eq!(web.container("first").unwrap().terminated(), Some(("Completed".to_owned(), 0)));
    assert_eq!(web.container("main").unwrap().waiting(), Some("PodInitializing"));
    assert!(node.ask(&["ps"]).contains("Init:3/4"), "{}", node.ask(&["ps"]));
    assert_eq!(node.ask(&["logs", "web", "-c", "first"]), "said\n");
    assert_eq!(node.ask(&["exec", "web", "-c", "proxy", "--", "echo", "in it"]), "in it\n");

    // Nobody runs twice, and nobody is forgotten.
    let (proxy, worker) = (node.wait_running("web", "proxy"), node.worker().unwrap());
    kill(worker, Signal::KILL);
    wait_until("a new worker", || node.worker().filter(|new| *new != worker));
    assert_eq!(node.wait_running("web", "proxy"), proxy);
    shared.open("last");
    node.wait_running("web", "main");
    wait_until("the main container", || (shared.order().len() == 5).then_some(()));
    assert_eq!(node.list().pod("web").unwrap().phase(), "Running");

    node.remove("web.yaml");
    node.wait_gone("web");
    let order = shared.order();
    assert_eq!(order[0], "first");
    assert!(position(&order, "last") < position(&order, "main"), "{order:?}");
    assert_eq!(order[5..], ["main ends", "agent ends", "proxy ends"]);
    assert_eq!(process::in_cgroup("/podkeep"), [0; 0]);
}

#[test]
fn a_sidecar_comes_back_while_the_pod_works_and_goes_when_the_work_is_done() {
    let node = Node::start(Options::default());
    let shared = Shared::of(&node);
    let init = [("proxy", SIDECAR, talker("proxy"))];
    node.manifest("job.yaml", &shared.pod("job", "restartPolicy: Never", &init, &gate("work")));
    node.wait_running("job", "main");
    let proxy = node.wait_running("job", "proxy");
    kill(proxy, Signal::KILL);
    node.wait_for("another proxy", |list| {
        let proxy = list.pod("job")?.container("proxy")?;
        proxy.running_pid().filter(|_| proxy.restarts() == 1)
    });
    wait_until("what the second proxy says", || (shared.order() == ["proxy", "proxy"]).then_some(()));
    shared.open("work");
    assert_eq!(node.wait_terminated("job", "main"), ("Completed".to_owned(), 0));
    node.wait_for("the end of the Pod", |list| (list.pod("job")?.phase() == "Succeeded").then_some(()));
    assert_eq!(shared.order(), ["proxy", "proxy", "work", "proxy ends"]);
}

#[test]
fn an_init_container_that_fails_is_tried_again_or_fails_the_pod() {
    let node = Node::start(Options::default());
    let shared = Shared::of(&node);
    let once = "[ -e /shared/again ] || { touch /shared/again; exit 3; }; echo init >> /shared/order";
    let init = [("init", "", once.to_owned())];
    node.manifest(
        "patient.yaml",
        &shared.pod("patient", "terminationGracePeriodSeconds: 1", &init, &talker("main")),
    );
    node.wait_running("patient", "main");
    let list = node.list();
    let init = list.pod("patient").unwrap().container("init").unwrap();
    assert_eq!((init.restarts(), init.last()), (1, Some(("Error".to_owned(), 3))));

    let init = [("init", "", "exit 4".to_owned()), ("never", "", "echo never >> /shared/order".to_owned())];
    node.manifest(
        "strict.yaml",
        &shared.pod("strict", "restartPolicy: Never", &init, "echo never >> /shared/order"),
    );
    assert_eq!(node.wait_terminated("strict", "init"), ("Error".to_owned(), 4));
    node.wait_for("the end of the Pod", |list| (list.pod("strict")?.phase() == "Failed").then_some(()));
    let list = node.list();
    assert_eq!(list.pod("strict").unwrap().container("main").unwrap().waiting(), Some("PodInitializing"));
    assert!(!shared.order().contains(&"never".to_owned()), "{:?}", shared.order());
}

#[test]
fn a_rule_starts_all_containers_again_init_containers_first() {
    let node = Node::start(Options::default());
    let shared = Shared::of(&node);
    let init = [("init", "", "echo init >> /shared/order".to_owned())];
    let script =
        "echo main >> /shared/order; [ -e /shared/again ] && exec sleep 1000; touch /shared/again; exit 42";
    let rule = "\nrestartPolicy: Never\nrestartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]";
    let text = shared.pod("batch", "terminationGracePeriodSeconds: 1", &init, script);
    let rule = rule.replace('\n', "\n    ");
    node.manifest("batch.yaml", &format!("{}{rule}\n", text.trim_end()));
    node.wait_for("the second round", |list| {
        let main = list.pod("batch")?.container("main")?;
        main.running_pid().filter(|_| main.restarts() == 1)
    });
    wait_until("what it says", || (shared.order() == ["init", "main", "init", "main"]).then_some(()));
}

#[test]
fn a_pod_that_is_active_for_too_long_has_failed() {
    let node = Node::start(Options::default());
    let shared = Shared::of(&node);
    // The deadline counts from the Pod's coming: its image is there by then.
    node.manifest("first.yaml", &shell_pod("first", "exec sleep 1000"));
    node.wait_running("first", "main");
    let spec = "activeDeadlineSeconds: 10\nterminationGracePeriodSeconds: 5";
    node.manifest(
        "late.yaml",
        &shared.pod("late", spec, &[("proxy", SIDECAR, talker("proxy"))], &talker("main")),
    );
    node.wait_for("the deadline", |list| (list.pod("late")?.phase() == "Failed").then_some(()));
    assert_eq!(node.wait_terminated("late", "main"), ("Completed".to_owned(), 0));
    wait_until("the end of the sidecar", || shared.order().contains(&"proxy ends".to_owned()).then_some(()));
    assert!(node.ask(&["ps", "-a", "-o", "json"]).contains("\"reason\": \"DeadlineExceeded\""));
}
