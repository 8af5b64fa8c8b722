//! A container's cgroup.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::id::ContainerId;
use super::state::Record;
use crate::cgroup::{self, Group, populated_in};
use crate::container::{self, resources};

/// How long killed processes may take to be gone. One that waits for a dead disk may take for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the group where the `Spec` wants it, and says what it lacks of what the limits need.
///
/// # Errors
/// When somebody is in it already: it is killed with the container, so it has to be the container's alone.
pub fn make(spec: &Spec, id: &ContainerId) -> Result<(Group, Vec<String>)> {
    let linux = spec.linux().as_ref();
    let path =
        linux.and_then(|linux| linux.cgroups_path().as_deref()).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path.filter(|path| path.is_relative() && path.to_string_lossy().contains(':')) {
        bail!(
            "cgroupsPath {} is one for systemd: cgroups are made by hand (podman: --cgroup-manager=cgroupfs)",
            path.display()
        );
    }
    let (group, _) = cgroup::open_or_make(path, id.as_str())?;
    if group.populated()? {
        bail!("cgroup {} has processes already: a container needs one of its own", group.path().display());
    }
    match limit(&group, spec) {
        Ok(unmet) => Ok((group, unmet)),
        Err(error) => {
            // Nobody is in it; the first error tells more.
            let _ = group.remove();
            Err(error)
        }
    }
}

/// Before the first process is there, so that none ever runs without.
fn limit(group: &Group, spec: &Spec) -> Result<Vec<String>> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let settings = wanted.map(resources::settings).transpose()?.unwrap_or_default();
    group.apply(&settings)?;
    container::limit_devices(spec, group.dir())?;
    Ok(settings.unmet(group))
}

/// # Errors
/// When it is gone: the container has ended.
pub fn expect(record: &Record) -> Result<Group> {
    cgroup::open_existing(&record.cgroup)?
        .with_context(|| format!("cgroup {} is gone", record.cgroup.display()))
}

/// One that cannot be looked at is not frozen.
pub fn is_frozen(record: &Record) -> bool {
    let group = cgroup::open_existing(&record.cgroup);
    group.is_ok_and(|group| group.is_some_and(|group| group.is_frozen().unwrap_or(false)))
}

/// Kills all that is in the group, waits until it is gone and removes the group with all below.
///
/// # Errors
/// When a process does not end, or the kernel refuses.
pub fn end(group: &Group) -> Result<()> {
    group.kill()?;
    wait_until_empty(group)?;
    Ok(group.remove()?)
}

fn wait_until_empty(group: &Group) -> Result<()> {
    let Ok(events) = group.events() else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    while populated_in(events.as_fd()).is_ok_and(|populated| populated) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("processes of cgroup {} have been killed, but do not end", group.path().display());
        }
        let left = Timespec::try_from(left).context("wait for killed processes")?;
        // A signal only makes it look again.
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left));
    }
    Ok(())
}
