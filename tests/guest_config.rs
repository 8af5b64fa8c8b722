//! ConfigMaps and Secrets in a container's environment, and what becomes of who waits for them.
//!
//! Run with `scripts/vm test guest_config`; anywhere else these tests fail.

#[path = "guest_config/examples.rs"]
mod examples;
mod harness;

use std::os::unix::fs::PermissionsExt;

use harness::manifest::{ShellPod, job};
use harness::{Node, Options, is_written, wait_until};
use rustix::process::{Resource, Rlimit, Signal};

/// In clear text and as a manifest has it.
const PASSWORD: [&str; 2] = ["sesame-open", "c2VzYW1lLW9wZW4="];

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\ndata: {password: c2VzYW1lLW9wZW4=}\n";

/// The ConfigMap `app`.
fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app}}\ndata: {data}\n")
}

const LEVEL: &str = "env: [{name: LEVEL, valueFrom: {configMapKeyRef: {name: app, key: level}}}]";

/// A Pod that says its `$LEVEL` and goes on.
fn web(more: &str) -> String {
    let script = "echo $LEVEL; exec sleep 1000";
    ShellPod {
        name: "web",
        script,
        spec: &format!("terminationGracePeriodSeconds: 1\n{more}"),
        container: LEVEL,
    }
    .yaml()
}

/// Waits until the Pod's log is this.
fn wait_logs(node: &Node, pod: &str, expected: &str) {
    wait_until(expected, || (node.try_ask(&["logs", pod]).stdout == expected.as_bytes()).then_some(()));
}

/// Waits until `main` cannot start; why.
fn wait_config_error(node: &Node, pod: &str) -> String {
    node.wait_for("it cannot start", |list| {
        let main = list.pod(pod)?.container("main")?;
        (main.waiting()? == "CreateContainerConfigError").then(|| main.message().to_owned())
    })
}

#[test]
fn variables_come_from_config_maps_secrets_the_pod_and_the_node() {
    let node = Node::start(Options::default());
    let container = "\
args: [$(URL)]
resources: {limits: {cpu: 1500m, memory: 64Mi}}
envFrom:
- {prefix: APP_, configMapRef: {name: app}}
- {configMapRef: {name: none, optional: true}}
env:
- {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
- {name: URL, value: $(APP_level)://$(PASSWORD)@db}
- {name: NONE, valueFrom: {secretKeyRef: {name: db, key: none, optional: true}}}
- {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: CORES, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
- {name: BYTES, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1k}}}
- {name: STORAGE, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Mi}}}";
    let script = "echo $0 $URL ${NONE-unset} $NAME $CORES $BYTES ${APP_raw-unset}; \
                  test ${#ID} = 32 && test $STORAGE -gt 100 && echo $APP_level";
    let pod = ShellPod { name: "job", script, spec: "restartPolicy: Never", container }.yaml();
    let objects = format!("{}binaryData: {{raw: /w==}}\n---\n{SECRET}", config("{level: debug}"));
    let output = node.output_of(&format!("{pod}---\n{objects}"));
    let url = format!("debug://{}@db", PASSWORD[0]);
    assert_eq!(output, format!("{url} {url} unset job-node1 2 67109 unset\ndebug\n"));
}

/// The example of Kubernetes (`pods/inject/envars-file-container.yaml`), and what its containers do with it further.
#[test]
fn a_variable_is_what_an_init_container_has_written() {
    let node = Node::start(Options::default());
    let pod = |name: &str, users: &str, env_file: &str, main: &str, more: &str| {
        let init = serde_json::json!(["sh", "-c", env_file]);
        let spec = format!(
            "restartPolicy: OnFailure\nterminationGracePeriodSeconds: 0\n{users}volumes: [{{name: config, emptyDir: {{}}}}]\ninitContainers:\n\
             - {{name: setup-envfile, image: 'busybox:1.35', command: {init}, volumeMounts: [{{name: config, mountPath: /data}}]}}\n"
        );
        let key = "path: config.env, volumeName: config, key: DB_ADDRESS";
        let container = format!(
            "env: [{{name: DB_ADDRESS, valueFrom: {{fileKeyRef: {{{key}, optional: false}}}}}}]\n{more}"
        );
        ShellPod { name, script: main, spec: &spec, container: &container }.yaml()
    };
    let written = "printf \"DB_ADDRESS='address'\\nREST_ENDPOINT='endpoint'\\n\" >/data/config.env";
    for users in ["", "hostUsers: false\n"] {
        let show = "env | grep -e DB_ -e REST_; ls /data 2>/dev/null || true";
        assert_eq!(node.output_of(&pod("job", users, written, show, "")), "DB_ADDRESS=address\n", "{users}");
    }
    // The next run of a container that mounts it has what is there then; beside it, it is what it was.
    let script = "echo $DB_ADDRESS; [ $DB_ADDRESS = second ] && exec sleep 1000; echo \"DB_ADDRESS='second'\" >/data/config.env; exit 1";
    let mount = "volumeMounts: [{name: config, mountPath: /data}]\n";
    node.manifest("web.yaml", &pod("web", "", written, script, mount));
    node.wait_for("the second run", |list| {
        (list.pod("web")?.container("main")?.restarts() == 1).then_some(())
    });
    wait_logs(&node, "web", "second\n");
    let exec =
        ["exec", "web", "--", "sh", "-c", "echo \"DB_ADDRESS='third'\" >/data/config.env; echo $DB_ADDRESS"];
    assert_eq!(node.ask(&exec), "second\n");
    assert!(
        node.ask(&["inspect", "web", "--spec"])
            .contains("DB_ADDRESS=<from volume config file config.env key DB_ADDRESS>")
    );

    std::fs::write("/run/of-the-host.env", "DB_ADDRESS='secret'\n").unwrap();
    for (name, env_file, expected) in [
        (
            "none",
            "true",
            "environment variable key \"DB_ADDRESS\" not found in file config.env of volume config",
        ),
        (
            "link",
            "ln -s ../../../../../../../../run/of-the-host.env /data/config.env",
            "environment variable key \"DB_ADDRESS\" not found in file config.env of volume config",
        ),
        (
            "words",
            "echo 'DB_ADDRESS=address' >/data/config.env",
            "couldn't parse env file config.env of volume config: line 1: value must be enclosed in single quotes",
        ),
        (
            "fifo",
            "mkfifo /data/config.env",
            "couldn't parse env file config.env of volume config: it is no regular file",
        ),
    ] {
        node.manifest("bad.yaml", &pod(name, "", env_file, "true", ""));
        assert_eq!(wait_config_error(&node, name), expected);
    }
}

#[test]
fn a_container_waits_for_its_config_map_alone_and_starts_when_it_has_come() {
    let node = Node::start(Options::default());
    let other = "- {name: other, image: 'busybox:1.35', command: [sleep, '1000']}";
    node.manifest("web.yaml", &format!("{}  {other}\n", web("")));
    assert_eq!(wait_config_error(&node, "web"), "configmap \"app\" not found");
    node.wait_running("web", "other");
    node.manifest("app.yaml", &config("{other: debug}"));
    node.wait_for("the key is missing", |list| {
        let message = list.pod("web")?.container("main")?.message();
        (message == "couldn't find key level in ConfigMap default/app").then_some(())
    });
    node.manifest("app.yaml", &config("{level: debug}"));
    wait_logs_of_main(&node, "debug\n");
    assert!(node.ask(&["events", "web"]).contains("configmap \"app\" not found"));
    // A run goes on as it began, and who comes beside it sees what it sees; the next one is made of what is there then.
    node.manifest("app.yaml", &config("{level: info}"));
    wait_until("it was read", || {
        (node.node_log_text().matches("ConfigMap default/app: new").count() == 3).then_some(())
    });
    let main = node.wait_running("web", "main");
    assert_eq!(node.ask(&["exec", "web", "-c", "main", "--", "sh", "-c", "echo $LEVEL"]), "debug\n");
    harness::kill(main, Signal::KILL);
    wait_logs_of_main(&node, "info\n");
    // Without it nothing can start any more, but what runs runs on.
    let main = node.wait_running("web", "main");
    node.remove("app.yaml");
    wait_until("it is gone", || node.node_log_text().contains("ConfigMap default/app: gone").then_some(()));
    assert_eq!(node.wait_running("web", "main"), main);
}

fn wait_logs_of_main(node: &Node, expected: &str) {
    let logs = ["logs", "web", "-c", "main"];
    wait_until(expected, || (node.try_ask(&logs).stdout == expected.as_bytes()).then_some(()));
}

#[test]
fn podkeeps_own_processes_leave_no_core_file_and_others_do() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write("/proc/sys/kernel/core_pattern", format!("{}/%p", dir.path().display())).unwrap();
    rustix::process::setrlimit(Resource::Core, Rlimit { current: None, maximum: None }).unwrap();
    let has_core = |pid: u32| dir.path().join(pid.to_string()).exists();
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    harness::kill(other.id(), Signal::ABORT);
    other.wait().unwrap();
    assert!(has_core(other.id()), "one is made where it may be");

    let node = Node::start(Options::default());
    node.manifest("db.yaml", SECRET);
    let (keeper, worker) = (node.keeper(), node.worker().unwrap());
    harness::kill(worker, Signal::ABORT);
    node.wait_for_new_worker(worker);
    let (site, _) = node.end(Signal::ABORT);
    assert!(!has_core(worker) && !has_core(keeper));
    drop(site);
}

/// Over a crash of the worker, and over podkeep's absence; not over a reboot, for it lies in memory.
#[test]
fn what_a_broken_manifest_held_last_is_there_for_a_new_worker_too() {
    let node = Node::start(Options::default());
    node.manifest("app.yaml", &config("{level: debug}"));
    node.manifest("db.yaml", SECRET);
    let secret = "- {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}";
    let container = format!("env:\n- {}\n{secret}", &LEVEL["env: [".len()..LEVEL.len() - 1]);
    let script = "echo $LEVEL $PASSWORD; exec sleep 1000";
    let web =
        ShellPod { name: "web", script, spec: "terminationGracePeriodSeconds: 0", container: &container };
    node.manifest("web.yaml", &web.yaml());
    let expected = format!("debug {}\n", PASSWORD[0]);
    wait_logs(&node, "web", &expected);
    let broken = |node: &Node| {
        node.wait_for("both are broken", |list| {
            let told = |file| list.problems().iter().any(|problem| problem.contains(file));
            (told("app.yaml") && told("db.yaml")).then_some(())
        });
    };
    node.manifest("app.yaml", "kind: [\n");
    node.manifest("db.yaml", "");
    broken(&node);
    node.wait_for_new_worker(node.kill_worker());
    broken(&node);
    let runs_again = |node: &Node, restarts| {
        harness::kill(node.wait_running("web", "main"), Signal::KILL);
        node.wait_for("the next run", |list| {
            let main = list.pod("web")?.container("main")?;
            (main.restarts() == restarts && main.running_pid().is_some()).then_some(())
        });
        wait_logs(node, "web", &expected);
    };
    runs_again(&node, 1);

    let (site, _) = node.end(Signal::USR1);
    // One goes meanwhile, and is forgotten.
    std::fs::remove_file(site.manifests().join("db.yaml")).unwrap();
    let node = Node::start_in(site);
    let kept = || std::fs::read_dir(node.run().join("files")).unwrap().count();
    wait_until("one is kept", || (kept() == 1).then_some(()));
    harness::kill(node.wait_running("web", "main"), Signal::KILL);
    assert_eq!(wait_config_error(&node, "web"), "secret \"db\" not found");
    node.manifest("db.yaml", SECRET);
    wait_logs(&node, "web", &expected);
}

#[test]
fn a_new_version_waits_for_its_config_map_while_the_old_one_runs() {
    let node = Node::start(Options::default());
    let old = ShellPod {
        name: "web",
        script: "exec sleep 1000",
        spec: "terminationGracePeriodSeconds: 0",
        container: "",
    };
    node.manifest("web.yaml", &old.yaml());
    let first = node.wait_running("web", "main");
    node.manifest("web.yaml", &web(""));
    node.wait_for("why it is not replaced", |list| {
        list.pod("web")?.message().contains("container main: configmap \"app\" not found").then_some(())
    });
    assert_eq!(node.wait_running("web", "main"), first);
    node.manifest("app.yaml", &config("{level: debug}"));
    wait_logs(&node, "web", "debug\n");
}

#[test]
fn a_secrets_value_is_in_the_process_and_nowhere_else() {
    let node = Node::start(Options::default());
    let container = "\
env:
- {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
- {name: URL, value: db://$(PASSWORD)@db}
envFrom: [{secretRef: {name: db}}]";
    let spec = "hostUsers: false\nterminationGracePeriodSeconds: 1";
    let pod = |name, script| ShellPod { name, script, spec, container }.yaml();
    node.manifest("db.yaml", SECRET);
    node.manifest("web.yaml", &pod("web", "exec sleep 1000"));
    // One that fails, and is told of.
    node.manifest("bad.yaml", &pod("bad", "exit 1").replace("\"sh\"", "\"/none\""));
    let pid = node.wait_running("web", "main");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environ).matches(PASSWORD[0]).count(), 3);
    node.wait_for("it fails", |list| list.pod("bad")?.container("main")?.last());

    let asked = [
        &["ps", "-o", "json"] as &[&str],
        &["describe", "web"],
        &["inspect", "web"],
        &["inspect", "web", "--spec"],
        &["inspect", "web", "--plan"],
        &["events"],
        &["describe", "bad"],
    ];
    for words in asked {
        let answer = node.ask(words);
        assert!(!PASSWORD.iter().any(|text| answer.contains(text)), "{words:?}: {answer}");
    }
    assert!(node.ask(&["inspect", "web", "--spec"]).contains("PASSWORD=<from Secret db key password>"));
    assert!(node.ask(&["describe", "web"]).contains("<set to the key 'password' in secret 'db'>"));
    assert!(is_written(&node.manifests(), &PASSWORD), "what is looked for can be found");
    for place in [node.root(), node.run().join("pods"), node.logs()] {
        assert!(!is_written(&place, &PASSWORD), "{}", place.display());
    }
    // But for the manifest itself, in memory, which the next worker has if it is broken by then.
    let files = node.run().join("files");
    let run = std::fs::read_dir(node.run()).unwrap().map(|entry| entry.unwrap().path());
    let (kept, others): (Vec<_>, Vec<_>) = run.partition(|path| *path == files);
    assert!(is_written(&kept[0], &PASSWORD) && others.iter().filter(|path| path.is_file()).count() > 0);
    for file in others.iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(file).unwrap();
        assert!(
            !PASSWORD.iter().any(|text| String::from_utf8_lossy(&bytes).contains(text)),
            "{}",
            file.display()
        );
    }
    let on_tmpfs = rustix::fs::statfs(&files).unwrap().f_type == 0x0102_1994;
    assert_eq!((on_tmpfs, std::fs::metadata(&files).unwrap().permissions().mode() & 0o7777), (true, 0o700));
    assert!(!PASSWORD.iter().any(|text| node.node_log_text().contains(text)));
    let manifest = node.manifests().join("db.yaml");
    let site = node.stop();
    std::fs::remove_file(manifest).unwrap();
    assert!(!is_written(site.base(), &PASSWORD));
}

#[test]
fn a_pod_that_asks_for_it_starts_again_for_a_change_even_of_while_podkeep_was_down() {
    let node = Node::start(Options::default());
    let script = "trap 'echo bye; exit 0' TERM; echo $LEVEL; while :; do sleep 1000 & wait $!; done";
    let annotated = "metadata: {name: web, annotations: {podkeep.io/restart-on-change: 'true'}}";
    let web = ShellPod { name: "web", script, spec: "terminationGracePeriodSeconds: 30", container: LEVEL };
    node.manifest("web.yaml", &web.yaml().replace("metadata: {name: web}", annotated));
    node.manifest("app.yaml", &config("{level: one}"));
    wait_logs(&node, "web", "one\n");
    node.manifest("app.yaml", &config("{level: two}"));
    wait_logs(&node, "web", "two\n");
    assert_eq!(node.ask(&["logs", "-p", "web"]), "one\nbye\n");
    let restarts = |node: &Node| node.list().pod("web").unwrap().container("main").unwrap().restarts();
    assert_eq!(restarts(&node), 1);

    let (site, _) = node.end(Signal::USR1);
    site.manifest("app.yaml", &config("{level: three}"));
    let node = Node::start_in(site);
    wait_logs(&node, "web", "three\n");
    assert_eq!(restarts(&node), 2);

    let pid = node.wait_running("web", "main");
    let (site, _) = node.end(Signal::USR1);
    let node = Node::start_in(site);
    // It comes after all that was there has been read.
    node.manifest("later.yaml", &job("later", "exit 0"));
    node.wait_terminated("later", "main");
    assert_eq!((restarts(&node), node.wait_running("web", "main")), (2, pid));
    let mode = std::fs::metadata(node.root().join("node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
}
