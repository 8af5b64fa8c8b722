//! Requests, limits, and the quality of service class that they make.

use std::collections::BTreeMap;

use super::{Container, Pod, Role};

/// A container's requests are defaulted to its limits, as Kubernetes does; a Pod's to those of its containers together,
/// then to its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes: of a container's writable layer and logs. A Pod has none of its own.
    pub ephemeral_storage: Option<u64>,
    /// Size of a page → bytes, a whole number of pages. Requests and limits are the same.
    pub hugepages: BTreeMap<String, u64>,
}

/// The quality of service class, from requests and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Pod {
    /// As Kubernetes computes it (`pkg/apis/core/v1/helper/qos`): from cpu and memory alone, and from the Pod's own
    /// resources alone where it has some (1.34).
    pub fn qos_class(&self) -> QosClass {
        let of_containers = || self.containers.iter().map(|container| &container.resources).collect();
        let all: Vec<&Resources> = self.resources.as_ref().map_or_else(of_containers, |own| vec![own]);
        if all.iter().all(|resources| resources.is_nothing()) {
            QosClass::BestEffort
        } else if all.iter().all(|resources| resources.is_guaranteed()) {
            QosClass::Guaranteed
        } else {
            QosClass::Burstable
        }
    }
}

/// The most that a Pod's containers need at the same time (`component-helpers/resource.PodRequests`): all that run side by
/// side in the end, or an init container with the sidecars that started before it.
pub fn at_once(containers: &[Container], amount: impl Fn(&Container) -> u64) -> u64 {
    let (mut init, mut sidecars, mut mains) = (0, 0u64, 0u64);
    for container in containers {
        let amount = amount(container);
        match container.role {
            Role::Init => init = sidecars.saturating_add(amount).max(init),
            Role::Sidecar => sidecars = sidecars.saturating_add(amount),
            Role::Main => mains = mains.saturating_add(amount),
        }
    }
    init.max(sidecars.saturating_add(mains))
}

impl Resources {
    fn is_nothing(&self) -> bool {
        self.requests.is_zero() && self.limits.is_zero()
    }

    /// cpu and memory both limited, and requested as much.
    fn is_guaranteed(&self) -> bool {
        let limited = |amount: Option<u64>| amount.is_some_and(|amount| amount > 0);
        limited(self.limits.cpu_milli)
            && limited(self.limits.memory)
            && self.requests.cpu_milli == self.limits.cpu_milli
            && self.requests.memory == self.limits.memory
    }
}

impl Amounts {
    /// No cpu and no memory is set, or zero, which Kubernetes counts as not set.
    fn is_zero(&self) -> bool {
        self.cpu_milli.unwrap_or(0) == 0 && self.memory.unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_containers_need_what_is_free_by_then() {
        let container = |role| Container { role, ..Container::plain("c", "i") };
        let of = |list: &[(Role, u64)]| {
            let containers: Vec<_> = list.iter().map(|(role, _)| container(*role)).collect();
            let amounts = std::cell::Cell::new(0);
            at_once(&containers, |_| {
                let place = amounts.replace(amounts.get() + 1);
                list[place].1
            })
        };
        assert_eq!(of(&[(Role::Main, 2), (Role::Main, 3)]), 5);
        assert_eq!(of(&[(Role::Init, 9), (Role::Main, 2), (Role::Main, 3)]), 9);
        assert_eq!(of(&[(Role::Init, 4), (Role::Sidecar, 2), (Role::Main, 3)]), 5);
        assert_eq!(of(&[(Role::Sidecar, 2), (Role::Init, 4), (Role::Main, 3)]), 6);
    }
}
