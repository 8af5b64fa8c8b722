//! What variables of containers are made from on this node.

use std::fs;

use super::host_ip::host_ips;
use super::mounts::check_sub_paths;
use super::worker::Worker;
use crate::container::environment::{Environment, NodeFacts, NotThere, Purpose, Sources, environment};
use crate::manifest::pod::Allocatable;
use crate::manifest::{Container, Object, Pod};

impl Worker {
    /// The container's variables, as ConfigMaps and Secrets are now.
    pub fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        purpose: Purpose,
    ) -> Result<Environment, NotThere> {
        let objects = self.set.objects();
        let of_set = |id: &_| objects.get(id).map(|object| -> &Object { object });
        let sources = Sources { pod, objects: &of_set, node: &|| self.node_facts(pod) };
        environment(container, sources, purpose)
    }

    /// What a Pod's volumes or variables lack for a start of all its containers, if they do.
    pub fn lacks_for_start(&self, pod: &Pod) -> Option<String> {
        let of_container = |container: &Container| {
            let environment = self.environment(pod, container, Purpose::Start).map_err(anyhow::Error::from);
            let error = environment.and_then(|it| check_sub_paths(container, &it)).err()?;
            Some(format!("container {}: {error:#}", container.name))
        };
        self.check_files(pod).err().or_else(|| pod.containers.iter().find_map(of_container))
    }

    fn node_facts(&self, pod: &Pod) -> NodeFacts {
        let run = self.numbers.get(&pod.uid).and_then(|number| self.pods.get(number));
        let pod_addresses = self.addresses_of(run.and_then(|run| run.slot));
        NodeFacts { addresses: host_ips(), pod_addresses, allocatable: self.allocatable() }
    }

    /// All of the machine: podkeep sets nothing aside.
    pub fn allocatable(&self) -> Allocatable {
        Allocatable {
            cpu_milli: 1000 * processors(),
            memory: memory(),
            ephemeral_storage: rustix::fs::statvfs(&self.options.folders.root)
                .map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        }
    }
}

/// Bytes that the machine has.
pub fn memory() -> u64 {
    let host = rustix::system::sysinfo();
    host.totalram.saturating_mul(host.mem_unit.into())
}

/// Those that the machine has switched on, whichever of them podkeep itself may use.
fn processors() -> u64 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    count_of(online.trim()).max(1)
}

/// Of a list of the kernel's: `0-3,8`.
fn count_of(list: &str) -> u64 {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some(last.saturating_sub(first) + 1)
    };
    list.split(',').filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::count_of;

    #[test]
    fn the_kernels_lists_are_counted() {
        for (list, count) in [("0", 1), ("0-3", 4), ("0-3,8", 5), ("1,3-4", 3), ("", 0)] {
            assert_eq!(count_of(list), count, "{list}");
        }
    }
}
