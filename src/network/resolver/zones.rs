//! What names lead to: the zones that are ours, and in them the Pods.

use std::net::IpAddr;

use crate::dns::put_name;
use crate::network::Ranges;

/// Everything that is ours alone to answer for, whatever the configuration says.
const OURS: &str = "podkeep.internal";
/// Where Pods have their names.
pub const PODS: &str = "pod.podkeep.internal";
/// Who answers for each zone, and whom to write to (RFC 1035 wants one).
pub const SERVER: &str = "ns.podkeep.internal";
pub const HOSTMASTER: &str = "hostmaster.podkeep.internal";
/// The zone of names with a `subdomain` where the configuration has no `clusterDomain`.
pub const SERVICES: &str = "svc";
/// The longest key of a name: that of DNS, but for the byte that ends it there.
const MAX_KEY: usize = 254;

/// What a Pod is called, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// In the zone of its namespace. The first is what its addresses are called if it has no `subdomain`. At least one.
    pub names: &'a [&'a str],
    pub namespace: &'a str,
    /// Its host name and what stands behind that ([`network::domain`](crate::network::domain)); `None` without a `subdomain`.
    pub host: Option<(&'a str, &'a str)>,
    pub addresses: &'a [IpAddr],
    /// Whether it stands under its `subdomain` alone too, as a headless Service has only those that are ready.
    pub is_ready: bool,
}

/// Whose name an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Resolver,
    Pod(u32),
}

/// A name, so written that what lies below another name begins with that name: from the root, each label behind its length, in
/// small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// As bytes of a message.
    Name(Box<[u8]>),
}

#[derive(Debug)]
pub struct Entry {
    key: Key,
    owner: Owner,
    pub data: Data,
}

/// A name in one of our zones.
#[derive(Debug)]
pub struct Found<'a> {
    /// How many labels the zone's own name has.
    pub apex_labels: usize,
    pub is_apex: bool,
    /// It may exist without leading to anything: names below it do.
    pub exists: bool,
    pub entries: &'a [Entry],
}

#[derive(Debug)]
pub struct Zones {
    apexes: Vec<Key>,
    /// By their keys.
    entries: Vec<Entry>,
    /// How often anything has changed.
    pub serial: u32,
}

impl Key {
    pub fn push(&mut self, label: &[u8]) {
        self.0.push(label.len() as u8);
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
    }

    fn of(name: &str) -> Key {
        let mut key = Key::default();
        name.rsplit('.').for_each(|label| key.push(label.as_bytes()));
        key
    }

    /// The name below it, which may have several labels.
    fn below(&self, name: &str) -> Key {
        let mut key = self.clone();
        name.rsplit('.').for_each(|label| key.push(label.as_bytes()));
        key
    }

    /// Of an address's name, or of as many of its first parts as are given.
    fn reverse(is_ipv4: bool, parts: &[u8]) -> Key {
        let mut key = Key::of(if is_ipv4 { "in-addr.arpa" } else { "ip6.arpa" });
        for part in parts {
            let label = if is_ipv4 { part.to_string() } else { format!("{part:x}") };
            key.push(label.as_bytes());
        }
        key
    }

    fn is_in(&self, other: &Key) -> bool {
        self.0.starts_with(&other.0)
    }

    fn labels(&self) -> usize {
        let (mut count, mut rest) = (0, &self.0[..]);
        while let Some((length, after)) = rest.split_first() {
            rest = after.get(usize::from(*length)..).unwrap_or_default();
            count += 1;
        }
        count
    }
}

impl Zones {
    /// `servers`: where we are asked. `ranges`: of the Pods' addresses. `cluster_domain` may be empty.
    pub fn new(servers: &[IpAddr], ranges: &Ranges, cluster_domain: &str) -> Zones {
        let services = if cluster_domain.is_empty() { SERVICES } else { cluster_domain };
        let mut apexes = vec![Key::of(OURS), Key::of(PODS), Key::of(services)];
        if let Some(range) = ranges.v4() {
            apexes.extend(reverse_zones(range.network.into(), range.length));
        }
        if let Some(range) = ranges.v6() {
            apexes.extend(reverse_zones(range.network.into(), range.length));
        }
        let mut zones = Zones { apexes, entries: Vec::new(), serial: 1 };
        for server in servers {
            zones.insert(Key::of(SERVER), Owner::Resolver, Data::Address(*server));
            zones.insert_reverse(*server, Owner::Resolver, SERVER);
        }
        zones
    }

    /// Makes this all that is said of a Pod: nothing for `None`.
    pub fn set(&mut self, pod: u32, names: Option<&Names<'_>>) {
        let owner = Owner::Pod(pod);
        self.entries.retain(|entry| entry.owner != owner);
        if let Some(names) = names {
            self.add(owner, names);
        }
        self.serial = self.serial.wrapping_add(1);
    }

    fn add(&mut self, owner: Owner, names: &Names<'_>) {
        let namespace = Key::of(PODS).below(names.namespace);
        let domain = names.host.map(|(_, domain)| Key::of(domain));
        let own_name = match names.host {
            Some((name, domain)) => format!("{name}.{domain}"),
            None => format!("{}.{}.{PODS}", names.names.first().unwrap_or(&""), names.namespace),
        };
        for address in names.addresses {
            let data = || Data::Address(*address);
            for name in names.names {
                self.insert(namespace.below(name), owner, data());
            }
            if let (Some((name, _)), Some(domain)) = (names.host, &domain) {
                self.insert(domain.below(name), owner, data());
            }
            if let Some(domain) = domain.as_ref().filter(|_| names.is_ready) {
                self.insert(domain.clone(), owner, data());
            }
            self.insert_reverse(*address, owner, &own_name);
        }
    }

    fn insert_reverse(&mut self, address: IpAddr, owner: Owner, name: &str) {
        let mut target = Vec::new();
        if put_name(&mut target, name) {
            let key = Key::reverse(address.is_ipv4(), &parts(address));
            self.insert(key, owner, Data::Name(target.into()));
        }
    }

    /// Unless no message could ask for it, or nobody asks us.
    fn insert(&mut self, key: Key, owner: Owner, data: Data) {
        if key.0.len() <= MAX_KEY && self.apex_of(&key).is_some() {
            let place = self.entries.partition_point(|entry| entry.key <= key);
            self.entries.insert(place, Entry { key, owner, data });
        }
    }

    fn apex_of(&self, key: &Key) -> Option<&Key> {
        self.apexes.iter().filter(|apex| key.is_in(apex)).max_by_key(|apex| apex.0.len())
    }

    /// `None` for a name that is not ours.
    pub fn look_up(&self, key: &Key) -> Option<Found<'_>> {
        let apex = self.apex_of(key)?;
        let from = self.entries.partition_point(|entry| entry.key < *key);
        let entries = &self.entries[from..];
        let count = entries.iter().take_while(|entry| entry.key == *key).count();
        let exists = entries.first().is_some_and(|entry| entry.key.is_in(key))
            || self.apexes.iter().any(|apex| apex.is_in(key));
        let is_apex = apex == key;
        Some(Found { apex_labels: apex.labels(), is_apex, exists, entries: &entries[..count] })
    }
}

/// The parts of which an address's name consists: bytes, of IPv6 half ones.
fn parts(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().iter().flat_map(|byte| [byte >> 4, byte & 15]).collect(),
    }
}

/// Those of a range that ends within a part of the name are many: one for each value that the rest of the part may have.
fn reverse_zones(network: IpAddr, length: u8) -> Vec<Key> {
    let is_ipv4 = network.is_ipv4();
    let (part, length) = (if is_ipv4 { 8 } else { 4 }, usize::from(length));
    let mut parts = parts(network);
    parts.truncate(length.div_ceil(part));
    let values = 1_u16 << (parts.len() * part - length);
    let Some((last, before)) = parts.split_last_mut() else { return vec![Key::reverse(is_ipv4, &[])] };
    let first = u16::from(*last);
    let zone = |value: u16| Key::reverse(is_ipv4, &[&*before, &[value as u8]].concat());
    (first..first + values).map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::of(name)
    }

    fn ranges() -> Ranges {
        Ranges::parse("10.203.0.0/16").unwrap()
    }

    #[test]
    fn a_key_begins_as_those_above_it_and_as_no_other() {
        assert!(key("a.b.example").is_in(&key("B.Example")));
        assert!(!key("ab.example").is_in(&key("b.example")));
        assert!(!key("a.example").is_in(&key("a.example.a")));
        assert_eq!(key("a.b.example").labels(), 3);
        assert_eq!(Key::default().labels(), 0);
    }

    #[test]
    fn a_range_has_the_zones_that_cover_it() {
        let zones = |text: &str| {
            let (network, length) = text.split_once('/').unwrap();
            reverse_zones(network.parse().unwrap(), length.parse().unwrap())
        };
        assert_eq!(zones("10.203.0.0/16"), [key("203.10.in-addr.arpa")]);
        assert_eq!(zones("10.0.0.0/8"), [key("10.in-addr.arpa")]);
        assert_eq!(zones("10.4.0.0/15"), [key("4.10.in-addr.arpa"), key("5.10.in-addr.arpa")]);
        let halves = zones("10.0.0.128/25");
        assert_eq!(halves.len(), 128);
        assert_eq!(halves[127], key("255.0.0.10.in-addr.arpa"));
        assert_eq!(zones("fd00:1::/32"), [key("1.0.0.0.0.0.d.f.ip6.arpa")]);
        assert_eq!(zones("fc00::/7").len(), 2);
    }

    #[test]
    fn what_is_said_of_a_pod_is_replaced_at_once_and_forgotten_with_it() {
        let mut zones = Zones::new(&[], &ranges(), "");
        let addresses = ["10.203.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let names =
            Names { names: &["web"], namespace: "shop", host: None, addresses: &addresses, is_ready: true };
        let serial = zones.serial;
        zones.set(7, Some(&names));
        // The name for both addresses, and the name of the one that is ours.
        assert_eq!(zones.entries.len(), 3);
        zones.set(8, Some(&Names { addresses: &addresses[..1], ..names }));
        zones.set(7, Some(&Names { names: &["db"], ..names }));
        let found = |name| zones.look_up(&key(name)).unwrap().entries.len();
        assert_eq!((found("web.shop.pod.podkeep.internal"), found("db.shop.pod.podkeep.internal")), (1, 2));
        zones.set(7, None);
        zones.set(8, None);
        assert!(zones.entries.is_empty());
        assert_eq!(zones.serial, serial + 5);
    }

    #[test]
    fn a_name_that_is_too_long_for_dns_is_left_out() {
        let mut zones = Zones::new(&[], &ranges(), "");
        let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let addresses = ["10.203.0.2".parse().unwrap()];
        let names =
            Names { names: &[&name], namespace: "shop", host: None, addresses: &addresses, is_ready: true };
        zones.set(1, Some(&names));
        assert!(zones.entries.is_empty());
    }
}
