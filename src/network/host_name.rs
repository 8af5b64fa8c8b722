//! What a Pod is called (`pkg/kubelet/kubelet_pods.go:GeneratePodHostNameAndDomain`).

use crate::manifest::Pod;

/// What would stand behind the Pod's host name in a cluster; `None` without a `subdomain`. `cluster_domain` may be empty.
pub fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = pod.subdomain.as_deref()?;
    let mut domain = format!("{subdomain}.{}.svc", pod.id.namespace);
    if !cluster_domain.is_empty() {
        domain.extend([".", cluster_domain]);
    }
    Some(domain)
}

/// What the kernel shall call the Pod's machine; `None` where that is the host.
pub fn host_name(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let name = pod.hostname.clone()?;
    match domain(pod, cluster_domain).filter(|_| pod.hostname_is_fqdn) {
        Some(domain) => Some(format!("{name}.{domain}")),
        None => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::hosts::tests::pod;

    #[test]
    fn a_subdomain_gives_a_domain_and_is_part_of_the_host_name_only_if_that_is_asked() {
        // spec, cluster domain, host name, domain
        let cases = [
            ("", "c.local", Some("web-n"), None),
            ("hostname: shop", "c.local", Some("shop"), None),
            ("subdomain: db", "c.local", Some("web-n"), Some("db.shop.svc.c.local")),
            ("subdomain: db", "", Some("web-n"), Some("db.shop.svc")),
            (
                "subdomain: db, setHostnameAsFQDN: true",
                "c.local",
                Some("web-n.db.shop.svc.c.local"),
                Some("db.shop.svc.c.local"),
            ),
            ("subdomain: db, setHostnameAsFQDN: true", "", Some("web-n.db.shop.svc"), Some("db.shop.svc")),
            ("hostname: shop, setHostnameAsFQDN: true", "c.local", Some("shop"), None),
            ("hostname: h, subdomain: db, hostnameOverride: o.example", "c.local", Some("o.example"), None),
            ("hostNetwork: true, setHostnameAsFQDN: true, subdomain: db", "", None, Some("db.shop.svc")),
        ];
        for (spec, cluster_domain, name, expected) in cases {
            let pod = pod(spec);
            assert_eq!(host_name(&pod, cluster_domain).as_deref(), name, "{spec}");
            assert_eq!(domain(&pod, cluster_domain).as_deref(), expected, "{spec}");
        }
    }
}
