//! From a container of the manifest to a process.

use std::fs;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, Spec};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::carry_out::Failed;
use super::folders::{Folders, LAST_WORDS};
use super::mounts;
use super::name_files;
use super::output::fifo_key;
use super::pod_run::{Key, Output, PodNumber, Process, Starting, Watched};
use super::poller::{Interest, Poller};
use super::prepare::{self, Made};
use super::state::SavedRun;
use super::user_ids;
use super::worker::{Done, Worker};
use crate::cgroup::Controller;
use crate::config::Config;
use crate::container::environment::{Environment, Purpose};
use crate::container::resources;
use crate::container::seccomp::{self, Program, SeccompError};
use crate::container::{
    self, About, IdRange, ImageConfig, ImageVolume, Lsm, Namespaces, News, Overlay, Plan, Recipe,
    ResolvedUser, Root, Setting, StartError, Stdio, SubPath,
};
use crate::image::{Image, MOUNT_POINTS};
use crate::logs::{Fifo, Stream, container_log_dir, pod_log_dir, prune_restarts};
use crate::manifest::pod::{AppArmorProfile, SeccompProfile};
use crate::manifest::{Container, Pod};
use crate::pod::event::Index;
use crate::pod::{Command, Event, StartFailure};
use crate::sys::process::start_time;
use crate::volume;

impl Worker {
    /// Starts a container. The inner error is the container's, the outer one the worker's.
    pub fn start(&mut self, number: PodNumber, container: Index, attempt: u32) -> Result<Result<(), Failed>> {
        // It must not begin with what has changed already.
        self.renew_files_of(number);
        if let Err(error) = self.write_name_files(number) {
            return Ok(Err((StartFailure::Create, format!("{error:#}"))));
        }
        let ingredients = match self.ingredients(number, container) {
            Ok(ingredients) => ingredients,
            Err(failed) => return Ok(Err(failed)),
        };
        if self.waits_for_namespaces(number, container, attempt) {
            return Ok(Ok(()));
        }
        let pid_namespace = match self.shared_pid_namespace(number) {
            Ok(namespace) => namespace,
            Err(error) => return Ok(Err((StartFailure::Create, format!("{error:#}")))),
        };
        let plan = match self.plan(number, container, attempt, &ingredients, pid_namespace) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err((StartFailure::Create, format!("{error:#}")))),
        };
        self.hold_output(number, container)?;
        match self.spawn(number, container, attempt, plan) {
            Ok(()) => Ok(Ok(())),
            Err(error) => {
                self.kill(number, container);
                self.give_up_run(number, container)?;
                Ok(Err((StartFailure::Create, format!("{error:#}"))))
            }
        }
    }

    /// Whether the Pod's namespaces are gone: the keeper that held them ended while no process of the Pod was in them. Without them,
    /// the container would be in the host's: they are made anew, beside the loop, and it starts then.
    fn waits_for_namespaces(&mut self, number: PodNumber, container: Index, attempt: u32) -> bool {
        let Some(run) = self.pods.get_mut(&number) else { return false };
        if prepare::has_namespaces(run.pod(), &run.namespaces) {
            return false;
        }
        run.awaits_namespaces.push((container, attempt));
        if run.awaits_namespaces.len() > 1 {
            return true;
        }
        let (pod, folders) = (Arc::clone(run.pod()), self.options.folders.clone());
        let link = self.claim_link_again(number).map_err(|error| format!("{error:#}"));
        let cluster_domain = self.options.config.dns.cluster_domain.clone();
        self.work.add(move || {
            let made = |link| {
                let ids = user_ids::of(&folders, &pod);
                let made = ids.and_then(|ids| prepare::namespaces(&pod, ids, &cluster_domain, link));
                made.map_err(|error| format!("{error:#}"))
            };
            Done::NamespacesMade { pod: number, result: link.and_then(made) }
        });
        true
    }

    /// The containers that have waited for their Pod's namespaces start, or fail to.
    pub fn namespaces_made(&mut self, number: PodNumber, result: Result<Made, String>) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let waiting = std::mem::take(&mut run.awaits_namespaces);
        match result {
            Ok(made) => {
                run.namespaces = made.namespaces;
                run.cni = made.cni;
                self.hold_namespaces(number)?;
                let starts =
                    waiting.into_iter().map(|(container, attempt)| Command::Start { container, attempt });
                self.begun.extend(starts.map(|start| (number, start)));
            }
            Err(message) => {
                for (container, _) in waiting {
                    let (failure, message) = (StartFailure::Create, message.clone());
                    self.tell(number, Event::StartFailed { container, failure, message });
                }
            }
        }
        self.watch_network();
        Ok(())
    }

    fn ingredients(&mut self, number: PodNumber, container: Index) -> Result<Ingredients, Failed> {
        let missing = || (StartFailure::Create, "the Pod or its image is gone".to_owned());
        let run = self.pods.get(&number).ok_or_else(missing)?;
        let image = run.containers.get(container).and_then(|c| c.image.clone()).ok_or_else(missing)?;
        let pod = Arc::clone(run.pod());
        let spec = pod.containers.get(container).ok_or_else(missing)?;
        if image.is_artifact {
            let message =
                format!("image {} is an artifact, which has nothing to run: it can be a volume", spec.image);
            return Err((StartFailure::Config, message));
        }
        let config = |error: anyhow::Error| (StartFailure::Config, format!("{error:#}"));
        let user = self.images.user(&image, spec).map_err(config)?;
        let environment = self.environment(&pod, spec, Purpose::Start);
        let environment = Arc::new(environment.map_err(|error| config(error.into()))?);
        let sub_paths = mounts::sub_paths(&pod, spec, &environment, &self.options.folders).map_err(config)?;
        Ok(Ingredients { pod, image, user, environment, sub_paths })
    }

    /// Makes everything that the process needs, and the steps it will take.
    fn plan(
        &mut self,
        number: PodNumber,
        container: Index,
        attempt: u32,
        ingredients: &Ingredients,
        pid_namespace: Option<OwnedFd>,
    ) -> Result<Plan> {
        let folders = &self.options.folders;
        let run = self.pods.get(&number).context("the Pod is gone")?;
        let Ingredients { pod, user, sub_paths, .. } = ingredients;
        let spec = &pod.containers[container];
        let pod_group = run.group.as_ref().context("the Pod has no cgroup")?;
        let resources = self.resources(pod, spec);
        let group = pod_group.child(&spec.name, &resources::settings(&resources)?)?;
        // Checked before anything is made for it: among others, that the Pod's user namespace has its ids.
        let oci = self.container_spec(ingredients, container, attempt, group.path(), resources)?;
        let log_dir = container_log_dir(
            &pod_log_dir(&folders.logs, &pod.id.namespace, &pod.id.name, &pod.uid),
            &spec.name,
        );
        let log = self.pump.open_log(&log_dir, attempt, self.policy)?;
        let ids = user_ids::of(folders, pod)?;
        let fifo = |stream: Stream| make_fifo(folders, pod, spec, stream, user, ids);
        let (stdout, stderr) = (fifo(Stream::Stdout)?, fifo(Stream::Stderr)?);
        let (out, err) = (stdout.container_end()?, stderr.container_end()?);
        let stdio = Stdio::Streams { stdin: None, stdout: out, stderr: err };
        let volumes = mounts::image_volumes(pod, spec, &run.containers[container])?;
        let root = self.make_root(ingredients, spec, attempt, ids, volumes)?;
        label_files(pod, folders, &root, &oci)?;
        let run = self.pods.get_mut(&number).context("the Pod is gone")?;
        let namespaces = run.namespaces.try_clone().context("duplicate the Pod's namespaces")?;
        let namespaces = Namespaces { pid: pid_namespace, ..namespaces };
        let mut setting = Setting::new(Root::Overlay(root), namespaces, stdio);
        setting.seccomp = seccomp_program(spec, &self.options.config, &self.options.folders)?;
        setting.keyring = Some(keyring(pod, &spec.name));
        setting.sub_paths.clone_from(sub_paths);
        let plan = container::plan(&oci, setting)?;
        container::limit_devices(&oci, group.dir())?;
        let c = &mut run.containers[container];
        c.group = Some(group);
        c.environment = spec.has_variables_that_change().then(|| Arc::clone(&ingredients.environment));
        let watch = |poller: &mut Poller<Key>, fifo: Fifo, stream| {
            let registration =
                poller.add(&fifo, Interest::NewData, Key::Output(number, container, stream))?;
            std::io::Result::Ok(Watched { inner: fifo, registration })
        };
        let stdout = watch(&mut self.poller, stdout, Stream::Stdout)?;
        let stderr = watch(&mut self.poller, stderr, Stream::Stderr)?;
        c.output = Some(Output { stdout, stderr, log, lost: 0, lost_said_at: None });
        Ok(plan)
    }

    /// The image's layers, and above them what this run may write to.
    fn make_root(
        &self,
        ingredients: &Ingredients,
        container: &Container,
        attempt: u32,
        ids: Option<IdRange>,
        volumes: Vec<ImageVolume>,
    ) -> Result<Overlay> {
        let folders = &self.options.folders;
        let run = folders.container_run(&ingredients.pod.uid, &container.name, attempt);
        self.spares.run(&run)?;
        if let Some(ids) = ids {
            for place in [run.join("upper"), run.join("work"), run.join(LAST_WORDS)] {
                chown(&place, Some(ids.first), Some(ids.first))
                    .with_context(|| format!("give {} to the Pod's root", place.display()))?;
            }
        }
        Ok(self.root(&ingredients.image, &run, volumes))
    }

    /// The image's layers between the places of its mounts and what is in the folder of a run.
    pub fn root(&self, image: &Image, run: &Path, volumes: Vec<ImageVolume>) -> Overlay {
        let lowest = iter::once(MOUNT_POINTS.to_owned());
        Overlay {
            layers_dir: self.images.layers_dir().to_owned(),
            lower: lowest.chain(image.layers.iter().cloned()).collect(),
            upper: run.join("upper"),
            work: run.join("work"),
            mount_at: self.options.folders.mount_point(),
            volumes,
        }
    }

    /// The container's limits, as far as this machine can enforce them.
    pub fn resources(&self, pod: &Pod, container: &Container) -> LinuxResources {
        let has_memory = !self.cgroups.missing_controllers().contains(&Controller::Memory);
        resources::of_container(pod, container, has_memory)
    }

    /// Describes a container of a Pod, as it is started in this cgroup.
    pub fn container_spec(
        &self,
        ingredients: &Ingredients,
        container: Index,
        attempt: u32,
        cgroup: &Path,
        resources: LinuxResources,
    ) -> Result<Spec> {
        let folders = &self.options.folders;
        let Ingredients { pod, image, user, environment, sub_paths } = ingredients;
        let spec = pod.containers.get(container).context("the Pod has no such container")?;
        let ids = user_ids::of(folders, pod)?;
        let image_config = image_config(image);
        let recipe = Recipe {
            pod,
            container: spec,
            environment,
            image: &image_config,
            user,
            hostname: &self.host_name_of(pod),
            open_files: self.options.open_files,
            binds: mounts::binds(pod, spec, sub_paths, folders, attempt, self.images.layers_dir()),
            cgroup: cgroup.to_owned(),
            resources,
            oom_score_adj: Some(oom_score_adj(pod, spec)),
            ids,
            shm: volume::shared_memory(&folders.pod(&pod.uid)),
            lsm: lsm(spec)?,
        };
        Ok(container::spec(&recipe)?)
    }

    /// The keeper holds the pipes open before anything can be written into them.
    fn hold_output(&self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get(&number) else { return Ok(()) };
        let Some(output) = run.containers.get(container).and_then(|c| c.output.as_ref()) else {
            return Ok(());
        };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let key = fifo_key(run.uid(), container, stream);
            self.link.hold(&key, output.fifo(stream).inner.as_fd()).context("hand over a log pipe")?;
        }
        Ok(())
    }

    /// Has the process made. It need not be there when this returns: its cgroup may be frozen, or out of CPU time.
    fn spawn(&mut self, number: PodNumber, container: Index, attempt: u32, plan: Plan) -> Result<()> {
        let plan = Arc::new(plan);
        let keeper = self.reign.keeper;
        let run = self.pods.get_mut(&number).context("the Pod is gone")?;
        let c = &mut run.containers[container];
        let group = c.group.as_ref().context("the container has no cgroup")?;
        let uid = &run.machine.pod().uid;
        let (place, places) = self
            .start_journal
            .begin(uid, container, attempt, keeper)
            .context("too many containers are on their way at once")?;
        let report = container::spawn_by(&self.spawner, &plan, group.dir(), places)
            .map_err(anyhow::Error::from)
            .and_then(|report| {
                let registration =
                    self.poller.add(&report, Interest::Readable, Key::Report(number, container))?;
                Ok(Watched { inner: report, registration })
            });
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.start_journal.done(place);
                return Err(error);
            }
        };
        c.starting = Some(Starting { attempt, plan, report, place });
        self.begin_log(number, container, attempt);
        self.fill_spares();
        Ok(())
    }

    /// Makes the log's file while the process is on its way: its output waits in the pipe. A disk that takes no file
    /// loses lines, which is said then; it keeps no container from starting.
    fn begin_log(&mut self, number: PodNumber, container: Index, attempt: u32) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        let name = run.name_of(container);
        let Some(output) = run.containers.get_mut(container).and_then(|c| c.output.as_mut()) else { return };
        output.log.begin();
        if attempt > 0
            && let Err(error) = prune_restarts(output.log.dir(), attempt)
        {
            log::warn!("{name}: {error}");
        }
    }

    /// Takes what a starting process says: that it is there, then nothing and the end if exec has happened, else which step
    /// failed.
    pub fn read_report(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let Some(c) = run.containers.get_mut(container) else { return Ok(()) };
        let Some(starting) = &c.starting else { return Ok(()) };
        match starting.report.inner.news(&starting.plan) {
            Ok(None) => return Ok(()),
            Ok(Some(News::Born(pidfd))) => {
                let pid = self.start_journal.pid(&starting.place);
                let stop_signal = c.image.as_ref().and_then(|image| image.config.stop_signal.clone());
                let (attempt, keeper) = (starting.attempt, self.reign.keeper);
                let volume_images = c.volumes.values().map(|image| image.id.clone()).collect();
                let start_time = start_time(pid);
                let seccomp = starting.plan.seccomp().cloned();
                let run = SavedRun { attempt, pid, start_time, stop_signal, seccomp, volume_images, keeper };
                c.process = Some(Process { run, pidfd: Some(pidfd), watch: None });
                self.processes.insert(pid, (number, container));
                // It may have said more by now.
                return self.read_report(number, container);
            }
            Ok(Some(News::Further(_))) if c.process.is_some() => self.start_ended(number, container, None),
            // As with the kubelet, nothing has run: it waits until the volume has what it wants.
            Err(error @ StartError::Step { about: About::SubPath, .. }) => {
                self.never_ran(number, container, StartFailure::Config, error)?
            }
            Ok(Some(News::Further(_))) => {
                self.never_ran(number, container, StartFailure::Create, StartError::Gone)?
            }
            Err(error) if c.process.is_some() => self.start_ended(number, container, Some(error)),
            Err(error) => self.never_ran(number, container, StartFailure::Create, error)?,
        }
        Ok(())
    }

    /// Exec has happened, unless a step has failed.
    fn start_ended(&mut self, number: PodNumber, container: Index, error: Option<StartError>) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        let name = run.name_of(container);
        let Some(c) = run.containers.get_mut(container) else { return };
        let pid = c.process.as_ref().map_or(0, |process| process.run.pid);
        let Some(starting) = c.starting.take() else { return };
        self.leave_starting(starting);
        let event = match error {
            None => Event::Started { container, pid },
            Some(error) => {
                let message = format!("start container {name}: {error}");
                log::warn!("{message}");
                Event::StartFailed { container, failure: StartFailure::Exec, message }
            }
        };
        self.tell(number, event);
    }

    /// No process was made, or none of which anything was heard, or the container asks for what is not there.
    fn never_ran(
        &mut self,
        number: PodNumber,
        container: Index,
        failure: StartFailure,
        error: StartError,
    ) -> Result<()> {
        self.kill(number, container);
        self.give_up_run(number, container)?;
        let message = error.to_string();
        self.tell(number, Event::StartFailed { container, failure, message });
        Ok(())
    }

    /// SIGKILL to what has not become its program: it may hang, or its cgroup may hold it up, and nothing of it has to be ended
    /// in good order.
    pub fn kill_what_has_not_begun(&mut self, number: PodNumber) -> Result<()> {
        let containers = self.pods.get(&number).map_or(0, |run| run.containers.len());
        for container in 0..containers {
            self.read_report(number, container)?;
            let run = self.pods.get(&number).context("the Pod is gone")?;
            if run.containers[container].starting.is_some() {
                self.kill(number, container);
            }
        }
        Ok(())
    }

    /// Nothing more is heard of a process that was on its way.
    pub fn leave_starting(&mut self, starting: Starting) {
        let Starting { report, place, .. } = starting;
        self.poller.remove(&report.inner, report.registration);
        self.start_journal.done(place);
        self.spawner.collect();
    }

    /// The container whose process this is, if that is on its way and was not heard of yet.
    pub fn on_its_way(&self, pid: u32) -> Option<(PodNumber, Index)> {
        let (uid, container) = self.start_journal.find(pid)?;
        Some((*self.numbers.get(&uid)?, container))
    }
}

/// What a start needs beside the machine's word.
pub struct Ingredients {
    pub pod: Arc<Pod>,
    pub image: Arc<Image>,
    pub user: ResolvedUser,
    /// Its values belong into the process alone: they are shown and written nowhere.
    pub environment: Arc<Environment>,
    /// Of its mounts that show a part of a volume.
    pub sub_paths: Vec<SubPath>,
}

fn oom_score_adj(pod: &Pod, container: &Container) -> i32 {
    static MEMORY: LazyLock<u64> = LazyLock::new(super::environment::memory);
    resources::oom_score_adj(pod, container, *MEMORY).max(lowest_oom_score_adj())
}

/// As low as this process may make another one's: without CAP_SYS_RESOURCE no lower than its own.
pub fn lowest_oom_score_adj() -> i32 {
    static LOWEST: LazyLock<i32> = LazyLock::new(|| {
        let may_lower = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
        let own = || fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok();
        if may_lower { -1000 } else { own().unwrap_or(0) }
    });
    *LOWEST
}

/// What confines the container: the profile that the manifest names, compiled. A file is one of the node's `seccomp` folder.
pub fn seccomp_program(
    container: &Container,
    config: &Config,
    folders: &Folders,
) -> Result<Option<Arc<Program>>> {
    match container.security.seccomp_profile(config.seccomp_default) {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => {
            let permitted = container::permitted_capabilities(&container.security)?;
            Ok(Some(seccomp::default_program(permitted)))
        }
        SeccompProfile::Localhost(name) => of_profile(folders, name, seccomp::program_of_file).map(Some),
    }
}

/// The same profile, not compiled.
pub fn seccomp_profile(
    container: &Container,
    config: &Config,
    folders: &Folders,
) -> Result<Option<LinuxSeccomp>> {
    match container.security.seccomp_profile(config.seccomp_default) {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => {
            let permitted = container::permitted_capabilities(&container.security)?;
            Ok(Some(LinuxSeccomp::clone(&seccomp::default_profile(permitted))))
        }
        SeccompProfile::Localhost(name) => of_profile(folders, name, seccomp::load).map(Some),
    }
}

fn of_profile<T>(
    folders: &Folders,
    name: &str,
    make: impl FnOnce(&[u8]) -> Result<T, SeccompError>,
) -> Result<T> {
    let path = folders.seccomp().join(name);
    let doing = || format!("read the seccomp profile {}", path.display());
    let text = fs::read(&path).with_context(doing)?;
    make(&text).with_context(doing)
}

/// What the container's session keyring is called; every process in it has that one, as with containerd and runc.
pub fn keyring(pod: &Pod, container: &str) -> String {
    format!("_ses.{}/{container}", pod.uid)
}

/// The machine's security modules.
///
/// # Errors
/// When the container wants a profile that is not there: the kernel would say so too late for another try.
fn lsm(container: &Container) -> Result<Lsm> {
    let lsm = Lsm::of_this_host();
    if let (true, Some(AppArmorProfile::Localhost(name))) = (lsm.apparmor, &container.security.apparmor)
        && container::is_apparmor_profile_loaded(name) == Some(false)
    {
        bail!("the AppArmor profile {name} is not loaded: apparmor_parser loads it, aa-status lists what is");
    }
    Ok(lsm)
}

fn make_fifo(
    folders: &Folders,
    pod: &Pod,
    container: &Container,
    stream: Stream,
    user: &ResolvedUser,
    ids: Option<IdRange>,
) -> Result<Fifo> {
    let path = folders.fifo(&pod.uid, &container.name, stream.as_str());
    // One is there if the last worker was killed between this and its container's process.
    let _ = fs::remove_file(&path);
    // Ids of the host.
    let first = ids.map_or(0, |ids| ids.first);
    Ok(Fifo::create(&path, first + user.uid, first + user.gid)?)
}

/// A bind mount has its file's label, unlike what is mounted for the container alone. Of the Pod's files the last one that starts
/// has its own, as with the kubelet.
fn label_files(pod: &Pod, folders: &Folders, root: &Overlay, oci: &Spec) -> Result<()> {
    let label = oci.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    let Some(label) = label else { return Ok(()) };
    let names = name_files::ALL.map(|name| folders.name_file(&pod.uid, name));
    for file in names.into_iter().chain([root.upper.with_file_name(LAST_WORDS)]) {
        match rustix::fs::setxattr(&file, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
            // All files there have the label that the file system was mounted with.
            Err(Errno::OPNOTSUPP) => return Ok(()),
            labelled => labelled.with_context(|| format!("label {}", file.display()))?,
        }
    }
    Ok(())
}

fn image_config(image: &Image) -> ImageConfig {
    let config = &image.config;
    ImageConfig {
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        working_dir: Some(config.working_dir.clone()),
    }
}
