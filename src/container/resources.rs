//! `linux.resources` of a `Spec` as values of cgroup v2's interface files.
//!
//! The conversions of what the specification still says in terms of v1 are runc's. What v2 cannot do is refused by
//! name where it would have an effect; a zero that means "not set" is passed over, as runc does. Devices are no
//! interface file: see [`limit_devices`](super::limit_devices).

mod of_container;

use std::fmt::Write as _;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
    LinuxThrottleDevice,
};

pub use of_container::{of_container, of_limits, oom_score_adj};

use crate::cgroup::{Controller, Settings, weight_of_shares};
use crate::order;

/// The kernel's own period of `cpu.max` in microseconds, written where the spec gives a quota without one.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// What cannot be asked of cgroup v2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    #[error("linux.resources.{0}: cgroup v2 has no such thing")]
    OnlyV1(&'static str),
    #[error(
        "linux.resources.memory.swap: {swap} is memory and swap together, which is less than the limit of memory ({limit})"
    )]
    Swap { swap: i64, limit: i64 },
    #[error("linux.resources.memory.swap: {0} is memory and swap together, which needs memory.limit")]
    SwapWithoutLimit(i64),
    #[error("linux.resources.blockIO: a weight of {0} (10…1000 is allowed)")]
    Weight(u16),
    #[error("linux.resources.hugepageLimits: page size {0:?} (such as 2MB or 1GB is needed)")]
    PageSize(String),
    #[error("linux.resources.rdma: {0:?} is no name of a device")]
    RdmaDevice(String),
    #[error(
        "linux.resources.unified: {0:?} (the name of a controller's file is needed, such as memory.high)"
    )]
    Unified(String),
}

/// What is to be written for `resources`, in order; `unified` comes last, so that it has the last word.
///
/// `memory.checkBeforeUpdate` is left to who updates: a new container uses no memory yet.
///
/// # Errors
/// What only v1 can do, and values that have no meaning in v2.
pub fn settings(resources: &LinuxResources) -> Result<Settings, ResourceError> {
    let mut settings = Settings::default();
    if let Some(memory) = resources.memory() {
        limit_memory(&mut settings, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        limit_cpu(&mut settings, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        limit_pids(&mut settings, pids);
    }
    if let Some(block) = resources.block_io() {
        limit_io(&mut settings, block)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        limit_huge_pages(&mut settings, limit)?;
    }
    if let Some(network) = resources.network() {
        refuse_network(network)?;
    }
    limit_rdma(&mut settings, resources)?;
    add_unified(&mut settings, resources)?;
    Ok(settings)
}

fn limit_memory(settings: &mut Settings, memory: &LinuxMemory) -> Result<(), ResourceError> {
    refuse_v1([
        (memory.kernel().is_some_and(|limit| limit > 0), "memory.kernel"),
        (memory.kernel_tcp().is_some_and(|limit| limit > 0), "memory.kernelTCP"),
        (memory.use_hierarchy().is_some(), "memory.useHierarchy"),
        (memory.swappiness().is_some(), "memory.swappiness"),
        (memory.disable_oom_killer() == Some(true), "memory.disableOOMKiller"),
    ])?;
    // Before the limit of memory: what is pushed out when that is lowered is to find its place limited already.
    if let Some(swap) = swap_alone(memory.swap().unwrap_or(0), memory.limit().unwrap_or(0))? {
        settings.push(Some(Controller::Memory), "memory.swap.max", amount(swap));
    }
    for (file, limit) in [("memory.low", memory.reservation()), ("memory.max", memory.limit())] {
        if let Some(limit) = limit.filter(|limit| *limit != 0) {
            settings.push(Some(Controller::Memory), file, amount(limit));
        }
    }
    Ok(())
}

/// `memory.swap.max`, which counts swap alone, from the spec's `swap`, which is memory and swap together.
fn swap_alone(swap: i64, limit: i64) -> Result<Option<i64>, ResourceError> {
    match (swap, limit) {
        // Memory without a limit and no word on swap: v1 had no limit of swap then either.
        (0, ..0) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (..0, _) => Ok(Some(swap)),
        (_, ..=0) => Err(ResourceError::SwapWithoutLimit(swap)),
        (swap, limit) if swap < limit => Err(ResourceError::Swap { swap, limit }),
        (swap, limit) => Ok(Some(swap - limit)),
    }
}

fn limit_cpu(settings: &mut Settings, cpu: &LinuxCpu) -> Result<(), ResourceError> {
    refuse_v1([
        (cpu.realtime_runtime().is_some_and(|runtime| runtime != 0), "cpu.realtimeRuntime"),
        (cpu.realtime_period().is_some_and(|period| period != 0), "cpu.realtimePeriod"),
    ])?;
    if let Some(idle) = cpu.idle() {
        settings.push(Some(Controller::Cpu), "cpu.idle", idle);
    }
    // The kernel refuses a weight for an idle group, which has the least of all.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle().unwrap_or(0) == 0) {
        settings.push(Some(Controller::Cpu), "cpu.weight", weight_of_shares(shares));
    }
    limit_bandwidth(settings, cpu);
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.push(Some(Controller::Cpuset), file, list);
        }
    }
    Ok(())
}

fn limit_bandwidth(settings: &mut Settings, cpu: &LinuxCpu) {
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    let limited = quota != 0 || period != 0;
    if limited && cpu.burst().is_some() {
        // A quota below the burst of an earlier update would be refused.
        settings.push(Some(Controller::Cpu), "cpu.max.burst", 0);
    }
    if limited {
        let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
        let period = if period == 0 { DEFAULT_PERIOD_US } else { period };
        settings.push(Some(Controller::Cpu), "cpu.max", format!("{quota} {period}"));
    }
    if let Some(burst) = cpu.burst() {
        settings.push(Some(Controller::Cpu), "cpu.max.burst", burst);
    }
}

fn limit_pids(settings: &mut Settings, pids: &LinuxPids) {
    if pids.limit() != 0 {
        settings.push(Some(Controller::Pids), "pids.max", amount(pids.limit()));
    }
}

fn limit_io(settings: &mut Settings, block: &LinuxBlockIo) -> Result<(), ResourceError> {
    let devices = || block.weight_device().iter().flatten();
    let leaf = block.leaf_weight().into_iter().chain(devices().filter_map(|device| device.leaf_weight()));
    refuse_v1([(leaf.into_iter().any(|weight| weight != 0), "blockIO.leafWeight")])?;
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        weigh(settings, "", weight)?;
    }
    for device in devices() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            weigh(settings, &format!("{}:{} ", device.major(), device.minor()), weight)?;
        }
    }
    throttle(settings, "rbps", block.throttle_read_bps_device());
    throttle(settings, "wbps", block.throttle_write_bps_device());
    throttle(settings, "riops", block.throttle_read_iops_device());
    throttle(settings, "wiops", block.throttle_write_iops_device());
    Ok(())
}

/// The BFQ scheduler has a file of its own, with v1's values, and does not heed `io.weight`.
fn weigh(settings: &mut Settings, device: &str, weight: u16) -> Result<(), ResourceError> {
    let values = [format!("{device}{weight}"), format!("{device}{}", io_weight(weight)?)];
    settings.push_rather(Controller::Io, ["io.bfq.weight", "io.weight"], values);
    Ok(())
}

/// v1's 10…1000 on v2's 1…10000, so that the ends meet.
fn io_weight(weight: u16) -> Result<u64, ResourceError> {
    match weight {
        10..=1000 => Ok(1 + (u64::from(weight) - 10) * 9999 / 990),
        _ => Err(ResourceError::Weight(weight)),
    }
}

fn throttle(settings: &mut Settings, key: &str, devices: &Option<Vec<LinuxThrottleDevice>>) {
    for device in devices.iter().flatten() {
        // v1 lifted a limit by a rate of zero.
        let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
        settings.push(
            Some(Controller::Io),
            "io.max",
            format!("{}:{} {key}={rate}", device.major(), device.minor()),
        );
    }
}

/// Both what may be used and what may be reserved: past the first alone, a process would be killed by SIGBUS at its
/// first access, past the second, mmap(2) fails.
fn limit_huge_pages(settings: &mut Settings, limit: &LinuxHugepageLimit) -> Result<(), ResourceError> {
    let size = limit.page_size();
    let digits = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    if !digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
        return Err(ResourceError::PageSize(size.clone()));
    }
    for file in ["max", "rsvd.max"] {
        settings.push(Some(Controller::Hugetlb), format!("hugetlb.{size}.{file}"), amount(limit.limit()));
    }
    Ok(())
}

fn refuse_network(network: &LinuxNetwork) -> Result<(), ResourceError> {
    refuse_v1([
        (network.class_id().is_some_and(|class| class != 0), "network.classID"),
        (network.priorities().as_ref().is_some_and(|list| !list.is_empty()), "network.priorities"),
    ])
}

fn limit_rdma(settings: &mut Settings, resources: &LinuxResources) -> Result<(), ResourceError> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    order::sort_by_key(&mut devices, |(name, _)| *name);
    for (name, limits) in devices {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(ResourceError::RdmaDevice(name.clone()));
        }
        let mut value = name.clone();
        for (key, limit) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            if let Some(limit) = limit {
                let _ = write!(value, " {key}={limit}");
            }
        }
        settings.push(Some(Controller::Rdma), "rdma.max", value);
    }
    Ok(())
}

/// Sorted, as a map has no order; of several lines (`io.max`), the kernel takes one a write.
fn add_unified(settings: &mut Settings, resources: &LinuxResources) -> Result<(), ResourceError> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    order::sort(&mut files);
    for (file, value) in files {
        // The core's own files (`cgroup.procs`, `cgroup.type`, …) are the runtime's business.
        let is_plain = !file.contains(['/', '\0']) && !file.starts_with('.') && file.contains('.');
        if !is_plain || file.starts_with("cgroup.") {
            return Err(ResourceError::Unified(file.clone()));
        }
        for line in value.lines() {
            settings.push(None, file, line);
        }
    }
    Ok(())
}

fn refuse_v1<const N: usize>(asked: [(bool, &'static str); N]) -> Result<(), ResourceError> {
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, field)) => Err(ResourceError::OnlyV1(field)),
        None => Ok(()),
    }
}

/// A negative amount is none at all.
fn amount(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

#[cfg(test)]
mod tests;
