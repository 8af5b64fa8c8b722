//! Before the first container of a Pod and after its last: folders, volumes, namespaces and the Pod's cgroup.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxNamespaceType;

use super::admission;
use super::cni::{CniLink, Joining};
use super::file_volumes::{owner, remove_files};
use super::folders::Folders;
use super::pod_network::Place;
use super::pod_run::{PodNumber, PodRun};
use super::snapshot::unmet_wishes;
use super::spare::Spares;
use super::user_ids;
use super::worker::{Done, Worker};
use crate::cgroup::{PodCgroupName, PodLimits, Tree};
use crate::container::{IdRange, Lsm, Mappings, Namespaces, PodNamespaces};
use crate::manifest::pod::{QosClass, VolumeKind};
use crate::manifest::{Pod, Uid};
use crate::pod::{Event, PrepareProblem};
use crate::{sys, volume};

/// The namespaces that the containers of a Pod may share, under the names by which the keeper holds them.
pub const NAMESPACES: [(LinuxNamespaceType, &str); 4] = [
    (LinuxNamespaceType::User, "user"),
    (LinuxNamespaceType::Network, "net"),
    (LinuxNamespaceType::Ipc, "ipc"),
    (LinuxNamespaceType::Uts, "uts"),
];

/// Those that the Pod has of its own.
pub fn own_namespaces(pod: &Pod) -> impl Iterator<Item = (LinuxNamespaceType, &'static str)> + '_ {
    NAMESPACES.into_iter().filter(|(kind, _)| match kind {
        LinuxNamespaceType::User => !pod.host_users,
        LinuxNamespaceType::Network => !pod.host_network,
        LinuxNamespaceType::Ipc => !pod.host_ipc,
        LinuxNamespaceType::Uts => pod.hostname.is_some(),
        _ => false,
    })
}

/// Whether all of them are there.
pub fn has_namespaces(pod: &Pod, namespaces: &Namespaces) -> bool {
    own_namespaces(pod).all(|(kind, _)| namespaces.get(kind).is_some())
}

/// The keeper's key of one of a Pod's namespaces.
pub fn namespace_key(uid: &Uid, kind: &str) -> String {
    format!("{uid}/{kind}")
}

impl Worker {
    /// Makes folders, volumes and namespaces: beside the loop where that could take long.
    pub fn prepare(&mut self, number: PodNumber) -> Result<()> {
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        let (pod, folders) = (run.pod().clone(), self.options.folders.clone());
        // Taken over: the namespaces are there.
        let prepared = own_namespaces(&pod).next().is_some() && has_namespaces(&pod, &run.namespaces);
        let spares = self.spares.clone();
        let ids_per_pod = self.options.config.user_ids_per_pod;
        let taken_over = run.group.is_some();
        let allowed_sysctls = self.options.config.allowed_unsafe_sysctls.clone();
        let cluster_domain = self.options.config.dns.cluster_domain.clone();
        let at_once = is_quick(&pod);
        if let Err(message) = self.check_files(&pod) {
            return self.pod_prepared(number, Err((PrepareProblem::Volume, message)));
        }
        let link = match self.claim_link(number, prepared) {
            Ok(link) => link,
            Err(error) => return self.pod_prepared(number, Err(other(format!("{error:#}")))),
        };
        let job = move || {
            let admitted = match taken_over {
                true => Ok(()),
                false => admit(&pod, &allowed_sysctls, &cluster_domain),
            };
            let result = admitted.and_then(|()| prepare_folder(&pod, &folders, &spares, ids_per_pod));
            let result = result.and_then(|ids| match prepared {
                true => Ok(None),
                false => namespaces(&pod, ids, &cluster_domain, link).map(Some),
            });
            result.map_err(|error| (problem_of(&error), format!("{error:#}")))
        };
        if at_once {
            return self.pod_prepared(number, job());
        }
        self.work.add(move || Done::Prepared { pod: number, result: job() });
        Ok(())
    }

    /// What is to connect the Pod's network namespace, if anything is. `is_there`: it was connected before.
    fn claim_link(&mut self, number: PodNumber, is_there: bool) -> Result<Option<Link>> {
        let is_on_cni = self.pods.get(&number).is_some_and(|run| run.cni.is_some());
        if is_there && is_on_cni {
            return Ok(None);
        }
        let joining = if is_there { None } else { self.joining(number)? };
        let link = match joining {
            Some(joining) => Some(Link::Cni(joining)),
            None => self.claim_place(number)?.map(Link::Own),
        };
        if let Some(run) = self.pods.get_mut(&number) {
            run.holds_ports = true;
        }
        Ok(link)
    }

    /// The same for a Pod whose namespace has gone: of the network that it was on.
    pub fn claim_link_again(&mut self, number: PodNumber) -> Result<Option<Link>> {
        if self.pods.get(&number).is_none_or(|run| run.cni.is_none()) {
            self.renew_lease(number);
            return Ok(self.place(number).map(Link::Own));
        }
        let joining = self.joining(number)?;
        joining.map(|joining| Some(Link::Cni(joining))).context("the CNI network that it was on is not there")
    }

    /// Finds out whether a Pod could be prepared, and changes nothing.
    pub fn rehearse(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get(&number) else { return };
        let pod = run.pod().clone();
        let refused = self.has_controllers(&pod).err();
        if let Some(message) = refused.or_else(|| self.lacks_for_start(&pod)) {
            return self.rehearsed(number, Err(message));
        }
        let allowed_sysctls = self.options.config.allowed_unsafe_sysctls.clone();
        let cluster_domain = self.options.config.dns.cluster_domain.clone();
        let at_once = is_local(&pod);
        let job = move || {
            let admitted = admission::admit(&pod, &allowed_sysctls, Lsm::of_this_host())
                .and_then(|()| admission::host_name(&pod, &cluster_domain));
            let result = admitted.map_err(anyhow::Error::from).and_then(|_| Ok(volume::check(&pod)?));
            result.map_err(|error| format!("{error:#}"))
        };
        if at_once {
            return self.rehearsed(number, job());
        }
        self.work.add(move || Done::Rehearsed { pod: number, result: job() });
    }

    pub fn rehearsed(&mut self, number: PodNumber, result: Result<(), String>) {
        let event = match result {
            Ok(()) => Event::Rehearsed,
            Err(message) => Event::RehearsalFailed { message },
        };
        self.tell(number, event);
    }

    /// Takes over what [`prepare`](Self::prepare) made, and makes the files and the cgroup.
    pub fn pod_prepared(&mut self, number: PodNumber, result: Prepared) -> Result<()> {
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        let result = result.and_then(|made| {
            self.has_controllers(run.pod()).map_err(other)?;
            self.write_files(run.pod()).map_err(|message| (PrepareProblem::Volume, message))?;
            Ok(made)
        });
        self.watch_network();
        let pids_max = self.options.config.pod_pids_limit;
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let done = result.and_then(|made| {
            if let Some(made) = made {
                run.namespaces = made.namespaces;
                run.cni = made.cni;
            }
            make_group(run, &self.cgroups, pids_max).map_err(other)
        });
        let qos = run.qos;
        let event = match done {
            Ok(()) => {
                self.hold_namespaces(number)?;
                self.name_pod(number);
                self.weigh_class(qos);
                Event::Prepared
            }
            Err((problem, message)) => {
                log::warn!("{}: {message}", run.pod().id);
                Event::PrepareFailed { problem, message }
            }
        };
        self.tell(number, event);
        Ok(())
    }

    /// Whether the host can enforce what the Pod asks for, where that is demanded.
    fn has_controllers(&self, pod: &Pod) -> Result<(), String> {
        if !self.options.config.require_cgroup_controllers {
            return Ok(());
        }
        let missing = self.cgroups.missing_controllers();
        let refused = unmet_wishes(pod, missing, self.options.config.pod_pids_limit);
        match refused.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "requireCgroupControllers: this host has no cgroup v2 controller for its limits of {}",
                refused.join(", ")
            )),
        }
    }

    /// Gives a QoS class its share of the processor: what the Pods in it ask for together.
    pub fn weigh_class(&self, qos: QosClass) {
        // It asks for nothing and has the least weight from the start.
        if qos == QosClass::BestEffort {
            return;
        }
        let pods = self.pods.values().filter(|run| run.group.is_some() && run.qos == qos);
        let asked = pods.map(|run| run.cpu_request_milli).fold(0, u64::saturating_add);
        if let Err(error) = self.cgroups.weigh_class(qos, asked) {
            log::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    /// The keeper keeps them open over this worker's end.
    pub fn hold_namespaces(&self, number: PodNumber) -> Result<()> {
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        for (kind, name) in NAMESPACES {
            if let Some(fd) = run.namespaces.get(kind) {
                self.link
                    .hold(&namespace_key(run.uid(), name), fd.as_fd())
                    .context("hand over a namespace")?;
            }
        }
        Ok(())
    }

    /// Gives back everything of a Pod but its logs: its folder in the lane of the writes to it, so that none comes after.
    pub fn release(&mut self, number: PodNumber) -> Result<()> {
        match self.end_pause(number) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                self.released(number, Err(format!("{error:#}")));
                return Ok(());
            }
        }
        // With the Pod's namespace, which plugins look into.
        if self.detach(number) {
            return Ok(());
        }
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        for (_, name) in NAMESPACES {
            self.link.drop_held(&namespace_key(run.uid(), name)).context("give up a namespace")?;
        }
        run.namespaces = Namespaces::default();
        let group_gone = match &run.group {
            Some(group) => group.remove().map_err(|error| format!("{:#}", anyhow::Error::from(error))),
            None => Ok(()),
        };
        if let Err(message) = group_gone {
            self.released(number, Err(message));
            return Ok(());
        }
        run.group = None;
        let (pod, folders) = (run.pod().clone(), self.options.folders.clone());
        let place = self.place(number);
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        let for_good = run.machine.is_terminating();
        // Before the folder that the state lies in goes, perhaps at once.
        self.save_state_of(number);
        self.disk.add(move || {
            let disconnected = place.map_or(Ok(()), |place| place.disconnect());
            let result = disconnected.and_then(|()| release_folders(&pod, &folders, for_good));
            let result = result.map_err(|error| format!("{error:#}"));
            Done::Released { pod: number, result }
        });
        Ok(())
    }

    /// The Pod's folder has been given back, or why not.
    pub fn released(&mut self, number: PodNumber, result: Result<(), String>) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        let event = match result {
            Ok(()) => {
                run.lease = None;
                run.holds_ports = false;
                Event::Released
            }
            Err(message) => {
                log::warn!("{}: {message}", run.pod().id);
                Event::ReleaseFailed { message }
            }
        };
        // Those of one that goes for good are its successor's, if it has one, and are offered then.
        if !run.holds_ports && !run.machine.is_terminating() {
            let pod = run.pod().clone();
            self.offer_host_ports_of(&pod);
        }
        self.name_pod(number);
        self.empty_trash();
        self.tell(number, event);
    }

    /// Deletes what was thrown away, beside the loop and one thing after the other.
    pub fn empty_trash(&mut self) {
        // What is thrown away while it runs is seen when it has ended.
        if !self.emptying_trash.may_begin() {
            return;
        }
        let trash = self.options.folders.trash();
        self.trash
            .add_for_later(move || Done::TrashEmptied(empty(&trash).map_err(|error| format!("{error:#}"))));
        self.not_now();
    }

    /// The trash was emptied, or as much of it as could be.
    pub fn trash_emptied(&mut self, result: Result<(), String>) {
        if let Err(message) = result {
            log::error!("{message}");
        }
        if self.emptying_trash.ended() {
            self.empty_trash();
        }
    }
}

/// What came of the folders and namespaces; those that were there stay.
pub type Prepared = Result<Option<Made>, (PrepareProblem, String)>;

/// A Pod's namespaces, and what a CNI network has given it.
pub struct Made {
    pub namespaces: Namespaces,
    pub cni: Option<CniLink>,
}

/// What connects a Pod's network namespace.
pub enum Link {
    Own(Place),
    Cni(Joining),
}

fn problem_of(error: &anyhow::Error) -> PrepareProblem {
    if error.is::<volume::Error>() { PrepareProblem::Volume } else { PrepareProblem::Other }
}

fn other(message: String) -> (PrepareProblem, String) {
    (PrepareProblem::Other, message)
}

/// Whether nothing that this Pod needs can hang or wait for others: a hostPath may lie on a dead server, an emptyDir that is
/// given to a group may be large, a new network namespace waits for those that are being destroyed (the kernel's rtnl lock),
/// ids of users are written to disk. For what is quick, the way to a thread and back would be the longer part.
fn is_quick(pod: &Pod) -> bool {
    pod.host_network && pod.host_users && is_local(pod)
}

fn is_local(pod: &Pod) -> bool {
    pod.volumes.iter().all(|volume| match volume.kind {
        VolumeKind::HostPath { .. } => false,
        VolumeKind::EmptyDir { .. } => pod.fs_group.is_none(),
        VolumeKind::Image { .. } | VolumeKind::Files { .. } => true,
    })
}

/// A Pod that was taken over is not asked again: what runs is left to run.
fn admit(pod: &Pod, allowed_sysctls: &[String], cluster_domain: &str) -> Result<()> {
    let lsm = Lsm::of_this_host();
    admission::admit(pod, allowed_sysctls, lsm)?;
    admission::host_name(pod, cluster_domain)?;
    for sentence in admission::unheeded(pod, lsm) {
        log::warn!("{}: {sentence}", pod.id);
    }
    Ok(())
}

/// The Pod's folder and volumes, and the ids of its user namespace if it has one.
fn prepare_folder(
    pod: &Pod,
    folders: &Folders,
    spares: &Spares,
    ids_per_pod: u32,
) -> Result<Option<IdRange>> {
    let folder = folders.pod(&pod.uid);
    spares.pod(&folder)?;
    let ids = (!pod.host_users).then(|| user_ids::claim(folders, &pod.uid, ids_per_pod)).transpose()?;
    volume::prepare(pod, &folder, owner(pod, ids))?;
    Ok(ids)
}

/// The namespaces that the Pod's containers share, its network's with what leads out of it.
pub fn namespaces(pod: &Pod, ids: Option<IdRange>, cluster_domain: &str, link: Option<Link>) -> Result<Made> {
    let host_name = admission::host_name(pod, cluster_domain)?;
    let wanted = PodNamespaces {
        hostname: host_name.as_deref(),
        host_network: pod.host_network,
        host_ipc: pod.host_ipc,
        mappings: ids.map(|ids| Mappings::range(ids.first, ids.size)),
    };
    let namespaces = Namespaces::create(&wanted)?;
    let cni = match (link, &namespaces.net) {
        (Some(Link::Own(place)), Some(net)) => {
            place.connect(net).context("give the Pod its addresses")?;
            None
        }
        (Some(Link::Cni(joining)), Some(net)) => Some(joining.connect(net)?),
        _ => None,
    };
    Ok(Made { namespaces, cni })
}

fn make_group(run: &mut PodRun, cgroups: &Tree, pids_max: Option<u64>) -> Result<(), String> {
    let pod = run.pod();
    let name = PodCgroupName::new(&pod.id, &pod.uid);
    let limits = PodLimits::of(pod, pids_max);
    let group =
        cgroups.pod(run.qos, &name, &limits).map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    run.group = Some(group);
    Ok(())
}

/// Unmounts first; what is deleted then is renamed away, so that a successor of the same uid finds nothing of it.
/// `for_good`: nobody will ask how it ended, so what a new worker would need to know goes too.
fn release_folders(pod: &Pod, folders: &Folders, for_good: bool) -> Result<()> {
    let folder = folders.pod(&pod.uid);
    volume::release(pod, &folder)?;
    remove_files(folders, &pod.uid)?;
    throw_away_pod(folders, &pod.uid)?;
    if for_good {
        remove_flat(&folders.run_pod(&pod.uid))?;
    }
    Ok(())
}

/// Renames a Pod's folder into the trash.
pub fn throw_away_pod(folders: &Folders, uid: &Uid) -> Result<()> {
    let folder = folders.pod(uid);
    // Before it goes: who is killed in between comes back for it.
    volume::give_back_quotas(uid, &folder);
    throw_away(&folder, &folders.trash())
}

/// Renames a folder into the trash. No error if it is not there.
pub fn throw_away(folder: &Path, trash: &Path) -> Result<()> {
    fs::create_dir_all(trash).with_context(|| format!("make {}", trash.display()))?;
    let target = free_name(trash, folder);
    match fs::rename(folder, &target) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("move {} to the trash", folder.display())),
    }
}

/// A name in the trash that nothing has, and nobody else is given. Writable layers of several Pods have one name, and a clock may
/// stand still from one to the next.
fn free_name(trash: &Path, folder: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let place = trash.join(format!("{name}.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        // An earlier worker may have left what it did not come to delete.
        if place.symlink_metadata().is_err() {
            return place;
        }
    }
}

/// Deletes everything in the trash.
pub fn empty(trash: &Path) -> Result<()> {
    let Ok(dir) = fs::File::open(trash) else { return Ok(()) };
    let mut outcome = Ok(());
    for entry in fs::read_dir(trash).with_context(|| format!("list {}", trash.display()))? {
        let entry = entry.with_context(|| format!("list {}", trash.display()))?;
        let deleted = sys::remove_tree::remove_tree(dir.as_fd(), &entry.file_name())
            .with_context(|| format!("delete {}", entry.path().display()));
        // One that cannot be deleted keeps none of the others.
        outcome = outcome.and(deleted);
    }
    outcome
}

/// Deletes a folder of files that are our own. No error if it is not there.
pub fn remove_flat(folder: &Path) -> Result<()> {
    let gone = |error: std::io::Error, path: &Path| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error).with_context(|| format!("delete {}", path.display())),
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return gone(error, folder),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        fs::remove_file(&path).or_else(|error| gone(error, &path))?;
    }
    fs::remove_dir(folder).or_else(|error| gone(error, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_one_name_have_room_in_the_trash_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, trash) = (dir.path().join("pods"), dir.path().join("trash"));
        // What is empty would be replaced without a word.
        let make = |folder: &Path| fs::create_dir_all(folder.join("upper")).unwrap();
        (0..20).for_each(|number| make(&trash.join(format!("writable.main.0.{number}"))));
        for pod in ["first", "second", "third"] {
            let layer = pods.join(pod).join("writable.main.0");
            make(&layer);
            throw_away(&layer, &trash).unwrap();
            assert!(!layer.exists());
        }
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 23);
    }
}
