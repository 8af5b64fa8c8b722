//! Drops in the tables of others are found, named, and left as they are.

use podkeep::network::firewall::{Drops, legacy};

use crate::namespace::Namespace;

fn named(namespace: &Namespace) -> Vec<String> {
    let firewall = namespace.firewall();
    firewall.foreign_drops().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn drops_are_named_with_their_owner() {
    let namespace = Namespace::new();
    let base = |name: &str, hook: &str, rest: &str| {
        format!("chain {name} {{\n type filter hook {hook} priority 0; {rest};\n }}\n")
    };
    let table = |name: &str, chains: &[String]| format!("table {name} {{\n{}}}\n", chains.concat());
    let drop = "policy drop";
    let rules = [
        table("inet podkeep", &[base("ours", "forward", drop)]),
        table("ip podkeep", &[base("theirs", "forward", drop)]),
        table(
            "inet firewalld",
            &[
                base(
                    "filter_INPUT",
                    "input",
                    "ct state established accept; reject with icmpx admin-prohibited",
                ),
                base("filter_FORWARD", "forward", "counter log drop"),
                base("filter_OUTPUT", "output", drop),
            ],
        ),
        table(
            "ip filter",
            &[
                base("FORWARD", "forward", drop),
                "chain DOCKER-USER {\n}\n".to_owned(),
                "chain ufw-before-forward {\n}\n".to_owned(),
            ],
        ),
        table(
            "ip6 filter",
            &[base("INPUT", "input", "drop; tcp dport 22 accept"), base("FORWARD", "forward", drop)],
        ),
        table(
            "inet filter",
            &[
                "chain last {\n drop\n}\n".to_owned(),
                base("input", "input", "tcp dport 23 drop"),
                base("forward", "forward", "jump last"),
            ],
        ),
        table("bridge filter", &[base("FORWARD", "forward", drop)]),
    ];
    namespace.nft(&["-f", "-"], &rules.concat());
    let before = namespace.nft(&["list", "ruleset"], "");
    assert_eq!(
        named(&namespace),
        [
            "table ip podkeep, chain theirs: policy drop",
            "table inet firewalld, chain filter_INPUT (firewalld): its last rule drops or rejects everything",
            "table inet firewalld, chain filter_FORWARD (firewalld): its last rule drops or rejects everything",
            "table ip filter, chain FORWARD (Docker or ufw): policy drop",
            "table ip6 filter, chain FORWARD (iptables): policy drop",
        ]
    );
    assert_eq!(namespace.nft(&["list", "ruleset"], ""), before);
}

#[test]
fn what_iptables_makes_of_nftables_is_found() {
    let namespace = Namespace::new();
    let iptables = |arguments: &[&str]| namespace.run("iptables-nft", arguments, "");
    iptables(&["-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"]);
    iptables(&["-A", "INPUT", "-j", "DROP"]);
    assert_eq!(
        named(&namespace),
        ["table ip filter, chain INPUT (iptables): its last rule drops or rejects everything"]
    );
    iptables(&["-A", "FORWARD", "-j", "REJECT"]);
    iptables(&["-A", "INPUT", "-p", "tcp", "-j", "DROP"]);
    assert_eq!(
        named(&namespace),
        ["table ip filter, chain FORWARD (iptables): its last rule drops or rejects everything"]
    );
}

#[test]
fn the_old_iptables_are_named_without_a_verdict() {
    let found = legacy("mangle\nfilter\n", "nat\n");
    assert!(found.iter().all(|found| found.drops == Drops::Perhaps));
    let words: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "table ip filter, chain INPUT (iptables-legacy): may drop, look at `iptables-legacy -S INPUT`",
            "table ip filter, chain FORWARD (iptables-legacy): may drop, look at `iptables-legacy -S FORWARD`",
        ]
    );
    assert_eq!(legacy("", "filter\n").len(), 2);
    assert_eq!(legacy("", ""), []);
}
