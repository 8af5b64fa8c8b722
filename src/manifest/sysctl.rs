//! Kernel parameters of a Pod: their names, the namespaces they belong to, and which a node lets a Pod set.
//!
//! The rules are the kubelet's (`pkg/kubelet/sysctl`). It asks the kernel's version for some of the safe ones; every
//! kernel that podkeep runs on has them all (the newest came with 4.15).

use super::Pod;
use super::names::Verdict;

/// The longest name of a sysctl.
const MAX_NAME: usize = 253;

const NAME: &str = "must have at most 253 characters and match regex \
    ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";

/// What any Pod may set: it affects nothing but the Pod and cannot be used against the machine.
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a sysctl is a property of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    Ipc,
    Net,
}

/// `None`: it is the whole machine's, or the kernel has no such parameter.
pub(crate) fn namespace(name: &str) -> Option<Namespace> {
    const IPC: [&str; 3] = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || IPC.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Namespace::Ipc)
    } else {
        name.starts_with("net.").then_some(Namespace::Net)
    }
}

/// Kubernetes' syntax of a name; parts may be joined by dots or slashes.
pub(crate) fn valid_name(name: &str) -> Verdict {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        end(bytes.first()) && end(bytes.last()) && bytes.iter().all(|b| inner(*b))
    };
    if name.len() <= MAX_NAME && name.split(['.', '/']).all(is_part) { Ok(()) } else { Err(NAME.to_owned()) }
}

/// The name with dots between its parts. One whose first separator is a slash is written as a path, and its dots are
/// those of file names: `net/ipv4/conf/eth0.1/mtu` is `net.ipv4.conf.eth0/1.mtu`.
pub(crate) fn dotted(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name.as_bytes()[at] == b'.') {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// Checks an entry of `allowedUnsafeSysctls`: a name, or the beginning of names and `*`.
pub(crate) fn valid_pattern(pattern: &str) -> Verdict {
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    // `net.` and `kernel.msg` are fine beginnings, so whatever could follow is put there.
    let probe = if stem.len() < pattern.len() { format!("{stem}a") } else { stem.to_owned() };
    valid_name(&probe)?;
    match namespace(&dotted(stem)) {
        Some(_) => Ok(()),
        None => Err("a Pod cannot have such sysctls of its own: no namespace does".to_owned()),
    }
}

/// Names the sysctls of a Pod that are neither safe nor among those that the node's `allowedUnsafeSysctls` allow, as
/// sentences. Empty: the Pod may be admitted.
pub fn forbidden_sysctls(pod: &Pod, allowed: &[String]) -> Vec<String> {
    let is_allowed = |name: &str| {
        SAFE.contains(&name)
            || allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => name.starts_with(&dotted(beginning)),
                None => dotted(pattern) == name,
            })
    };
    let forbidden = pod.sysctls.iter().filter(|sysctl| !is_allowed(&sysctl.name));
    forbidden.map(|sysctl| format!("forbidden sysctl: {:?} not allowlisted", sysctl.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_kubernetes_rules() {
        for good in ["a", "net.ipv4.tcp_wmem", "net/ipv4/conf/eth0.1/mtu", "kernel.shm_rmid_forced", "a-b.1"]
        {
            assert_eq!(valid_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "A", "a.-b", "a_", "../a", "a b", &"a".repeat(254)] {
            assert!(valid_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_turned_into_dots() {
        assert_eq!(dotted("net/ipv4/conf/eth0.1/mtu"), "net.ipv4.conf.eth0/1.mtu");
        assert_eq!(dotted("net.ipv4.conf.eth0/1.mtu"), "net.ipv4.conf.eth0/1.mtu");
        assert_eq!(dotted("a"), "a");
    }

    #[test]
    fn only_what_a_namespace_has_can_be_a_pods() {
        for name in ["kernel.sem", "kernel.shmall", "kernel.msgmax", "fs.mqueue.msg_max"] {
            assert_eq!(namespace(name), Some(Namespace::Ipc), "{name}");
        }
        assert_eq!(namespace("net.core.somaxconn"), Some(Namespace::Net));
        for name in ["vm.swappiness", "kernel.pid_max", "kernel.semaphore", "fs.mqueue", "network.a"] {
            assert_eq!(namespace(name), None, "{name}");
        }
    }

    #[test]
    fn patterns_name_sysctls_of_namespaces() {
        for good in ["net.*", "kernel.msg*", "kernel.sem", "net.core.somaxconn", "net/core/*"] {
            assert_eq!(valid_pattern(good), Ok(()), "{good}");
        }
        for bad in ["*", "kernel.*", "vm.swappiness", "net.*.a", "net..a", ""] {
            assert!(valid_pattern(bad).is_err(), "{bad}");
        }
    }
}
