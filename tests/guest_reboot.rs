//! What comes up after power cuts: the last good versions, whatever became of their files.
//!
//! Run with `scripts/vm test guest_reboot`; anywhere else these tests fail.
//! Guest: --boots 3

mod harness;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::sync;

use harness::manifest::{ShellPod, shell_pod};
use harness::{Node, Options, Site, process, wait_until};

const BASE: &str = "/var/lib/reboot-test";
const CONFIG: &str = "fileCheckFrequency: 2s\nvolumeStatsAggPeriod: 100ms\n";

fn site() -> Site {
    Site::new(Options { at: Some(BASE.into()), config: CONFIG, ..Options::default() })
}

/// Makes a file in an emptyDir that is not of the group that the volume was given to.
const FOREIGN: &str =
    "[ -e /data/foreign ] || { touch /data/new; chgrp 7 /data/new; mv /data/new /data/foreign; }";

/// A Pod with users of its own that counts its starts in its emptyDir, which is given to a group each time that it is prepared.
fn counting_pod() -> String {
    ShellPod {
        name: "counting",
        script: &format!("{FOREIGN}; echo started >> /data/starts; exec sleep 10000"),
        spec: "hostUsers: false\nsecurityContext: {fsGroup: 2000}\nterminationGracePeriodSeconds: 1\n\
               volumes:\n- {name: data, emptyDir: {}}",
        container: "volumeMounts:\n- {name: data, mountPath: /data}",
    }
    .yaml()
}

/// A Pod that writes into its emptyDir which version of it was started, after the Pod `counting`. The volume is given to a group once.
fn edited_pod(version: &str) -> String {
    let script = format!("{FOREIGN}; echo {version} >> /data/starts; exec sleep 10000");
    let yaml = ShellPod {
        name: "edited",
        script: &script,
        spec: "securityContext: {fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch}\n\
               terminationGracePeriodSeconds: 1\nvolumes:\n- {name: data, emptyDir: {}}",
        container: "imagePullPolicy: Never\nvolumeMounts:\n- {name: data, mountPath: /data}",
    }
    .yaml();
    yaml.replace("{name: edited}", "{name: edited, annotations: {podkeep.io/after: counting}}")
}

/// The same, and its image is nowhere.
fn unpreparable_pod() -> String {
    edited_pod("two").replace("busybox:1.35", "nowhere:1")
}

/// A Pod that writes more than it may.
fn greedy_pod() -> String {
    ShellPod {
        name: "greedy",
        script: "head -c 3000000 /dev/zero >/data/big; exec sleep 10000",
        spec: "terminationGracePeriodSeconds: 1\nvolumes:\n- {name: data, emptyDir: {sizeLimit: 1Mi}}",
        container: "volumeMounts:\n- {name: data, mountPath: /data}",
    }
    .yaml()
}

/// It stays evicted: no process, no restart, nothing of what it wrote.
fn wait_evicted(node: &Node) {
    node.wait_for("greedy is evicted", |list| {
        let pod = list.pod("greedy").filter(|pod| pod.phase() == "Failed")?;
        let is_it = pod.0["status"]["reason"] == "Evicted"
            && pod.message() == "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\".";
        let main = pod.container("main")?;
        main.terminated()?;
        (is_it && main.restarts() == 0 && main.running_pid().is_none()).then_some(())
    });
    let volumes = pod_folder(node, &uid(node, "greedy")).join("volumes");
    wait_until("what it wrote is gone", || (!volumes.exists()).then_some(()));
}

fn pod_folder(site: &Site, uid: &str) -> PathBuf {
    site.root().join("pods").join(uid.replace('-', ""))
}

fn wait_not_replaced(node: &Node) {
    node.wait_for("edited cannot be replaced", |list| {
        let is_told = |problem: &str| problem.contains("edited") && problem.contains("image nowhere:1");
        list.problems().into_iter().any(is_told).then_some(())
    });
}

/// Which ids of the host the users of the Pod `counting` are.
fn ids(node: &Node) -> String {
    fs::read_to_string(format!("/proc/{}/uid_map", node.wait_running("counting", "main"))).unwrap()
}

/// On the host, of the Pod with this uid.
fn starts_file(site: &Site, uid: &str) -> PathBuf {
    pod_folder(site, uid).join("volumes/kubernetes.io~empty-dir/data/starts")
}

fn uid(node: &Node, pod: &str) -> String {
    node.list().pod(pod).unwrap().uid().to_owned()
}

/// The groups that own the volume of this Pod, and the file in it that was made another's, as the container sees them.
fn groups(node: &Node, pod: &str) -> String {
    node.ask(&["exec", pod, "--", "stat", "-c", "%g", "/data", "/data/foreign"])
}

fn restarts(node: &Node, pod: &str) -> u64 {
    node.wait_running(pod, "main");
    node.list().pod(pod).unwrap().container("main").unwrap().restarts()
}

/// As a program that saves a file with care.
fn make_last(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// At once, and nothing is written to disk before.
fn cut_power() -> ! {
    fs::write("/proc/sysrq-trigger", "b").unwrap();
    loop {
        std::thread::park();
    }
}

fn wait_for_log(node: &Node, text: &str) {
    wait_until(text, || node.node_log_text().contains(text).then_some(()));
}

#[test]
fn the_last_good_versions_come_up_after_power_cuts() {
    match std::env::var("PODKEEP_BOOT").as_deref() {
        Ok("1") => a_running_pods_file_is_broken(),
        Ok("2") => the_last_good_version_comes_up_and_the_folder_goes(),
        Ok("3") => without_the_folder_nothing_is_removed(),
        other => panic!("boot {other:?}"),
    }
}

fn a_running_pods_file_is_broken() {
    let site = site();
    // The images were there long before.
    sync();
    let node = Node::start_in(site);
    node.manifest("counting.yaml", &counting_pod());
    node.manifest("other.yaml", &shell_pod("other", "exec sleep 10000"));
    node.manifest("edited.yaml", &edited_pod("one"));
    node.manifest("greedy.yaml", &greedy_pod());
    node.wait_running("counting", "main");
    node.wait_running("other", "main");
    node.wait_running("edited", "main");
    wait_evicted(&node);
    let uid = uid(&node, "counting");
    for (name, text) in [("uid", &uid), ("ids", &ids(&node))] {
        fs::write(Path::new(BASE).join(name), text).unwrap();
        make_last(&Path::new(BASE).join(name));
    }
    let starts = starts_file(&node, &uid);
    wait_until("it has counted", || fs::read_to_string(&starts).ok().filter(|text| text == "started\n"));
    make_last(&starts);
    // What podkeep keeps for the next boot, it syncs itself, beside its loop.
    wait_until("podkeep has saved what it must", || {
        let saved = fs::read_dir(node.root().join("manifests")).ok()?;
        let whole = saved.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "json"));
        let pods = fs::read_dir(node.root().join("pods")).ok()?.flatten();
        let survivals = pods.filter_map(|pod| fs::read_to_string(pod.path().join("survival.json")).ok());
        let survivals: Vec<String> = survivals.collect();
        let all_ran = survivals.len() == 4 && survivals.iter().any(|text| text.contains("Evicted"));
        let all_good = whole.filter(|entry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("\"ran\":[true]"))
        });
        (all_good.count() == 4 && all_ran).then_some(())
    });
    let edited = starts_file(&node, &self::uid(&node, "edited"));
    wait_until("it has said its version", || fs::read_to_string(&edited).ok().filter(|text| text == "one\n"));
    make_last(&edited);
    assert_eq!(["counting", "edited"].map(|pod| groups(&node, pod)), ["2000\n7\n"; 2]);
    fs::write(Path::new(BASE).join("edited"), edited.to_str().unwrap()).unwrap();
    make_last(&Path::new(BASE).join("edited"));

    node.manifest("edited.yaml", &unpreparable_pod());
    wait_not_replaced(&node);
    node.manifest("counting.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: [\n");
    node.wait_for("the broken file is reported", |list| {
        list.problems().iter().any(|problem| problem.contains("counting.yaml")).then_some(())
    });
    for name in ["counting.yaml", "other.yaml", "edited.yaml", "greedy.yaml"] {
        make_last(&node.manifests().join(name));
    }
    cut_power();
}

fn the_last_good_version_comes_up_and_the_folder_goes() {
    let node = Node::start_in(site());
    assert_eq!(restarts(&node, "counting"), 1);
    assert_eq!(restarts(&node, "other"), 1);
    let before = fs::read_to_string(Path::new(BASE).join("uid")).unwrap();
    assert_eq!(uid(&node, "counting"), before);
    assert_eq!(ids(&node), fs::read_to_string(Path::new(BASE).join("ids")).unwrap());
    let starts = starts_file(&node, &before);
    wait_until("its emptyDir is the same", || {
        fs::read_to_string(&starts).ok().filter(|text| text == "started\nstarted\n")
    });
    let list = node.list();
    assert!(list.problems().iter().any(|problem| problem.contains("counting.yaml")), "{list}");

    wait_evicted(&node);
    node.remove("greedy.yaml");
    node.wait_gone("greedy");

    // What ran last runs, with what it had, and the file's version is still waited for.
    assert_eq!(restarts(&node, "edited"), 1);
    let edited = fs::read_to_string(Path::new(BASE).join("edited")).unwrap();
    let starts_of_edited = |expected: &str| {
        wait_until(expected, || fs::read_to_string(&edited).ok().filter(|text| text == expected))
    };
    starts_of_edited("one\none\n");
    assert_eq!(groups(&node, "counting"), "2000\n2000\n", "fsGroupChangePolicy: Always");
    assert_eq!(groups(&node, "edited"), "2000\n7\n", "the folder itself says that all was given");
    wait_not_replaced(&node);
    node.manifest("edited.yaml", &edited_pod("three"));
    node.wait_for("the edit counts", |list| {
        let pod = list.pod("edited")?;
        (pod.container("main")?.restarts() == 0 && pod.container("main")?.running_pid().is_some())
            .then_some(())
    });
    assert!(!Path::new(&edited).exists());
    node.remove("edited.yaml");
    node.wait_gone("edited");

    let other = node.wait_running("other", "main");
    node.remove("counting.yaml");
    node.wait_gone("counting");
    assert!(!starts.exists());
    fs::rename(node.manifests(), Path::new(BASE).join("manifests-away")).unwrap();
    wait_for_log(&node, "every Pod stays as it is");
    assert_eq!(node.wait_running("other", "main"), other);
    let survival = pod_folder(&node, &uid(&node, "other")).join("survival.json");
    wait_until("its restart is saved", || {
        fs::read_to_string(&survival).ok().filter(|text| text.contains("[1]"))
    });
    // The renamed folder.
    File::open(BASE).unwrap().sync_all().unwrap();
    cut_power();
}

fn without_the_folder_nothing_is_removed() {
    let site = site();
    // The harness made it anew.
    fs::remove_dir(site.manifests()).unwrap();
    fs::remove_file(site.node_log()).unwrap_or_default();
    let node = Node::start_in(site);
    assert_eq!(restarts(&node, "other"), 2);
    let pid = node.wait_running("other", "main");
    wait_for_log(&node, "every Pod stays as it is");

    fs::rename(Path::new(BASE).join("manifests-away"), node.manifests()).unwrap();
    wait_for_log(&node, "the manifests can be listed again");
    // The file that was removed is not asked for again, and what is asked for runs on.
    node.manifest("third.yaml", &shell_pod("third", "exec sleep 10000"));
    node.wait_running("third", "main");
    assert!(node.list().pod("counting").is_none());
    assert_eq!(node.wait_running("other", "main"), pid);
    node.stop();
    assert_eq!(process::status(pid, "State"), None);
}
