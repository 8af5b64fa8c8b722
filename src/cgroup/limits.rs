//! What a Pod's resources mean to the kernel: pure functions from the checked Pod to values of interface files.
//!
//! The rules are the kubelet's, save that `cpu.weight` has one formula at every level (the kubelet writes its old linear
//! one for Pods and QoS classes, so that its two levels disagree).

use std::collections::BTreeMap;
use std::f64::consts::{LN_2, LN_10};

use super::huge_pages::{HugePageLimit, huge_page_limits};
use crate::manifest::pod::{Amounts, Resources, at_once};
use crate::manifest::{Container, Pod};
use crate::order;

/// The period of `cpu.max` in microseconds (`cpuCFSQuotaPeriod`, default 100 ms).
pub const CPU_PERIOD_US: u64 = 100_000;
/// The kernel refuses a quota below 1 ms.
const MIN_CPU_QUOTA_US: u64 = 1_000;

/// The bounds of cgroup v1's `cpu.shares`, which `cpu.weight` is computed from.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// The limits of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerLimits {
    /// Thousandths of a core; zero where none is requested.
    pub cpu_request_milli: u64,
    /// Thousandths of a core.
    pub cpu_limit_milli: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
}

impl ContainerLimits {
    /// A limit of zero is no limit, and a request that is not given is that of the limit, as in Kubernetes.
    ///
    /// `of_pod`: whose limits it has where it names none (`KR/kuberuntime_container_linux.go:getMemoryLimit`, `getCPULimit`). The
    /// Pod's own group holds them too, but a program that asks for its limits finds only those of its container.
    pub fn of(container: &Container, of_pod: Option<&Resources>) -> ContainerLimits {
        let Resources { requests, limits } = &container.resources;
        let given = |of: fn(&Amounts) -> Option<u64>| {
            let of_pod = || of(&of_pod?.limits);
            of(limits).filter(|limit| *limit > 0).or_else(of_pod)
        };
        let cpu_limit_milli = given(|amounts| amounts.cpu_milli);
        ContainerLimits {
            cpu_request_milli: requests.cpu_milli.or(cpu_limit_milli).unwrap_or(0),
            cpu_limit_milli,
            memory_limit: given(|amounts| amounts.memory),
        }
    }
}

/// The limits of a Pod: what its containers share. What the manifest says of the Pod itself goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// Thousandths of a core: what the containers request at the same time.
    pub cpu_request_milli: u64,
    /// Thousandths of a core: what they need at the same time, if every container has a limit.
    pub cpu_limit_milli: Option<u64>,
    /// Bytes: what they need at the same time, if every container has a limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads together: the node's `podPidsLimit`.
    pub pids_max: Option<u64>,
    /// What they need at the same time, for each size.
    pub huge_pages: Vec<HugePageLimit>,
}

impl PodLimits {
    /// `pids_max` is the node's `podPidsLimit`, `None` where it sets none (−1).
    pub fn of(pod: &Pod, pids_max: Option<u64>) -> PodLimits {
        let own = pod.resources.as_ref();
        let request = || at_once(&pod.containers, |c| ContainerLimits::of(c, None).cpu_request_milli);
        let cpu = || if_all_have(&pod.containers, |limits| limits.cpu_limit_milli);
        let memory = || if_all_have(&pod.containers, |limits| limits.memory_limit);
        PodLimits {
            cpu_request_milli: own.and_then(|own| own.requests.cpu_milli).unwrap_or_else(request),
            cpu_limit_milli: own.and_then(|own| own.limits.cpu_milli).or_else(cpu),
            memory_limit: own.and_then(|own| own.limits.memory).or_else(memory),
            pids_max,
            huge_pages: huge_page_limits(&hugepages(pod)),
        }
    }
}

/// By the size of a page, in bytes.
fn hugepages(pod: &Pod) -> BTreeMap<String, u64> {
    let of = |container: &Container, size: &str| container.resources.limits.hugepages.get(size).copied();
    let sizes = pod.containers.iter().flat_map(|container| container.resources.limits.hugepages.keys());
    let sum = |size: &String| at_once(&pod.containers, |container| of(container, size).unwrap_or(0));
    let mut sums = order::map(sizes.map(|size| (size.clone(), sum(size))));
    let own = pod.resources.iter().flat_map(|own| &own.limits.hugepages);
    sums.extend(own.map(|(size, bytes)| (size.clone(), *bytes)));
    sums
}

fn if_all_have(containers: &[Container], limit: impl Fn(ContainerLimits) -> Option<u64>) -> Option<u64> {
    let limit = |container: &Container| limit(ContainerLimits::of(container, None));
    let all_have = containers.iter().all(|container| limit(container).is_some());
    all_have.then(|| at_once(containers, |container| limit(container).unwrap_or(0)))
}

/// `cpu.weight` (1…10000) for a request in thousandths of a core, by way of cgroup v1's shares.
pub(super) fn cpu_weight(request_milli: u64) -> u64 {
    weight_of_shares(cpu_shares(request_milli))
}

/// cgroup v1's `cpu.shares` (2…262144) for a request in thousandths of a core (`K/cm/helpers_linux.go:MilliCPUToShares`).
pub fn cpu_shares(request_milli: u64) -> u64 {
    (request_milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// `cpu.weight` (1…10000) for cgroup v1's `cpu.shares` (2…262144), as OCI runtimes convert them:
/// `ceil(10^((L² + 125 L) / 612 − 7/34))` with L = log2(shares), which maps 2 to 1, 1024 to 100, 262144 to 10000.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=MIN_SHARES => 1,
        MAX_SHARES.. => 10_000,
        _ => {
            let l = log2(shares);
            let weight = exp(((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0) * LN_10);
            // 1024 gives 100 but for an error of 1e-13; no other comes nearer to a whole number than 2e-6.
            (weight - 1e-9) as u64 + 1
        }
    }
}

/// Of `n` > 0. Not the C library's: its `log2` and `pow`, written out for several processors, are 16 kB.
fn log2(n: u64) -> f64 {
    let exponent = n.ilog2();
    let mantissa = n as f64 / (1u64 << exponent) as f64;
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut artanh, mut power) = (0.0, t);
    for odd in (1..40).step_by(2) {
        artanh += power / f64::from(odd);
        power *= t * t;
    }
    f64::from(exponent) + 2.0 * artanh / LN_2
}

/// Of `x` from 0 to 10.
fn exp(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..50 {
        term *= x / f64::from(n);
        sum += term;
    }
    sum
}

/// `cpu.max` for a limit: quota and period in microseconds.
pub(super) fn cpu_max(limit_milli: u64) -> String {
    format!("{} {CPU_PERIOD_US}", cpu_quota_us(limit_milli))
}

/// Microseconds of each [`CPU_PERIOD_US`] for a limit in thousandths of a core.
pub fn cpu_quota_us(limit_milli: u64) -> u64 {
    (limit_milli.saturating_mul(CPU_PERIOD_US) / 1000).max(MIN_CPU_QUOTA_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_oci_runtimes() {
        let vectors = [
            (0, 1),
            (10, 4),
            (100, 17),
            (250, 35),
            (500, 59),
            (1000, 100),
            (2000, 174),
            (4000, 303),
            (16_000, 942),
        ];
        for (milli, weight) in vectors {
            assert_eq!(cpu_weight(milli), weight, "{milli} m");
        }
        assert_eq!(cpu_weight(2), 1);
        assert_eq!(cpu_weight(256_000), 10_000);
        assert_eq!(cpu_weight(u64::MAX), 10_000);
    }

    #[test]
    fn weights_are_those_of_the_c_librarys_functions() {
        for shares in MIN_SHARES..=MAX_SHARES {
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64;
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn a_quota_is_a_share_of_100_ms_and_never_below_1_ms() {
        assert_eq!(cpu_max(500), "50000 100000");
        assert_eq!(cpu_max(2500), "250000 100000");
        assert_eq!(cpu_max(10), "1000 100000");
        assert_eq!(cpu_max(1), "1000 100000");
    }

    #[test]
    fn a_pod_has_a_limit_only_if_every_container_has_one() {
        let of = |limits: &[Option<u64>]| {
            let container = |limit: &Option<u64>| {
                let mut container = Container::plain("c", "i");
                container.resources.limits.memory = *limit;
                container
            };
            let containers: Vec<_> = limits.iter().map(container).collect();
            if_all_have(&containers, |limits| limits.memory_limit)
        };
        assert_eq!(of(&[Some(1), Some(2)]), Some(3));
        assert_eq!(of(&[Some(1), None]), None);
        assert_eq!(of(&[Some(u64::MAX), Some(2)]), Some(u64::MAX));
    }

    #[test]
    fn a_container_that_names_no_limit_has_its_pods() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {resources: {limits: {cpu: 2, memory: 8Mi}}, \
                    containers: [{name: b, image: i:1, resources: {limits: {cpu: 1}}}, {name: c, image: i:1}]}}";
        let manifest = crate::manifest::decode(std::path::Path::new("a.yaml"), text.as_bytes(), "n");
        let pod = &manifest.unwrap_or_else(|errors| panic!("{errors:?}")).pods[0];
        let limits = |at: usize, of_pod| {
            let ContainerLimits { cpu_limit_milli, memory_limit, .. } =
                ContainerLimits::of(&pod.containers[at], of_pod);
            (cpu_limit_milli, memory_limit)
        };
        let of_pod = pod.resources.as_ref();
        assert_eq!(limits(0, of_pod), (Some(1000), Some(8 << 20)));
        assert_eq!(limits(1, of_pod), (Some(2000), Some(8 << 20)));
        assert_eq!((limits(0, None), limits(1, None)), ((Some(1000), None), (None, None)));
    }

    #[test]
    fn a_pods_huge_pages_are_those_of_its_containers_unless_it_says_otherwise() {
        let sums = |of_pod: &str| {
            let container = |name, bytes| {
                format!(
                    "{{name: {name}, image: i:1, resources: {{limits: {{cpu: 1, hugepages-2Mi: {bytes}}}}}}}"
                )
            };
            let text = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{of_pod} containers: [{}, {}]}}}}",
                container("b", "4Mi"),
                container("c", "2Mi")
            );
            let manifest = crate::manifest::decode(std::path::Path::new("a.yaml"), text.as_bytes(), "n");
            hugepages(&manifest.unwrap_or_else(|errors| panic!("{errors:?}")).pods[0])
        };
        assert_eq!(sums(""), [("2Mi".to_owned(), 6 << 20)].into());
        let own = "resources: {limits: {cpu: 4, hugepages-2Mi: 8Mi}},";
        assert_eq!(sums(own), [("2Mi".to_owned(), 8 << 20)].into());
    }
}
