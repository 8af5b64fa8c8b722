//! The Pods of the folder: how their manifests are put there, and which of them have to run after a cut.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::asking;
use super::images::{self, SUMS};
use super::store::{entries, whole_json};
use crate::harness::{Node, Site};

/// Pods whose manifests come and go.
pub const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

/// The one of them that has users of its own: podkeep saves which.
const MAPPED: &str = NAMES[3];

/// A Pod of one of the made images that looks at all files of it, notes its start in its emptyDir and says so.
pub fn manifest(name: &str, reference: &str, version: u64) -> Value {
    let sums = images::make(images::number(reference).expect("a made one")).digest_of_sums;
    let script = format!(
        "echo '{sums}  {SUMS}' | sha256sum -c - && sha256sum -c {SUMS} || {{ echo not whole; exit 1; }}\n\
         echo started | dd of=/data/starts oflag=append conv=notrunc,fsync || {{ echo not whole; exit 1; }}\n\
         echo whole {version}\n\
         exec sleep 100000\n"
    );
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "hostUsers": name != MAPPED,
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{
                "name": "main", "image": reference, "command": ["sh", "-c", script],
                "env": [{"name": "VERSION", "value": version.to_string()}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
    })
}

pub fn file_of(site: &Site, name: &str) -> PathBuf {
    site.manifests().join(format!("{name}.json"))
}

/// Puts a manifest in place: synced before and after it gets its name, or as most tools do it.
pub fn place(site: &Site, name: &str, manifest: &Value, with_care: bool) {
    let aside = site.base().join("aside").join(name);
    let mut file = File::create(&aside).unwrap();
    file.write_all(&serde_json::to_vec(manifest).unwrap()).unwrap();
    if with_care {
        file.sync_all().unwrap();
    }
    drop(file);
    fs::rename(&aside, file_of(site, name)).unwrap();
    if with_care {
        File::open(site.manifests()).unwrap().sync_all().unwrap();
    }
}

/// A Pod that has to run, and what it says when it has found its image whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    pub says: String,
}

/// Which Pods have to come up: those of the manifests that are whole, and of those that are not, what podkeep saved.
/// An error is damage to what it saved.
pub fn expected(site: &Site) -> Result<Vec<Expected>, String> {
    let saved = saved(site)?;
    let mut expected = Vec::new();
    for path in entries(&site.manifests()) {
        let pod = whole_json(&path).ok().or_else(|| saved_for(&saved, &path));
        expected.extend(pod.as_ref().map(expectation));
    }
    Ok(expected)
}

/// The images that manifests name: no Pod may be without them.
pub fn named_images(site: &Site) -> HashSet<String> {
    let pods = entries(&site.manifests()).into_iter().filter_map(|path| whole_json(&path).ok());
    pods.map(|pod| text(&pod["spec"]["containers"][0]["image"])).collect()
}

/// Whether podkeep has read every manifest as it is now, and written down that it did.
pub fn are_known(site: &Site) -> bool {
    let Ok(saved) = saved(site) else { return false };
    let is_known = |path: &PathBuf| match whole_json(path) {
        Ok(pod) => saved_for(&saved, path).is_some_and(|saved| expectation(&saved) == expectation(&pod)),
        // Nobody waits for what a cut has left of one.
        Err(_) => true,
    };
    entries(&site.manifests()).iter().all(is_known)
}

/// Which version of a manifest of ours podkeep has saved, if one.
pub fn saved_version(site: &Site, name: &str) -> Result<Option<String>, String> {
    Ok(saved_for(&saved(site)?, &file_of(site, name)).as_ref().map(version))
}

/// The one that lies in the folder, if one. An error is what a cut has left of it.
pub fn version_in_folder(site: &Site, name: &str) -> Result<Option<String>, String> {
    let file = file_of(site, name);
    if file.exists() { Ok(Some(version(&whole_json(&file)?))) } else { Ok(None) }
}

/// Where podkeep saves the restarts of the Pod of this name, if that is of this version by now.
pub fn survival(node: &Node, name: &str, of: &str) -> Option<PathBuf> {
    let list = asking::list(node);
    let pod = list.pod(name).filter(|pod| version(pod.0) == of)?;
    Some(node.root().join("pods").join(pod.uid().replace('-', "")).join("survival.json"))
}

pub fn restarts_in(survival: &Value) -> u64 {
    survival["restarts"][0].as_u64().expect("a number")
}

fn saved(site: &Site) -> Result<Vec<Value>, String> {
    let paths = entries(&site.root().join("manifests")).into_iter();
    // Others are what was being written aside.
    let is_saved = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    paths.filter(is_saved).map(|path| whole_json(&path)).collect()
}

fn saved_for(saved: &[Value], file: &Path) -> Option<Value> {
    let version = saved.iter().find(|version| version["file"].as_str().map(Path::new) == Some(file))?;
    Some(version["pods"][0]["source"].clone())
}

fn expectation(pod: &Value) -> Expected {
    Expected { name: text(&pod["metadata"]["name"]), says: format!("whole {}", version(pod)) }
}

fn version(pod: &Value) -> String {
    text(&pod["spec"]["containers"][0]["env"][0]["value"])
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string of our manifest").to_owned()
}
