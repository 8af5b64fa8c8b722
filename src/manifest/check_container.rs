//! Containers: names, images, ports, environment, resources, security settings, mounts.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::check::Checker;
use super::check_volume;
use super::defaults;
use super::names;
use super::pod::{Amounts, Container, EnvVar, Port, Protocol, PullPolicy, Resources, Security};
use super::quantity::Quantity;
use super::tree::Path;

pub(super) fn containers(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Vec<Container> {
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
        containers.push(container(written, spec, &path, &mut host_ports, checker));
    }
    containers
}

type HostPorts = HashSet<(u16, &'static str)>;

fn container(
    written: &api::Container,
    spec: &api::PodSpec,
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
        resources: resources(written, path, checker),
        security: security(written, spec, path, checker),
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

type Quantities = BTreeMap<String, ApiQuantity>;

fn resources(written: &api::Container, path: &Path, checker: &mut Checker<'_>) -> Resources {
    let path = path.key("resources");
    let Some(written) = &written.resources else { return Resources::default() };
    let limits = amounts(written.limits.as_ref(), &path.key("limits"), checker);
    let mut requests = amounts(written.requests.as_ref(), &path.key("requests"), checker);
    requests.cpu_milli = requests.cpu_milli.or(limits.cpu_milli);
    requests.memory = requests.memory.or(limits.memory);
    let pairs = [("cpu", requests.cpu_milli, limits.cpu_milli), ("memory", requests.memory, limits.memory)];
    for (name, request, limit) in pairs {
        let (Some(request), Some(limit)) = (request, limit) else { continue };
        if request > limit {
            let shown = |list: &Option<Quantities>| list.as_ref().and_then(|list| list.get(name)).cloned();
            let limit = shown(&written.limits).unwrap_or_default().0;
            let request = shown(&written.requests).unwrap_or_default().0;
            let reason = format!("must be less than or equal to {name} limit of {limit}");
            checker.invalid(&path.key("requests").key(name), request, reason);
        }
    }
    Resources { requests, limits }
}

fn amounts(written: Option<&Quantities>, path: &Path, checker: &mut Checker<'_>) -> Amounts {
    let mut amounts = Amounts::default();
    for (name, quantity) in written.into_iter().flatten() {
        let path = path.key(name);
        let parsed = match Quantity::parse(&quantity.0) {
            Ok(parsed) => parsed,
            Err(reason) => {
                checker.invalid(&path, &quantity.0, reason);
                continue;
            }
        };
        match name.as_str() {
            "cpu" => amounts.cpu_milli = Some(parsed.milli()),
            "memory" => amounts.memory = Some(parsed.units()),
            _ => {
                let message = format!("not supported yet: {path}");
                checker.findings.error(checker.root.place_of(&path), Some(&path), message);
            }
        }
    }
    amounts
}

fn security(
    written: &api::Container,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Security {
    let pod_path = Path::of("spec.securityContext");
    let pod = spec.security_context.clone().unwrap_or_default();
    let path = path.key("securityContext");
    let own = written.security_context.clone().unwrap_or_default();
    let pod_user = id(pod.run_as_user, &pod_path.key("runAsUser"), checker);
    let pod_group = id(pod.run_as_group, &pod_path.key("runAsGroup"), checker);
    let caps = own.capabilities.unwrap_or_default();
    let list = path.key("capabilities");
    Security {
        run_as_user: id(own.run_as_user, &path.key("runAsUser"), checker).or(pod_user),
        run_as_group: id(own.run_as_group, &path.key("runAsGroup"), checker).or(pod_group),
        privileged: own.privileged.unwrap_or_default(),
        read_only_root: own.read_only_root_filesystem.unwrap_or_default(),
        capabilities_add: capabilities(caps.add, &list.key("add"), checker),
        capabilities_drop: capabilities(caps.drop, &list.key("drop"), checker),
        ..Security::default()
    }
}

fn id(written: Option<i64>, path: &Path, checker: &mut Checker<'_>) -> Option<u32> {
    let id = written?;
    let in_range = u32::try_from(id).ok().filter(|id| i32::try_from(*id).is_ok());
    if in_range.is_none() {
        checker.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
    in_range
}

fn capabilities(written: Option<Vec<String>>, path: &Path, checker: &mut Checker<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (index, written) in written.into_iter().flatten().enumerate() {
        let upper = written.to_uppercase();
        let name = match upper.strip_prefix("CAP_").unwrap_or(&upper) {
            "ALL" => "ALL".to_owned(),
            short => format!("CAP_{short}"),
        };
        if name != "ALL" && caps::Capability::from_str(&name).is_err() {
            checker.invalid(&path.index(index), &written, "the kernel has no such capability");
        }
        names.push(name);
    }
    names
}
