//! The table without Pods: `nft list table inet podkeep` shows it. Each rule stands below what nft would take it from.
//!
//! Beside it the anchor, which does nothing but be there.

use super::rule::{Rule, Verdict, fields};
use super::uapi::{CT_ESTABLISHED, CT_RELATED, CT_STATUS_DNAT, NF_ACCEPT, chain, hook, set, table};
use super::{Family, Own, TABLE, change};
use crate::network::Ranges;
use crate::network::links::PREFIX;
use crate::network::netlink::Message;

/// The loopback's link has this index in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const LOOPBACK4: [u8; 4] = [127, 0, 0, 0];
const LOOPBACK4_PREFIX: u8 = 8;
/// Kinds of messages of ICMPv6 (RFC 4861).
const ROUTER_ADVERT: u8 = 134;
const REDIRECT: u8 = 137;
/// What nft shows of the tables, for who wonders where they come from.
const COMMENT: &str = "kept by podkeep: what others change here is undone";
const ANCHOR_COMMENT: &str = "keeps connections translated while rules are flushed; goes with podkeep";

/// How nft numbers its types, to show what is in a set; several in one take six bits each. The kernel does not look.
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const TYPE_BITS: u32 = 6;

/// Who gets to a Pod that wants hostPorts only, or other Pods only: elements lead to these two.
pub(super) const ONLY_HOSTPORTS: &str = "only_hostports";
pub(super) const ONLY_PODS: &str = "only_pods";

/// Where packets come by: type, hook, priority.
type Base = (&'static str, libc::c_int, i32);

/// The chains; those without a base are jumped to. Priorities as nft names them: raw, dstnat, srcnat, filter.
const CHAINS: [(&str, Option<Base>); 10] = [
    ("martians", Some(("filter", libc::NF_INET_PRE_ROUTING, -300))),
    ("prerouting", Some(("nat", libc::NF_INET_PRE_ROUTING, -100))),
    ("output", Some(("nat", libc::NF_INET_LOCAL_OUT, -100))),
    ("hostports", None),
    ("postrouting", Some(("nat", libc::NF_INET_POST_ROUTING, 100))),
    ("forward", Some(("filter", libc::NF_INET_FORWARD, 0))),
    ("from_host", Some(("filter", libc::NF_INET_LOCAL_OUT, 0))),
    ("ingress", None),
    (ONLY_HOSTPORTS, None),
    (ONLY_PODS, None),
];

/// The table of a node with these ranges as it is to be, in place of whatever is there by its name, with no Pod in it.
pub fn table(ranges: &Ranges) -> Vec<Message> {
    let families = Own::all(ranges);
    let mut messages = new_table();
    messages.extend(CHAINS.iter().map(|(name, base)| new_chain(TABLE, name, *base)));
    for own in &families {
        messages.extend(new_sets(own.family));
    }
    let mut rules = Vec::new();
    rules.extend(martians(&families));
    rules.extend(host_ports(&families));
    rules.extend(sources(&families));
    rules.extend(ingress(&families));
    messages.extend(rules.iter().map(|rule| rule.message(TABLE)));
    messages
}

/// A table that belongs to the socket by which it is made, and does nothing.
///
/// The kernel translates addresses and tracks connections while somebody has rules for that. If `nft flush ruleset` takes the last ones
/// away, it forgets at once what it was translating: the next packet of a connection through a host port comes to the host itself, which
/// answers with a reset, and the connection is lost before any rule can be put back. This table cannot be flushed.
pub(super) fn anchor(name: &str) -> Vec<Message> {
    vec![
        change(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE)
            .text(table::NAME, name)
            .big_endian(table::FLAGS, table::OWNED)
            .attribute(table::USERDATA, &comment(ANCHOR_COMMENT)),
        new_chain(name, "nat", Some(("nat", libc::NF_INET_POST_ROUTING, 100))),
        new_chain(name, "tracking", None),
        // ct state established accept
        Rule::of("tracking")
            .connection_has(libc::NFT_CT_STATE, CT_ESTABLISHED)
            .verdict(Verdict::Accept)
            .message(name),
    ]
}

/// No table by its name. Made first, so that there is one that can be deleted.
pub fn no_table() -> Vec<Message> {
    let table = |kind, flags| change(kind, flags).text(table::NAME, TABLE);
    vec![table(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE), table(libc::NFT_MSG_DELTABLE, 0)]
}

fn new_table() -> Vec<Message> {
    let mut messages = no_table();
    messages.push(
        change(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE)
            .text(table::NAME, TABLE)
            .attribute(table::USERDATA, &comment(COMMENT)),
    );
    messages
}

/// As nft writes it: kind 0, length, text.
fn comment(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8 + 1], text.as_bytes(), b"\0"].concat()
}

fn new_chain(table: &str, name: &str, base: Option<Base>) -> Message {
    let message =
        change(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE).text(chain::TABLE, table).text(chain::NAME, name);
    let Some((kind, hook, priority)) = base else {
        return message;
    };
    let place = fields().big_endian(hook::NUMBER, hook as u32).big_endian(hook::PRIORITY, priority as u32);
    message
        .attribute(chain::HOOK | libc::NLA_F_NESTED as u16, place.payload())
        .big_endian(chain::POLICY, NF_ACCEPT)
        .text(chain::TYPE, kind)
}

/// Hash tables: a look-up costs the same with one Pod and with a thousand.
fn new_sets(family: &Family) -> [Message; 4] {
    let (sets, address, width) = (&family.sets, family.address, family.width);
    let to = Some((joined(&[address, INET_SERVICE]), width + 4));
    let verdicts = Some((set::VERDICTS, 0));
    [
        new_set(sets.host_ports, &[INET_PROTO, INET_SERVICE], 4 + 4, to),
        new_set(sets.host_ports_of_ip, &[address, INET_PROTO, INET_SERVICE], width + 4 + 4, to),
        new_set(sets.hairpin, &[address, address], width + width, None),
        new_set(sets.ingress, &[address], width, verdicts),
    ]
}

/// `length` in bytes; `data`: type and length of what stands in a map for a key.
fn new_set(name: &str, key: &[u32], length: u32, data: Option<(u32, u32)>) -> Message {
    let flags = if data.is_some() { libc::NFT_SET_MAP } else { 0 };
    let message = change(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE)
        .text(set::TABLE, TABLE)
        .text(set::NAME, name)
        .big_endian(set::FLAGS, flags as u32)
        .big_endian(set::KEY_TYPE, joined(key))
        .big_endian(set::KEY_LENGTH, length)
        // By which a transaction may speak of sets without a name; these have one, but the kernel wants it.
        .big_endian(set::ID, 1);
    match data {
        Some((kind, length)) => message.big_endian(set::DATA_TYPE, kind).big_endian(set::DATA_LENGTH, length),
        None => message,
    }
}

fn joined(types: &[u32]) -> u32 {
    types.iter().fold(0, |joined, kind| joined << TYPE_BITS | kind)
}

/// `route_localnet`, without which nothing from 127.0.0.1 reaches a Pod, makes the host take packets from Pods to its own 127.0.0.1,
/// behind which it feels safe (CVE-2020-8558), and such that claim to come from there. None that is right ever comes from outside: what
/// goes back to 127.0.0.1 has the node's address until after this.
fn martians(families: &[Own]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for Own { family, .. } in families.iter().filter(|own| own.family.width == 4) {
        let from_outside = || Rule::of("martians").came_by_index(false, LOOPBACK).is(family);
        rules.extend([
            // iif != "lo" ip saddr 127.0.0.0/8 drop
            from_outside().lies(true, family.source, &LOOPBACK4, LOOPBACK4_PREFIX).verdict(Verdict::Drop),
            // iif != "lo" ip daddr 127.0.0.0/8 drop
            from_outside()
                .lies(true, family.destination, &LOOPBACK4, LOOPBACK4_PREFIX)
                .verdict(Verdict::Drop),
        ]);
    }
    let from_pod = || Rule::of("martians").came_by_name(PREFIX);
    // A Pod is no router of the host's (CVE-2020-13401), whether or not Pods have addresses of IPv6.
    // iifname "pk*" icmpv6 type nd-router-advert drop, and the same for nd-redirect
    rules.extend([ROUTER_ADVERT, REDIRECT].map(|kind| from_pod().icmpv6(kind).verdict(Verdict::Drop)));
    // It sends by its own addresses alone. `rp_filter` says so for IPv4 only, and distributions loosen it.
    // iifname "pk*" fib saddr . iif oif 0 drop
    rules.push(from_pod().has_no_way_back().verdict(Verdict::Drop));
    rules
}

/// What goes to a host port goes to the Pod. Only the first packet of a connection comes by here.
fn host_ports(families: &[Own]) -> Vec<Rule> {
    let mut rules = vec![
        // fib daddr type local jump hostports
        Rule::of("prerouting").goes_to_this_host().verdict(Verdict::Jump("hostports")),
    ];
    for Own { family, .. } in families.iter().filter(|own| own.family.width == 4) {
        let output = || Rule::of("output").is(family);
        // Other addresses of the loopback are somebody's own, as systemd-resolved's 127.0.0.53.
        // ip daddr 127.0.0.1 jump hostports
        let jump = Verdict::Jump("hostports");
        rules.push(output().destination(family, 0).equal(&[127, 0, 0, 1]).verdict(jump));
        // ip daddr 127.0.0.0/8 return
        let others = output().lies(true, family.destination, &LOOPBACK4, LOOPBACK4_PREFIX);
        rules.push(others.verdict(Verdict::Return));
    }
    for Own { family, .. } in families.iter().filter(|own| own.family.width == 16) {
        // IPv6 has no route_localnet: the answer to ::1 would be dropped. So whoever listens there himself is to be reached.
        // ip6 daddr ::1 return
        let loopback = 1_u128.to_be_bytes();
        rules.push(
            Rule::of("output").is(family).destination(family, 0).equal(&loopback).verdict(Verdict::Return),
        );
    }
    // fib daddr type local jump hostports
    rules.push(Rule::of("output").goes_to_this_host().verdict(Verdict::Jump("hostports")));
    for Own { family, node, .. } in families {
        // Our own resolver is asked there, whoever has that port of the host's other addresses.
        // ip daddr 10.203.0.1 th dport 53 return
        let resolver = Rule::of("hostports").is(family).destination(family, 0).equal(node);
        rules.push(resolver.goes_to_port(53).verdict(Verdict::Return));
        // dnat ip to ip daddr . meta l4proto . th dport map @hostports4_of_ip
        let of_ip = Rule::of("hostports")
            .is(family)
            .destination(family, 0)
            .protocol_and_port(family.width)
            .map(family.sets.host_ports_of_ip)
            .dnat(family);
        // meta nfproto ipv4 dnat ip to meta l4proto . th dport map @hostports4
        let of_any =
            Rule::of("hostports").is(family).protocol_and_port(0).map(family.sets.host_ports).dnat(family);
        rules.extend([of_ip, of_any]);
    }
    rules
}

/// Which source packets get when they leave, where the answer would not find back otherwise.
fn sources(families: &[Own]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for Own { family, range, prefix, node } in families {
        let rule = || Rule::of("postrouting").is(family);
        // A Pod that has come to itself by its host port would answer itself, unasked.
        // ip saddr . ip daddr @hairpin4 snat ip to NODE
        let to_itself = rule()
            .source(family, 0)
            .destination(family, family.width)
            .found_in(family.sets.hairpin)
            .snat(family, node);
        rules.push(to_itself);
        if family.width == 4 {
            // From 127.0.0.1:hostPort. A Pod would answer to its own 127.0.0.1.
            // ip saddr 127.0.0.0/8 ip daddr RANGE snat ip to NODE
            let from_loopback = rule()
                .lies(true, family.source, &LOOPBACK4, LOOPBACK4_PREFIX)
                .lies(true, family.destination, range, *prefix)
                .snat(family, node);
            rules.push(from_loopback);
        }
        // Nobody outside knows the way to Pods.
        // ip saddr RANGE ip daddr != RANGE masquerade
        let to_the_world = rule()
            .lies(true, family.source, range, *prefix)
            .lies(false, family.destination, range, *prefix)
            .masquerade();
        rules.push(to_the_world);
    }
    rules
}

/// Who may reach which Pod: those that are in `ingress4` and `ingress6` not everybody.
fn ingress(families: &[Own]) -> Vec<Rule> {
    let mut rules = vec![
        // jump ingress
        Rule::of("forward").verdict(Verdict::Jump("ingress")),
        Rule::of("from_host").verdict(Verdict::Jump("ingress")),
        // What belongs to a connection that was let in, or that the Pod has made itself.
        // ct state established,related accept
        Rule::of("ingress")
            .connection_has(libc::NFT_CT_STATE, CT_ESTABLISHED | CT_RELATED)
            .verdict(Verdict::Accept),
    ];
    for Own { family, .. } in families {
        // ip daddr vmap @ingress4
        rules.push(Rule::of("ingress").is(family).destination(family, 0).verdict_from(family.sets.ingress));
    }
    rules.extend([
        // ct status dnat accept
        Rule::of(ONLY_HOSTPORTS).connection_has(libc::NFT_CT_STATUS, CT_STATUS_DNAT).verdict(Verdict::Accept),
        // drop
        Rule::of(ONLY_HOSTPORTS).verdict(Verdict::Drop),
        // By the link, since an address can be claimed by anybody.
        // iifname "pk*" accept
        Rule::of(ONLY_PODS).came_by_name(PREFIX).verdict(Verdict::Accept),
        // drop
        Rule::of(ONLY_PODS).verdict(Verdict::Drop),
    ]);
    rules
}
