//! Volumes made of files: what a container sees of them, how they change, and what is left of them; how volumes are mounted.
//!
//! Run with `scripts/vm test guest_files`; anywhere else these tests fail.

#[path = "guest_files/examples.rs"]
mod examples;
mod harness;
#[path = "guest_files/mounts.rs"]
mod mounts;
#[path = "guest_files/sealed.rs"]
mod sealed;

use std::fs;
use std::path::{Path, PathBuf};

use harness::manifest::ShellPod;
use harness::{Census, Node, Options, census, wait_until};
use rustix::process::Signal;

/// A Secret of one line for each of its keys `a` and `b`.
fn secret(a: &str, b: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{a: \"{a}\\n\", b: \"{b}\\n\"}}\n"
    )
}

const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\nbinaryData: {c: Y29uZgo=}\ndata: {d: d}\n";

const VOLUMES: &str = "volumes:
- name: secret
  secret:
    secretName: s
    defaultMode: 0400
    items: [{key: a, path: a}, {key: b, path: b, mode: 0444}, {key: a, path: d/c}]
- name: all
  projected:
    defaultMode: 0640
    sources:
    - secret: {name: s}
    - configMap: {name: none, optional: true}
    - configMap: {name: m, items: [{key: c, path: conf/c}]}
    - downwardAPI:
        items:
        - {path: pod/name, fieldRef: {fieldPath: metadata.name}}
        - {path: pod/labels, mode: 0600, fieldRef: {fieldPath: metadata.labels}}
- name: down
  downwardAPI:
    items:
    - {path: color, fieldRef: {fieldPath: \"metadata.annotations['color']\"}}
    - {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}
- {name: map, configMap: {name: m}}
- {name: data, emptyDir: {}}
";
const MOUNTS: &str = "volumeMounts:
- {name: secret, mountPath: /secret}
- {name: all, mountPath: /all}
- {name: down, mountPath: /down}
- {name: map, mountPath: /map}
- {name: data, mountPath: /data}
- {name: secret, mountPath: /again/secret}
resources: {limits: {cpu: 250m}}
";

/// Names, modes, owners and contents.
const LOOK: &str = "cd /secret; stat -Lc '%n %a %u:%g' . ..data a b d d/c /all /all/a /all/pod/labels /down /down/cpu /map /map/d /data
    for link in a d /all/pod; do readlink $link; done; ls -A /all /down
    cat a b d/c /again/secret/a /all/b /all/conf/c /all/pod/name /all/pod/labels /down/color /down/cpu
    touch /data/f; stat -c '%n %a %u:%g' /data/f
    touch x 2>&1; { echo >a; } 2>&1; rm b 2>&1; rm /all/..data 2>&1; grep -c ' /\\(secret\\|all\\|down\\|again/secret\\) tmpfs ro,' /proc/mounts";

fn looking(context: &str) -> String {
    let spec = format!("restartPolicy: Never\n{context}{VOLUMES}");
    let pod = ShellPod { name: "job", script: LOOK, spec: &spec, container: MOUNTS }.yaml();
    let metadata =
        "metadata: {name: job, labels: {app: job, tier: \"1\"}, annotations: {color: 'red \"1\"'}}";
    let pod = pod.replace("metadata: {name: job}", metadata);
    format!("{pod}---\n{}---\n{CONFIG_MAP}", secret("geheim-1", "geheim-2"))
}

/// With `modes` of what the group may read, and `owner` of what root made.
fn seen(modes: [&str; 14], owner: &str, file: &str) -> String {
    const SECRET: [&str; 6] = [".", "..data", "a", "b", "d", "d/c"];
    const OTHERS: [&str; 8] =
        ["/all", "/all/a", "/all/pod/labels", "/down", "/down/cpu", "/map", "/map/d", "/data"];
    let names = SECRET.into_iter().chain(OTHERS).zip(modes);
    let stats: String = names.map(|(name, mode)| format!("{name} {mode} {owner}\n")).collect();
    format!(
        "{stats}..data/a\n..data/d\n..data/pod\n/all:\n..1.5\n..data\na\nb\nconf\npod\n\n/down:\n..1.2\n..data\ncolor\ncpu\n\
         geheim-1\ngeheim-2\ngeheim-1\ngeheim-1\ngeheim-2\nconf\njob-node1app=\"job\"\ntier=\"1\"red \"1\"250\
         /data/f 644 {file}\n\
         touch: x: Read-only file system\nsh: can't create a: Read-only file system\n\
         rm: can't remove 'b': Read-only file system\nrm: can't remove '/all/..data': Read-only file system\n4\n"
    )
}

#[test]
fn a_container_sees_files_with_their_modes_owners_and_links_and_cannot_change_them() {
    let node = Node::start(Options::default());
    // The kubelet has all but a ConfigMap in a tmpfs, which is as the kernel makes it: nobody removes what is another's.
    let of_root =
        ["1777", "755", "400", "444", "755", "400", "1777", "640", "600", "1777", "644", "777", "644", "777"];
    // The kubelet's: the group may read all of it.
    let of_group = [
        "3777", "2755", "440", "444", "2755", "440", "3777", "640", "640", "3777", "644", "2777", "644",
        "2777",
    ];
    for users in ["", "hostUsers: false\n"] {
        let output = node.output_of(&looking(users));
        assert_eq!(output, seen(of_root, "0:0", "0:0"), "{users}");
        let group = "securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}\n";
        let output = node.output_of(&looking(&format!("{users}{group}")));
        assert_eq!(output, seen(of_group, "0:2000", "1000:2000"), "{users}{group}");
    }
    let mounted = census::mount_points();
    let place = node.run().join("files");
    assert_eq!(mounted.iter().filter(|point| point.starts_with(node.base())).collect::<Vec<_>>(), [&place]);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "and nothing is in it");
    assert_eq!(
        fs::metadata(&place).unwrap().permissions(),
        std::os::unix::fs::PermissionsExt::from_mode(0o40700)
    );
}

/// A Pod that mounts all of Secret `s`, and runs.
fn web() -> String {
    let spec = "terminationGracePeriodSeconds: 0\nvolumes: [{name: v, secret: {secretName: s}}]\n";
    let container = "volumeMounts: [{name: v, mountPath: /v}]\n";
    ShellPod { name: "web", script: "exec sleep 1000", spec, container }.yaml()
}

/// What the container of this PID has at `/v`, by name; `None` in the moment of a change.
fn files(pid: u32) -> Option<Vec<(String, String)>> {
    let folder = Path::new("/proc").join(pid.to_string()).join("root/v");
    let names = fs::read_dir(&folder).ok()?.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("..")).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| Some((name.clone(), fs::read_to_string(folder.join(name)).ok()?.trim_end().to_owned())))
        .collect()
}

fn wait_for_files(pid: u32, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    wait_until(&format!("{expected:?}"), || (files(pid)? == expected).then_some(()));
}

#[test]
fn a_pod_waits_for_its_secret_sees_its_changes_and_keeps_it_over_the_worker() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &web());
    let missing = "volume v: secret \"s\" not found";
    let state = node.wait_for("the Pod says what it lacks", |list| {
        let pod = list.pod("web").filter(|pod| pod.message() == missing)?;
        Some((pod.phase().to_owned(), pod.container("main")?.waiting()?.to_owned()))
    });
    assert_eq!(state, ("Pending".to_owned(), "ContainerCreating".to_owned()));
    let events = node.ask(&["events", "web"]);
    assert!(events.lines().any(|line| line.contains("FailedMount") && line.contains(missing)), "{events}");

    node.manifest("s.yaml", &secret("geheim-1", "geheim-2"));
    let pid = node.wait_running("web", "main");
    wait_for_files(pid, &[("a", "geheim-1"), ("b", "geheim-2")]);
    assert!(!holds(&node.root(), b"geheim") && !holds(&node.run().join("pods"), b"geheim"));
    node.manifest("s.yaml", &secret("geheim-3", "geheim-2").replace("b:", "c:"));
    wait_for_files(pid, &[("a", "geheim-3"), ("c", "geheim-2")]);

    // Neither the worker nor the Secret has to be there for what is mounted; a new worker goes on with it.
    let worker = node.worker().unwrap();
    harness::kill(worker, Signal::KILL);
    wait_until("a new worker", || node.worker().filter(|new| *new != worker));
    node.remove("s.yaml");
    node.wait_for("the Pod", |list| list.pod("web").map(|_| ()));
    assert_eq!(files(pid).unwrap().len(), 2);
    node.manifest("s.yaml", &secret("geheim-4", "geheim-4"));
    wait_for_files(pid, &[("a", "geheim-4"), ("b", "geheim-4")]);
    assert_eq!(node.wait_running("web", "main"), pid, "without a restart");

    node.remove("web.yaml");
    node.wait_gone("web");
    let left = || fs::read_dir(node.run().join("files")).unwrap().count();
    assert_eq!(left(), 1, "what the Secret was read from, for the next worker");
    node.remove("s.yaml");
    wait_until("that goes with its file", || (left() == 0).then_some(()));
    let run = node.stop().run();
    assert!(!run.join("files").exists());
}

/// Whether a file below a folder, but for images, holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).any(|entry| {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        match kind.is_dir() {
            true => !path.ends_with("images") && holds(&path, bytes),
            false => kind.is_file() && fs::read(path).unwrap().windows(bytes.len()).any(|part| part == bytes),
        }
    })
}

/// So many Pods, and more in a long run.
fn pods() -> usize {
    if std::env::var_os("PODKEEP_LONG").is_some() { 200 } else { 40 }
}

const FIVE: &str = "hostNetwork: true
terminationGracePeriodSeconds: 0
volumes:
- {name: v0, emptyDir: {medium: Memory}}
- {name: v1, configMap: {name: m}}
- {name: v2, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
- {name: v3, projected: {sources: [{secret: {name: s}}, {configMap: {name: m}}]}}
- {name: v4, secret: {secretName: s}}
";

#[test]
fn pods_of_five_volumes_come_and_go_and_leave_not_one_mount() {
    let machine = Census::take();
    let node = Node::start(Options::default());
    node.manifest("objects.yaml", &format!("{}---\n{CONFIG_MAP}", secret("1", "2")));
    let mounts: String = (0..5).map(|n| format!("- {{name: v{n}, mountPath: /v{n}}}\n")).collect();
    let container = &format!("volumeMounts:\n{mounts}");
    let pod = |number| {
        let name = &format!("pod-{number}");
        ShellPod { name, script: "exec sleep 1000", spec: FIVE, container }.yaml()
    };
    let all: Vec<String> = (0..pods()).map(pod).collect();
    node.manifest("all.yaml", &all.join("---\n"));
    let names: Vec<String> = (0..pods()).map(|number| format!("pod-{number}")).collect();
    let pids: Vec<u32> = names.iter().map(|name| node.wait_running(name, "main")).collect();
    // One of memory for each Pod, and one for all files.
    let below = |points: &[PathBuf]| points.iter().filter(|point| point.starts_with(node.base())).count();
    let mounted = census::mount_points();
    assert_eq!(below(&mounted), pods() + 1, "{mounted:?}");
    let of_one = |pid: &u32, name: &str| fs::read_to_string(format!("/proc/{pid}/root/{name}")).unwrap();
    assert_eq!(of_one(&pids[39], "v2/name"), "pod-39-node1");
    let seen = ["v1/d", "v3/a", "v3/c", "v4/b"].map(|name| of_one(&pids[7], name));
    assert_eq!(seen, ["d", "1\n", "conf\n", "2\n"]);
    node.remove("all.yaml");
    names.iter().for_each(|name| node.wait_gone(name));
    assert_eq!(below(&census::mount_points()), 1, "only the place of files is left");
    let site = node.stop();
    machine.assert_again(Census::take);
    drop(site);
}
