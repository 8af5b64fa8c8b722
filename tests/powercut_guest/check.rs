//! What has to be true after every cut.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::asking::{self, ask};
use super::listing::digest;
use super::notes::{self, Notes, Presence, Reached};
use super::pods::{self, Expected};
use super::store::{StoreFolder, entries, whole_json};
use crate::harness::{List, Node, Site, wait_until};

/// Nothing that podkeep wrote to survive is damaged, nothing that a container may see is, and the file system is in order.
pub fn the_disk(site: &Site, notes: &Notes) {
    let damage = StoreFolder(site.root().join("images")).damage(notes);
    assert!(damage.is_empty(), "the store is damaged:\n{}", damage.join("\n"));
    assert_eq!(site.ask(&["images", "--verify"]), "every image is whole\n");
    for (name, version) in &notes.saved {
        assert_eq!(
            pods::saved_version(site, name).as_ref(),
            Ok(version),
            "what was saved of manifest {name}"
        );
    }
    for (path, restarts) in notes.survives.values() {
        let saved = whole_json(path.as_ref()).map(|saved| pods::restarts_in(&saved));
        assert!(saved.as_ref().is_ok_and(|saved| saved >= restarts), "{saved:?}, and {restarts} were saved");
    }
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
    let there = listed_images(node);
    let lost: Vec<&String> = notes.images(Presence::There).filter(|name| !there.contains(*name)).collect();
    assert!(lost.is_empty(), "brought, and not there any more: {lost:?}");
    let back: Vec<&String> = notes.images(Presence::Gone).filter(|name| there.contains(*name)).collect();
    assert!(back.is_empty(), "removed, and there again: {back:?}");
}

/// The references that `podkeep images` shows.
pub fn listed_images(site: &Site) -> HashSet<String> {
    let list: Value = serde_json::from_str(&ask(site, &["images", "-o", "json"])).unwrap();
    let images = list["images"].as_array().unwrap().iter();
    let references = images.flat_map(|image| image["repoTags"].as_array().unwrap());
    references.map(|reference| reference.as_str().unwrap().to_owned()).collect()
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
    let list = asking::list(node);
    let state = list.pod(&pod.name).unwrap();
    let restarts = state.container("main").unwrap().restarts();
    let folder = node.root().join("pods").join(state.uid().replace('-', ""));
    let starts = starts_in(&folder.join("volumes/kubernetes.io~empty-dir/data/starts"));
    let now = Reached { restarts, length: starts.len(), digest: digest(&starts) };
    if let Some(before) = notes.reached.get(state.uid()) {
        let has_grown = now.restarts > before.restarts && now.length > before.length;
        assert!(has_grown, "{}: {now:?} after {before:?}", pod.name);
        assert_eq!(digest(&starts[..before.length]), before.digest, "{}: {starts:?}", pod.name);
    }
    let survival = folder.join("survival.json");
    wait_until("its restarts are saved", || {
        let saved = whole_json(&survival).ok()?;
        (saved["restarts"][0].as_u64()? >= restarts).then_some(())
    });
    notes::reached(state.uid(), &now);
}

/// Where the power went before a line was synced, its bytes may be zero: ext4 (from 5.6 on) gives a file its length before the
/// content is on the disk.
fn starts_in(file: &std::path::Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let is_whole = text.lines().all(|line| line.trim_start_matches('\0') == "started");
    assert!(is_whole, "{}: {text:?}", file.display());
    bytes
}

/// What was half done when the power went is cleared away: of images, of Pods, of folders made ahead, and what was being deleted.
fn no_leftovers(node: &Node) {
    let store = StoreFolder(node.root().join("images"));
    let mut left: Vec<PathBuf> = Vec::new();
    wait_until("what a cut left behind is gone", || {
        let uids: HashSet<String> = uids(&asking::list(node));
        left = store.leftovers();
        left.extend(entries(&node.root().join("trash")));
        let spare = entries(&node.root().join("spare")).into_iter();
        left.extend(spare.filter(|path| path.extension().is_some()));
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
