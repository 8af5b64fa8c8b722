//! `podkeep oci update`: other limits for a container that is there.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, Spec};

use super::args::{Global, UpdateArgs};
use super::group;
use super::log::{Level, say};
use super::state::Status;
use super::store::Store;
use crate::cgroup::Stats;
use crate::container::resources;

pub fn update(global: &Global, args: &UpdateArgs) -> Result<ExitCode> {
    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    if Status::of(&entry, &record) == Status::Stopped {
        bail!("container not running");
    }
    let wanted = match &args.resources {
        Some(path) => read(path)?,
        None => typed(args),
    };
    refuse_other_devices(&wanted, &entry.spec()?)?;
    let group = group::expect(&record)?;
    check_usage(&wanted, &group.stats()?)?;
    let settings = resources::settings(&wanted)?;
    group.apply(&settings)?;
    for limit in settings.unmet(&group) {
        say(global, Level::Warning, &format!("{}: not enforced: {limit}", entry.id));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<LinuxResources> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        io::stdin().read_to_end(&mut text).context("read standard input")?;
    } else {
        text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    }
    serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
}

/// The filter of devices is made with the container and stays. Engines hand all of its resources back with what is new, so its
/// own rules are no reason to refuse.
fn refuse_other_devices(wanted: &LinuxResources, spec: &Spec) -> Result<()> {
    let own = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let own = own.and_then(|own| own.devices().as_deref()).unwrap_or_default();
    match wanted.devices().as_deref() {
        None | Some([]) => Ok(()),
        Some(rules) if rules == own => Ok(()),
        Some(_) => bail!(
            "device rules cannot be changed: which devices a container may open is settled when it is made"
        ),
    }
}

/// `memory.checkBeforeUpdate`: no limit that would have the container killed at once.
fn check_usage(wanted: &LinuxResources, used: &Stats) -> Result<()> {
    let Some(memory) = wanted.memory().as_ref().filter(|m| m.check_before_update() == Some(true)) else {
        return Ok(());
    };
    let limits = [
        ("limit", memory.limit(), used.memory.usage.usage),
        // Both are memory and swap together.
        ("swap", memory.swap(), used.memory.swap.usage),
    ];
    for (name, limit, used) in limits {
        if limit.is_some_and(|limit| limit > 0 && limit as u64 <= used) {
            bail!("memory.{name}: {} is no more than what is used now ({used})", limit.unwrap_or(0));
        }
    }
    Ok(())
}

/// Only what was typed: the rest stays as it is.
fn typed(args: &UpdateArgs) -> LinuxResources {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(args.cpu_share)
        .set_quota(args.cpu_quota)
        .set_period(args.cpu_period)
        .set_burst(args.cpu_burst)
        .set_idle(args.cpu_idle)
        .set_cpus(args.cpuset_cpus.clone())
        .set_mems(args.cpuset_mems.clone());
    let mut memory = LinuxMemory::default();
    memory.set_limit(args.memory).set_reservation(args.memory_reservation).set_swap(args.memory_swap);
    let mut wanted = LinuxResources::default();
    wanted.set_cpu(Some(cpu)).set_memory(Some(memory));
    wanted.set_pids(args.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    wanted.set_block_io(args.blkio_weight.map(|weight| {
        let mut block = LinuxBlockIo::default();
        block.set_weight(Some(weight));
        block
    }));
    wanted
}
