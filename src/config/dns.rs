//! What the configuration says of names: the cluster's DNS, if there is one, and the host's.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::manifest::dns_subdomain;
use crate::manifest::tree::{Data, Node};

pub(super) const FIELDS: &[&str] = &["clusterDNS", "clusterDomain", "resolvConf"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Whom Pods ask that want the cluster's DNS: nobody where the list is empty, podkeep where there is none.
    pub cluster_dns: Option<Vec<IpAddr>>,
    /// A DNS subdomain without a dot at its end, or empty.
    pub cluster_domain: String,
    pub resolv_conf: ResolvConf,
}

/// Where it stands whom Pods ask that want the host's DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResolvConf {
    /// `/etc/resolv.conf`, or what that stands for where it names a resolver of the host's own.
    #[default]
    Usual,
    File(PathBuf),
    /// Nowhere: they ask who runs beside them.
    Nowhere,
}

impl DnsConfig {
    /// Takes one of [`FIELDS`].
    pub(super) fn set(&mut self, key: &str, value: &Node) -> Result<(), String> {
        let text = || value.text().ok_or("expected a string");
        match key {
            "clusterDNS" => self.cluster_dns = Some(addresses(value)?),
            "clusterDomain" => {
                let domain = text()?;
                let domain = domain.strip_suffix('.').unwrap_or(domain);
                if !domain.is_empty() {
                    dns_subdomain(domain)?;
                }
                domain.clone_into(&mut self.cluster_domain);
            }
            "resolvConf" => {
                self.resolv_conf = match text()? {
                    "" => ResolvConf::Nowhere,
                    path if path.starts_with('/') => ResolvConf::File(path.into()),
                    _ => return Err("must be an absolute path, or empty".to_owned()),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

fn addresses(value: &Node) -> Result<Vec<IpAddr>, String> {
    const EXPECTED: &str = "expected a list of IP addresses";
    let Data::List(items) = &value.data else { return Err(EXPECTED.to_owned()) };
    let address = |item: &Node| {
        let text = item.text().ok_or(EXPECTED)?;
        text.parse().map_err(|_| format!("{text:?} is no IP address"))
    };
    items.iter().map(address).collect()
}
