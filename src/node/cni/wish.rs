//! What a Pod asks of a network, and what plugins are told of it.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::manifest::Pod;
use crate::manifest::pod::Ingress;
use crate::network::cni::Network;
use crate::node::pod_network::distinct_host_ports;
use crate::node::pod_run::PodRun;

/// Capabilities, by the names under which plugins say that they take them. The last is containerd's own.
const PORTS: &str = "portMappings";
pub(super) const BANDWIDTH: &str = "bandwidth";
const IPS: &str = "ips";
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

const UNLIMITED: &str = "kubernetes.io/ingress-bandwidth, egress-bandwidth: no plugin of its network has the capability bandwidth";

/// Bits that a Pod may be ahead of its bandwidth by: containerd gives no limit either.
const BURST: u32 = u32::MAX;

/// What a Pod asks for that only plugins could give, in words.
pub fn unlimited(run: &PodRun) -> Option<String> {
    let is_limited = run.cni.as_ref().is_some_and(|link| link.limits_bandwidth);
    let is_asked = !run.pod().host_network && run.pod().bandwidth != [None; 2];
    (is_asked && !is_limited).then(|| UNLIMITED.to_owned())
}

/// Whether the network gives the Pod all that it asks for. containerd leaves out what no plugin takes, and says nothing.
pub(super) fn check(pod: &Pod, network: &Network) -> Result<()> {
    let name = &network.name;
    ensure!(
        pod.ingress == Ingress::All,
        "podkeep.io/ingress is of podkeep's own network, and this Pod is to be on the CNI network {name}"
    );
    let wishes = [
        (!distinct_host_ports(pod).is_empty(), PORTS, "host ports"),
        (!pod.ips.is_empty(), IPS, "podkeep.io/ips"),
    ];
    for (is_wished, capability, words) in wishes {
        ensure!(
            !is_wished || network.takes(capability),
            "{words}: no plugin of the CNI network {name} has the capability {capability}"
        );
    }
    Ok(())
}

/// What plugins are told of the Pod, as containerd does.
pub(super) fn capabilities(pod: &Pod) -> Map<String, Value> {
    let mut all = Map::new();
    let ports: Vec<Value> = distinct_host_ports(pod)
        .into_iter()
        .map(|port| {
            let ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_str().to_lowercase(),
                "hostIP": ip,
            })
        })
        .collect();
    let [ingress, egress] = pod.bandwidth;
    let mut bandwidth = Map::new();
    for (rate, [rate_key, burst_key]) in
        [(ingress, ["ingressRate", "ingressBurst"]), (egress, ["egressRate", "egressBurst"])]
    {
        if let Some(rate) = rate {
            bandwidth.insert(rate_key.to_owned(), rate.into());
            bandwidth.insert(burst_key.to_owned(), BURST.into());
        }
    }
    let mut add = |name: &str, is_any: bool, value: Value| {
        if is_any {
            all.insert(name.to_owned(), value);
        }
    };
    add(PORTS, !ports.is_empty(), ports.into());
    add(BANDWIDTH, !bandwidth.is_empty(), bandwidth.into());
    add(IPS, !pod.ips.is_empty(), pod.ips.clone().into());
    add(ANNOTATIONS, true, json!(pod.annotations));
    all
}

/// `CNI_ARGS`, as containerd writes it.
pub(super) fn arguments(pod: &Pod) -> String {
    let (id, uid) = (&pod.id, &pod.uid);
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}",
        id.namespace, id.name
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::decode;

    pub fn pod(annotations: &str, container: &str) -> Pod {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}, \
             spec: {{containers: [{{name: c, image: i:1, {container}}}]}}}}"
        );
        let pods = decode(Path::new("a.yaml"), text.as_bytes(), "n").map(|manifest| manifest.pods);
        pods.unwrap_or_else(|errors| panic!("{errors:?}")).swap_remove(0)
    }

    #[test]
    fn plugins_are_told_of_a_pod_what_containerd_tells_them() {
        let ports = "ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 53, hostPort: 53, protocol: UDP, hostIP: 10.0.0.1}, {containerPort: 1}]";
        let of_pod =
            pod("kubernetes.io/egress-bandwidth: 1M, podkeep.io/ips: \"10.1.0.9, fd00::9/64\"", ports);
        let expected = json!({
            PORTS: [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.0.0.1"},
            ],
            BANDWIDTH: {"egressRate": 1_000_000, "egressBurst": u32::MAX},
            IPS: ["10.1.0.9", "fd00::9/64"],
            ANNOTATIONS: {"kubernetes.io/egress-bandwidth": "1M", "podkeep.io/ips": "10.1.0.9, fd00::9/64"},
        });
        assert_eq!(Value::from(capabilities(&of_pod)), expected);
        assert_eq!(Value::from(capabilities(&pod("", ""))), json!({ANNOTATIONS: {}}));
        let uid = &of_pod.uid;
        assert_eq!(
            arguments(&of_pod),
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-n;K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}"
            )
        );
    }
}
