//! The last good version of every Pod, file by file, so that it starts after a power cut even if the file can no longer be read, or
//! asks for what cannot be prepared.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sources::FILES;
use super::state::{self, Durability, Error, SavedPod};
use crate::manifest;
use crate::order;
use crate::pod::set::{Good, Origin, SourceId};

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Not there in what was saved when there was but one source.
    #[serde(default = "files")]
    source: SourceId,
    file: PathBuf,
    pods: Vec<SavedPod>,
    /// By Pod: [`Good::ran`]. An older podkeep did not say so, and no more than that its file was in order is known then.
    #[serde(default)]
    ran: Vec<bool>,
}

fn files() -> SourceId {
    FILES
}

/// Writes down what has changed; a file without anything is gone for good. Each is tried, whatever became of those before it.
pub fn save_all(dir: &Path, changed: &BTreeMap<Origin, Option<Vec<Good>>>) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(state::error("make", dir))?;
    let save = |(origin, pods): (&Origin, &Option<Vec<Good>>)| match pods {
        Some(pods) => save(dir, origin, pods),
        None => forget(dir, &origin.file),
    };
    changed.iter().map(save).fold(Ok(()), Result::and)
}

fn save(dir: &Path, origin: &Origin, pods: &[Good]) -> Result<(), Error> {
    let Origin { source, file } = origin.clone();
    let ran = pods.iter().map(|good| good.ran).collect();
    let saved = Saved { source, file, pods: pods.iter().map(|good| SavedPod::of(&good.pod)).collect(), ran };
    state::save(&place(dir, &origin.file), &saved, Durability::Disk)
}

/// No error if nothing was kept.
pub fn forget(dir: &Path, file: &Path) -> Result<(), Error> {
    let path = place(dir, file);
    match fs::remove_file(&path) {
        Ok(()) => state::sync_parent(&path),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(state::error("delete", &path)(cause)),
    }
}

/// A file and the last good versions of its Pods.
pub type OfFile = (Origin, Vec<Good>);

/// All that was kept, as this node sees it, and in words what could not be used.
pub fn load_all(dir: &Path, node_name: &str) -> (Vec<OfFile>, Vec<String>) {
    let (mut good, mut unusable) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return (good, unusable),
        Err(cause) => {
            unusable.push(state::error("list the last good manifests in", dir)(cause).to_string());
            return (good, unusable);
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    order::sort(&mut paths);
    for path in paths {
        match load_one(&path, node_name) {
            Ok(found) => good.push(found),
            Err(message) => unusable.push(message),
        }
    }
    (good, unusable)
}

fn load_one(path: &Path, node_name: &str) -> Result<OfFile, String> {
    let saved: Saved = state::load(path).map_err(|error| error.to_string())?;
    let decode = |(pod, ran): (&SavedPod, bool)| match manifest::from_source(&pod.source, node_name) {
        Ok(pod) => Ok(Good { pod: pod.into(), ran }),
        Err(diagnostics) => {
            let first = diagnostics.first().map(ToString::to_string).unwrap_or_default();
            Err(format!("last good version of {}: {first}", saved.file.display()))
        }
    };
    let ran = saved.ran.iter().copied().chain(std::iter::repeat(false));
    let pods = saved.pods.iter().zip(ran).map(decode).collect::<Result<_, _>>()?;
    Ok((Origin { source: saved.source, file: saved.file }, pods))
}

/// Where a file's saved version lies: its path may hold anything, and be long. A URL is no absolute path, so it is never
/// taken for one.
pub fn place(dir: &Path, file: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let hash = Sha256::digest(file.as_os_str().as_bytes());
    let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    dir.join(name).with_extension("json")
}
