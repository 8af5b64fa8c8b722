//! `podkeep oci update`: other limits for a container that is there.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::args::{Global, UpdateArgs};
use super::group;
use super::log::{Level, say};
use super::state::Status;
use super::store::Store;
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
    let group = group::expect(&record)?;
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
    let mut wanted: LinuxResources =
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    // The filter of devices is made with the container and stays as it is: as in runc, rules are not for `update`.
    wanted.set_devices(None);
    Ok(wanted)
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
