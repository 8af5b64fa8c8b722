//! What a container of a Pod may use, as `linux.resources` say it.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxCpu, LinuxHugepageLimit, LinuxHugepageLimitBuilder, LinuxMemory, LinuxResources,
};

use crate::cgroup::{
    CPU_PERIOD_US, ContainerLimits, HugePageLimit, cpu_quota_us, cpu_shares, huge_page_limits,
};
use crate::manifest::Container;
use crate::manifest::pod::{Pod, QosClass};

/// As the kubelet asks for it (`KR/kuberuntime_container_linux.go:generateLinuxContainerResources`).
///
/// `memory`: whether this host has the memory controller; what nothing would heed is left out of `unified`, which must be
/// heeded as a whole.
pub fn of_container(pod: &Pod, container: &Container, memory: bool) -> LinuxResources {
    let mut resources = of_limits(&ContainerLimits::of(container, pod.resources.as_ref()), memory);
    resources.set_hugepage_limits(Some(huge_pages(pod, container)));
    resources
}

/// The same but for huge pages.
pub fn of_limits(limits: &ContainerLimits, memory: bool) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources
        .set_devices(None)
        .set_cpu(Some(cpu(limits)))
        .set_memory(limits.memory_limit.map(memory_limit))
        .set_unified(memory.then(unified));
    resources
}

fn cpu(limits: &ContainerLimits) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(cpu_shares(limits.cpu_request_milli)));
    if let Some(milli) = limits.cpu_limit_milli {
        cpu.set_quota(i64::try_from(cpu_quota_us(milli)).ok()).set_period(Some(CPU_PERIOD_US));
    }
    cpu
}

fn memory_limit(bytes: u64) -> LinuxMemory {
    let mut memory = LinuxMemory::default();
    memory.set_limit(i64::try_from(bytes).ok());
    memory
}

/// A container that names none may use the Pod's, as with the kubelet (`KR/…:GetHugepageLimitsFromResources`).
fn huge_pages(pod: &Pod, container: &Container) -> Vec<LinuxHugepageLimit> {
    let own = &container.resources.limits.hugepages;
    let wanted = match &pod.resources {
        Some(of_pod) if own.is_empty() => &of_pod.limits.hugepages,
        _ => own,
    };
    let limit = |limit: HugePageLimit| {
        let bytes = i64::try_from(limit.bytes).unwrap_or(i64::MAX);
        LinuxHugepageLimitBuilder::default().page_size(limit.size).limit(bytes).build().ok()
    };
    huge_page_limits(wanted).into_iter().filter_map(limit).collect()
}

/// The whole container ends when the kernel kills one of its processes for memory, as with the kubelet
/// (`singleProcessOOMKill: false`): half a container is worse than none. `NoSwap`, as for every static Pod.
fn unified() -> HashMap<String, String> {
    [("memory.oom.group", "1"), ("memory.swap.max", "0")]
        .map(|(file, value)| (file.to_owned(), value.to_owned()))
        .into()
}

/// How ready the kernel is to kill it for memory (`K/qos/policy.go`): −997 for Guaranteed and what the node cannot be
/// without, 1000 for BestEffort, between 3 and 999 for Burstable, the less the more memory it has asked for.
///
/// `node_memory` is the machine's, bytes. A Pod's own request that its containers leave is shared among them equally.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    const GUARANTEED: i32 = -997;
    if pod.priority_class_name.as_deref() == Some("system-node-critical") {
        return GUARANTEED;
    }
    match pod.qos_class() {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => burstable(memory_request(pod, container), node_memory),
    }
}

fn burstable(request: u64, node_memory: u64) -> i32 {
    let share = u128::from(request) * 1000 / u128::from(node_memory.max(1));
    let score = 1000 - i32::try_from(share.min(1000)).unwrap_or(1000);
    // 3: above what is Guaranteed, with room for the node's own. 999: below BestEffort.
    score.clamp(3, 999)
}

fn memory_request(pod: &Pod, container: &Container) -> u64 {
    let request = |container: &Container| container.resources.requests.memory.unwrap_or(0);
    let own = request(container);
    let Some(of_pod) = pod.resources.as_ref().and_then(|resources| resources.requests.memory) else {
        return own;
    };
    let all: u64 = pod.containers.iter().map(request).fold(0, u64::saturating_add);
    own.saturating_add(of_pod.saturating_sub(all) / pod.containers.len().max(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burstable_container_is_the_safer_the_more_it_asked_for() {
        let gib = 1 << 30;
        let vectors =
            [(0, 999), (1, 999), (gib, 750), (2 * gib, 500), (4 * gib, 3), (u64::MAX, 3), (gib / 100, 998)];
        for (request, score) in vectors {
            assert_eq!(burstable(request, 4 * gib), score, "{request}");
        }
    }
}
