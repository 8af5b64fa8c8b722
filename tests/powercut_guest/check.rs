//! What has to be true after every cut.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::notes::{self, Notes, Reached};
use super::pods::Expected;
use super::store::{StoreFolder, entries, whole_json};
use crate::harness::{List, Node, Site, wait_until};

/// Nothing that podkeep wrote to survive is damaged, nothing that a container may see is, and the file system is in order.
pub fn the_disk(site: &Site, notes: &Notes) {
    let damage = StoreFolder(site.root().join("images")).damage(notes);
    assert!(damage.is_empty(), "the store is damaged:\n{}", damage.join("\n"));
    for pod in entries(&site.root().join("pods")) {
        let survival = pod.join("survival.json");
        assert!(!survival.exists() || whole_json(&survival).is_ok(), "{:?}", whole_json(&survival));
    }
    let messages = Command::new("dmesg").output().unwrap();
    let messages = String::from_utf8_lossy(&messages.stdout).into_owned();
    let errors: Vec<&str> = messages
        .lines()
        .filter(|line| line.contains("EXT4-fs error") || line.contains("I/O error"))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// The node has everything that it had said to have, clears away what was half done, and runs every Pod.
pub fn the_node(node: &Node, notes: &Notes, expected: &[Expected]) {
    images(node, notes);
    for pod in expected {
        runs(node, pod);
        goes_on(node, pod, notes);
    }
    no_leftovers(node);
    no_complaints(node);
}

/// podkeep finds fault with nothing but manifests that were put there without care.
fn no_complaints(node: &Node) {
    let (log, manifests) = (node.node_log_text(), node.manifests());
    let manifests = manifests.to_str().expect("named by us");
    let is_complaint = |line: &&str| line.contains(" error: ") || line.contains(" warning: ");
    let complaints: Vec<&str> =
        log.lines().filter(is_complaint).filter(|line| !line.contains(manifests)).collect();
    assert!(complaints.is_empty(), "podkeep complains:\n{}", complaints.join("\n"));
}

fn images(node: &Node, notes: &Notes) {
    let list: Value = serde_json::from_str(&node.ask(&["images", "-o", "json"])).unwrap();
    let images = list["images"].as_array().unwrap().iter();
    let there: HashSet<&str> =
        images.flat_map(|image| image["repoTags"].as_array().unwrap()).filter_map(Value::as_str).collect();
    let lost: Vec<&String> = notes.loaded.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "loaded, and not there any more: {lost:?}");
}

/// The Pod has been started in this boot, found its image whole and said so in a log that can be read.
fn runs(node: &Node, pod: &Expected) {
    node.wait_running(&pod.name, "main");
    wait_until(&format!("{} says `{}`", pod.name, pod.says), || {
        let output = node.try_ask(&["logs", &pod.name]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("not whole"), "{} does not find its files whole:\n{text}", pod.name);
        text.lines().any(|line| line == pod.says).then_some(())
    });
}

/// A Pod of the same manifest counts on where it was, and finds its emptyDir as it was.
fn goes_on(node: &Node, pod: &Expected, notes: &Notes) {
    let list = node.list();
    let state = list.pod(&pod.name).unwrap();
    let restarts = state.container("main").unwrap().restarts();
    let folder = node.root().join("pods").join(state.uid().replace('-', ""));
    let lines = lines_of(&folder.join("volumes/kubernetes.io~empty-dir/data/starts"));
    if let Some(before) = notes.reached.get(state.uid()) {
        let now = Reached { restarts, lines };
        assert!(restarts > before.restarts && lines > before.lines, "{}: {now:?} after {before:?}", pod.name);
    }
    let survival = folder.join("survival.json");
    wait_until("its restarts are saved", || {
        let saved = whole_json(&survival).ok()?;
        (saved["restarts"][0].as_u64()? >= restarts).then_some(())
    });
    notes::reached(state.uid(), Reached { restarts, lines });
}

fn lines_of(file: &std::path::Path) -> usize {
    let text = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.lines().all(|line| line == "started"), "{}: {text:?}", file.display());
    text.lines().count()
}

/// What was half done when the power went is cleared away: of images, of Pods, and what was being deleted.
fn no_leftovers(node: &Node) {
    let store = StoreFolder(node.root().join("images"));
    let mut left: Vec<PathBuf> = Vec::new();
    wait_until("what a cut left behind is gone", || {
        let uids: HashSet<String> = uids(&node.list());
        left = store.leftovers();
        left.extend(entries(&node.root().join("trash")));
        let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        left.extend(
            entries(&node.root().join("pods")).into_iter().filter(|path| !uids.contains(&name(path))),
        );
        left.is_empty().then_some(())
    });
}

fn uids(list: &List) -> HashSet<String> {
    list.pods().map(|pod| pod.uid().replace('-', "")).collect()
}
