//! `podkeep describe`: all that is known of one Pod, for people, laid out as `kubectl describe pod` does
//! (`pkg/kubectl/describe/describe.go`).

use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::Value;

use super::args::{DescribeArgs, NodeArgs};
use super::{events, known_pods, pods, table};
use crate::api::view::{ContainerView, PodStatusView, PodView, StateView};
use crate::events::Record;
use crate::network::{Addresses, links};

/// Where values begin, in each line that has one.
const COLUMN: usize = 20;
const NONE: &str = "<none>";

pub fn describe(options: &DescribeArgs, node: &NodeArgs) -> Result<ExitCode> {
    let list = known_pods::known(node)?;
    let pod = known_pods::one(&list, &options.pod, node)?;
    let of_pod = |record: &Record| record.uid == pod.metadata.uid;
    let records: Vec<_> = events::known_quietly(node)?.into_iter().filter(of_pod).collect();
    let text = description(pod, &list.podkeep.node_name, &records, Timestamp::now())?;
    io::stdout().lock().write_all(text.as_bytes())?;
    known_pods::say_problems(&list);
    Ok(ExitCode::SUCCESS)
}

fn description(pod: &PodView, node: &str, records: &[Record], now: Timestamp) -> io::Result<String> {
    let mut text = Text::default();
    text.pod(pod, node);
    text.containers(pod);
    let conditions = pod.status.conditions.iter().map(|condition| {
        let age = table::since(condition.last_transition_time, now);
        let reason = [&condition.reason, &condition.message].map(|part| part.clone().unwrap_or_default());
        [condition.r#type.clone(), condition.status.clone(), age, reason.join(" ").trim_end().to_owned()]
    });
    text.table("Conditions", ["Type", "Status", "Age", "Reason"], &conditions.collect::<Vec<_>>())?;
    text.volumes(&pod.spec);
    text.line(0, "QoS Class", format_args!("{:?}", pod.status.qos_class));
    let told = records.iter().map(|record| {
        let [_, kind, reason, _, message] = events::cells(record, |record| events::seen(record, now));
        [kind, reason, events::seen(record, now), "podkeep".to_owned(), message]
    });
    text.table("Events", ["Type", "Reason", "Age", "From", "Message"], &told.collect::<Vec<_>>())?;
    Ok(text.0)
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// A label and what it says; further lines of that stand below it.
    fn line(&mut self, indent: usize, label: &str, value: impl Display) {
        let value = value.to_string();
        let mut lines = value.trim_end().lines();
        let head = format!("{:indent$}{label}:", "");
        self.add(&format!(
            "{head:width$}{}",
            lines.next().unwrap_or_default(),
            width = COLUMN.max(head.len() + 1)
        ));
        for line in lines {
            self.add(&format!("{:COLUMN$}{line}", ""));
        }
    }

    fn add(&mut self, line: &str) {
        self.0.push_str(&table::harmless(line.trim_end()));
        self.0.push('\n');
    }

    /// A line for each, below the label.
    fn list(&mut self, indent: usize, label: &str, lines: &[String]) {
        self.line(indent, label, "");
        for line in lines {
            self.add(&format!("{:1$}{line}", "", indent + 2));
        }
    }

    fn list_or_none(&mut self, indent: usize, label: &str, lines: &[String]) {
        match lines {
            [] => self.line(indent, label, NONE),
            _ => self.list(indent, label, lines),
        }
    }

    fn table<const N: usize>(
        &mut self,
        label: &str,
        header: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        if rows.is_empty() {
            self.line(0, label, NONE);
            return Ok(());
        }
        let mut lines = Vec::new();
        table::print(header, rows, &mut lines)?;
        let lines: Vec<_> = String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect();
        self.list(0, label, &lines);
        Ok(())
    }

    fn pod(&mut self, pod: &PodView, node: &str) {
        let (metadata, spec, status, extra) = (&pod.metadata, &pod.spec, &pod.status, &pod.podkeep);
        self.line(0, "Name", &metadata.name);
        self.line(0, "Namespace", &metadata.namespace);
        self.line(0, "UID", &metadata.uid);
        self.line(0, "Priority", spec["priority"].as_i64().unwrap_or(0));
        let address = status.host_ip.as_ref().map_or_else(String::new, |ip| format!("/{ip}"));
        self.line(0, "Node", format_args!("{node}{address}"));
        self.line(0, "Start Time", date(status.start_time));
        for (label, key) in [("Labels", "labels"), ("Annotations", "annotations")] {
            let pairs = metadata.rest.get(key).and_then(Value::as_object);
            let pairs = pairs.into_iter().flatten().map(|(key, value)| format!("{key}={}", plain(value)));
            self.line(0, label, or_none(&pairs.collect::<Vec<_>>().join("\n")));
        }
        self.line(0, "Status", pods::status(pod));
        for (label, said) in [("Reason", &status.reason), ("Message", &status.message)] {
            said.iter().for_each(|said| self.line(0, label, said));
        }
        self.line(0, "IP", status.pod_ip.as_deref().unwrap_or_default());
        let ips: Vec<_> = status.pod_ips.iter().map(|one| format!("IP:  {}", one.ip)).collect();
        self.list_or_none(0, "IPs", &ips);
        if let Some(network) = &extra.cni_network {
            self.line(0, "Network", format!("CNI network {network}"));
        } else if let Some(link) = link(status, spec) {
            self.line(0, "Link", link);
        }
        if !extra.rules.is_empty() {
            self.list(0, "Rules", &extra.rules);
        }
        if let Some(file) = &extra.file {
            self.line(0, "Manifest", file.display());
        }
        self.line(0, "Logs", extra.log_dir.display());
        if let Some(cgroup) = &extra.cgroup {
            self.line(0, "Cgroup", cgroup.display());
        }
        if !extra.not_enforced.is_empty() {
            self.line(0, "Not enforced", extra.not_enforced.join(", "));
        }
    }

    fn containers(&mut self, pod: &PodView) {
        let lists = [
            ("Init Containers", "initContainers", &pod.status.init_container_statuses),
            ("Containers", "containers", &pod.status.container_statuses),
        ];
        let mut pids = pod.podkeep.pids.iter();
        for (label, key, statuses) in lists.into_iter().filter(|(.., statuses)| !statuses.is_empty()) {
            self.line(0, label, "");
            for (place, status) in statuses.iter().enumerate() {
                self.container(&pod.spec[key][place], status, pids.next().copied().flatten());
            }
        }
    }

    fn container(&mut self, spec: &Value, status: &ContainerView, pid: Option<u32>) {
        self.line(2, &status.name, "");
        self.line(4, "Image", &status.image);
        self.line(4, "Image ID", &status.image_id);
        pid.iter().for_each(|pid| self.line(4, "PID", pid));
        self.line(4, "Port", or_none(&each(&spec["ports"], port).join(", ")));
        let host_ports: Vec<_> =
            spec["ports"].as_array().into_iter().flatten().filter_map(host_port).collect();
        if !host_ports.is_empty() {
            self.line(4, "Host Port", host_ports.join(", "));
        }
        for (label, words) in [("Command", &spec["command"]), ("Args", &spec["args"])] {
            let words = each(words, plain);
            if !words.is_empty() {
                self.list(4, label, &words);
            }
        }
        self.state("State", &status.state);
        status.last_state.iter().for_each(|state| self.state("Last State", state));
        self.line(4, "Ready", if status.ready { "True" } else { "False" });
        self.line(4, "Restart Count", status.restart_count);
        for (label, key) in [("Limits", "limits"), ("Requests", "requests")] {
            let amounts = fields(&spec["resources"][key]);
            if !amounts.is_empty() {
                self.list(4, label, &amounts);
            }
        }
        for (label, key) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            spec.get(key).iter().for_each(|written| self.line(4, label, probe(written)));
        }
        let all_of = each(&spec["envFrom"], env_from);
        if !all_of.is_empty() {
            self.list(4, "Environment Variables from", &all_of);
        }
        let variable = |variable: &Value| format!("{}:  {}", plain(&variable["name"]), env_value(variable));
        self.list_or_none(4, "Environment", &each(&spec["env"], variable));
        let mount = |mount: &Value| {
            let how = if mount["readOnly"] == true { "ro" } else { "rw" };
            format!("{} from {} ({how})", plain(&mount["mountPath"]), plain(&mount["name"]))
        };
        self.list_or_none(4, "Mounts", &each(&spec["volumeMounts"], mount));
    }

    fn state(&mut self, label: &str, state: &StateView) {
        let (name, reason, message) = match state {
            StateView::Waiting { reason, message } => ("Waiting", Some(reason), message.as_ref()),
            StateView::Running { .. } => ("Running", None, None),
            StateView::Terminated { reason, message, .. } => ("Terminated", Some(reason), message.as_ref()),
        };
        self.line(4, label, name);
        for (label, said) in [("Reason", reason), ("Message", message)] {
            said.iter().for_each(|said| self.line(6, label, said));
        }
        match state {
            StateView::Waiting { .. } => {}
            StateView::Running { started_at } => self.line(6, "Started", date(*started_at)),
            StateView::Terminated { exit_code, signal, started_at, finished_at, .. } => {
                self.line(6, "Exit Code", exit_code);
                signal.iter().for_each(|signal| self.line(6, "Signal", signal));
                started_at.iter().for_each(|at| self.line(6, "Started", date(*at)));
                self.line(6, "Finished", date(*finished_at));
            }
        }
    }

    fn volumes(&mut self, spec: &Value) {
        let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.line(0, "Volumes", if volumes.is_empty() { NONE } else { "" });
        for volume in volumes {
            self.line(2, &plain(&volume["name"]), "");
            for (kind, source) in volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
                self.line(4, "Type", kind);
                fields(source).iter().for_each(|field| self.add(&format!("    {field}")));
            }
        }
    }
}

/// RFC 1123 as `kubectl` writes it, in UTC: a node far away has no other clock.
fn date(at: Timestamp) -> String {
    // That of HTTP, but for the zone's name. strftime, with all its formats, would be 14 kB of the binary.
    let written = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default();
    written.replace("GMT", "+0000")
}

/// Text without its quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

fn each(list: &Value, shown: fn(&Value) -> String) -> Vec<String> {
    list.as_array().into_iter().flatten().map(shown).collect()
}

fn fields(object: &Value) -> Vec<String> {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(key, value)| format!("{key}:  {}", plain(value))).collect()
}

/// What a variable is, or where it comes from.
fn env_value(variable: &Value) -> String {
    let from = &variable["valueFrom"];
    let optional = |source: &Value| format!("Optional: {}", source["optional"].as_bool().unwrap_or_default());
    let (key, name) = (|source: &Value| plain(&source["key"]), |source: &Value| plain(&source["name"]));
    if let Some(source) = from.get("configMapKeyRef") {
        format!("<set to the key '{}' of config map '{}'>  {}", key(source), name(source), optional(source))
    } else if let Some(source) = from.get("secretKeyRef") {
        format!("<set to the key '{}' in secret '{}'>  {}", key(source), name(source), optional(source))
    } else if let Some(source) = from.get("fileKeyRef") {
        let (file, volume) = (plain(&source["path"]), plain(&source["volumeName"]));
        format!(
            "<set to the key '{}' of file '{file}' in volume '{volume}'>  {}",
            key(source),
            optional(source)
        )
    } else if let Some(source) = from.get("fieldRef") {
        format!("(v1:{})", plain(&source["fieldPath"]))
    } else if let Some(source) = from.get("resourceFieldRef") {
        format!("({})", plain(&source["resource"]))
    } else {
        variable["value"].as_str().unwrap_or_default().to_owned()
    }
}

fn env_from(source: &Value) -> String {
    let is_map = source.get("configMapRef").is_some();
    let (kind, object) = match is_map {
        true => ("ConfigMap", &source["configMapRef"]),
        false => ("Secret", &source["secretRef"]),
    };
    let prefix = source["prefix"].as_str().filter(|prefix| !prefix.is_empty());
    let prefix = prefix.map_or_else(String::new, |prefix| format!(" with prefix '{prefix}'"));
    let optional = object["optional"].as_bool().unwrap_or_default();
    format!("{}  {kind}{prefix}  Optional: {optional}", plain(&object["name"]))
}

/// What the host calls its end of the Pod's link: whom to look for in `ip link`, `ip route` and `tcpdump -i`.
fn link(status: &PodStatusView, spec: &Value) -> Option<String> {
    let all = || status.pod_ips.iter().filter_map(|one| one.ip.parse::<IpAddr>().ok());
    let v4 = all().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
    let v6 = all().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
    let has_link = spec["hostNetwork"] != true && (v4.is_some() || v6.is_some());
    has_link.then(|| links::name(Addresses { v4, v6 }))
}

fn host_port(port: &Value) -> Option<String> {
    let number = port["hostPort"].as_u64()?;
    let ip = port["hostIP"].as_str().map_or_else(String::new, |ip| format!("{ip}:"));
    Some(format!("{ip}{number}/{}", plain(&port["protocol"])))
}

fn port(port: &Value) -> String {
    format!("{}/{}", port["containerPort"], plain(&port["protocol"]))
}

/// `http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3`.
fn probe(probe: &Value) -> String {
    let host = |of: &Value| of["host"].as_str().unwrap_or_default().to_owned();
    let what = if let Some(exec) = probe.get("exec") {
        format!("exec [{}]", each(&exec["command"], plain).join(" "))
    } else if let Some(get) = probe.get("httpGet") {
        let scheme = plain(&get["scheme"]).to_ascii_lowercase();
        format!("http-get {scheme}://{}:{}{}", host(get), plain(&get["port"]), plain(&get["path"]))
    } else if let Some(socket) = probe.get("tcpSocket") {
        format!("tcp-socket {}:{}", host(socket), plain(&socket["port"]))
    } else {
        let grpc = &probe["grpc"];
        format!("grpc <pod>:{} {}", grpc["port"], plain(&grpc["service"]))
    };
    let number = |key: &str| probe[key].as_i64().unwrap_or(0);
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::view::Ip;
    use crate::cli::pods::tests::{container, ended, pod, running};

    const EXPECTED: &str = "\
Name:               web-edge7
Namespace:          default
UID:                12
Priority:           0
Node:               edge7/192.0.2.7
Start Time:         Fri, 02 Jan 2026 03:04:05 +0000
Labels:             app=web
                    tier=edge
Annotations:        <none>
Status:             Running
IP:                 192.0.2.7
IPs:
  IP:  192.0.2.7
  IP:  2001:db8::7
Link:               pkc0000207
Rules:
  192.0.2.1:8080/TCP → 192.0.2.7:80
Logs:               /l
Init Containers:
  setup:
    Image:          busybox:1.35
    Image ID:       sha256:12
    Port:           <none>
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Started:      Fri, 02 Jan 2026 03:04:05 +0000
      Finished:     Fri, 02 Jan 2026 03:05:05 +0000
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  main:
    Image:          busybox:1.35
    Image ID:       sha256:12
    PID:            4711
    Port:           80/TCP, 53/UDP
    Host Port:      192.0.2.1:8080/TCP
    Command:
      sh
      -c
    State:          Running
      Started:      Fri, 02 Jan 2026 03:04:05 +0000
    Last State:     Terminated
      Reason:       Error
      Message:      no disk
                    no hope
      Exit Code:    137
      Signal:       9
      Started:      Fri, 02 Jan 2026 03:04:05 +0000
      Finished:     Fri, 02 Jan 2026 03:05:05 +0000
    Ready:          True
    Restart Count:  3
    Limits:
      memory:  64Mi
    Liveness:       http-get http://:80/healthz delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment:
      A:  b
    Mounts:
      /data from data (ro)
Conditions:
  Type          Status   Age   Reason
  Initialized   True     6m
  Ready         False    6m    ContainersNotReady containers with unready status: [x]
Volumes:
  data:
    Type:           hostPath
    path:  /srv
QoS Class:          BestEffort
Events:
  Type     Reason    Age               From      Message
  Normal   Started   5m (x2 over 6m)   podkeep   Started container main
";

    #[test]
    fn a_pod_is_laid_out_as_kubectl_does() {
        let mut last = ended("Error", 137);
        last["terminated"]["signal"] = 9.into();
        last["terminated"]["message"] = "no disk\nno hope\n".into();
        let main = json!({ "ready": true, "started": true, "restartCount": 3, "lastState": last });
        let setup = container("setup", ended("Completed", 0), json!({ "ready": true }));
        let mut pod = pod(vec![setup], vec![container("main", running(), main)], &["Initialized"]);
        pod.metadata.rest.insert("labels".to_owned(), json!({ "app": "web", "tier": "edge" }));
        pod.podkeep.pids = vec![None, Some(4711)];
        pod.podkeep.rules = vec!["192.0.2.1:8080/TCP → 192.0.2.7:80".to_owned()];
        pod.status.pod_ips = ["192.0.2.7", "2001:db8::7"].map(|ip| Ip { ip: ip.to_owned() }).into();
        pod.status.pod_ip = Some("192.0.2.7".to_owned());
        pod.status.host_ip = Some("192.0.2.7".to_owned());
        pod.status.conditions[1].reason = Some("ContainersNotReady".to_owned());
        pod.status.conditions[1].message = Some("containers with unready status: [x]".to_owned());
        pod.spec = json!({
            "imagePullSecrets": [{ "name": "registry" }],
            "volumes": [{ "name": "data", "hostPath": { "path": "/srv" } }],
            "initContainers": [{ "name": "setup" }],
            "containers": [{
                "name": "main", "command": ["sh", "-c"], "env": [{ "name": "A", "value": "b" }],
                "ports": [{ "containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1", "protocol": "TCP" }, { "containerPort": 53, "protocol": "UDP" }],
                "resources": { "limits": { "memory": "64Mi" } },
                "volumeMounts": [{ "name": "data", "mountPath": "/data", "readOnly": true }],
                "livenessProbe": {
                    "httpGet": { "path": "/healthz", "port": 80, "scheme": "HTTP" },
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
            }],
        });
        let record = json!({
            "sequence": 1, "namespace": "default", "pod": "web-edge7", "uid": "12", "type": "Normal",
            "reason": "Started", "message": "Started container main", "count": 2,
            "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:05:05Z",
        });
        let record = serde_json::from_value(record).unwrap();
        let now = "2026-01-02T03:10:05Z".parse().unwrap();
        assert_eq!(description(&pod, "edge7", &[record], now).unwrap(), EXPECTED);
    }

    #[test]
    fn each_source_of_a_variable_has_its_words() {
        let words = |source: Value| env_value(&json!({ "name": "V", "valueFrom": source }));
        assert_eq!(
            words(json!({ "configMapKeyRef": { "name": "a", "key": "k" } })),
            "<set to the key 'k' of config map 'a'>  Optional: false"
        );
        assert_eq!(
            words(json!({ "secretKeyRef": { "name": "b", "key": "k", "optional": true } })),
            "<set to the key 'k' in secret 'b'>  Optional: true"
        );
        assert_eq!(
            words(json!({ "fileKeyRef": { "volumeName": "v", "path": "p", "key": "k" } })),
            "<set to the key 'k' of file 'p' in volume 'v'>  Optional: false"
        );
        assert_eq!(words(json!({ "fieldRef": { "fieldPath": "metadata.uid" } })), "(v1:metadata.uid)");
        assert_eq!(words(json!({ "resourceFieldRef": { "resource": "limits.cpu" } })), "(limits.cpu)");
        let all = json!({ "prefix": "P_", "secretRef": { "name": "b" } });
        assert_eq!(env_from(&all), "b  Secret with prefix 'P_'  Optional: false");
        assert_eq!(env_from(&json!({ "configMapRef": { "name": "a" } })), "a  ConfigMap  Optional: false");
    }

    #[test]
    fn each_kind_of_probe_has_its_words() {
        let words = |action: Value| probe(&action).split(" delay=").next().unwrap().to_owned();
        assert_eq!(words(json!({ "exec": { "command": ["test", "-e"] } })), "exec [test -e]");
        assert_eq!(words(json!({ "tcpSocket": { "port": "web", "host": "h" } })), "tcp-socket h:web");
        assert_eq!(words(json!({ "grpc": { "port": 1, "service": "s" } })), "grpc <pod>:1 s");
    }
}
