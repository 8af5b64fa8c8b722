//! `podkeep ps`: the containers and how they are.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::args::{NodeArgs, PsArgs, PsOutput};
use super::{images, json, known_pods, table};
use crate::api::view::{ContainerView, PodList, PodView, StateView};

pub fn ps(options: &PsArgs, node: &NodeArgs) -> Result<ExitCode> {
    let list = known_pods::known_in_namespace(node)?;
    match options.output {
        PsOutput::Json => json::print(&list)?,
        PsOutput::Table => print_table(&list, options.all)?,
        PsOutput::Wide => print_wide(&list, options.all)?,
    }
    known_pods::say_problems(&list);
    Ok(ExitCode::SUCCESS)
}

/// One container of one Pod.
struct Row<'a> {
    pod: &'a PodView,
    container: &'a ContainerView,
    pid: Option<u32>,
}

/// Without `-a`, as in docker: what runs, and what should but does not.
fn rows(list: &PodList, all: bool) -> Vec<Row<'_>> {
    list.items
        .iter()
        .flat_map(|pod| pod.status.all_containers().enumerate().map(move |(place, one)| (pod, place, one)))
        .map(|(pod, place, container)| Row {
            pod,
            container,
            pid: pod.podkeep.pids.get(place).copied().flatten(),
        })
        .filter(|row| {
            all || !matches!(row.container.state, StateView::Terminated { .. }) || row.pod.podkeep.terminating
        })
        .collect()
}

fn print_table(list: &PodList, all: bool) -> Result<()> {
    let rows: Vec<[String; 8]> = rows(list, all).iter().map(common).collect();
    let header = ["CONTAINER", "POD", "IMAGE", "STATE", "EXIT", "RESTARTS", "AGE", "PID"];
    Ok(table::print(header, &rows, io::stdout().lock())?)
}

fn print_wide(list: &PodList, all: bool) -> Result<()> {
    let rows: Vec<[String; 14]> = rows(list, all)
        .iter()
        .map(|row| {
            let [container, pod, image, state, exit, restarts, age, pid] = common(row);
            let extra = &row.pod.podkeep;
            let cgroup =
                extra.cgroup.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
            let not_enforced =
                if extra.not_enforced.is_empty() { "-".to_owned() } else { extra.not_enforced.join(",") };
            let message = message(row).unwrap_or_else(|| "-".to_owned());
            let id = images::short(&row.container.image_id);
            [
                container,
                pod,
                image,
                state,
                exit,
                restarts,
                age,
                pid,
                id,
                addresses(row.pod),
                ports(row),
                cgroup,
                not_enforced,
                message,
            ]
        })
        .collect();
    let header = [
        "CONTAINER",
        "POD",
        "IMAGE",
        "STATE",
        "EXIT",
        "RESTARTS",
        "AGE",
        "PID",
        "IMAGE ID",
        "POD IP",
        "PORTS",
        "POD CGROUP",
        "NOT ENFORCED",
        "MESSAGE",
    ];
    Ok(table::print(header, &rows, io::stdout().lock())?)
}

fn common(row: &Row<'_>) -> [String; 8] {
    [
        row.container.name.clone(),
        known_pods::shown(&row.pod.metadata),
        row.container.image.clone(),
        state(row),
        exit_code(row.container).map_or_else(|| "-".to_owned(), |code| code.to_string()),
        row.container.restart_count.to_string(),
        age(row),
        row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
    ]
}

/// `Running`, or the reason why not; while init containers are not done, how many of them are (`Init:1/2`), as kubectl has it.
fn state(row: &Row<'_>) -> String {
    match &row.container.state {
        _ if row.pod.podkeep.terminating => "Terminating".to_owned(),
        StateView::Running { .. } => "Running".to_owned(),
        StateView::Waiting { reason, .. } if reason == "PodInitializing" => {
            let (done, all) = initialized(row.pod);
            if done == all { reason.clone() } else { format!("Init:{done}/{all}") }
        }
        StateView::Waiting { reason, .. } | StateView::Terminated { reason, .. } => reason.clone(),
    }
}

/// How many init containers have succeeded, or started if they are sidecars, and how many there are.
fn initialized(pod: &PodView) -> (usize, usize) {
    let specs = pod.spec.get("initContainers").and_then(|list| list.as_array());
    let is_sidecar =
        |place: usize| specs?.get(place)?.get("restartPolicy").filter(|policy| *policy == "Always");
    let init = &pod.status.init_container_statuses;
    let is_done = |(place, container): &(usize, &ContainerView)| {
        if is_sidecar(*place).is_some() { container.started } else { container.ready }
    };
    (init.iter().enumerate().filter(is_done).count(), init.len())
}

/// Of the current state, or of the run before it.
fn exit_code(container: &ContainerView) -> Option<i32> {
    let code = |state: &StateView| match state {
        StateView::Terminated { exit_code, .. } => Some(*exit_code),
        _ => None,
    };
    code(&container.state).or_else(|| container.last_state.as_ref().and_then(code))
}

fn age(row: &Row<'_>) -> String {
    let since = match &row.container.state {
        StateView::Running { started_at } => *started_at,
        StateView::Terminated { finished_at, .. } => *finished_at,
        StateView::Waiting { .. } => row.pod.status.start_time,
    };
    table::since(since, jiff::Timestamp::now())
}

fn message(row: &Row<'_>) -> Option<String> {
    let of_state = match &row.container.state {
        StateView::Waiting { message, .. } | StateView::Terminated { message, .. } => message.clone(),
        StateView::Running { .. } => None,
    };
    of_state.or_else(|| row.pod.status.message.clone())
}

/// All that the Pod has: one of each family.
fn addresses(pod: &PodView) -> String {
    let all: Vec<&str> = pod.status.pod_ips.iter().map(|one| &*one.ip).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// Declared ports, as docker shows them: `80/TCP`, `8080->80/TCP` behind one of the host.
fn ports(row: &Row<'_>) -> String {
    let lists =
        ["initContainers", "containers"].into_iter().filter_map(|key| row.pod.spec.get(key)?.as_array());
    let container = lists.flatten().find(|c| c.get("name").is_some_and(|name| *name == row.container.name));
    let ports = container.and_then(|c| c.get("ports")).and_then(|ports| ports.as_array());
    let shown: Vec<String> = ports.into_iter().flatten().filter_map(port).collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

fn port(port: &Value) -> Option<String> {
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
    let own = format!("{}/{protocol}", port.get("containerPort")?);
    let Some(of_host) = port.get("hostPort") else { return Some(own) };
    Some(match port.get("hostIP").and_then(Value::as_str) {
        Some(ip) if ip.contains(':') => format!("[{ip}]:{of_host}->{own}"),
        Some(ip) => format!("{ip}:{of_host}->{own}"),
        None => format!("{of_host}->{own}"),
    })
}
