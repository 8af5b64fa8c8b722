//! Kernel parameters of a container's own namespaces.

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::{PlanError, text};
use crate::order;
use crate::sys::step::{Slot, Step};

/// In the order of their names, so that the same `Spec` gives the same plan.
pub(super) fn steps(spec: &Spec, proc: Slot) -> Result<Vec<Step>, PlanError> {
    let Some(linux) = spec.linux() else { return Ok(Vec::new()) };
    let mut sysctls: Vec<(&String, &String)> = linux.sysctl().iter().flatten().collect();
    order::sort(&mut sysctls);
    let step = |(name, value): (&String, &String)| {
        let problem = |problem| PlanError::Sysctl { name: name.clone(), problem };
        let path = path(name).ok_or_else(|| problem("no name of a kernel parameter"))?;
        let kind =
            namespace(&path).ok_or_else(|| problem("not of a namespace: it would change the host's"))?;
        if !has(linux, kind) {
            return Err(problem(
                "the container has no such namespace of its own: it would change the host's",
            ));
        }
        Ok(Step::WriteProc {
            proc,
            path: text::c_string("sysctl", &format!("sys/{path}"))?,
            value: text::c_string("sysctl", value)?,
        })
    };
    sysctls.into_iter().map(step).collect()
}

/// Below `/proc/sys`. As sysctl(8): the first separator says whether dots or slashes separate.
pub fn path(name: &str) -> Option<String> {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let path: String = if slashes {
        name.to_owned()
    } else {
        let swapped = name.chars().map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        });
        swapped.collect()
    };
    let sound = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (sound && !path.contains('\0')).then_some(path)
}

/// Whose parameter it is; `None` for the whole kernel's.
fn namespace(path: &str) -> Option<LinuxNamespaceType> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    match path {
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Some(LinuxNamespaceType::Ipc),
        _ if path.starts_with("net/") => Some(LinuxNamespaceType::Network),
        "kernel/domainname" => Some(LinuxNamespaceType::Uts),
        _ if path.starts_with("user/") => Some(LinuxNamespaceType::User),
        _ => None,
    }
}

fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path("net/ipv4/conf/eth0.1/rp_filter").as_deref(), Some("net/ipv4/conf/eth0.1/rp_filter"));
        assert_eq!(path("net.ipv4.conf.eth0/1.rp_filter").as_deref(), Some("net/ipv4/conf/eth0.1/rp_filter"));
        for wrong in ["", ".", "net..x", "net/../kernel", "/net", "net."] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_kernels_own_belong_to_no_namespace() {
        assert_eq!(namespace("kernel/core_pattern"), None);
        assert_eq!(namespace("kernel/shmmax"), Some(LinuxNamespaceType::Ipc));
        assert_eq!(namespace("netx/a"), None);
    }
}
