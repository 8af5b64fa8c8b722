//! `podkeep pods`: the Pods and how they are, in the columns and words of `kubectl get pods`
//! (`pkg/printers/internalversion/printers.go:printPod`).

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;

use super::args::{NodeArgs, PodsArgs, PsOutput};
use super::{json, known_pods, table};
use crate::api::view::{ContainerView, PodList, PodView, StateView};

const HEADER: [&str; 5] = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"];

pub fn pods(options: &PodsArgs, node: &NodeArgs) -> Result<ExitCode> {
    let list = known_pods::known_in_namespace(node)?;
    match options.output {
        PsOutput::Json => json::print(&list)?,
        PsOutput::Table => table::print(HEADER, &rows(&list), io::stdout().lock())?,
        PsOutput::Wide => {
            let [name, ready, status, restarts, age] = HEADER;
            let header = [name, ready, status, restarts, age, "IP", "NODE"];
            let with_more = |(pod, row): (&PodView, [String; 5])| {
                let [name, ready, status, restarts, age] = row;
                let ip = pod.status.pod_ip.clone().unwrap_or_else(|| "<none>".to_owned());
                [name, ready, status, restarts, age, ip, list.podkeep.node_name.clone()]
            };
            let rows: Vec<_> = list.items.iter().zip(rows(&list)).map(with_more).collect();
            table::print(header, &rows, io::stdout().lock())?;
        }
    }
    known_pods::say_problems(&list);
    Ok(ExitCode::SUCCESS)
}

fn rows(list: &PodList) -> Vec<[String; 5]> {
    let now = Timestamp::now();
    list.items.iter().map(|pod| row(pod, now)).collect()
}

fn row(pod: &PodView, now: Timestamp) -> [String; 5] {
    let counted: Vec<_> = lasting(pod).collect();
    let ready = counted.iter().filter(|container| container.ready).count();
    [
        known_pods::shown(&pod.metadata),
        format!("{ready}/{}", counted.len()),
        status(pod),
        restarts(pod, now),
        table::since(pod.status.start_time, now),
    ]
}

/// The containers that are there as long as the Pod is: sidecars and main containers.
fn lasting(pod: &PodView) -> impl Iterator<Item = &ContainerView> {
    let init = pod.status.init_container_statuses.iter().enumerate();
    let sidecars = init.filter(|(place, _)| is_sidecar(pod, *place)).map(|(_, container)| container);
    sidecars.chain(&pod.status.container_statuses)
}

fn is_sidecar(pod: &PodView, place: usize) -> bool {
    pod.spec
        .pointer(&format!("/initContainers/{place}/restartPolicy"))
        .is_some_and(|policy| policy == "Always")
}

/// The phase, or what stands in the way of it.
pub fn status(pod: &PodView) -> String {
    if pod.podkeep.terminating {
        return "Terminating".to_owned();
    }
    let phase = || format!("{:?}", pod.status.phase);
    let of_pod = pod.status.reason.clone().unwrap_or_else(phase);
    if let Some(initializing) = initializing(pod).filter(|_| !holds(pod, "Initialized")) {
        return initializing;
    }
    // The first that has one says why.
    let of_containers = pod.status.container_statuses.iter().find_map(|container| match &container.state {
        StateView::Waiting { reason, .. } | StateView::Terminated { reason, .. } => Some(reason.clone()),
        StateView::Running { .. } => None,
    });
    let is_one_ready = pod
        .status
        .container_statuses
        .iter()
        .any(|container| container.ready && matches!(container.state, StateView::Running { .. }));
    match of_containers {
        Some(reason) if reason == "Completed" && is_one_ready => {
            if holds(pod, "Ready") { "Running" } else { "NotReady" }.to_owned()
        }
        Some(reason) => reason,
        None => of_pod,
    }
}

/// What of the init containers comes next, or what is wrong with it; `None` if they are done.
fn initializing(pod: &PodView) -> Option<String> {
    let init = &pod.status.init_container_statuses;
    init.iter().enumerate().find_map(|(place, container)| match &container.state {
        StateView::Terminated { exit_code: 0, .. } => None,
        _ if is_sidecar(pod, place) && container.started => None,
        StateView::Terminated { reason, .. } => Some(format!("Init:{reason}")),
        StateView::Waiting { reason, .. } if reason != "PodInitializing" => Some(format!("Init:{reason}")),
        _ => Some(format!("Init:{place}/{}", init.len())),
    })
}

/// `5 (3m ago)`. When init containers are done, theirs do not count any more.
fn restarts(pod: &PodView, now: Timestamp) -> String {
    let counted: Vec<_> = match holds(pod, "Initialized") {
        true => lasting(pod).collect(),
        false => pod.status.init_container_statuses.iter().collect(),
    };
    let count: u32 = counted.iter().map(|container| container.restart_count).sum();
    let ended = |container: &&ContainerView| match container.last_state {
        Some(StateView::Terminated { finished_at, .. }) => Some(finished_at),
        _ => None,
    };
    match counted.iter().filter_map(ended).max().filter(|_| count > 0) {
        Some(last) => format!("{count} ({} ago)", table::since(last, now)),
        None => count.to_string(),
    }
}

fn holds(pod: &PodView, kind: &str) -> bool {
    pod.status.conditions.iter().any(|condition| condition.r#type == kind && condition.status == "True")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BEGIN: &str = "2026-01-02T03:04:05Z";

    /// What a container's status has; `more` takes the place of what stands here.
    pub fn container(name: &str, state: Value, more: Value) -> Value {
        let mut container = json!({
            "name": name, "image": "busybox:1.35", "imageID": "sha256:12", "ready": false, "started": false,
            "restartCount": 0, "state": state,
        });
        for (key, value) in more.as_object().unwrap() {
            container[key] = value.clone();
        }
        container
    }

    pub fn running() -> Value {
        json!({ "running": { "startedAt": BEGIN } })
    }

    pub fn ended(reason: &str, code: i32) -> Value {
        json!({ "terminated": {
            "reason": reason, "exitCode": code, "startedAt": BEGIN, "finishedAt": "2026-01-02T03:05:05Z",
        } })
    }

    fn waiting(reason: &str) -> Value {
        json!({ "waiting": { "reason": reason } })
    }

    /// A Pod of these statuses, in which the conditions of these types hold.
    pub fn pod(init: Vec<Value>, main: Vec<Value>, holding: &[&str]) -> PodView {
        let condition = |kind: &&str| {
            let status = if holding.contains(kind) { "True" } else { "False" };
            json!({ "type": kind, "status": status, "lastTransitionTime": BEGIN })
        };
        let conditions = ["Initialized", "Ready"].map(|kind| condition(&kind));
        let spec = json!({ "initContainers": [
            { "name": "setup" }, { "name": "proxy", "restartPolicy": "Always" }, { "name": "late" },
        ] });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": { "name": "web-edge7", "namespace": "default", "uid": "12" },
            "status": {
                "phase": "Running", "qosClass": "BestEffort", "startTime": BEGIN,
                "conditions": conditions,
                "initContainerStatuses": init, "containerStatuses": main,
            },
            "podkeep": {
                "file": null, "logDir": "/l", "cgroup": null, "terminating": false, "notEnforced": [],
                "images": [], "pids": [],
            },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn shown(pod: &PodView) -> [String; 3] {
        let [_, ready, status, restarts, _] = row(pod, "2026-01-02T03:10:05Z".parse().unwrap());
        [ready, status, restarts]
    }

    fn plain(name: &str, state: Value) -> Value {
        container(name, state, json!({}))
    }

    fn ready(name: &str) -> Value {
        container(name, running(), json!({ "ready": true, "started": true }))
    }

    #[test]
    fn while_init_containers_are_not_done_they_are_what_is_shown() {
        let all = |setup, proxy, late| {
            pod(vec![setup, proxy, late], vec![plain("main", waiting("PodInitializing"))], &[])
        };
        let pending = || waiting("PodInitializing");
        let done = || {
            container(
                "setup",
                ended("Completed", 0),
                json!({ "restartCount": 2, "lastState": ended("Error", 1) }),
            )
        };
        let shows = |pod, expected: [&str; 3]| assert_eq!(shown(&pod), expected);
        shows(
            all(plain("setup", running()), plain("proxy", pending()), plain("late", pending())),
            ["0/2", "Init:0/3", "0"],
        );
        shows(
            all(done(), plain("proxy", running()), plain("late", pending())),
            ["0/2", "Init:1/3", "2 (5m ago)"],
        );
        shows(
            all(done(), ready("proxy"), plain("late", waiting("CrashLoopBackOff"))),
            ["1/2", "Init:CrashLoopBackOff", "2 (5m ago)"],
        );
        shows(
            all(done(), ready("proxy"), plain("late", ended("Error", 1))),
            ["1/2", "Init:Error", "2 (5m ago)"],
        );
    }

    #[test]
    fn after_them_it_is_the_first_that_waits_or_has_ended_or_the_phase() {
        let init =
            || vec![container("setup", ended("Completed", 0), json!({ "restartCount": 9 })), ready("proxy")];
        let shows = |main, holding: &[&str], expected: [&str; 3]| {
            assert_eq!(shown(&pod(init(), main, &[&["Initialized"], holding].concat())), expected);
        };
        shows(vec![ready("a"), ready("b")], &["Ready"], ["3/3", "Running", "0"]);
        shows(vec![ready("a"), plain("b", running())], &[], ["2/3", "Running", "0"]);
        let again = json!({ "restartCount": 4, "lastState": ended("OOMKilled", 137) });
        shows(
            vec![ready("a"), container("b", waiting("CrashLoopBackOff"), again)],
            &[],
            ["2/3", "CrashLoopBackOff", "4 (5m ago)"],
        );
        shows(vec![plain("a", ended("Error", 3)), ready("b")], &[], ["2/3", "Error", "0"]);
        shows(vec![plain("a", ended("Completed", 0)), ready("b")], &[], ["2/3", "NotReady", "0"]);
        let mut ending = pod(init(), vec![ready("a")], &["Initialized"]);
        ending.podkeep.terminating = true;
        assert_eq!(shown(&ending), ["2/2", "Terminating", "0"]);
        let mut late = pod(init(), vec![plain("a", ended("Error", 137))], &["Initialized"]);
        late.status.reason = Some("DeadlineExceeded".to_owned());
        assert_eq!(status(&late), "Error");
    }
}
