//! Which Pod is meant: `web`, `web-<node>` or `namespace/name`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::args::{LogsArgs, NodeArgs};
use super::logs;
use crate::api::client;
use crate::api::view::{Metadata, PodList, PodView};
use crate::manifest::{PodId, Uid};
use crate::node::{Folders, offline};

/// A new worker answers well within this time.
const WORKER_WITHIN: Duration = Duration::from_secs(3);

/// Asks the node for its Pods; where it is down, reads what it wrote, and says so.
///
/// # Errors
/// Also when there never was a node.
pub fn known(node: &NodeArgs) -> Result<PodList> {
    known_or(node, |socket| say_down(node, socket))
}

/// That what follows is what the node has left.
///
/// # Errors
/// When it has left nothing, so that nothing could be mistaken for no Pods.
pub fn say_down(node: &NodeArgs, socket: &Path) -> Result<()> {
    let (socket, root) = (socket.display(), node.root_dir.display());
    if offline::node_name(&node.root_dir).is_none() && !node.run_dir.exists() {
        bail!(
            "no node answers on {socket}, and none has run with {root}: is it another --run-dir or --root-dir?"
        );
    }
    eprintln!("podkeep: no node answers on {socket}: this is what it wrote last");
    Ok(())
}

/// Those of the namespace that was named, if one was.
pub fn known_in_namespace(node: &NodeArgs) -> Result<PodList> {
    let mut list = known(node)?;
    if let Some(namespace) = &node.namespace {
        list.items.retain(|pod| pod.metadata.namespace == *namespace);
    }
    Ok(list)
}

/// Broken manifests and the like concern whoever asks how the Pods are.
pub fn say_problems(list: &PodList) {
    for problem in &list.podkeep.problems {
        eprintln!("podkeep: {problem}");
    }
}

/// A Pod's name in a column: with its namespace, unless that is the usual one.
pub fn shown(metadata: &Metadata) -> String {
    match metadata.namespace.as_str() {
        "default" => metadata.name.clone(),
        namespace => format!("{namespace}/{}", metadata.name),
    }
}

/// The same for those to whom it makes no difference whether the node is up.
pub fn known_quietly(node: &NodeArgs) -> Result<PodList> {
    known_or(node, |_| Ok(()))
}

fn known_or(node: &NodeArgs, down: impl FnOnce(&Path) -> Result<()>) -> Result<PodList> {
    match ask(node) {
        Ok(list) => Ok(list),
        Err(client::Error::Down(socket)) => {
            down(&socket)?;
            let snapshot = offline::snapshot(&node.run_dir, &node.root_dir)?;
            Ok(PodList::of(&snapshot))
        }
        Err(error) => Err(error.into()),
    }
}

/// The node's Pods.
fn ask(node: &NodeArgs) -> Result<PodList, client::Error> {
    patiently(node, client::pods)
}

/// Asks something of the node. While a worker is being replaced, nobody listens for an instant: asked again for as long as
/// its keeper lives.
pub fn patiently<T>(
    node: &NodeArgs,
    mut ask: impl FnMut(&Path) -> Result<T, client::Error>,
) -> Result<T, client::Error> {
    let socket = Folders::socket_in(&node.run_dir);
    let give_up = Instant::now() + WORKER_WITHIN;
    loop {
        match ask(&socket) {
            Err(client::Error::Down(_))
                if offline::keeper_lives(&node.run_dir) && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

/// What was typed, as a namespace and a name that may lack the node's.
pub fn typed<'a>(pod: &'a str, node: &'a NodeArgs) -> (&'a str, &'a str) {
    match pod.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (node.namespace.as_deref().unwrap_or("default"), pod),
    }
}

/// The Pod that was typed.
///
/// # Errors
/// When it is not in the list.
pub fn one<'a>(list: &'a PodList, pod: &str, node: &NodeArgs) -> Result<&'a PodView> {
    let (id, _) = resolve(list, pod, node);
    let is_it =
        |item: &&PodView| (&item.metadata.namespace, &item.metadata.name) == (&id.namespace, &id.name);
    let item = list.items.iter().find(is_it);
    item.with_context(|| format!("there is no Pod {id}: `podkeep ps` lists those that are"))
}

/// The Pod's full name, and its uid where it is on the machine.
fn resolve(list: &PodList, pod: &str, node: &NodeArgs) -> (PodId, Option<Uid>) {
    let (namespace, name) = typed(pod, node);
    let full = format!("{name}-{}", list.podkeep.node_name);
    let of = |wanted: &str| {
        list.items.iter().find(|item| item.metadata.namespace == namespace && item.metadata.name == wanted)
    };
    let id = |name: &str| PodId { namespace: namespace.to_owned(), name: name.to_owned() };
    match of(name).or_else(|| of(&full)) {
        Some(found) => (id(&found.metadata.name), Uid::parse(&found.metadata.uid)),
        None => (id(name), None),
    }
}

/// A container of a Pod that the node has: the one that is named, or the only one.
///
/// # Errors
/// When the node does not answer, or there is no such Pod or container.
pub fn container(node: &NodeArgs, pod: &str, container: Option<&str>) -> Result<(PodId, String)> {
    let list = ask(node)?;
    let item = one(&list, pod, node)?;
    let Metadata { namespace, name, .. } = &item.metadata;
    let id = PodId { namespace: namespace.clone(), name: name.clone() };
    let names: Vec<&str> = item.status.all_containers().map(|c| c.name.as_str()).collect();
    let name = match (container, only_main(item)) {
        (Some(name), _) if names.contains(&name) => name,
        (Some(name), _) => bail!("Pod {id} has no container {name}, but {}", names.join(", ")),
        (None, Some(only)) => only,
        (None, None) => bail!("Pod {id} has several containers, choose one with -c: {}", names.join(", ")),
    };
    let name = name.to_owned();
    Ok((id, name))
}

/// The one that is meant where none is named: init containers and sidecars serve it.
fn only_main(pod: &PodView) -> Option<&str> {
    match pod.status.container_statuses.as_slice() {
        [only] => Some(&only.name),
        _ => None,
    }
}

/// `podkeep logs`.
pub fn logs(options: &LogsArgs, node: &NodeArgs) -> Result<ExitCode> {
    let list = known(node)?;
    let root = log_root(&list, node);
    let (mut pod, uid) = resolve(&list, &options.pod, node);
    if uid.is_none() {
        pod = removed_pod(&root, pod, &list.podkeep.node_name);
    }
    let is_it =
        |item: &&PodView| (&item.metadata.namespace, &item.metadata.name) == (&pod.namespace, &pod.name);
    let only = list.items.iter().find(is_it).and_then(only_main);
    let request = logs::Request {
        root: &root,
        pod: &pod,
        uid: uid.as_ref(),
        container: options.container.as_deref().or(only),
        previous: options.previous,
        tail: options.tail,
    };
    let out = io::stdout().lock();
    match options.follow {
        true => {
            // Only a node that answers can tell that the Pod is gone; one that does not may be back in a moment.
            let is_it = |item: &PodView| {
                (&item.metadata.namespace, &item.metadata.name) == (&pod.namespace, &pod.name)
            };
            let alive = || {
                client::pods(&Folders::socket_in(&node.run_dir))
                    .map_or(true, |list| list.items.iter().any(is_it))
            };
            logs::follow(&request, out, alive)?;
        }
        false => logs::print(&request, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A Pod that is gone may still have logs, under its full name.
fn removed_pod(root: &Path, typed: PodId, node_name: &str) -> PodId {
    let full = PodId { name: format!("{}-{node_name}", typed.name), ..typed.clone() };
    let has_logs = |id: &PodId| {
        crate::logs::folders_of(root, &id.namespace, &id.name).is_ok_and(|folders| !folders.is_empty())
    };
    if !has_logs(&typed) && has_logs(&full) { full } else { typed }
}

/// The folder of all logs: as any Pod of the list tells it, else as the node wrote it down.
fn log_root(list: &PodList, node: &NodeArgs) -> std::path::PathBuf {
    let told = list.items.first().and_then(|item| item.podkeep.log_dir.parent());
    told.map(Path::to_owned).unwrap_or_else(|| offline::log_root(&node.run_dir, &node.root_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_node_ever_was_there_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let node = NodeArgs { namespace: None, root_dir: place("root"), run_dir: place("run") };
        let error = known(&node).unwrap_err().to_string();
        assert!(
            error.starts_with("no node answers on ") && error.contains(", and none has run with "),
            "{error}"
        );
        assert!(known_quietly(&node).unwrap().items.is_empty());
    }
}
