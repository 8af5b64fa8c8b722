//! Where the addresses of Pods come from.

use std::fs;

use sha2::{Digest, Sha256};

use crate::config::PodNetwork;
use crate::network::Ranges;

/// IPv4 addresses of Pods where the configuration says nothing: none of the ranges that others take by default.
const USUAL_V4: &str = "10.203.0.0/16";

/// Where addresses come from, if Pods are to have any.
pub fn ranges(config: &PodNetwork) -> Option<Ranges> {
    match config {
        PodNetwork::Loopback => None,
        PodNetwork::Usual => Some(usual_ranges()),
        PodNetwork::Ranges(ranges) => Some(*ranges),
    }
}

/// With a range of IPv6 that is this machine's alone, as RFC 4193 wants it.
fn usual_ranges() -> Ranges {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let hash = Sha256::digest([b"podkeep: addresses of Pods", &*machine].concat());
    let [a, b, c, d, e] = [hash[0], hash[1], hash[2], hash[3], hash[4]];
    let both = format!("{USUAL_V4},fd{a:02x}:{b:02x}{c:02x}:{d:02x}{e:02x}::/64");
    Ranges::parse(&both).unwrap_or_else(|error| unreachable!("{both}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ranges_are_always_some() {
        let ranges = usual_ranges();
        assert_eq!(ranges.v4().unwrap().to_string(), USUAL_V4);
        assert_eq!(ranges.v6().unwrap().network.octets()[0], 0xfd);
    }
}
