//! How many huge pages of each size that this machine has: what is asked for, and none of the others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::manifest::quantity::Quantity;
use crate::order;

/// Sizes of huge pages of this machine in bytes; none come while it runs.
static SIZES: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let folders = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let kilobytes = folders.filter_map(|folder| {
        folder.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    let mut sizes: Vec<u64> = kilobytes.map(|kilobytes| kilobytes * 1024).collect();
    order::sort(&mut sizes);
    sizes
});

/// The limit for one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePageLimit {
    /// As the files of the hugetlb controller are named: `2MB`.
    pub size: String,
    pub bytes: u64,
}

/// One limit for each size that the machine has, from a manifest's `hugepages-SIZE`: nothing of what is not asked for
/// (`K/cm/helpers_linux.go:HugePageLimits`, `cgroup_manager_linux.go:maybeSetHugetlb`).
pub fn huge_page_limits(asked: &BTreeMap<String, u64>) -> Vec<HugePageLimit> {
    limits_of(&SIZES, asked)
}

fn limits_of(sizes: &[u64], asked: &BTreeMap<String, u64>) -> Vec<HugePageLimit> {
    let bytes_of = |size: u64| {
        let same = |(name, _): &(&String, &u64)| Quantity::parse(name).is_ok_and(|q| q.units() == size);
        asked.iter().filter(same).fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes))
    };
    sizes.iter().map(|size| HugePageLimit { size: name(*size), bytes: bytes_of(*size) }).collect()
}

fn name(bytes: u64) -> String {
    match bytes {
        bytes if bytes % (1 << 30) == 0 => format!("{}GB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{}MB", bytes >> 20),
        bytes => format!("{}KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_the_kernel_does() {
        assert_eq!([name(2 << 20), name(1 << 30), name(64 << 10)], ["2MB", "1GB", "64KB"]);
    }

    #[test]
    fn what_is_not_asked_for_is_nothing() {
        let asked = [("2Mi".to_owned(), 8 << 20)].into();
        let limits = limits_of(&[2 << 20, 1 << 30], &asked);
        let expected = [("2MB", 8 << 20), ("1GB", 0)]
            .map(|(size, bytes)| HugePageLimit { size: size.to_owned(), bytes });
        assert_eq!(limits, expected);
    }
}
