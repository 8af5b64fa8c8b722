//! What a Pod is called, and how it looks up what others are called.

use std::net::IpAddr;

/// Names for an address, in the Pod's `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    pub ip: IpAddr,
    /// DNS subdomains.
    pub names: Vec<String>,
}

/// Where the Pod's `/etc/resolv.conf` comes from (`spec.dnsPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The cluster's DNS; on the host's network the host's.
    ClusterFirst,
    /// The cluster's DNS, on the host's network too.
    ClusterFirstWithHostNet,
    /// The host's.
    Default,
    /// What [`PodDns`] says, and nothing else; it has a server then.
    None,
}

/// `spec.dnsPolicy` and `spec.dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDns {
    /// `None` where the manifest does not say it, which means [`DnsPolicy::ClusterFirst`].
    pub policy: Option<DnsPolicy>,
    /// At most [`PodDns::MAX_SERVERS`].
    pub servers: Vec<IpAddr>,
    /// At most [`PodDns::MAX_SEARCHES`], and together, with spaces between them, [`PodDns::MAX_SEARCH_BYTES`]; each a DNS
    /// subdomain, with a dot at its end if it was written so, or that dot alone.
    pub searches: Vec<String>,
    /// `NAME` or `NAME:VALUE` each, without white space.
    pub options: Vec<String>,
}

impl PodDns {
    /// What the C libraries read of `resolv.conf(5)`, and so Kubernetes (`pkg/apis/core/validation`).
    pub const MAX_SERVERS: usize = 3;
    pub const MAX_SEARCHES: usize = 32;
    pub const MAX_SEARCH_BYTES: usize = 2048;
}
