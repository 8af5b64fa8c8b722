//! What `create` and `run` have in common: from a bundle to a process that waits for its start, or runs.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use jiff::Timestamp;
use oci_spec::runtime::{Linux, LinuxIdMapping, Spec};
use rustix::fs::{FileType, Uid, fchown, fstat};
use rustix::io::Errno;

use super::args::{CreateArgs, Global};
use super::bundle::Bundle;
use super::capabilities;
use super::group;
use super::hooks;
use super::log::{Level, say};
use super::state::{ProcessId, Record};
use super::store::{Entry, Store};
use crate::cgroup::Group;
use crate::container::{self, Namespaces, Parent, Plan, Progress, Root, Setting, Spawned, Stdio, Target};
use crate::order;

/// When the program shall be run.
#[derive(Debug)]
pub enum When {
    /// Once somebody calls `start`.
    Later,
    Now,
}

/// A container whose process is there.
#[derive(Debug)]
pub struct Launched {
    pub entry: Entry,
    pub record: Record,
    pub spec: Spec,
    pub spawned: Spawned,
}

/// Makes a container. What was made is removed again if something fails.
///
/// # Errors
/// Whatever goes wrong until the process waits for its start, or has become its program.
pub fn launch(
    global: &Global,
    args: &CreateArgs,
    bundle: Bundle,
    stdio: Stdio,
    when: &When,
) -> Result<Launched> {
    let entry = Store::new(&global.root).create(&args.id)?;
    let mut made = None;
    let launched = launch_in(global, args, bundle, stdio, when, entry.clone(), &mut made);
    if launched.is_err() {
        // The first error is the one that is told.
        if let Some(group) = &made {
            let _ = group::end(group);
        }
        let _ = entry.remove();
    }
    launched
}

fn launch_in(
    global: &Global,
    args: &CreateArgs,
    bundle: Bundle,
    stdio: Stdio,
    when: &When,
    entry: Entry,
    made: &mut Option<Group>,
) -> Result<Launched> {
    let Bundle { dir, rootfs, spec, text, unknown_capabilities } = bundle;
    entry.save_config(&text)?;
    for warning in capabilities::warnings(&unknown_capabilities, spec.process().as_ref()) {
        say(global, Level::Warning, &format!("{}: {warning}", entry.id));
    }
    let (start, go) = match when {
        When::Later => (Some(entry.make_start()?), None),
        When::Now if hooks::has_start_container(&spec) => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(io::Error::from)
                .context("make the pipe that starts the container")?;
            (Some(read), Some(write))
        }
        When::Now => (None, None),
    };
    let inherits = matches!(stdio, Stdio::Inherit);
    let mut setting = Setting::new(Root::Directory(rootfs.clone()), Namespaces::open(&spec)?, stdio);
    setting.preserve_fds = args.preserve_fds;
    setting.start = start;
    setting.hooks = hooks::has_create(&spec);
    setting.pivot = !args.no_pivot;
    // runc's name for it.
    let keyring = (!args.no_new_keyring).then(|| format!("_ses.{}", entry.id));
    setting.keyring = keyring.clone();
    let plan = container::plan(&spec, setting)?;
    if inherits {
        give_streams(&spec)?;
    }
    if global.debug {
        say(global, Level::Debug, &format!("the steps of {}:\n{plan}", entry.id));
    }
    let (group, unmet) = group::make(&spec, &entry.id)?;
    for limit in unmet {
        say(global, Level::Warning, &format!("{}: not enforced: {limit}", entry.id));
    }
    let group = made.insert(group);
    let spawned = container::spawn(&plan, Some(group.dir()), Parent::Caller, None)?;
    let mut record = Record {
        bundle: dir,
        rootfs,
        process: ProcessId::of(spawned.pid),
        created: Timestamp::now(),
        cgroup: group.path().to_owned(),
        creating: true,
        annotations: order::map(spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone()))),
        keyring,
    };
    entry.save(&record)?;
    record.creating = false;
    entry.prepare(&record)?;
    let launched = Launched { entry, record, spec, spawned };
    launched.accompany(&plan, go)?;
    Ok(launched)
}

impl Launched {
    /// Until the process waits for its start, or has become its program.
    fn accompany(&self, plan: &Plan, go: Option<OwnedFd>) -> Result<()> {
        let Launched { entry, record, spec, spawned } = self;
        loop {
            match (spawned.report.next(plan)?, &go) {
                (Progress::Created, _) => {
                    hooks::create(entry, record, spec, &self.target()?)?;
                    spawned.report.go_on().context("let the container's process go on")?;
                }
                (Progress::Ready, Some(go)) => {
                    hooks::start_container(entry, record, spec, &self.target()?)?;
                    let given = rustix::io::write(go, &[0]);
                    given.map_err(io::Error::from).context("start the container")?;
                }
                (Progress::Ready, None) | (Progress::Executed, _) => return entry.publish(),
            }
        }
    }

    fn target(&self) -> Result<Target> {
        let pidfd = self.spawned.pidfd.try_clone().context("duplicate a descriptor")?;
        Ok(Target::new(pidfd, &self.spec)?)
    }
}

/// A container that runs as another user may open its own `/dev/stdout` again only if that belongs to the user. A terminal's
/// other end is given to the user where it is made.
fn give_streams(spec: &Spec) -> Result<()> {
    let Some(process) = spec.process() else { return Ok(()) };
    let Some(owner) = spec.linux().as_ref().and_then(|linux| on_the_host(linux, process.user().uid())) else {
        return Ok(());
    };
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = fstat(stream).map_err(io::Error::from).context("look at a standard stream")?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Devices are everybody's; a file may be one of the caller's own.
        if stat.st_uid == owner || !matches!(kind, FileType::Fifo | FileType::Socket) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(owner)), None) {
            // Of somebody else's user namespace, or a kind that has no owner.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => {
                return Err(io::Error::from(errno)).context("give a standard stream to the container's user");
            }
        }
    }
    Ok(())
}

/// `None` if the maps do not tell.
fn on_the_host(linux: &Linux, uid: u32) -> Option<u32> {
    use oci_spec::runtime::LinuxNamespaceType::User;
    if !linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == User) {
        return Some(uid);
    }
    let inside =
        |map: &&LinuxIdMapping| uid.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size());
    let map = linux.uid_mappings().as_ref()?.iter().find(inside)?;
    map.host_id().checked_add(uid - map.container_id())
}
