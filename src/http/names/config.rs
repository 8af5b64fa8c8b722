//! What the machine says about names: `hosts(5)` and `resolv.conf(5)`.

use crate::dns::PORT;
use crate::order;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// resolv.conf(5): `MAXNS`, and the greatest values of its options.
const MAX_SERVERS: usize = 3;
const MAX_TIMEOUT: u64 = 30;
const MAX_ATTEMPTS: u32 = 5;
const MAX_NDOTS: usize = 15;

/// The hosts file's text; empty where there is none.
pub(super) struct Hosts {
    text: String,
}

impl Hosts {
    pub(super) fn read(path: &Path) -> Hosts {
        Hosts {
            text: fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default(),
        }
    }

    /// IPv4 first.
    pub(super) fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let host = host.trim_end_matches('.');
        let mut found: Vec<IpAddr> = self.text.lines().filter_map(|line| address_of(line, host)).collect();
        order::sort_by_key(&mut found, IpAddr::is_ipv6);
        found.dedup();
        found
    }
}

fn address_of(line: &str, host: &str) -> Option<IpAddr> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let address = words.next()?.parse().ok()?;
    words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
}

/// Whom to ask, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Servers {
    /// At least one.
    pub(super) addresses: Vec<SocketAddr>,
    /// For one answer of one server.
    pub(super) timeout: Duration,
    /// How often all of them are asked.
    pub(super) attempts: u32,
    search: Vec<String>,
    /// A name with so many dots is looked up as it is before anything is appended.
    ndots: usize,
}

impl Servers {
    pub(super) fn read(path: &Path) -> Servers {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Servers::parse(&text.unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Servers {
        let mut servers = Servers {
            addresses: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.addresses.extend(words.next().and_then(server)),
                // Of several lines the last one counts.
                Some("search" | "domain") => servers.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| servers.set(option)),
                _ => {}
            }
        }
        servers.addresses.truncate(MAX_SERVERS);
        if servers.addresses.is_empty() {
            servers.addresses.push(([127, 0, 0, 1], PORT).into());
        }
        servers
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "timeout" => self.timeout = Duration::from_secs(u64::from(value).clamp(1, MAX_TIMEOUT)),
            "attempts" => self.attempts = value.clamp(1, MAX_ATTEMPTS),
            "ndots" => self.ndots = MAX_NDOTS.min(value as usize),
            _ => {}
        }
    }

    /// The names to look up for `host`, in order.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let ending = |domain: &String| match domain.trim_matches('.') {
            "" => host.to_owned(),
            domain => format!("{host}.{domain}"),
        };
        let mut names: Vec<String> = self.search.iter().map(ending).collect();
        let has_dots = host.bytes().filter(|b| *b == b'.').count() >= self.ndots;
        let place = if has_dots { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }
}

/// An address, for a link-local one with its interface's number (`fe80::1%2`).
fn server(text: &str) -> Option<SocketAddr> {
    let (address, scope) = text.split_once('%').unwrap_or((text, ""));
    match address.parse().ok()? {
        IpAddr::V4(address) => Some((address, PORT).into()),
        IpAddr::V6(address) => {
            let scope = scope.parse().or_else(|_| interface_number(scope)).ok()?;
            Some(std::net::SocketAddrV6::new(address, PORT, 0, scope).into())
        }
    }
}

/// 0, "none", for an empty name.
fn interface_number(name: &str) -> Result<u32, std::num::ParseIntError> {
    if name.is_empty() {
        return Ok(0);
    }
    let text = fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex"));
    text.unwrap_or_default().trim().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_manual_says() {
        let servers = Servers::parse(
            "# comment\nnameserver 10.0.0.1\n; nameserver 10.0.0.9\nnameserver fe80::1%7\nnameserver x\n\
             domain a.example\nsearch b.example c.example\noptions timeout:99 attempts:0 ndots:2 rotate\n",
        );
        let expected = Servers {
            addresses: vec!["10.0.0.1:53".parse().unwrap(), "[fe80::1%7]:53".parse().unwrap()],
            timeout: Duration::from_secs(30),
            attempts: 1,
            search: vec!["b.example".to_owned(), "c.example".to_owned()],
            ndots: 2,
        };
        assert_eq!(servers, expected);
        assert_eq!(Servers::parse("").addresses, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_name_with_few_dots_is_tried_with_the_search_list_first() {
        let servers = Servers::parse("search b.example .\noptions ndots:1");
        assert_eq!(servers.candidates("web"), ["web.b.example", "web", "web"]);
        assert_eq!(servers.candidates("a.web"), ["a.web", "a.web.b.example", "a.web"]);
        assert_eq!(servers.candidates("web."), ["web"]);
    }

    #[test]
    fn the_hosts_file_gives_every_address_of_a_name() {
        let text = "::1 localhost\n10.0.0.1 Web web.example # web2\nbad web\n10.0.0.2\tweb\n".to_owned();
        let hosts = Hosts { text };
        assert_eq!(hosts.addresses("web"), ["10.0.0.1", "10.0.0.2"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(hosts.addresses("web.example."), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(hosts.addresses("web2").is_empty());
    }
}
