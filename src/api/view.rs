//! What programs see: a `v1` `PodList` as `kubectl get pods -o json` prints it, with what only podkeep knows under `podkeep`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::manifest::pod::Role;
use crate::node::{PodSnapshot, Snapshot};
use crate::pod::status::{self, ContainerState, Termination};
use crate::pod::{BootTime, ContainerStatus, Phase};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodList {
    pub api_version: String,
    pub kind: String,
    pub items: Vec<PodView>,
    pub podkeep: NodeView,
}

/// The node itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node_name: String,
    /// The PID of `podkeep run`.
    pub keeper_pid: u32,
    /// Broken manifests, duplicate names, too many Pods.
    pub problems: Vec<String>,
    pub not_enforced: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: serde_json::Value,
    pub status: PodStatusView,
    pub podkeep: PodExtra,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatusView {
    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none", default)]
    pub host_ip: Option<String>,
    #[serde(rename = "hostIPs", skip_serializing_if = "Vec::is_empty", default)]
    pub host_ips: Vec<Ip>,
    /// Only of Pods on the host's network: no other has an address so far.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none", default)]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty", default)]
    pub pod_ips: Vec<Ip>,
    pub qos_class: crate::manifest::pod::QosClass,
    pub start_time: Timestamp,
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub init_container_statuses: Vec<ContainerView>,
    pub container_statuses: Vec<ContainerView>,
}

impl PodStatusView {
    /// Init containers first, as their PIDs are.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerView> {
        self.init_container_statuses.iter().chain(&self.container_statuses)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ip {
    pub ip: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub r#type: String,
    pub status: String,
    pub last_transition_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    pub name: String,
    pub image: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
    pub ready: bool,
    pub started: bool,
    pub restart_count: u32,
    pub state: StateView,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_state: Option<StateView>,
}

/// One of the three, as in Kubernetes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StateView {
    Waiting {
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Running { started_at: Timestamp },
    #[serde(rename_all = "camelCase")]
    Terminated {
        reason: String,
        exit_code: i32,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        signal: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
    },
}

/// What only podkeep knows of a Pod.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodExtra {
    /// The manifest that asks for it.
    pub file: Option<PathBuf>,
    pub log_dir: PathBuf,
    pub cgroup: Option<PathBuf>,
    /// The CNI network that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_network: Option<String>,
    pub terminating: bool,
    /// What the firewall has of it, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules: Vec<String>,
    /// What of the Pod's wishes this machine cannot enforce.
    pub not_enforced: Vec<String>,
    /// IDs of the images that its containers run from, or ran from last, and of those that are volumes of theirs.
    pub images: Vec<String>,
    /// By container, init containers first: the PID of its first process, on the host.
    pub pids: Vec<Option<u32>>,
}

impl PodList {
    pub fn of(snapshot: &Snapshot) -> PodList {
        PodList {
            api_version: "v1".to_owned(),
            kind: "PodList".to_owned(),
            items: snapshot.pods.iter().map(|pod| PodView::of(pod, snapshot)).collect(),
            podkeep: NodeView {
                node_name: snapshot.node_name.clone(),
                keeper_pid: snapshot.keeper_pid,
                problems: snapshot.problems.clone(),
                not_enforced: snapshot.not_enforced.clone(),
            },
        }
    }
}

impl PodView {
    fn of(snapshot: &PodSnapshot, node: &Snapshot) -> PodView {
        let pod = &snapshot.pod;
        let at = |moment| timestamp(node.wall(moment, &snapshot.status));
        let images = pod.containers.iter().map(|container| container.image.as_str());
        let containers = snapshot.status.containers.iter().zip(images);
        let (main, init): (Vec<_>, Vec<_>) = containers.partition(|(c, _)| c.role == Role::Main);
        let views = |of: Vec<(&ContainerStatus, &str)>| {
            of.into_iter().map(|(c, image)| ContainerView::of(c, image, &at)).collect()
        };
        let ips = |all: &[IpAddr]| all.iter().map(|ip| Ip { ip: ip.to_string() }).collect::<Vec<_>>();
        let host_ips = ips(&node.host_ips);
        let pod_ips = if pod.host_network { host_ips.clone() } else { ips(&snapshot.addresses) };
        let first = |ips: &[Ip]| ips.first().map(|first| first.ip.clone());
        PodView {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            metadata: metadata(snapshot),
            spec: pod.object.get("spec").cloned().unwrap_or_default(),
            status: PodStatusView {
                phase: snapshot.status.phase,
                reason: snapshot.status.reason.map(str::to_owned),
                message: snapshot.status.message.clone(),
                host_ip: first(&host_ips),
                host_ips,
                pod_ip: first(&pod_ips),
                pod_ips,
                qos_class: pod.qos_class(),
                start_time: at(snapshot.status.started_at),
                conditions: snapshot.status.conditions.iter().map(|one| Condition::of(one, &at)).collect(),
                init_container_statuses: views(init),
                container_statuses: views(main),
            },
            podkeep: PodExtra {
                file: snapshot.file.clone(),
                log_dir: snapshot.log_dir.clone(),
                cgroup: snapshot.cgroup.clone(),
                cni_network: snapshot.cni_network.clone(),
                terminating: snapshot.status.terminating,
                rules: snapshot.rules.clone(),
                not_enforced: snapshot.not_enforced.clone(),
                images: snapshot.images.iter().map(ToString::to_string).collect(),
                pids: snapshot.status.containers.iter().map(|c| c.pid).collect(),
            },
        }
    }
}

fn metadata(snapshot: &PodSnapshot) -> Metadata {
    let pod = &snapshot.pod;
    let mut rest =
        pod.object.get("metadata").and_then(|metadata| metadata.as_object().cloned()).unwrap_or_default();
    for own in ["name", "namespace", "uid"] {
        rest.remove(own);
    }
    let (name, namespace) = (pod.id.name.clone(), pod.id.namespace.clone());
    Metadata { name, namespace, uid: pod.uid.to_string(), rest }
}

impl Condition {
    fn of(condition: &status::Condition, at: &dyn Fn(BootTime) -> Timestamp) -> Condition {
        Condition {
            r#type: condition.kind.to_owned(),
            status: if condition.holds { "True" } else { "False" }.to_owned(),
            last_transition_time: at(condition.since),
            reason: condition.reason.map(str::to_owned),
            message: condition.message.clone(),
        }
    }
}

impl ContainerView {
    fn of(container: &ContainerStatus, image: &str, at: &dyn Fn(BootTime) -> Timestamp) -> ContainerView {
        ContainerView {
            name: container.name.clone(),
            image: image.to_owned(),
            image_id: container.image_id.clone().unwrap_or_default(),
            ready: container.ready,
            started: container.started,
            restart_count: container.restart_count,
            state: StateView::of(&container.state, at),
            last_state: container.last.as_ref().map(|last| StateView::terminated(last, at)),
        }
    }
}

impl StateView {
    fn of(state: &ContainerState, at: &dyn Fn(BootTime) -> Timestamp) -> StateView {
        match state {
            ContainerState::Waiting { reason, message } => {
                StateView::Waiting { reason: (*reason).to_owned(), message: message.clone() }
            }
            ContainerState::Running { started_at } => StateView::Running { started_at: at(*started_at) },
            ContainerState::Terminated(end) => StateView::terminated(end, at),
        }
    }

    fn terminated(end: &Termination, at: &dyn Fn(BootTime) -> Timestamp) -> StateView {
        let signal = match end.exit {
            crate::pod::Exit::Signal(signal) => Some(signal),
            _ => None,
        };
        StateView::Terminated {
            reason: end.reason().to_owned(),
            exit_code: end.exit.code(),
            signal,
            message: end.message(),
            started_at: end.started_at.map(at),
            finished_at: at(end.finished_at),
        }
    }
}

/// Whole seconds, as Kubernetes writes them.
fn timestamp(at: SystemTime) -> Timestamp {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::pod::RestartPolicy;
    use crate::manifest::{Container, Pod, PodId, Uid};
    use crate::pod::machine::Settings;
    use crate::pod::{Event, Exit, Machine};

    fn node(pods: Vec<PodSnapshot>) -> Snapshot {
        Snapshot {
            node_name: "edge7".to_owned(),
            keeper_pid: 1,
            host_ips: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            pods,
            problems: Vec::new(),
            not_enforced: Vec::new(),
            taken_at: BootTime::from_nanos(5_000_000_000),
            taken_at_wall: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000),
        }
    }

    fn snapshot_of(machine: &Machine) -> PodSnapshot {
        PodSnapshot {
            pod: Arc::clone(machine.pod()),
            status: machine.status(),
            file: None,
            log_dir: PathBuf::new(),
            images: Vec::new(),
            cgroup: None,
            cni_network: None,
            addresses: Vec::new(),
            rules: Vec::new(),
            not_enforced: Vec::new(),
        }
    }

    fn pod(host_network: bool) -> Arc<Pod> {
        let id = PodId { namespace: "default".to_owned(), name: "web".to_owned() };
        let uid = Uid::parse(&"1".repeat(32)).unwrap();
        Arc::new(Pod { host_network, ..Pod::plain(id, uid, Vec::new()) })
    }

    #[test]
    fn statuses_are_in_the_order_of_the_spec_and_so_are_pids() {
        let with_role = |name: &str, role| Container { role, ..Container::plain(name, "busybox") };
        let containers = vec![
            with_role("z-init", Role::Init),
            with_role("a-proxy", Role::Sidecar),
            with_role("web", Role::Main),
            with_role("db", Role::Main),
        ];
        let pod = Arc::new(Pod { containers, ..(*pod(false)).clone() });
        let machine = Machine::new(pod, Settings::default(), BootTime::from_nanos(0));
        let list = PodList::of(&node(vec![snapshot_of(&machine)]));
        let names = |of: &[ContainerView]| of.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        let status = &list.items[0].status;
        assert_eq!(names(&status.init_container_statuses), ["z-init", "a-proxy"]);
        assert_eq!(names(&status.container_statuses), ["web", "db"]);
        assert_eq!(list.items[0].podkeep.pids.len(), 4);
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_the_hosts_addresses_and_others_their_own() {
        let machine =
            |host_network| Machine::new(pod(host_network), Settings::default(), BootTime::from_nanos(0));
        let mut pods = [true, false, false].map(|host_network| snapshot_of(&machine(host_network)));
        pods[2].addresses = ["10.203.0.2", "fd00::2"].map(|ip| ip.parse().unwrap()).into();
        let list = serde_json::to_value(PodList::of(&node(pods.into()))).unwrap();
        let ips = serde_json::json!([{ "ip": "192.0.2.7" }, { "ip": "2001:db8::7" }]);
        for item in list["items"].as_array().unwrap() {
            assert_eq!((&item["status"]["hostIP"], &item["status"]["hostIPs"]), (&ips[0]["ip"], &ips));
        }
        let [on_host, none, own] = [0, 1, 2].map(|at| &list["items"][at]["status"]);
        assert_eq!((&on_host["podIP"], &on_host["podIPs"]), (&ips[0]["ip"], &ips));
        assert!(none.get("podIP").is_none() && none.get("podIPs").is_none());
        let ips = serde_json::json!([{ "ip": "10.203.0.2" }, { "ip": "fd00::2" }]);
        assert_eq!((&own["podIP"], &own["podIPs"]), (&ips[0]["ip"], &ips));
    }
    #[test]
    fn what_finished_on_an_earlier_boot_keeps_its_times() {
        let at = |seconds| BootTime::from(std::time::Duration::from_secs(seconds));
        let mut container = Container::plain("main", "busybox");
        container.restart.policy = RestartPolicy::Never;
        let pod = Arc::new(Pod { containers: vec![container], ..(*pod(false)).clone() });
        let mut machine = Machine::new(Arc::clone(&pod), Settings::default(), at(100));
        machine.step(Event::Prepared, at(100));
        machine.step(Event::ImageReady { container: 0, image_id: String::new() }, at(100));
        machine.step(Event::Started { container: 0, pid: 7 }, at(110));
        machine.step(Event::Exited { container: 0, exit: Exit::Code(0) }, at(120));
        machine.step(Event::Cleared { container: 0 }, at(120));
        machine.step(Event::Released, at(120));
        // The machine was started at the second 10,000, and again much later.
        let survival = machine.survival().dated(10_000_000_000_000);
        assert!(survival.is_same(&machine.survival()));
        let saved = serde_json::to_vec(&survival).unwrap();
        let survival = serde_json::from_slice(&saved).unwrap();
        let machine = Machine::after_reboot(pod, survival, Settings::default(), at(1));
        assert!(machine.survival().dated(5).is_same(&machine.survival()));
        let list = serde_json::to_value(PodList::of(&node(vec![snapshot_of(&machine)]))).unwrap();
        let status = &list["items"][0]["status"];
        assert_eq!(status["startTime"], "1970-01-01T02:48:20Z");
        let end = &status["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&end["startedAt"], &end["finishedAt"]),
            (&"1970-01-01T02:48:30Z".into(), &"1970-01-01T02:48:40Z".into())
        );
        let changed = status["conditions"].as_array().unwrap().iter().map(|one| &one["lastTransitionTime"]);
        assert!(changed.clone().all(|at| at.as_str().unwrap() <= "1970-01-01T02:48:40Z"), "{changed:?}");
    }
}
