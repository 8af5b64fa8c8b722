//! `create` and `run`: from a bundle to a process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Hook, Hooks, LinuxResources, Spec};
use rustix::process::DumpableBehavior;

use super::args::{CreateArgs, Making};
use super::id::ContainerId;
use super::state::{self, Container, Folder, OCI_VERSION, Status};
use crate::cgroup::{self, Group};
use crate::container::{
    self, Namespaces, Parent, Plan, Progress, Root, Setting, Spawned, Stdio, Target, resources, run_hooks,
};
use crate::sys::sealed;

/// What a container is made from.
pub(super) struct Bundle {
    pub path: PathBuf,
    /// As it was read.
    pub config: Vec<u8>,
    /// With all paths absolute.
    pub spec: Spec,
}

/// A container whose process is on its way.
pub(super) struct Made {
    pub folder: Folder,
    pub container: Container,
    pub spec: Spec,
    pub spawned: Spawned,
    plan: Plan,
    group: Group,
}

/// How the process starts, and what its streams are.
pub(super) struct Start {
    /// It waits for `start`.
    pub waits: bool,
    pub stdio: Stdio,
}

/// `create`: at its end the process waits, and nobody is its parent.
pub(super) fn create(root: &Path, args: &CreateArgs) -> Result<()> {
    prepare_self()?;
    let bundle = Bundle::read(&args.making.bundle)?;
    let stdio = stdio(&bundle.spec, args.making.console_socket.as_deref())?;
    let made = make(root, &args.id, bundle, &args.making, Start { waits: true, stdio })?;
    made.finish(&args.making, Progress::Ready)
}

/// Nobody may look into what this process clones, nor reach its file through it (CVE-2019-5736).
pub(super) fn prepare_self() -> Result<()> {
    sealed::ensure()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("close this process to others")
}

impl Bundle {
    pub fn read(path: &Path) -> Result<Bundle> {
        let path = fs::canonicalize(path).with_context(|| format!("find the bundle {}", path.display()))?;
        let file = path.join("config.json");
        let config = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let mut spec: Spec =
            serde_json::from_slice(&config).with_context(|| format!("read {}", file.display()))?;
        if !spec.version().starts_with("1.") {
            bail!(
                "{}: ociVersion {} is none that podkeep knows ({OCI_VERSION})",
                file.display(),
                spec.version()
            );
        }
        make_absolute(&mut spec, &path)?;
        Ok(Bundle { path, config, spec })
    }
}

/// Relative paths of a bundle are relative to it.
fn make_absolute(spec: &mut Spec, bundle: &Path) -> Result<()> {
    let Some(root) = spec.root_mut() else { bail!("the spec has no root") };
    let path = bundle.join(root.path());
    let path = fs::canonicalize(&path).with_context(|| format!("find the root {}", path.display()))?;
    root.set_path(path);
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let options = mount.options().as_deref().unwrap_or_default();
        let is_bind = mount.typ().as_deref() == Some("bind")
            || options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
        if let Some(source) = mount.source().as_deref().filter(|source| is_bind && source.is_relative()) {
            let source = bundle.join(source);
            mount.set_source(Some(source));
        }
        if mount.destination().is_relative() {
            // Deprecated, and still written by some.
            let destination = Path::new("/").join(mount.destination());
            mount.set_destination(destination);
        }
    }
    Ok(())
}

/// A terminal goes to the socket; without one the streams are the caller's.
pub(super) fn stdio(spec: &Spec, console_socket: Option<&Path>) -> Result<Stdio> {
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    match (terminal, console_socket) {
        (false, None) => Ok(Stdio::Inherit),
        (false, Some(_)) => bail!("there is a console socket, but the process has no terminal"),
        (true, None) => bail!("the process has a terminal: say by --console-socket where it is sent to"),
        (true, Some(path)) => Ok(Stdio::Terminal { console: connect(path)? }),
    }
}

pub(super) fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = UnixStream::connect(path);
    Ok(socket.with_context(|| format!("connect to the console socket {}", path.display()))?.into())
}

/// Makes state, cgroup and process, up to where the process needs a word.
pub(super) fn make(
    root: &Path,
    id: &ContainerId,
    bundle: Bundle,
    making: &Making,
    start: Start,
) -> Result<Made> {
    let folder = Folder::make(root, id)?;
    let group = match make_group(&bundle.spec, id) {
        Ok(group) => group,
        Err(error) => {
            folder.remove()?;
            return Err(error);
        }
    };
    match launch(&folder, id, bundle, making, start, &group) {
        Ok((container, spec, spawned, plan)) => Ok(Made { folder, container, spec, spawned, plan, group }),
        Err(error) => {
            // What failed matters more than what of it cannot be removed.
            let _ = group.kill();
            let _ = group.remove();
            let _ = folder.remove();
            Err(error)
        }
    }
}

fn make_group(spec: &Spec, id: &ContainerId) -> Result<Group> {
    let linux = spec.linux().as_ref().context("the spec has no linux")?;
    let (group, missing) = cgroup::open_or_make(linux.cgroups_path().as_deref(), id.as_str())?;
    let apply = || -> Result<()> {
        if let Some(asked) = linux.resources() {
            limit(&group, asked, &missing)?;
            container::limit_devices(spec, group.dir())?;
        }
        Ok(())
    };
    if let Err(error) = apply() {
        let _ = group.remove();
        return Err(error);
    }
    Ok(group)
}

/// What this host cannot limit is said, not failed over: the caller has chosen this host.
pub(super) fn limit(group: &Group, asked: &LinuxResources, missing: &[String]) -> Result<()> {
    let settings = resources::settings(asked)?;
    for unmet in settings.unmet(group) {
        eprintln!(
            "podkeep oci: not limited: {unmet} (no cgroup v2 controller for it: {})",
            missing.join(", ")
        );
    }
    Ok(group.apply(&settings)?)
}

fn launch(
    folder: &Folder,
    id: &ContainerId,
    bundle: Bundle,
    making: &Making,
    start: Start,
    group: &Group,
) -> Result<(Container, Spec, Spawned, Plan)> {
    let Bundle { path, config, spec } = bundle;
    let rootfs = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let mut setting = Setting::new(Root::Directory(rootfs.clone()), Namespaces::open(&spec)?, start.stdio);
    setting.preserve_fds = making.preserve_fds + listen_fds();
    setting.start = start.waits.then(|| folder.make_start()).transpose()?;
    setting.hooks = has_early_hooks(&spec);
    setting.pivot = !making.no_pivot;
    let plan = container::plan(&spec, setting)?;
    let spawned = container::spawn(&plan, Some(group.dir()), Parent::Caller, None)?;
    let container = Container {
        id: id.to_string(),
        bundle: path,
        rootfs,
        pid: spawned.pid,
        start_time: state::started_at(spawned.pid),
        cgroup: group.path().to_owned(),
        created: jiff::Timestamp::now().to_string(),
        annotations: spec.annotations().clone().unwrap_or_default(),
    };
    folder.save(&container, &config)?;
    Ok((container, spec, spawned, plan))
}

/// Descriptors that a service manager has passed (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |value: OsString| value.to_str()?.parse().ok();
    std::env::var_os("LISTEN_FDS").and_then(number).unwrap_or(0)
}

pub(super) fn hooks(spec: &Spec, choose: fn(&Hooks) -> &Option<Vec<Hook>>) -> &[Hook] {
    spec.hooks().as_ref().and_then(|hooks| choose(hooks).as_deref()).unwrap_or_default()
}

fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

fn has_early_hooks(spec: &Spec) -> bool {
    [prestart, Hooks::create_runtime, Hooks::create_container]
        .iter()
        .any(|kind| !hooks(spec, *kind).is_empty())
}

impl Made {
    /// Runs the hooks that the process waits for, and waits until it has come as far as `until`.
    pub fn finish(&self, making: &Making, until: Progress) -> Result<()> {
        let finished = self.advance(until).and_then(|()| match &making.pid_file {
            None => Ok(()),
            Some(path) => write_pid(path, self.container.pid),
        });
        if finished.is_err() {
            self.undo();
        }
        finished
    }

    fn advance(&self, until: Progress) -> Result<()> {
        loop {
            match self.spawned.report.next(&self.plan)? {
                Progress::Created => {
                    self.run_early_hooks()?;
                    self.spawned.report.go_on().context("the container's process is gone")?;
                }
                progress if progress == until => return Ok(()),
                progress => bail!("the container's process is {progress:?} too early"),
            }
        }
    }

    fn run_early_hooks(&self) -> Result<()> {
        let state = serde_json::to_vec(&self.container.state(Status::Creating))?;
        run_hooks(hooks(&self.spec, prestart), &state, None)?;
        run_hooks(hooks(&self.spec, Hooks::create_runtime), &state, None)?;
        let inside = self.target()?;
        Ok(run_hooks(hooks(&self.spec, Hooks::create_container), &state, Some(&inside))?)
    }

    pub fn target(&self) -> Result<Target> {
        let pidfd = self.spawned.pidfd.try_clone().context("duplicate the process's descriptor")?;
        Ok(Target::new(pidfd, &self.spec)?)
    }

    /// Nothing stays of a container that could not be made.
    fn undo(&self) {
        let _ = self.group.kill();
        let _ = rustix::process::pidfd_send_signal(&self.spawned.pidfd, rustix::process::Signal::KILL);
        let _ = wait_for(&self.spawned.pidfd);
        let _ = super::removal::remove(&self.folder, &self.container, Some(&self.spec));
    }
}

/// Reaps it.
pub(super) fn wait_for(process: &OwnedFd) -> io::Result<Option<rustix::process::WaitIdStatus>> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    Ok(waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)?)
}

/// Whole or absent: others watch for it.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<()> {
    let aside =
        path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = fs::write(&aside, pid.to_string()).and_then(|()| fs::rename(&aside, path));
    written.with_context(|| format!("write {}", path.display()))
}
