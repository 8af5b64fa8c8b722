//! Requests and limits, of a container and of the Pod as a whole.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::check::Checker;
use super::names::nearest;
use super::pod::{Amounts, Container, Resources, Role, at_once};
use super::quantity::{Quantity, shortest};
use super::tree::Path;
use crate::order;

const HUGEPAGES: &str = "hugepages-";

const STORAGE: &str = "ephemeral-storage";

pub(super) fn of_container(
    written: &api::Container,
    spec: &api::PodSpec,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Resources {
    let path = path.key("resources");
    let Some(written) = &written.resources else { return Resources::default() };
    let resources = read(written, &path, checker);
    if !names_cpu_or_memory(written) && !spec.resources.as_ref().is_some_and(names_cpu_or_memory) {
        need_no_more_than_pages(&resources, &path, checker);
    }
    resources
}

/// `spec.resources` with Kubernetes' defaults: what is not requested is what the containers request together, else the
/// limit; pages that only containers name are the Pod's too.
pub(super) fn of_pod(
    spec: &api::PodSpec,
    containers: &[Container],
    checker: &mut Checker<'_>,
) -> Option<Resources> {
    let path = Path::of("spec.resources");
    let written = spec.resources.as_ref()?;
    let mut own = read(written, &path, checker);
    refuse_storage(written, &path, checker);
    if own == Resources::default() {
        return None;
    }
    if !names_cpu_or_memory(written) {
        need_no_more_than_pages(&own, &path, checker);
    }
    let requested = together(containers);
    if own.limits != Amounts::default() {
        let written_request = |name| has(&written.requests, name);
        let default = |name, own: Option<u64>, theirs: Option<u64>| match written_request(name) {
            true => own,
            false => theirs.or(own),
        };
        own.requests.cpu_milli = default("cpu", own.requests.cpu_milli, requested.cpu_milli);
        own.requests.memory = default("memory", own.requests.memory, requested.memory);
    }
    holds_its_containers(&own, &requested, containers, &path, checker);
    for (size, bytes) in requested.hugepages {
        own.limits.hugepages.entry(size.clone()).or_insert(bytes);
        own.requests.hugepages.entry(size).or_insert(bytes);
    }
    Some(own)
}

type Quantities = BTreeMap<String, ApiQuantity>;

/// A Pod has the limits of its containers together, and none of its own.
fn refuse_storage(written: &api::ResourceRequirements, path: &Path, checker: &mut Checker<'_>) {
    for (list, name) in [(&written.requests, "requests"), (&written.limits, "limits")] {
        if has(list, STORAGE) {
            let reason = "supported values: \"cpu\", \"hugepages-\", \"memory\"";
            let path = path.key(name).key(STORAGE);
            checker.error(&path, format!("Unsupported value: {STORAGE:?}: {reason}"));
        }
    }
}

/// Requests default to limits, and may not be larger; those of pages may not differ.
fn read(written: &api::ResourceRequirements, path: &Path, checker: &mut Checker<'_>) -> Resources {
    let limits = amounts(written.limits.as_ref(), &path.key("limits"), checker);
    let mut requests = amounts(written.requests.as_ref(), &path.key("requests"), checker);
    requests.cpu_milli = requests.cpu_milli.or(limits.cpu_milli);
    requests.memory = requests.memory.or(limits.memory);
    requests.ephemeral_storage = requests.ephemeral_storage.or(limits.ephemeral_storage);
    let requests_path = path.key("requests");
    let pairs = [
        ("cpu", requests.cpu_milli, limits.cpu_milli),
        ("memory", requests.memory, limits.memory),
        (STORAGE, requests.ephemeral_storage, limits.ephemeral_storage),
    ];
    for (name, request, limit) in pairs {
        let (Some(request), Some(limit)) = (request, limit) else { continue };
        if request > limit {
            let limit = shown(&written.limits, name);
            let reason = format!("must be less than or equal to {name} limit of {limit}");
            checker.invalid(&requests_path.key(name), shown(&written.requests, name), reason);
        }
    }
    for (size, request) in &requests.hugepages {
        let name = format!("{HUGEPAGES}{size}");
        match limits.hugepages.get(size) {
            None => {
                let reason = "Required value: Limit must be set for non overcommitable resources";
                checker.error(&path.key("limits").key(&name), reason);
            }
            Some(limit) if limit != request => {
                let reason = format!("must be equal to {name} limit of {limit}");
                checker.invalid(&requests_path.key(&name), request, reason);
            }
            Some(_) => {}
        }
    }
    requests.hugepages.clone_from(&limits.hugepages);
    Resources { requests, limits }
}

fn has(list: &Option<Quantities>, name: &str) -> bool {
    list.as_ref().is_some_and(|list| list.contains_key(name))
}

fn shown(list: &Option<Quantities>, name: &str) -> String {
    list.as_ref().and_then(|list| list.get(name)).cloned().unwrap_or_default().0
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
            STORAGE => amounts.ephemeral_storage = Some(parsed.units()),
            _ => match name.strip_prefix(HUGEPAGES) {
                Some(size) => pages(size, parsed, &path, &mut amounts, checker),
                None => {
                    let hint = nearest(name, &["cpu", "memory", STORAGE]);
                    let hint = hint.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                    let message = format!("not supported yet: {path}{hint}");
                    checker.findings.error(checker.root.place_of(&path), Some(&path), message);
                }
            },
        }
    }
    amounts
}

/// The size of the pages that a resource is called after, if it is.
pub(super) fn page_size_of(resource: &str) -> Option<String> {
    bytes_of_page(resource.strip_prefix(HUGEPAGES)?).map(shortest)
}

/// The sizes of the pages that the Pod or one of its containers asks for, in bytes.
pub(super) fn page_sizes(spec: &api::PodSpec) -> BTreeSet<u64> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let all = containers.map(|container| &container.resources).chain([&spec.resources]).flatten();
    let lists = all.flat_map(|resources| [&resources.requests, &resources.limits]).flatten();
    let pages = lists.flat_map(BTreeMap::keys).filter_map(|name| name.strip_prefix(HUGEPAGES));
    order::set(pages.filter_map(bytes_of_page))
}

/// Bytes.
pub(super) fn bytes_of_page(size: &str) -> Option<u64> {
    let page =
        Quantity::parse(size).ok().filter(|page| page.milli() > 0 && page.milli().is_multiple_of(1000));
    page.map(Quantity::units)
}

/// One size may be written in several ways (`2Mi`, `2048Ki`): it is known by the shortest.
fn pages(size: &str, amount: Quantity, path: &Path, amounts: &mut Amounts, checker: &mut Checker<'_>) {
    let Some(page) = bytes_of_page(size) else {
        checker.invalid(path, size, "must be the size of a page, such as 2Mi");
        return;
    };
    if !amount.units().is_multiple_of(page) {
        checker.invalid(path, amount.units(), format!("must be a whole number of pages of {size}"));
    }
    if amounts.hugepages.insert(shortest(page), amount.units()).is_some() {
        checker.error(path, format!("Duplicate value: {size:?}"));
    }
}

fn names_cpu_or_memory(written: &api::ResourceRequirements) -> bool {
    ["cpu", "memory"].iter().any(|name| has(&written.limits, name) || has(&written.requests, name))
}

fn need_no_more_than_pages(resources: &Resources, path: &Path, checker: &mut Checker<'_>) {
    if !resources.limits.hugepages.is_empty() {
        checker.error(path, "Forbidden: HugePages require cpu or memory");
    }
}

/// What they request at the same time; what no container names stays unset.
fn together(containers: &[Container]) -> Amounts {
    let sum = |of: &dyn Fn(&Amounts) -> Option<u64>| {
        let of = |container: &Container| of(&container.resources.requests);
        let is_named = containers.iter().any(|container| of(container).is_some());
        is_named.then(|| at_once(containers, |container| of(container).unwrap_or(0)))
    };
    let sizes = containers.iter().flat_map(|container| container.resources.requests.hugepages.keys());
    let pages = |size: &String| sum(&|amounts| amounts.hugepages.get(size).copied()).unwrap_or(0);
    Amounts {
        cpu_milli: sum(&|amounts| amounts.cpu_milli),
        memory: sum(&|amounts| amounts.memory),
        ephemeral_storage: None,
        hugepages: order::map(sizes.map(|size| (size.clone(), pages(size)))),
    }
}

/// The containers' requests together fit into the Pod's, and each one's limit into the Pod's limit.
fn holds_its_containers(
    own: &Resources,
    requested: &Amounts,
    containers: &[Container],
    path: &Path,
    checker: &mut Checker<'_>,
) {
    let requests = path.key("requests");
    for (name, sum, most) in pairs(requested, &own.requests) {
        if sum > most {
            let sum = in_words(&name, sum);
            let reason = format!("must be greater than or equal to aggregate container requests of {sum}");
            checker.invalid(&requests.key(&name), in_words(&name, most), reason);
        }
    }
    // As in Kubernetes, an init container may ask for more than it will get.
    for (index, container) in containers.iter().filter(|c| c.role == Role::Main).enumerate() {
        let limits = Path::of("spec.containers").index(index).key("resources").key("limits");
        for (name, limit, most) in pairs(&container.resources.limits, &own.limits) {
            if limit > most {
                let reason = format!("must be less than or equal to pod limits of {}", in_words(&name, most));
                checker.invalid(&limits.key(&name), in_words(&name, limit), reason);
            }
        }
    }
}

/// What both of them name, in `cpu`'s thousandths and bytes.
fn pairs(a: &Amounts, b: &Amounts) -> Vec<(String, u64, u64)> {
    let both = |name: &str, a: Option<u64>, b: Option<u64>| Some((name.to_owned(), a?, b?));
    let pages = a.hugepages.iter();
    let pages = pages.filter_map(|(size, bytes)| {
        both(&format!("{HUGEPAGES}{size}"), Some(*bytes), b.hugepages.get(size).copied())
    });
    let amounts = [both("cpu", a.cpu_milli, b.cpu_milli), both("memory", a.memory, b.memory)];
    amounts.into_iter().flatten().chain(pages).collect()
}

/// A quantity as a manifest has it.
fn in_words(name: &str, amount: u64) -> String {
    if name == "cpu" { format!("{amount}m") } else { amount.to_string() }
}
