//! How containers end, and what follows: restart policy, back-off, grace, and starts that fail.
//!
//! Run with `scripts/vm test guest_ends`; anywhere else these tests fail.

mod harness;

use harness::manifest::{ShellPod, job, shell_pod};
use harness::{Census, Node, Options, Site, process, wait_until};

fn end(reason: &str, code: i64) -> (String, i64) {
    (reason.to_owned(), code)
}

fn phase(node: &Node, pod: &str) -> String {
    node.list().pod(pod).unwrap().phase().to_owned()
}

#[test]
fn never_and_on_failure_end_with_the_exit_code() {
    let node = Node::start(Options::default());
    node.manifest("good.yaml", &job("good", "exit 0"));
    node.manifest("bad.yaml", &job("bad", "exit 7"));
    node.manifest("signal.yaml", &job("signal", "trap - TERM; kill -9 -1; exit 5"));
    let spec = "restartPolicy: OnFailure";
    // Fails once: its second run finds what the first one left.
    let script = "[ -e /shared/second ] || { touch /shared/second; exit 4; }";
    let spec = format!("{spec}\nvolumes: [{{name: shared, emptyDir: {{}}}}]");
    let container = "volumeMounts: [{name: shared, mountPath: /shared}]";
    node.manifest("again.yaml", &ShellPod { name: "again", script, spec: &spec, container }.yaml());

    assert_eq!(node.wait_terminated("good", "main"), end("Completed", 0));
    assert_eq!(phase(&node, "good"), "Succeeded");
    assert_eq!(node.wait_terminated("bad", "main"), end("Error", 7));
    assert_eq!(phase(&node, "bad"), "Failed");
    // `kill -1` spares the sender and PID 1.
    assert_eq!(node.wait_terminated("signal", "main"), end("Error", 5));
    assert_eq!(node.wait_terminated("again", "main"), end("Completed", 0));
    assert_eq!(phase(&node, "again"), "Succeeded");
    let list = node.list();
    let again = list.pod("again").unwrap().container("main").unwrap();
    assert_eq!((again.restarts(), again.last()), (1, Some(end("Error", 4))));
    // Nothing of it is left but its status and its logs.
    assert_eq!(process::in_cgroup("/podkeep"), [0; 0]);
}

#[test]
fn the_second_end_in_a_row_is_a_crash_loop() {
    let node = Node::start(Options::default());
    node.manifest("crash.yaml", &shell_pod("crash", "exit 3"));
    let message = node.wait_for("CrashLoopBackOff", |list| {
        let main = list.pod("crash")?.container("main")?;
        let waits = main.waiting() == Some("CrashLoopBackOff");
        waits.then(|| (main.restarts(), main.last(), main.message().to_owned()))
    });
    let sentence = "back-off 10s restarting failed container=main pod=crash-node1_default(";
    assert_eq!((message.0, message.1), (1, Some(end("Error", 3))));
    assert!(message.2.starts_with(sentence), "{}", message.2);
    assert_eq!(phase(&node, "crash"), "Running");
}

#[test]
fn a_command_that_is_not_there_is_a_start_error() {
    let node = Node::start(Options::default());
    let manifest = job("typo", "").replace(r#"["sh","-c",""]"#, "[slep, \"1000\"]");
    node.manifest("typo.yaml", &manifest);
    assert_eq!(node.wait_terminated("typo", "main"), end("StartError", 128));
    let list = node.list();
    let message = list.pod("typo").unwrap().container("main").unwrap().message();
    let sentence = "start container default/typo-node1/main: execute slep: ENOENT \
                    (no such file or directory in the image's root or its PATH, or its interpreter or loader is missing)";
    assert_eq!(message, sentence);
    assert_eq!(phase(&node, "typo"), "Failed");
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    let script = "trap 'echo got SIGTERM' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let spec = "terminationGracePeriodSeconds: 2";
    node.manifest("deaf.yaml", &ShellPod { name: "deaf", script, spec, container: "" }.yaml());
    wait_until("it is ready", || (node.try_ask(&["logs", "deaf"]).stdout == b"ready\n").then_some(()));
    node.remove("deaf.yaml");
    node.wait_for("the Pod is being ended", |list| match list.pod("deaf") {
        Some(deaf) => deaf.terminating().then_some(()),
        None => Some(()),
    });
    node.wait_gone("deaf");
    assert_eq!(node.ask(&["logs", "deaf"]), "ready\ngot SIGTERM\n");
    before.assert_again(|| Census::take_with(&node));
}

#[test]
fn what_a_container_left_in_the_background_is_gone_before_its_successor_starts() {
    let node = Node::start(Options::default());
    let script =
        "setsid sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' & exec sleep 1000";
    node.manifest("web.yaml", &shell_pod("web", script));
    let first = node.wait_running("web", "main");
    let cgroup = process::cgroup(first);
    let of_first = wait_until("the daemons are there", || {
        let all = process::in_cgroup(&cgroup);
        (all.len() >= 3).then_some(all)
    });
    harness::kill(first, rustix::process::Signal::KILL);
    node.wait_for("the second run", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|pid| *pid != first)
    });
    let survivors: Vec<_> = of_first.iter().filter(|pid| process::in_cgroup(&cgroup).contains(pid)).collect();
    assert_eq!(survivors, [&0; 0]);
}

/// A Pod that writes down in `diary` what happens to it when it is told to end.
fn diarist(name: &str, on_term: &str, spec: &str, diary: &std::path::Path) -> String {
    let script = format!("trap '{on_term}' TERM; while :; do sleep 1000 & wait $!; done");
    let volume = format!("{spec}\nvolumes: [{{name: diary, hostPath: {{path: {}}}}}]", diary.display());
    let container = "volumeMounts: [{name: diary, mountPath: /diary}]";
    ShellPod { name, script: &script, spec: &volume, container }.yaml()
}

#[test]
fn a_node_that_ends_stops_critical_pods_last_and_keeps_to_its_time() {
    let site = harness::Site::new(Options::default());
    site.configure("shutdownGracePeriod: 7s\nshutdownGracePeriodCriticalPods: 4s\n");
    let diary = tempfile::tempdir().unwrap();
    let node = Node::start_in(site);
    let told =
        |word: &str| format!("echo {word} >>/diary/all; sleep 1; echo {word} ends >>/diary/all; exit 0");
    let critical = "priorityClassName: system-node-critical";
    node.manifest("critical.yaml", &diarist("critical", &told("critical"), critical, diary.path()));
    node.manifest("plain.yaml", &diarist("plain", &told("plain"), "", diary.path()));
    // It would take forever, and be waited for as long.
    let deaf = "terminationGracePeriodSeconds: 3600";
    node.manifest("deaf.yaml", &diarist("deaf", "", deaf, diary.path()));
    for pod in ["critical", "plain", "deaf"] {
        node.wait_running(pod, "main");
    }
    node.stop();
    let written = std::fs::read_to_string(diary.path().join("all")).unwrap();
    assert_eq!(written, "plain\nplain ends\ncritical\ncritical ends\n");
}

/// Waits until the traces of a run are thrown away.
fn wait_thrown_away(trash: &mut inotify::Inotify) {
    let is_run = |event: inotify::Event<&std::ffi::OsStr>| {
        event.name.is_some_and(|name| name.as_encoded_bytes().starts_with(b"writable."))
    };
    while !trash.read_events_blocking(&mut [0; 4096]).unwrap().any(is_run) {}
}

#[test]
fn last_words_outlive_a_worker_that_is_killed_while_it_clears_away() {
    let node = Node::start(Options::default());
    let mut trash = inotify::Inotify::init().unwrap();
    trash.watches().add(node.root().join("trash"), inotify::WatchMask::MOVED_TO).unwrap();
    for round in 0..6 {
        let pod = format!("words{round}");
        let script = "echo bye > /dev/termination-log; exit 3";
        node.manifest(&format!("{pod}.yaml"), &job(&pod, script));
        let worker = wait_until("a worker", || node.worker());
        // It has not written down by then how the run ended, or has just done so.
        wait_thrown_away(&mut trash);
        harness::kill(worker, rustix::process::Signal::KILL);
        node.wait_for("the Pod has failed", |list| (list.pod(&pod)?.phase() == "Failed").then_some(()));
        let list = node.list();
        assert_eq!(list.pod(&pod).unwrap().container("main").unwrap().message(), "bye\n");
    }
}

#[test]
fn last_words_come_from_the_file_or_where_asked_from_the_log() {
    let node = Node::start(Options::default());
    let container = |name: &str, more: &str, script: &str| {
        let command = serde_json::json!(["sh", "-c", script]);
        format!("  - {{name: {name}, image: 'busybox:1.35', {more} command: {command}}}\n")
    };
    let logs = "terminationMessagePolicy: FallbackToLogsOnError,";
    let nobody = "securityContext: {runAsUser: 65534, readOnlyRootFilesystem: true},";
    let containers = [
        container("nobody", nobody, "echo said > /dev/termination-log; echo in the log; exit 1"),
        container("path", "terminationMessagePath: /tmp/new/words,", "echo elsewhere > /tmp/new/words"),
        container("logs", logs, "seq 1 100; echo last >&2; exit 3"),
        container("file", logs, "echo first > /dev/termination-log; echo in the log; exit 3"),
        container("good", logs, "echo in the log"),
        container("long", "", "{ seq 1 9999; echo -n end; } > /dev/termination-log"),
    ];
    let pod = |name: &str, spec: &str, containers: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  {spec}\n  \
             containers:\n{containers}"
        )
    };
    node.manifest("words.yaml", &pod("words", "", &containers.concat()));
    let mapped = container("main", "", "echo mapped > /dev/termination-log; exit 1");
    node.manifest("mapped.yaml", &pod("mapped", "hostUsers: false", &mapped));
    let words = |pod: &str, container: &str| {
        node.wait_terminated(pod, container);
        let list = node.wait_for("its traces are cleared away", |list| {
            (list.pod(pod)?.phase() != "Running").then(|| list.clone())
        });
        list.pod(pod).unwrap().container(container).unwrap().message().to_owned()
    };
    assert_eq!(words("words", "nobody"), "said\n");
    assert_eq!(words("words", "path"), "elsewhere\n");
    let counted: String = (22..=100).map(|number| format!("{number}\n")).collect();
    assert_eq!(words("words", "logs"), format!("{counted}last\n"));
    assert_eq!(words("words", "file"), "first\n");
    assert_eq!(words("words", "good"), "");
    // The last 4 KiB, and of these this container's share of the Pod's 12 KiB.
    let counted: String = (1..=9999).map(|number| format!("{number}\n")).chain(["end".to_owned()]).collect();
    let end = &counted[counted.len() - 4096..];
    assert_eq!(words("words", "long"), end[..2048]);
    assert_eq!(words("mapped", "main"), "mapped\n");

    // As people and programs see it, with a node and without.
    let look = |site: &Site| {
        let row = site.ask(&["pods"]).lines().find(|line| line.starts_with("words-node1")).map(str::to_owned);
        let row = row.expect("the Pod is listed");
        let cells: Vec<_> = row.split_whitespace().take(4).collect();
        assert_eq!(cells, ["words-node1", "0/6", "Error", "0"]);
        let described = site.ask(&["describe", "words"]);
        assert!(described.contains("      Message:      elsewhere\n      Exit Code:    0\n"), "{described}");
        assert!(described.contains("podkeep   Started container path\n"), "{described}");
        let inspected = site.ask(&["inspect", "words"]);
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(inspected["spec"]["containers"][1]["terminationMessagePath"], "/tmp/new/words");
        let status = &inspected["status"];
        assert_eq!(status["containerStatuses"][1]["state"]["terminated"]["message"], "elsewhere\n");
        assert_eq!(status["conditions"][2]["reason"], "PodFailed");
    };
    look(&node);
    let (site, _) = node.end(rustix::process::Signal::USR1);
    look(&site);
}
