//! What the Pod is called, and how it looks up what others are called.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::names;
use super::pod::{DnsPolicy, HostAlias, PodDns, PodId};
use super::tree::Path;

const POLICIES: &[(&str, Option<DnsPolicy>)] = &[
    ("ClusterFirstWithHostNet", Some(DnsPolicy::ClusterFirstWithHostNet)),
    ("ClusterFirst", Some(DnsPolicy::ClusterFirst)),
    ("Default", Some(DnsPolicy::Default)),
    ("None", Some(DnsPolicy::None)),
];

/// The Pod's own names, of one that is not on the host's network.
pub(super) struct OwnNames {
    pub hostname: String,
    pub subdomain: Option<String>,
    pub hostname_is_fqdn: bool,
}

/// `hostname`, `subdomain`, `setHostnameAsFQDN` and `hostnameOverride`.
pub(super) fn own_names(spec: &api::PodSpec, id: &PodId, checker: &mut Checker<'_>) -> OwnNames {
    let written = |field: &Option<String>| field.clone().filter(|name| !name.is_empty());
    let (hostname, subdomain) = (written(&spec.hostname), written(&spec.subdomain));
    for (field, name) in [("spec.hostname", &hostname), ("spec.subdomain", &subdomain)] {
        if let Some(name) = name {
            checker.name(&Path::of(field), name, names::dns_label);
        }
    }
    let as_fqdn = spec.set_hostname_as_fqdn.unwrap_or_default();
    if let Some(name) = written(&spec.hostname_override) {
        hostname_override(&name, spec, checker);
        return OwnNames { hostname: name, subdomain: None, hostname_is_fqdn: false };
    }
    let hostname = hostname.unwrap_or_else(|| names::shorten_hostname(&id.name).to_owned());
    // On the host's network it has the host's name.
    let shown = as_fqdn && !spec.host_network.unwrap_or_default();
    if let (true, Some(subdomain)) = (shown, &subdomain) {
        // The least that it can be: the node's configuration may have a domain to be put behind it.
        let fqdn = format!("{hostname}.{subdomain}.{}.svc", id.namespace);
        if let Err(reason) = names::host_name_length(&fqdn) {
            checker.invalid(&Path::of("spec.setHostnameAsFQDN"), &fqdn, reason);
        }
    }
    OwnNames { hostname, subdomain, hostname_is_fqdn: as_fqdn }
}

fn hostname_override(name: &str, spec: &api::PodSpec, checker: &mut Checker<'_>) {
    let path = Path::of("spec.hostnameOverride");
    checker.name(&path, name, names::dns_subdomain);
    if let Err(reason) = names::host_name_length(name) {
        checker.invalid(&path, name, reason);
    }
    for (field, is_set) in
        [("hostNetwork", spec.host_network), ("setHostnameAsFQDN", spec.set_hostname_as_fqdn)]
    {
        if is_set == Some(true) {
            checker.error(&path, format!("Forbidden: may not be set together with {field}"));
        }
    }
}

pub(super) fn host_aliases(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Vec<HostAlias> {
    let list = Path::of("spec.hostAliases");
    let mut aliases = Vec::new();
    for (index, written) in spec.host_aliases.iter().flatten().enumerate() {
        let path = list.index(index);
        let ip = address(&written.ip, &path.key("ip"), checker);
        let names = written.hostnames.clone().unwrap_or_default();
        for (index, name) in names.iter().enumerate() {
            checker.name(&path.key("hostnames").index(index), name, names::dns_subdomain);
        }
        aliases.extend(ip.map(|ip| HostAlias { ip, names }));
    }
    aliases
}

pub(super) fn dns(spec: &api::PodSpec, checker: &mut Checker<'_>) -> PodDns {
    let path = Path::of("spec.dnsConfig");
    let policy = checker.word(&Path::of("spec.dnsPolicy"), spec.dns_policy.as_deref(), POLICIES, None);
    let config = spec.dns_config.clone().unwrap_or_default();
    let (servers, searches) = (config.nameservers.unwrap_or_default(), config.searches.unwrap_or_default());
    if policy == Some(DnsPolicy::None) && servers.is_empty() {
        let reason = "Required value: must provide at least one DNS nameserver when dnsPolicy is None";
        checker.error(&path.key("nameservers"), reason);
    }
    PodDns {
        policy,
        servers: name_servers(&servers, &path.key("nameservers"), checker),
        searches: search_paths(searches, &path.key("searches"), checker),
        options: options(&config.options.unwrap_or_default(), &path.key("options"), checker),
    }
}

fn name_servers(written: &[String], path: &Path, checker: &mut Checker<'_>) -> Vec<IpAddr> {
    if written.len() > PodDns::MAX_SERVERS {
        checker.error(path, format!("must not have more than {} nameservers", PodDns::MAX_SERVERS));
    }
    let each = written.iter().enumerate();
    each.filter_map(|(index, server)| address(server, &path.index(index), checker)).collect()
}

fn search_paths(written: Vec<String>, path: &Path, checker: &mut Checker<'_>) -> Vec<String> {
    if written.len() > PodDns::MAX_SEARCHES {
        checker.error(path, format!("must not have more than {} search paths", PodDns::MAX_SEARCHES));
    }
    let bytes: usize = written.iter().map(|search| search.len() + 1).sum();
    if bytes > PodDns::MAX_SEARCH_BYTES + 1 {
        let most = PodDns::MAX_SEARCH_BYTES;
        let reason =
            format!("must not have more than {most} characters (including spaces) in the search list");
        checker.error(path, reason);
    }
    for (index, search) in written.iter().enumerate() {
        checker.name(&path.index(index), search, names::dns_search);
    }
    written
}

fn options(written: &[api::PodDNSConfigOption], list: &Path, checker: &mut Checker<'_>) -> Vec<String> {
    let mut options = Vec::new();
    for (index, option) in written.iter().enumerate() {
        let path = list.index(index);
        let name = option.name.as_deref().unwrap_or_default();
        let value = option.value.as_deref().unwrap_or_default();
        if name.is_empty() {
            checker.required(&path.key("name"));
        }
        for (field, text) in [("name", name), ("value", value)] {
            // It would be another option, or another line of the file.
            if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                checker.invalid(&path.key(field), text, "must not contain white space");
            }
        }
        options.push(if value.is_empty() { name.to_owned() } else { format!("{name}:{value}") });
    }
    options
}

fn address(written: &str, path: &Path, checker: &mut Checker<'_>) -> Option<IpAddr> {
    let address = written.parse().ok();
    if written.is_empty() {
        checker.required(path);
    } else if address.is_none() {
        checker.invalid(path, written, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    address
}
