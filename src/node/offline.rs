//! The node as its files show it, for when nobody answers: `podkeep ps` while the node is down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::clock;
use super::folders::Folders;
use super::good_manifests;
use super::host_ip::host_ips;
use super::snapshot::{PodSnapshot, Snapshot, pod_snapshot};
use super::state::{self, Error};
use crate::image::Digest;
use crate::manifest;
use crate::order;
use crate::pod::Machine;
use crate::pod::machine::Settings;
use crate::sys::process;

/// Reads what the last worker wrote down. Pods whose record cannot be used are left out and named in `problems`.
pub fn snapshot(run_dir: &Path, root_dir: &Path) -> Result<Snapshot, Error> {
    let folders =
        Folders { root: root_dir.to_owned(), run: run_dir.to_owned(), logs: log_root(run_dir, root_dir) };
    let reign = state::load_reign(run_dir);
    let mut snapshot = Snapshot {
        node_name: state::load_node(root_dir).map_or_else(String::new, |node| node.name),
        keeper_pid: reign.map_or(0, |reign| reign.keeper.pid),
        host_ips: host_ips(),
        pods: Vec::new(),
        problems: Vec::new(),
        not_enforced: Vec::new(),
        taken_at: clock::now(),
        taken_at_wall: SystemTime::now(),
    };
    for found in state::found(&folders)? {
        match found.map_err(|error| error.to_string()).and_then(machine_of) {
            Ok((machine, mounted)) => {
                let (pod, status) = (Arc::clone(machine.pod()), machine.status());
                snapshot.node_name.clone_from(&pod.node_name);
                let images = machine.image_ids().filter_map(|id| id.parse().ok()).chain(mounted).collect();
                let pod = pod_snapshot(pod, status, None, &folders, None, &[], None);
                snapshot.pods.push(PodSnapshot { images, ..pod });
            }
            Err(problem) => snapshot.problems.push(problem),
        }
    }
    order::sort_by(&mut snapshot.pods, |a, b| a.pod.id.cmp(&b.pod.id));
    Ok(snapshot)
}

/// What the last good manifests ask for, and in which file: images that will be needed when the node is back.
pub fn named_images(root_dir: &Path) -> Vec<(PathBuf, String)> {
    let node = state::load_node(root_dir).map_or_else(String::new, |node| node.name);
    let folders = Folders { root: root_dir.to_owned(), run: PathBuf::new(), logs: PathBuf::new() };
    let (good, _) = good_manifests::load_all(&folders.good_manifests(), &node);
    let images = |(origin, pods): good_manifests::OfFile| {
        let named = pods.iter().flat_map(|good| good.pod.images());
        named.map(|image| (origin.file.clone(), image.to_owned())).collect::<Vec<_>>()
    };
    good.into_iter().flat_map(images).collect()
}

/// The folder of all logs, as the last worker wrote it down.
pub fn log_root(run_dir: &Path, root_dir: &Path) -> PathBuf {
    let running = state::load_reign(run_dir).map(|reign| reign.pod_logs_dir);
    let stopped = || state::load_node(root_dir).map(|node| node.pod_logs_dir);
    running.or_else(stopped).unwrap_or_else(|| Folders::DEFAULT_LOGS.into())
}

/// The node's name, as the last worker wrote it down.
pub fn node_name(root_dir: &Path) -> Option<String> {
    state::load_node(root_dir).map(|node| node.name)
}

/// Whether the node's keeper lives: then a worker will answer soon, if none does now.
pub fn keeper_lives(run_dir: &Path) -> bool {
    let keeper = state::load_reign(run_dir).map(|reign| reign.keeper);
    keeper.is_some_and(|keeper| process::start_time(keeper.pid) == keeper.start_time)
}

/// The Pod's machine, and the images that its containers mount.
fn machine_of(found: state::Found) -> Result<(Machine, Vec<Digest>), String> {
    let uid = found.uid;
    let pod = manifest::from_source(&found.pod.source, &found.pod.node_name)
        .map_err(|_| format!("Pod {uid}: its record is of another version of podkeep"))?;
    let mounted = found.state.runs.into_iter().flatten().flat_map(|run| run.volume_images).collect();
    Machine::resume(Arc::new(pod), found.state.machine, Settings::default(), clock::now())
        .map(|machine| (machine, mounted))
        .ok_or_else(|| format!("Pod {uid}: its saved state does not fit"))
}
