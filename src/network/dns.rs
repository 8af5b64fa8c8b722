//! `/etc/resolv.conf` of a Pod (`pkg/kubelet/network/dns/dns.go`).

use std::net::IpAddr;

use super::resolver::{PODS, SERVICES};
use crate::manifest::Pod;
use crate::manifest::pod::{DnsPolicy, PodDns};

/// What a name may be (RFC 1035). glibc up to 2.28 aborts at longer ones to search in.
const MAX_NAME: usize = 253;
/// What the kubelet has beside a cluster's DNS: most names have fewer dots than that, and are looked up in the cluster first.
const CLUSTER_OPTIONS: &str = "ndots:5";
/// Where systemd-resolved listens on the host's loopback.
const STUB: &str = "127.0.0.53";

/// Whom to ask for names, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    servers: Vec<String>,
    searches: Vec<String>,
    /// `NAME` or `NAME:VALUE` each; no name twice.
    options: Vec<String>,
}

/// What the node's configuration says of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// None where there is no cluster.
    pub servers: &'a [IpAddr],
    /// May be empty.
    pub domain: &'a str,
    /// The servers are podkeep's own, and find Pods by their names.
    pub knows_pods: bool,
}

/// What a Pod asked for and does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The kubelet's reason of an event.
    pub reason: &'static str,
    pub message: String,
}

impl Dns {
    /// Reads a `resolv.conf(5)`: of several search lists the last one counts, servers and options add up.
    pub fn parse(text: &str) -> Dns {
        let mut dns = Dns::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => {
                    // Without the dot at its end, so that one name written in two ways counts once.
                    let names = words.map(|name| name.strip_suffix('.').unwrap_or(name));
                    dns.searches = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|option| dns.set(option)),
                _ => {}
            }
        }
        dns
    }

    /// Of a host without such a file: who runs on it is asked (`resolvConf: ""`).
    fn of_this_machine() -> Dns {
        Dns { servers: vec!["127.0.0.1".to_owned()], searches: vec![".".to_owned()], options: Vec::new() }
    }

    /// Whether only systemd-resolved is asked, which nobody reaches from another network.
    pub fn is_stub(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server == STUB)
    }

    /// In place of what was said of this option before.
    fn set(&mut self, option: &str) {
        let same = self.options.iter_mut().find(|old| name_of(old) == name_of(option));
        match same {
            Some(old) => option.clone_into(old),
            None => self.options.push(option.to_owned()),
        }
    }

    /// Whom to ask, but for those that only one link leads to (`fe80::1%eth0`).
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.servers.iter().filter_map(|server| server.parse().ok())
    }

    fn add(&mut self, more: &PodDns) {
        self.servers.extend(more.servers.iter().map(IpAddr::to_string));
        self.searches.extend_from_slice(&more.searches);
        more.options.iter().for_each(|option| self.set(option));
        keep_first(&mut self.servers);
        keep_first(&mut self.searches);
    }

    /// Leaves out what no C library reads.
    fn fit(&mut self, losses: &mut Vec<Loss>) {
        let mut lost = |message: String| losses.push(Loss { reason: "DNSConfigForming", message });
        if self.servers.len() > PodDns::MAX_SERVERS {
            self.servers.truncate(PodDns::MAX_SERVERS);
            let left = self.servers.join(" ");
            lost(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {left}"
            ));
        }
        let wanted = self.searches.len();
        self.searches.truncate(PodDns::MAX_SEARCHES);
        self.searches.retain(|search| search.len() <= MAX_NAME);
        while self.searches.join(" ").len() > PodDns::MAX_SEARCH_BYTES {
            self.searches.pop();
        }
        if self.searches.len() < wanted {
            let left = self.searches.join(" ");
            lost(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {left}"
            ));
        }
    }

    /// As a `resolv.conf(5)`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |keyword: &str, words: &[String]| {
            if !words.is_empty() {
                text.extend([keyword, " ", &words.join(" "), "\n"]);
            }
        };
        line("search", &self.searches);
        self.servers.iter().for_each(|server| line("nameserver", std::slice::from_ref(server)));
        line("options", &self.options);
        text
    }
}

/// What a Pod shall have. `host`: the host's; `None` where the configuration says that it has none.
pub fn of_pod(pod: &Pod, cluster: Cluster<'_>, host: Option<Dns>) -> (Dns, Vec<Loss>) {
    let mut losses = Vec::new();
    let wants_cluster = match pod.dns.policy {
        None | Some(DnsPolicy::ClusterFirst) => !pod.host_network,
        Some(DnsPolicy::ClusterFirstWithHostNet) => true,
        Some(DnsPolicy::Default | DnsPolicy::None) => false,
    };
    let mut dns = match pod.dns.policy {
        Some(DnsPolicy::None) => Dns::default(),
        _ if wants_cluster && !cluster.servers.is_empty() => of_cluster(pod, cluster, host),
        policy => {
            // A Pod that says nothing has asked for no cluster.
            if let Some(policy) = policy.filter(|_| wants_cluster) {
                losses.push(no_cluster(policy));
            }
            host.unwrap_or_else(Dns::of_this_machine)
        }
    };
    dns.add(&pod.dns);
    dns.fit(&mut losses);
    (dns, losses)
}

fn of_cluster(pod: &Pod, cluster: Cluster<'_>, host: Option<Dns>) -> Dns {
    let namespace = &pod.id.namespace;
    let mut searches = Vec::new();
    if cluster.knows_pods {
        searches.extend([format!("{namespace}.{PODS}"), PODS.to_owned()]);
    }
    if !cluster.domain.is_empty() {
        let services = format!("svc.{}", cluster.domain);
        searches.extend([format!("{namespace}.{services}"), services, cluster.domain.to_owned()]);
    } else if cluster.knows_pods {
        searches.extend([format!("{namespace}.{SERVICES}"), SERVICES.to_owned()]);
    }
    searches.extend(host.unwrap_or_default().searches);
    let servers = cluster.servers.iter().map(IpAddr::to_string).collect();
    Dns { servers, searches, options: vec![CLUSTER_OPTIONS.to_owned()] }
}

fn no_cluster(policy: DnsPolicy) -> Loss {
    let message = format!(
        "the configuration has no clusterDNS, so dnsPolicy {policy:?} cannot be had. Falling back to \"Default\" policy."
    );
    Loss { reason: "MissingClusterDNS", message }
}

fn name_of(option: &str) -> &str {
    option.split(':').next().unwrap_or(option)
}

/// Of words that stand there several times, the first stays.
fn keep_first(words: &mut Vec<String>) {
    let mut place = 0;
    while place < words.len() {
        if words[..place].contains(&words[place]) {
            words.remove(place);
        } else {
            place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::hosts::tests::pod;

    #[test]
    fn a_hosts_file_is_read_as_the_kubelet_does() {
        let cases = [
            ("", ""),
            ("# nameserver 10.0.0.9\n;search a\nnameserver\nfoo bar\n", ""),
            (
                "nameserver 10.0.0.1 # first\n  nameserver\tfe80::1%eth0\r\nsearch a.\n",
                "search a\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n",
            ),
            ("search a b\ndomain c.example\n", "search c.example\n"),
            ("domain a\nsearch . b.\n", "search b\n"),
            ("options ndots:1 rotate\noptions ndots:2 edns0\n", "options ndots:2 rotate edns0\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(Dns::parse(text).text(), expected, "{text}");
        }
    }

    #[test]
    fn who_asks_only_systemd_resolved_is_a_stub() {
        let is_stub = |text| Dns::parse(text).is_stub();
        assert!(is_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"));
        assert!(
            !is_stub("nameserver 127.0.0.53\nnameserver 10.0.0.1\n") && !is_stub("nameserver 127.0.0.1\n")
        );
        assert!(!is_stub(""));
    }

    const HOST: &str = "nameserver 10.0.0.1\nsearch host.example\noptions rotate\n";
    const CLUSTER: &str =
        "search shop.svc.c.local svc.c.local c.local host.example\nnameserver 10.96.0.10\noptions ndots:5\n";

    fn composed(spec: &str, servers: &[IpAddr], domain: &str, host: Option<&str>) -> (String, Vec<Loss>) {
        let (dns, losses) =
            of_pod(&pod(spec), Cluster { servers, domain, knows_pods: false }, host.map(Dns::parse));
        (dns.text(), losses)
    }

    #[test]
    fn each_policy_has_its_servers() {
        let cluster = ["10.96.0.10".parse().unwrap()];
        let own =
            "dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a.], options: [{name: edns0}]}";
        for (spec, expected) in [
            ("", CLUSTER),
            ("dnsPolicy: ClusterFirst", CLUSTER),
            ("dnsPolicy: ClusterFirstWithHostNet", CLUSTER),
            ("dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true", CLUSTER),
            ("hostNetwork: true", &Dns::parse(HOST).text()),
            ("dnsPolicy: ClusterFirst, hostNetwork: true", &Dns::parse(HOST).text()),
            ("dnsPolicy: Default", &Dns::parse(HOST).text()),
            (own, "search a.\nnameserver 1.1.1.1\noptions edns0\n"),
        ] {
            assert_eq!(
                composed(spec, &cluster, "c.local", Some(HOST)),
                (expected.to_owned(), Vec::new()),
                "{spec}"
            );
        }
        let without_domain = "search host.example\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(composed("", &cluster, "", Some(HOST)).0, without_domain);
        assert_eq!(composed("", &cluster, "", None).0, "nameserver 10.96.0.10\noptions ndots:5\n");
        assert_eq!(composed("dnsPolicy: Default", &cluster, "c", None).0, "search .\nnameserver 127.0.0.1\n");
    }

    #[test]
    fn without_a_cluster_the_host_is_asked_and_who_wanted_one_is_told() {
        for (spec, told) in [
            ("", false),
            ("dnsPolicy: Default", false),
            ("dnsPolicy: ClusterFirst, hostNetwork: true", false),
            ("dnsPolicy: ClusterFirst", true),
            ("dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true", true),
        ] {
            let (text, losses) = composed(spec, &[], "c.local", Some(HOST));
            assert_eq!(text, Dns::parse(HOST).text(), "{spec}");
            let reasons: Vec<_> = losses.iter().map(|loss| loss.reason).collect();
            assert_eq!(reasons, &["MissingClusterDNS"][..usize::from(told)], "{spec}");
        }
    }

    #[test]
    fn the_pods_own_words_are_added_once_and_its_options_win() {
        let spec = "dnsPolicy: Default, dnsConfig: {nameservers: [10.0.0.1, '2001:db8::1'], \
                    searches: [host.example, b], options: [{name: timeout, value: '1'}, {name: rotate, value: '2'}]}";
        let expected = "search host.example b\nnameserver 10.0.0.1\nnameserver 2001:db8::1\noptions rotate:2 timeout:1\n";
        assert_eq!(composed(spec, &[], "", Some(HOST)), (expected.to_owned(), Vec::new()));
    }

    #[test]
    fn what_no_library_reads_is_left_out_and_said() {
        let host = |servers: usize, searches: &[String]| {
            let servers: String = (0..servers).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
            format!("{servers}search {}\n", searches.join(" "))
        };
        let short: Vec<String> = (0..33).map(|n| format!("s{n}")).collect();
        // 9 × 249 + 8 bytes in all, of which 8 have room: 8 × 249 + 7.
        let long: Vec<String> = (0..9).map(|n| format!("{n}{}", ".a".repeat(124))).collect();
        let longest = [format!("a{}", ".a".repeat(126)), format!("ab{}", ".a".repeat(126))];
        assert_eq!(longest.each_ref().map(String::len), [253, 254]);
        let cases = [
            (host(3, &short[..32]), 3, &short[..32], 0),
            (host(4, &short[..32]), 3, &short[..32], 1),
            (host(4, &short), 3, &short[..32], 2),
            (host(1, &long), 1, &long[..8], 1),
            (host(1, &longest), 1, &longest[..1], 1),
        ];
        for (text, servers, searches, losses) in cases {
            let (dns, said) = of_pod(
                &pod(""),
                Cluster { servers: &[], domain: "", knows_pods: false },
                Some(Dns::parse(&text)),
            );
            assert_eq!((dns.servers.len(), &dns.searches[..]), (servers, searches));
            assert_eq!(said.len(), losses, "{said:?}");
            assert!(said.iter().all(|loss| loss.reason == "DNSConfigForming"));
        }
    }
}
