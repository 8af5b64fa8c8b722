//! `delete`: nothing of a container stays.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Hooks, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::args::DeleteArgs;
use super::making::hooks;
use super::state::{Container, Folder, Status};
use crate::cgroup::{Group, populated_in};
use crate::container::run_hooks;

pub(super) fn delete(root: &Path, args: &DeleteArgs) -> Result<()> {
    let folder = Folder::new(root, &args.id);
    let container = match folder.load() {
        Err(_) if args.force => return folder.remove(),
        container => container?,
    };
    match folder.status(&container)? {
        Status::Stopped => {}
        // As runc does: it has not run anything.
        Status::Created => kill(&container)?,
        _ if args.force => kill(&container)?,
        status => bail!("cannot delete container {} that is not stopped: {}", args.id, status.as_str()),
    }
    let spec = folder.spec().ok();
    remove(&folder, &container, spec.as_ref())
}

fn kill(container: &Container) -> Result<()> {
    if let Some(group) = container.group()? {
        if group.is_frozen()? {
            group.freeze(false)?;
        }
        group.kill()?;
    }
    let Some(process) = container.process() else { return Ok(()) };
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let ten_seconds = Timespec { tv_sec: 10, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&ten_seconds)) {
        Ok(0) => bail!("process {} has not ended 10 s after SIGKILL", container.pid),
        ended => ended.map(drop).context("wait for the end of the container"),
    }
}

/// Its cgroup with all that is still in it, then the state; then its poststop hooks, whose failures are only said.
pub(super) fn remove(folder: &Folder, container: &Container, spec: Option<&Spec>) -> Result<()> {
    if let Some(group) = container.group()? {
        group.kill()?;
        wait_until_empty(&group)?;
        group.remove()?;
    }
    folder.remove()?;
    if let Some(spec) = spec {
        let state = serde_json::to_vec(&container.state(Status::Stopped))?;
        if let Err(error) = run_hooks(hooks(spec, Hooks::poststop), &state, None) {
            eprintln!("podkeep oci: poststop: {error}");
        }
    }
    Ok(())
}

fn wait_until_empty(group: &Group) -> Result<()> {
    if !group.populated()? {
        return Ok(());
    }
    let events = group.events()?;
    for _ in 0..100 {
        if !populated_in(events.as_fd()).context("read cgroup.events")? {
            return Ok(());
        }
        let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&tenth)).context("wait for cgroup.events")?;
    }
    bail!("processes of {} have not ended 10 s after SIGKILL", group.path().display())
}
