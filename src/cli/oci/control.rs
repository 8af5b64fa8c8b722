//! `kill`, `pause`, `resume`, `update`: what is done to a container that is there.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxPidsBuilder, LinuxResources};
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use super::args::{KillArgs, UpdateArgs};
use super::id::ContainerId;
use super::making::limit;
use super::state::{Folder, Status};
use crate::cgroup::Group;
use crate::sys::signal;

pub(super) fn kill(root: &Path, args: &KillArgs) -> Result<()> {
    let folder = Folder::new(root, &args.id);
    let container = folder.load()?;
    let signal = signal::parse(&args.signal).with_context(|| format!("`{}` is no signal", args.signal))?;
    let group = container.group()?;
    if args.all {
        return match group {
            Some(group) => to_all(&group, signal),
            None => Ok(()),
        };
    }
    // In the words that podman looks for.
    let process = container.process().context("container not running")?;
    pidfd_send_signal(&process, signal).context("send the signal")?;
    match group {
        // A frozen process does not even die.
        Some(group) if signal == Signal::KILL && group.is_frozen()? => Ok(group.freeze(false)?),
        _ => Ok(()),
    }
}

fn to_all(group: &Group, signal: Signal) -> Result<()> {
    if signal == Signal::KILL {
        return Ok(group.kill()?);
    }
    for pid in group.processes()? {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended since it was listed.
            let _ = kill_process(pid, signal);
        }
    }
    Ok(())
}

pub(super) fn pause(root: &Path, id: &ContainerId, frozen: bool) -> Result<()> {
    let folder = Folder::new(root, id);
    let container = folder.load()?;
    match (folder.status(&container)?, frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (status, true) => bail!("container not running: it is {}", status.as_str()),
        (status, false) => bail!("container not paused: it is {}", status.as_str()),
    }
    let group = container.group()?.context("the container's cgroup is gone")?;
    Ok(group.freeze(frozen)?)
}

pub(super) fn update(root: &Path, args: &UpdateArgs) -> Result<()> {
    let folder = Folder::new(root, &args.id);
    let container = folder.load()?;
    if folder.status(&container)? == Status::Stopped {
        bail!("container not running");
    }
    let group = container.group()?.context("the container's cgroup is gone")?;
    limit(&group, &asked(args)?, &[])
}

fn asked(args: &UpdateArgs) -> Result<LinuxResources> {
    if let Some(path) = &args.resources {
        let mut text = Vec::new();
        if path == Path::new("-") {
            io::stdin().read_to_end(&mut text).context("read standard input")?;
        } else {
            text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        }
        return serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()));
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(args.memory).set_reservation(args.memory_reservation).set_swap(args.memory_swap);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(args.cpu_shares)
        .set_quota(args.cpu_quota)
        .set_period(args.cpu_period)
        .set_burst(args.cpu_burst)
        .set_idle(args.cpu_idle)
        .set_cpus(args.cpuset_cpus.clone())
        .set_mems(args.cpuset_mems.clone());
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(args.blkio_weight);
    let pids: Option<LinuxPids> =
        args.pids_limit.map(|limit| LinuxPidsBuilder::default().limit(limit).build()).transpose()?;
    let mut resources = LinuxResources::default();
    resources
        .set_devices(None)
        .set_memory(Some(memory))
        .set_cpu(Some(cpu))
        .set_block_io(args.blkio_weight.map(|_| block_io))
        .set_pids(pids);
    Ok(resources)
}
