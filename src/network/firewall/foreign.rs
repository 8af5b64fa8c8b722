//! What others keep in the firewall that drops packets. A packet passes the chains of all tables, and whoever drops it has the last word:
//! our table can accept nothing that another one drops. So it is found and named, for people to change; podkeep never does.

use std::fmt;

use super::uapi::{NF_DROP, chain, data, expression, hook, immediate, list, rule, target, verdict};
use super::{TABLE, header, subsystem};
use crate::network::netlink::{Message, Refusal, Socket, attributes, find, text};

/// What passes a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What goes to the host itself: from Pods to the node's address.
    Input,
    /// What goes through the host: between Pods, and between Pods and the world.
    Forward,
}

/// How a chain drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// Whatever no rule has accepted.
    ByPolicy,
    /// The same by a last rule that asks for nothing.
    ByLastRule,
    /// It could not be seen: the old iptables do not show theirs over netlink.
    Perhaps,
}

/// A chain of somebody else that may drop what Pods send or are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// As in `nft list chain`: `ip filter`.
    pub table: String,
    pub chain: String,
    pub hook: Hook,
    pub drops: Drops,
    /// Whose it seems to be.
    pub owner: Option<String>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, chain {}", self.table, self.chain)?;
        if let Some(owner) = &self.owner {
            write!(f, " ({owner})")?;
        }
        let program = if self.table.starts_with("ip6") { "ip6tables-legacy" } else { "iptables-legacy" };
        match self.drops {
            Drops::ByPolicy => f.write_str(": policy drop"),
            Drops::ByLastRule => f.write_str(": its last rule drops or rejects everything"),
            Drops::Perhaps => write!(f, ": may drop, look at `{program} -S {}`", self.chain),
        }
    }
}

/// Chains begin so when this is their owner; or the whole table is called so.
const OWNERS: [(&str, &str); 8] = [
    ("DOCKER", "Docker"),
    ("ufw", "ufw"),
    ("KUBE-", "Kubernetes"),
    ("CNI-", "CNI"),
    ("NETAVARK", "podman"),
    ("LIBVIRT_", "libvirt"),
    ("firewalld", "firewalld"),
    ("fw4", "OpenWrt"),
];

/// A chain as the kernel lists it.
struct Chain {
    /// `NFPROTO_*`
    family: u8,
    table: String,
    name: String,
    /// The hook, and whether the policy is to drop, if it has a hook that concerns Pods.
    base: Option<(Hook, bool)>,
}

/// Those that nftables knows of: iptables-nft's too. Asks once for all chains, and for the rules of those alone that are on our way.
pub(super) fn drops(socket: &Socket) -> Result<Vec<Foreign>, Refusal> {
    let request = Message::list(subsystem(libc::NFT_MSG_GETCHAIN), &header(libc::NFPROTO_UNSPEC as u8));
    let chains = socket.list(&request, |_, payload| read_chain(payload))?;
    let mut found = Vec::new();
    for chain in &chains {
        let Some((hook, is_policy)) = chain.base else { continue };
        let drops = if is_policy {
            Drops::ByPolicy
        } else if ends_with_drop(socket, chain)? {
            Drops::ByLastRule
        } else {
            continue;
        };
        found.push(Foreign {
            table: format!("{} {}", family_name(chain.family), chain.table),
            chain: chain.name.clone(),
            hook,
            drops,
            owner: owner(chain, &chains),
        });
    }
    Ok(found)
}

/// The old iptables (iptables-legacy), from `/proc/net/ip_tables_names` and `/proc/net/ip6_tables_names`: a table that stands there is in
/// use, or was since the last start of the machine. Whether it drops, only iptables-legacy itself can say.
pub fn legacy(ip_tables_names: &str, ip6_tables_names: &str) -> Vec<Foreign> {
    let mut found = Vec::new();
    for (family, names) in [("ip", ip_tables_names), ("ip6", ip6_tables_names)] {
        if names.lines().any(|name| name == "filter") {
            for (chain, hook) in [("INPUT", Hook::Input), ("FORWARD", Hook::Forward)] {
                found.push(Foreign {
                    table: format!("{family} filter"),
                    chain: chain.to_owned(),
                    hook,
                    drops: Drops::Perhaps,
                    owner: Some("iptables-legacy".to_owned()),
                });
            }
        }
    }
    found
}

/// None for our own, and for what packets of IPv4 and IPv6 do not pass.
fn read_chain(payload: &[u8]) -> Option<Chain> {
    let (family, fields) = (*payload.first()?, payload.get(4..)?);
    let table = text(find(fields, chain::TABLE)?);
    let is_ours = libc::c_int::from(family) == libc::NFPROTO_INET && table == TABLE;
    if is_ours || family_name(family).is_empty() {
        return None;
    }
    let number = find(fields, chain::HOOK).and_then(|place| find(place, hook::NUMBER)).and_then(big_endian);
    let hook = match number.map(|number| number as libc::c_int) {
        Some(libc::NF_INET_LOCAL_IN) => Some(Hook::Input),
        Some(libc::NF_INET_FORWARD) => Some(Hook::Forward),
        _ => None,
    };
    let is_policy = find(fields, chain::POLICY).and_then(big_endian) == Some(NF_DROP);
    Some(Chain {
        family,
        table: table.to_owned(),
        name: text(find(fields, chain::NAME)?).to_owned(),
        base: hook.map(|hook| (hook, is_policy)),
    })
}

/// Whether the last rule of a chain drops or rejects whatever comes to it.
fn ends_with_drop(socket: &Socket, chain: &Chain) -> Result<bool, Refusal> {
    let request = Message::list(subsystem(libc::NFT_MSG_GETRULE), &header(chain.family))
        .text(rule::TABLE, &chain.table)
        .text(rule::CHAIN, &chain.name);
    let rules = socket.list(&request, |_, payload| {
        let expressions = payload.get(4..).and_then(|fields| find(fields, rule::EXPRESSIONS));
        Some(expressions.is_some_and(drops_everything))
    })?;
    Ok(rules.last() == Some(&true))
}

fn drops_everything(expressions: &[u8]) -> bool {
    let mut drops = false;
    for (_, whole) in attributes(expressions).filter(|(kind, _)| *kind == list::ELEMENT) {
        let of_it = find(whole, expression::DATA).unwrap_or_default();
        match find(whole, expression::NAME).map(text) {
            // They let everything pass on to what follows.
            Some("counter" | "log") => {}
            Some("immediate") => drops |= is_drop(of_it),
            Some("reject") => drops = true,
            // Of iptables-nft.
            Some("target") => drops |= find(of_it, target::NAME).map(text) == Some("REJECT"),
            // A condition, most likely.
            _ => return false,
        }
    }
    drops
}

fn is_drop(of_immediate: &[u8]) -> bool {
    let verdict = find(of_immediate, immediate::DATA).and_then(|value| find(value, data::VERDICT));
    verdict.and_then(|fields| find(fields, verdict::CODE)).and_then(big_endian) == Some(NF_DROP)
}

/// By what else is in its table: those who use iptables share one, and each has chains of its own there.
fn owner(chain: &Chain, chains: &[Chain]) -> Option<String> {
    let beside = |other: &&Chain| other.family == chain.family && other.table == chain.table;
    let has = |prefix: &str| {
        chain.table == prefix || chains.iter().filter(beside).any(|other| other.name.starts_with(prefix))
    };
    let owners: Vec<&str> =
        OWNERS.iter().filter(|(prefix, _)| has(prefix)).map(|(_, owner)| *owner).collect();
    let is_of_iptables = matches!(&*chain.name, "INPUT" | "FORWARD") && chain.table == "filter";
    match (&*owners, is_of_iptables) {
        ([], true) => Some("iptables".to_owned()),
        ([], false) => None,
        _ => Some(owners.join(" or ")),
    }
}

/// As nft has it; empty for those that do not concern Pods.
fn family_name(family: u8) -> &'static str {
    match libc::c_int::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => "",
    }
}

fn big_endian(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}
