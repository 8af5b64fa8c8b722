//! What a group has used, in the form of runc's `events --stats`.
//!
//! The names are those of cgroup v1, which every reader of that format knows; what v2 has no number for is left out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::interface::{each_keyed, keyed};
use super::{Error, Group};
use crate::order;

/// One reading; files that are not there (a controller that is off) count as zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub cpu: Cpu,
    pub memory: Memory,
    pub pids: Pids,
    #[serde(skip_serializing_if = "Blkio::is_empty")]
    pub blkio: Blkio,
    /// By page size, such as `2MB`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugetlb: BTreeMap<String, Amount>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
}

/// Nanoseconds, of which the kernel tells microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    pub total: u64,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes of the page cache.
    pub cache: u64,
    pub usage: Amount,
    /// Memory and swap together, as runc tells it and v1 counted it.
    pub swap: Amount,
    /// `memory.stat` as it is.
    pub raw: BTreeMap<String, u64>,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub usage: u64,
    /// `u64::MAX` without a limit.
    pub limit: u64,
    /// How often the limit was run into.
    pub failcnt: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    pub current: u64,
    /// Zero without a limit.
    pub limit: u64,
}

/// What went to and came from block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    pub io_serviced_recursive: Vec<BlkioEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write` or `Discard`.
    pub op: &'static str,
    pub value: u64,
}

impl Blkio {
    fn is_empty(&self) -> bool {
        self.io_service_bytes_recursive.is_empty() && self.io_serviced_recursive.is_empty()
    }

    /// Lines of `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`, some without a key.
    fn parse(text: &str) -> Blkio {
        let mut blkio = Blkio::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let device = words.next().and_then(|device| device.split_once(':'));
            let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else { continue };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let (list, op) = match key {
                    "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                    "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                    "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                    "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                    "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                    "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                    _ => continue,
                };
                list.extend(value.parse().ok().map(|value| BlkioEntry { major, minor, op, value }));
            }
        }
        blkio
    }
}

impl Group {
    /// Reads what this group and those below have used and may use. All zero once it is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: Pids {
                current: self.number("pids.current")?,
                limit: Some(self.number("pids.max")?).filter(|max| *max != u64::MAX).unwrap_or(0),
            },
            blkio: Blkio::parse(&self.text("io.stat")?),
            hugetlb: self.hugetlb_stats()?,
        })
    }

    fn cpu_stats(&self) -> Result<Cpu, Error> {
        let text = self.text("cpu.stat")?;
        let number = |key| keyed(&text, key).unwrap_or(0);
        let nanoseconds = |key| number(key).saturating_mul(1000);
        Ok(Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: Throttling {
                periods: number("nr_periods"),
                throttled_periods: number("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
        })
    }

    fn memory_stats(&self) -> Result<Memory, Error> {
        let text = self.text("memory.stat")?;
        let usage = self.amount("memory")?;
        let mut swap = self.amount("memory.swap")?;
        swap.usage = swap.usage.saturating_add(usage.usage);
        swap.limit = swap.limit.saturating_add(usage.limit);
        Ok(Memory {
            cache: keyed(&text, "file").unwrap_or(0),
            usage,
            swap,
            raw: order::map(each_keyed(&text).map(|(key, value)| (key.to_owned(), value))),
        })
    }

    fn hugetlb_stats(&self) -> Result<BTreeMap<String, Amount>, Error> {
        let mut sizes = BTreeMap::new();
        for name in self.files()? {
            // Not `hugetlb.2MB.rsvd.current`.
            let size = name.strip_prefix("hugetlb.").and_then(|name| name.strip_suffix(".current"));
            if let Some(size) = size.filter(|size| !size.contains('.')) {
                sizes.insert(size.to_owned(), self.amount(&format!("hugetlb.{size}"))?);
            }
        }
        Ok(sizes)
    }

    fn amount(&self, prefix: &str) -> Result<Amount, Error> {
        Ok(Amount {
            usage: self.number(&format!("{prefix}.current"))?,
            limit: self.number(&format!("{prefix}.max"))?,
            failcnt: self.directory().read_keyed(&format!("{prefix}.events"), "max")?.unwrap_or(0),
        })
    }

    fn number(&self, file: &str) -> Result<u64, Error> {
        let text = self.text(file)?;
        let text = text.trim_end();
        Ok(if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) })
    }

    fn text(&self, file: &str) -> Result<String, Error> {
        Ok(self.directory().read_if_there(file)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_did_is_sorted_by_kind() {
        let text = "8:16 rbytes=1459200 wbytes=0 rios=192 wios=0 dbytes=7 dios=1\n8:0 \n253:x rbytes=1\n";
        let blkio = Blkio::parse(text);
        let entry = |op, value| BlkioEntry { major: 8, minor: 16, op, value };
        assert_eq!(
            blkio.io_service_bytes_recursive,
            [entry("Read", 1_459_200), entry("Write", 0), entry("Discard", 7)]
        );
        assert_eq!(blkio.io_serviced_recursive, [entry("Read", 192), entry("Write", 0), entry("Discard", 1)]);
        assert!(Blkio::parse("8:0 \n").is_empty());
    }

    #[test]
    fn the_names_are_those_of_runc() {
        let mut stats = Stats::default();
        stats.memory.raw.insert("anon".to_owned(), 1);
        let json = serde_json::to_value(&stats).unwrap();
        for pointer in [
            "/cpu/usage/total",
            "/cpu/usage/kernel",
            "/cpu/throttling/throttledPeriods",
            "/memory/usage/limit",
            "/memory/raw/anon",
            "/pids/current",
        ] {
            assert!(json.pointer(pointer).is_some_and(|value| value.is_u64()), "{pointer}: {json}");
        }
        assert!(json.get("blkio").is_none() && json.get("hugetlb").is_none());
    }
}
