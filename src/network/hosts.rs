//! `/etc/hosts` of a Pod, as the kubelet writes it (`pkg/kubelet/kubelet_pods.go:managedHostsFileContent`).

use std::fmt::Write;
use std::net::IpAddr;

use crate::manifest::pod::HostAlias;

const OWN: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";
const OF_THE_HOST: &str = "# Kubernetes-managed hosts file (host network).\n";

/// Of a Pod with a network of its own, in which these addresses are its.
pub fn hosts(addresses: &[IpAddr], name: &str, domain: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut text = OWN.to_owned();
    for address in addresses {
        // Writing to a `String` cannot fail.
        let _ = match domain {
            Some(domain) => writeln!(text, "{address}\t{name}.{domain}\t{name}"),
            None => writeln!(text, "{address}\t{name}"),
        };
    }
    text + &of_aliases(aliases)
}

/// Of a Pod on the host's network: `text` is the host's own file, which is kept as it is.
pub fn hosts_of_the_host(text: &[u8], aliases: &[HostAlias]) -> Vec<u8> {
    [OF_THE_HOST.as_bytes(), text, of_aliases(aliases).as_bytes()].concat()
}

fn of_aliases(aliases: &[HostAlias]) -> String {
    let mut text = String::new();
    for alias in aliases.iter().filter(|alias| !alias.names.is_empty()) {
        if text.is_empty() {
            text.push_str("\n# Entries added by HostAliases.\n");
        }
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.names.join("\t"));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::{Pod, decode};

    /// Pod `web` of the namespace `shop` on node `n`, with this in its spec.
    pub fn pod(spec: &str) -> Pod {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, \
             spec: {{containers: [{{name: c, image: i:1}}], {spec}}}}}"
        );
        let manifest = decode(Path::new("a.yaml"), text.as_bytes(), "n");
        manifest.unwrap_or_else(|errors| panic!("{spec}: {errors:?}")).pods.swap_remove(0)
    }

    const ALIASES: &str = "hostAliases: [{ip: 10.0.0.1, hostnames: [a, b.example]}, {ip: '2001:db8::1', hostnames: [c]}, \
                           {ip: 10.0.0.2}]";
    const LINES: &str = "\n# Entries added by HostAliases.\n10.0.0.1\ta\tb.example\n2001:db8::1\tc\n";

    #[test]
    fn a_pod_with_its_own_network_has_itself_and_its_aliases() {
        let addresses = ["10.1.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        let text = |aliases: &[HostAlias]| hosts(&addresses, "web", Some("db.shop.svc"), aliases);
        let own = format!("{OWN}10.1.0.9\tweb.db.shop.svc\tweb\nfd00::9\tweb.db.shop.svc\tweb\n");
        assert_eq!(text(&[]), own);
        assert_eq!(text(&pod(ALIASES).host_aliases), own + LINES);
        assert_eq!(hosts(&addresses[..1], "web", None, &[]), format!("{OWN}10.1.0.9\tweb\n"));
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_the_hosts_file_whatever_is_in_it() {
        let text = b"127.0.0.1 localhost\n\xff";
        assert_eq!(hosts_of_the_host(text, &[]), [OF_THE_HOST.as_bytes(), text].concat());
        let aliases = pod(ALIASES).host_aliases;
        let expected = [OF_THE_HOST.as_bytes(), text, LINES.as_bytes()].concat();
        assert_eq!(hosts_of_the_host(text, &aliases), expected);
    }
}
