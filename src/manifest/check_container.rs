//! Containers: names, images, ports; variables, resources, security settings and mounts have files of their own.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::check_env::OfPod;
use super::pod::{Container, Port, Protocol, PullPolicy, Role, TerminationMessage};
use super::tree::Path;
use super::{
    check_env, check_lifecycle, check_mount, check_resources, check_restart, check_security, defaults, names,
};

/// All containers in the order of their turns: those of `spec.initContainers` first. `grace` is the Pod's.
pub(super) fn containers(of_pod: &OfPod<'_>, grace: Duration, checker: &mut Checker<'_>) -> Vec<Container> {
    let spec = of_pod.spec;
    let list = Path::of("spec.containers");
    if spec.containers.is_empty() {
        checker.required(&list);
    }
    let mut names = HashSet::new();
    let mut host_ports = HashSet::new();
    let mut containers = Vec::new();
    let init = spec.init_containers.iter().flatten().enumerate();
    let init_list = Path::of("spec.initContainers");
    let init = init.map(|(index, written)| (true, init_list.index(index), written));
    let main = spec.containers.iter().enumerate();
    let main = main.map(|(index, written)| (false, list.index(index), written));
    for (is_init, path, written) in init.chain(main) {
        checker.name(&path.key("name"), &written.name, names::dns_label);
        if !written.name.is_empty() {
            checker.unique(&path.key("name"), &mut names, &written.name, &written.name);
        }
        let role = check_restart::role(written, is_init);
        if role == Role::Init {
            // They run one by one, and before all others.
            let mut own_host_ports = HashSet::new();
            let place = Place { role, of_pod, grace, path: &path, host_ports: &mut own_host_ports };
            containers.push(container(written, place, checker));
        } else {
            let place = Place { role, of_pod, grace, path: &path, host_ports: &mut host_ports };
            containers.push(container(written, place, checker));
        }
    }
    containers
}

type HostPorts = HashSet<(u16, &'static str, Option<IpAddr>)>;

/// What a container is checked against beside its Pod's spec.
struct Place<'a> {
    role: Role,
    of_pod: &'a OfPod<'a>,
    grace: Duration,
    path: &'a Path,
    host_ports: &'a mut HostPorts,
}

fn container(written: &api::Container, place: Place<'_>, checker: &mut Checker<'_>) -> Container {
    let Place { role, of_pod, grace, path, host_ports } = place;
    let spec = of_pod.spec;
    let image = image(written.image.as_deref(), &path.key("image"), checker);
    let policy_path = path.key("imagePullPolicy");
    let ports = ports(written, spec.host_network.unwrap_or_default(), path, host_ports, checker);
    let (lifecycle, probes) = check_lifecycle::of_container(written, role, &ports, grace, path, checker);
    Container {
        name: written.name.clone(),
        role,
        restart: check_restart::of_container(written, spec.restart_policy.as_deref(), path, checker),
        lifecycle,
        probes,
        pull_policy: pull_policy(written.image_pull_policy.as_deref(), &image, &policy_path, checker),
        image,
        command: written.command.clone().unwrap_or_default(),
        args: written.args.clone().unwrap_or_default(),
        env_from: check_env::env_from(written, path, checker),
        env: check_env::env(written, of_pod, path, checker),
        working_dir: written.working_dir.clone().filter(|dir| !dir.is_empty()),
        ports,
        resources: check_resources::of_container(written, spec, path, checker),
        security: check_security::of_container(written, spec, of_pod.annotations, path, checker),
        mounts: check_mount::mounts(written, spec, path, checker),
        termination_message: termination_message(written, path, checker),
    }
}

/// Kubernetes takes any path and lets the start fail; one that no file can be mounted at is refused here.
fn termination_message(
    written: &api::Container,
    path: &Path,
    checker: &mut Checker<'_>,
) -> TerminationMessage {
    let at = written.termination_message_path.as_deref().filter(|at| !at.is_empty());
    let at = at.unwrap_or(TerminationMessage::PATH);
    let policies = [("File", false), ("FallbackToLogsOnError", true)];
    let policy = written.termination_message_policy.as_deref();
    TerminationMessage {
        path: check_mount::mount_path(at, &path.key("terminationMessagePath"), checker),
        or_logs: checker.word(&path.key("terminationMessagePolicy"), policy, &policies, false),
    }
}

/// The name of an image, at `path`.
pub(super) fn image(written: Option<&str>, path: &Path, checker: &mut Checker<'_>) -> String {
    let image = written.unwrap_or_default();
    if image.is_empty() {
        checker.required(path);
    } else if image.trim() != image {
        checker.invalid(path, image, "must not have leading or trailing whitespace");
    }
    image.to_owned()
}

/// When that image is pulled, at `path`.
pub(super) fn pull_policy(
    written: Option<&str>,
    image: &str,
    path: &Path,
    checker: &mut Checker<'_>,
) -> PullPolicy {
    let words = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let default = defaults::pull_policy(image);
    checker.word(path, written, &words, default)
}

fn ports(
    written: &api::Container,
    host_network: bool,
    path: &Path,
    host_ports: &mut HostPorts,
    checker: &mut Checker<'_>,
) -> Vec<Port> {
    let list = path.key("ports");
    let mut seen = HashSet::new();
    let mut ports = Vec::new();
    for (index, port) in written.ports.iter().flatten().enumerate() {
        let path = list.index(index);
        let name = port.name.clone().filter(|name| !name.is_empty());
        if let Some(name) = &name {
            checker.name(&path.key("name"), name, names::port_name);
            checker.unique(&path.key("name"), &mut seen, name.clone(), name);
        }
        let protocol = protocol(port, &path, checker);
        let container_port = container_port(port, &path, checker);
        let host_ip = host_ip(port, &path, checker);
        let host_port = host_port(port, container_port, host_network, &path, checker);
        if let Some(number) = host_port.filter(|number| *number != 0) {
            let at = host_ip.map_or_else(String::new, |ip| format!("{ip}/"));
            let shown = format!("{at}{number}/{}", protocol.as_str());
            let field = if port.host_port.is_some() { "hostPort" } else { "containerPort" };
            checker.unique(&path.key(field), host_ports, (number, protocol.as_str(), host_ip), &shown);
        }
        ports.push(Port { name, container_port, host_port, host_ip, protocol });
    }
    ports
}

fn protocol(port: &api::ContainerPort, path: &Path, checker: &mut Checker<'_>) -> Protocol {
    let words = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
    checker.word(&path.key("protocol"), port.protocol.as_deref(), &words, Protocol::Tcp)
}

fn container_port(port: &api::ContainerPort, path: &Path, checker: &mut Checker<'_>) -> u16 {
    let path = path.key("containerPort");
    if checker.root.at(&path).is_none() {
        checker.required(&path);
        return 0;
    }
    port_number(port.container_port, &path, checker)
}

pub(super) fn port_number(number: i32, path: &Path, checker: &mut Checker<'_>) -> u16 {
    u16::try_from(number).ok().filter(|number| *number != 0).unwrap_or_else(|| {
        checker.invalid(path, number, "must be between 1 and 65535, inclusive");
        0
    })
}

fn host_ip(port: &api::ContainerPort, path: &Path, checker: &mut Checker<'_>) -> Option<IpAddr> {
    let written = port.host_ip.as_deref().filter(|text| !text.is_empty())?;
    let ip = written.parse::<IpAddr>();
    if ip.is_err() {
        checker.invalid(&path.key("hostIP"), written, "must be a valid IP address");
    }
    ip.ok()
}

/// On the host's network every port is the host's.
fn host_port(
    port: &api::ContainerPort,
    container_port: u16,
    host_network: bool,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<u16> {
    let path = path.key("hostPort");
    let written = port.host_port.filter(|number| *number != 0);
    let number = written.map(|number| port_number(number, &path, checker));
    match number {
        None => host_network.then_some(container_port),
        Some(number) if host_network => {
            if number != container_port {
                checker.invalid(&path, number, "must match `containerPort` when `hostNetwork` is true");
            }
            Some(number)
        }
        other => other,
    }
}
