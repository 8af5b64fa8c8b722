//! Containers: names, images, ports, environment; resources, security settings and mounts have files of their own.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as api;

use super::check::{Checker, Pairs};
use super::pod::{Container, EnvVar, Port, Protocol, PullPolicy};
use super::tree::Path;
use super::{check_resources, check_security, check_volume, defaults, names};

pub(super) fn containers(
    spec: &api::PodSpec,
    annotations: &Pairs,
    checker: &mut Checker<'_>,
) -> Vec<Container> {
    let list = Path::of("spec.containers");
    if spec.containers.is_empty() {
        checker.required(&list);
    }
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    let mut containers = Vec::new();
    for (index, written) in spec.containers.iter().enumerate() {
        let path = list.index(index);
        checker.name(&path.key("name"), &written.name, names::dns_label);
        if !written.name.is_empty() {
            checker.unique(&path.key("name"), &mut seen, &written.name, &written.name);
        }
        containers.push(container(written, spec, annotations, &path, &mut host_ports, checker));
    }
    containers
}

type HostPorts = HashSet<(u16, &'static str)>;

fn container(
    written: &api::Container,
    spec: &api::PodSpec,
    annotations: &Pairs,
    path: &Path,
    host_ports: &mut HostPorts,
    checker: &mut Checker<'_>,
) -> Container {
    let image = image(written, path, checker);
    Container {
        name: written.name.clone(),
        pull_policy: pull_policy(written, &image, path, checker),
        image,
        command: written.command.clone().unwrap_or_default(),
        args: written.args.clone().unwrap_or_default(),
        env: env(written, path, checker),
        working_dir: written.working_dir.clone().filter(|dir| !dir.is_empty()),
        ports: ports(written, spec.host_network.unwrap_or_default(), path, host_ports, checker),
        resources: check_resources::of_container(written, spec, path, checker),
        security: check_security::of_container(written, spec, annotations, path, checker),
        mounts: check_volume::mounts(written, spec, path, checker),
    }
}

fn image(written: &api::Container, path: &Path, checker: &mut Checker<'_>) -> String {
    let image = written.image.clone().unwrap_or_default();
    let path = path.key("image");
    if image.is_empty() {
        checker.required(&path);
    } else if image.trim() != image {
        checker.invalid(&path, &image, "must not have leading or trailing whitespace");
    }
    image
}

fn pull_policy(written: &api::Container, image: &str, path: &Path, checker: &mut Checker<'_>) -> PullPolicy {
    let words = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let default = defaults::pull_policy(image);
    checker.word(&path.key("imagePullPolicy"), written.image_pull_policy.as_deref(), &words, default)
}

fn env(written: &api::Container, path: &Path, checker: &mut Checker<'_>) -> Vec<EnvVar> {
    let list = path.key("env");
    let mut env = Vec::new();
    for (index, var) in written.env.iter().flatten().enumerate() {
        checker.name(&list.index(index).key("name"), &var.name, names::env_name);
        let value = var.value.clone().unwrap_or_default();
        // Neither a name nor a value with a NUL can be handed to a process.
        if value.contains('\0') {
            checker.invalid(&list.index(index).key("value"), &value, "must not contain NUL");
        }
        env.push(EnvVar { name: var.name.clone(), value });
    }
    env
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
        let host_port = host_port(port, container_port, host_network, &path, checker);
        if let Some(number) = host_port.filter(|number| *number != 0) {
            let shown = format!("{number}/{}", protocol.as_str());
            let field = if port.host_port.is_some() { "hostPort" } else { "containerPort" };
            checker.unique(&path.key(field), host_ports, (number, protocol.as_str()), &shown);
        }
        ports.push(Port { name, container_port, host_port, protocol });
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

fn port_number(number: i32, path: &Path, checker: &mut Checker<'_>) -> u16 {
    u16::try_from(number).ok().filter(|number| *number != 0).unwrap_or_else(|| {
        checker.invalid(path, number, "must be between 1 and 65535, inclusive");
        0
    })
}

/// On the host's network every port is the host's; elsewhere a host port needs a redirection that is not there yet.
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
        Some(_) => {
            let message = format!("not supported yet: {path} without hostNetwork");
            checker.findings.error(checker.root.place_of(&path), Some(&path), message);
            None
        }
    }
}
