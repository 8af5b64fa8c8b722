//! The addresses that a node gives to its Pods.
//!
//! Each Pod has a slot: a number that stands for one address of each range. Slot 1 is the node's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The slot of the node itself.
pub const NODE: Slot = Slot(1);
/// The first slot that a Pod can have.
const FIRST: u32 = 2;
/// Where a range holds more addresses than that, the others are never used: as many Pods no machine runs.
const MOST_SLOTS: u32 = 1 << 20;

/// A number from 1 on, below [`Ranges::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

/// What a slot stands for: at least one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// IPv4 before IPv6.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.v6.map(IpAddr::V6);
        self.v4.map(IpAddr::V4).into_iter().chain(v6)
    }
}

/// What a Pod was given, for as long as it is there: the addresses of a slot, but for that of IPv6 where the host had none then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub slot: Slot,
    pub is_v4_only: bool,
}

/// The ranges of a node: one of IPv4, one of IPv6, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    v4: Option<Range<Ipv4Addr>>,
    v6: Option<Range<Ipv6Addr>>,
}

/// A network address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<A> {
    pub network: A,
    pub length: u8,
}

impl Ranges {
    /// Reads `10.203.0.0/16,fd00::/64`: one range of a kind, in any order, each with room for a Pod at least.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Ranges, String> {
        let mut ranges = Ranges { v4: None, v6: None };
        for part in text.split(',') {
            let part = part.trim();
            let (network, length) = split(part)?;
            let is_second = match network {
                IpAddr::V4(network) => ranges.v4.replace(range(part, network, length, 32)?).is_some(),
                IpAddr::V6(network) => ranges.v6.replace(range(part, network, length, 128)?).is_some(),
            };
            if is_second {
                return Err(format!("{part:?} is a second range of its kind"));
            }
        }
        Ok(ranges)
    }

    /// Without IPv6, which the host has not; `None` if nothing is left.
    pub fn only_v4(self) -> Option<Ranges> {
        self.v4.map(|v4| Ranges { v4: Some(v4), v6: None })
    }

    pub fn v4(&self) -> Option<Range<Ipv4Addr>> {
        self.v4
    }

    pub fn v6(&self) -> Option<Range<Ipv6Addr>> {
        self.v6
    }

    /// What a slot stands for.
    pub fn addresses(&self, slot: Slot) -> Addresses {
        Addresses {
            v4: self.v4.map(|range| Ipv4Addr::from_bits(range.network.to_bits().wrapping_add(slot.0))),
            v6: self.v6.map(|range| Ipv6Addr::from_bits(range.network.to_bits().wrapping_add(slot.0.into()))),
        }
    }

    /// What a Pod has of these ranges, which may be fewer or more than when it was given its addresses.
    pub fn leased(&self, lease: Lease) -> Addresses {
        let all = self.addresses(lease.slot);
        Addresses { v6: all.v6.filter(|_| !lease.is_v4_only), ..all }
    }

    /// Whether an address lies in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|range| {
                (address.to_bits() ^ range.network.to_bits()).leading_zeros() >= range.length.into()
            }),
            IpAddr::V6(address) => self.v6.is_some_and(|range| {
                (address.to_bits() ^ range.network.to_bits()).leading_zeros() >= range.length.into()
            }),
        }
    }

    /// Whether a network lies in one of them, or is one of them.
    pub fn hold(&self, network: IpAddr, length: u8) -> bool {
        let own = if network.is_ipv4() {
            self.v4.map(|range| range.length)
        } else {
            self.v6.map(|range| range.length)
        };
        own.is_some_and(|own| length >= own) && self.contain(network)
    }

    /// The next free slot after the one that was given out last, so that an address that has become free rests as long as can be.
    pub fn next_slot(&self, last: Slot, is_taken: impl Fn(Slot) -> bool) -> Option<Slot> {
        let after = last.0.max(NODE.0);
        let all = (after + 1..self.slots()).chain(FIRST..self.slots().min(after + 1));
        all.map(Slot).find(|slot| !is_taken(*slot))
    }

    /// One more than the highest slot; the last address of IPv4 is the broadcast's.
    pub(super) fn slots(&self) -> u32 {
        let v4 = self.v4.map(|range| 32 - range.length);
        let v6 = self.v6.map(|range| 128 - range.length);
        let bits = v4.into_iter().chain(v6).min().unwrap_or(0);
        1_u32.checked_shl(bits.into()).map_or(MOST_SLOTS, |all| (all - 1).min(MOST_SLOTS))
    }
}

/// As [`Ranges::parse`] reads it.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4},{v6}"),
            (Some(v4), None) => write!(f, "{v4}"),
            (None, Some(v6)) => write!(f, "{v6}"),
            (None, None) => Ok(()),
        }
    }
}

impl<A: fmt::Display> fmt::Display for Range<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

fn split(text: &str) -> Result<(IpAddr, u8), String> {
    let parts = text.split_once('/').and_then(|(network, length)| {
        let digits = length.bytes().all(|digit| digit.is_ascii_digit());
        Some((network.parse().ok()?, length.parse().ok().filter(|_| digits)?))
    });
    parts.ok_or_else(|| format!("{text:?} is no range of addresses such as 10.203.0.0/16"))
}

/// With room for a Pod, its host part zero.
fn range<A: Copy + Into<IpAddr>>(text: &str, network: A, length: u8, bits: u8) -> Result<Range<A>, String> {
    // The node, one Pod, and what lies at both ends.
    if length < 8 || length > bits - 2 {
        return Err(format!("{text:?}: its prefix must be of 8 to {} bits", bits - 2));
    }
    let host_part = match network.into() {
        IpAddr::V4(network) => u128::from(network.to_bits()) << 96,
        IpAddr::V6(network) => network.to_bits(),
    } << length;
    if host_part != 0 {
        return Err(format!("{text:?} is an address in a range: its last {} bits must be 0", bits - length));
    }
    Ok(Range { network, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        Ranges::parse(text).unwrap()
    }

    #[test]
    fn a_slot_stands_for_one_address_of_each_range() {
        let both = ranges("10.203.0.0/16, fd00::/64");
        let found: Vec<String> = both.addresses(Slot(258)).iter().map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["10.203.1.2", "fd00::102"]);
        assert_eq!(ranges("fd00::/64").addresses(NODE).iter().count(), 1);
        for (address, is_in) in
            [("10.203.255.255", true), ("10.204.0.0", false), ("fd00::9", true), ("fd01::", false)]
        {
            assert_eq!(both.contain(address.parse().unwrap()), is_in, "{address}");
        }
        for (network, length, is_in) in [
            ("10.203.0.0", 16, true),
            ("10.203.7.0", 24, true),
            ("10.0.0.0", 8, false),
            ("fd00::", 64, true),
            ("fd00::", 48, false),
        ] {
            assert_eq!(both.hold(network.parse().unwrap(), length), is_in, "{network}/{length}");
        }
        assert_eq!(both.only_v4().unwrap().addresses(NODE).v6, None);
        for text in ["10.203.0.0/16,fd00::/64", "10.203.0.0/16", "fd00::/64"] {
            assert_eq!(ranges(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_range_is_refused_in_words() {
        for (text, words) in [
            ("", "is no range"),
            ("10.0.0.0", "is no range"),
            ("10.0.0.0/+8", "is no range"),
            ("10.0.0.0/33", "must be of 8 to 30 bits"),
            ("10.0.0.0/31", "must be of 8 to 30 bits"),
            ("fd00::/127", "must be of 8 to 126 bits"),
            ("10.0.0.1/16", "its last 16 bits must be 0"),
            ("fd00::1/64", "its last 64 bits must be 0"),
            ("10.0.0.0/16,10.1.0.0/16", "is a second range of its kind"),
        ] {
            let error = Ranges::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn slots_go_round_and_none_is_given_twice() {
        // 8 addresses: the range's own, the node's, five for Pods, and the broadcast's.
        let small = ranges("10.0.0.0/29,fd00::/64");
        let mut taken = Vec::new();
        let mut last = NODE;
        while let Some(slot) = small.next_slot(last, |slot| taken.contains(&slot)) {
            taken.push(slot);
            last = slot;
        }
        assert_eq!(taken, [2, 3, 4, 5, 6].map(Slot));
        taken.retain(|slot| *slot != Slot(3) && *slot != Slot(6));
        assert_eq!(small.next_slot(Slot(4), |slot| taken.contains(&slot)), Some(Slot(6)));
        assert_eq!(small.next_slot(Slot(6), |slot| taken.contains(&slot)), Some(Slot(3)));
        // One that is given back at once is not the next.
        assert_eq!(small.next_slot(Slot(2), |_| false), Some(Slot(3)));
        assert_eq!(ranges("fd00::/64").next_slot(NODE, |_| false), Some(Slot(2)));
    }
}
