//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`, as containers see them.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use super::harness::{self, Node, Options, wait_until};
use super::{ShellPod, job_with};

/// Of every Pod with a network of its own.
const OWN: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                   fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
const ALIASES: &str = "hostAliases: [{ip: 10.0.0.7, hostnames: [far, far.example]}]\n";
const OF_ALIASES: &str = "\n# Entries added by HostAliases.\n10.0.0.7\tfar\tfar.example\n";

/// Where this node's configuration says that the host's servers stand.
const HOST: &str = "/run/names-resolv.conf";
const CLUSTER: &str = "podNetwork: Loopback\nclusterDNS: [10.96.0.10]\nclusterDomain: c.local\nresolvConf: /run/names-resolv.conf\n";

fn node_of_a_cluster() -> Node {
    fs::write(HOST, "nameserver 10.0.0.1\nsearch host.example\noptions edns0\n").unwrap();
    Node::start(Options { config: CLUSTER, ..Options::default() })
}

#[test]
fn a_pod_knows_its_own_name_and_whom_to_ask_for_others() {
    let node = node_of_a_cluster();
    let script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname; echo $HOSTNAME";
    let names = "hostname: shop\nsubdomain: db\n";
    let resolv = "search default.svc.c.local svc.c.local c.local host.example\nnameserver 10.96.0.10\noptions ndots:5\n";
    let domain = "db.default.svc.c.local";
    let own = format!("{OWN}127.0.1.1\tshop.{domain}\tshop\n");
    let output = node.output_of(&job_with(&format!("{names}{ALIASES}"), "", script));
    assert_eq!(output, format!("{own}{OF_ALIASES}{resolv}shop\nshop\nshop\n"));
    let output = node.output_of(&job_with(&format!("{names}setHostnameAsFQDN: true\n"), "", script));
    assert_eq!(output, format!("{own}{resolv}{}", format!("shop.{domain}\n").repeat(3)));

    let dns = "dnsPolicy: None\ndnsConfig: {nameservers: [192.0.2.1], searches: [a.], options: [{name: ndots, value: '2'}]}\n";
    let output = node.output_of(&job_with(&format!("hostnameOverride: o.example\n{dns}"), "", script));
    let resolv = "search a.\nnameserver 192.0.2.1\noptions ndots:2\n";
    assert_eq!(output, format!("{OWN}127.0.1.1\to.example\n{resolv}{}", "o.example\n".repeat(3)));

    let long = format!("subdomain: {}\nsetHostnameAsFQDN: true\n", "s".repeat(40));
    node.manifest("long.yaml", &job_with(&long, "", "true").replace("job", "long"));
    let said = node.wait_for("it is told that its name is too long", |list| {
        Some(list.pod("long")?.message().to_owned()).filter(|message| !message.is_empty())
    });
    assert!(said.contains("must be no more than 64 bytes, and this has 71"), "{said}");
}

#[test]
fn what_is_the_hosts_is_shown_and_what_it_cannot_have_is_told() {
    let behind = "search host.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
    fs::create_dir_all("/run/systemd/resolve").unwrap();
    fs::write("/run/systemd/resolve/resolv.conf", format!("{behind}nameserver 10.0.0.4\n")).unwrap();
    let before = fs::read("/etc/resolv.conf");
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n").unwrap();
    let node = Node::start(Options { config: "podNetwork: Loopback\n", ..Options::default() });
    let script = "cat /etc/hosts /etc/resolv.conf; echo; cat /etc/hostname";
    let output = node.output_of(&job_with(&format!("hostNetwork: true\n{ALIASES}"), "", script));
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
    let header = "# Kubernetes-managed hosts file (host network).\n";
    assert_eq!(output, format!("{header}{hosts}{OF_ALIASES}{stub}\n{name}"));

    let output = node.output_of(&job_with("dnsPolicy: ClusterFirst\n", "", "cat /etc/resolv.conf"));
    assert_eq!(output, behind, "its own network does not reach the host's resolver");
    let events = node.ask(&["events"]);
    for (reason, message) in [
        ("MissingClusterDNS", "no clusterDNS, so dnsPolicy ClusterFirst cannot be had"),
        ("DNSConfigForming", "the applied nameserver line is: 10.0.0.1 10.0.0.2 10.0.0.3"),
    ] {
        let lines = events.lines().filter(|line| line.contains(reason) && line.contains(message));
        assert_eq!(lines.count(), 1, "{events}");
    }
    match before {
        Ok(text) => fs::write("/etc/resolv.conf", text).unwrap(),
        Err(_) => fs::remove_file("/etc/resolv.conf").unwrap(),
    }
}

#[test]
fn its_files_are_a_pods_own_whatever_its_root_is() {
    let node = Node::start(Options::default());
    let script = "cd /etc; stat -c '%n %u:%g %a' hosts resolv.conf hostname; for file in hosts resolv.conf hostname; do
        { echo '10.0.0.9 more' >>$file; } 2>/dev/null && echo added; done; tail -n 1 hosts";
    let stats = "hosts 0:0 644\nresolv.conf 0:0 644\nhostname 0:0 644\n";
    let read_only = "securityContext: {readOnlyRootFilesystem: true}\n";
    for users in ["", "hostUsers: false\n"] {
        let output = node.output_of(&job_with(users, "", script));
        assert_eq!(output, format!("{stats}added\nadded\nadded\n10.0.0.9 more\n"), "{users}");
        let output = node.output_of(&job_with(users, read_only, script));
        assert_eq!(output, format!("{stats}added\n10.0.0.9 more\n"), "{users}");
    }
    fs::write("/run/names-hosts", "10.0.0.8 mine\n").unwrap();
    let spec = "volumes: [{name: mine, hostPath: {path: /run/names-hosts, type: File}}]\n";
    let container = "volumeMounts: [{name: mine, mountPath: /etc/hosts}]\n";
    let output = node.output_of(&job_with(spec, container, "cat /etc/hosts /etc/hostname"));
    assert_eq!(output, "10.0.0.8 mine\njob-node1\n");
}

#[test]
fn a_container_that_starts_again_finds_its_files_as_they_shall_be_by_then() {
    let node = node_of_a_cluster();
    let script = "echo '10.0.0.9 more' >>/etc/hosts; exec sleep 1000";
    let spec = "dnsPolicy: Default\nterminationGracePeriodSeconds: 0\n";
    node.manifest("web.yaml", &ShellPod { name: "web", script, spec, container: "" }.yaml());
    let pid = node.wait_running("web", "main");
    let file = |pid: u32, name: &str| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("root/etc").join(name)).ok()
    };
    let once = format!("{OWN}127.0.1.1\tweb-node1\n10.0.0.9 more\n");
    wait_until("the container has added a line", || (file(pid, "hosts")? == once).then_some(()));
    assert!(file(pid, "resolv.conf").unwrap().contains("nameserver 10.0.0.1\n"));

    fs::write(HOST, "nameserver 10.0.0.2\n").unwrap();
    harness::kill(pid, Signal::KILL);
    let pid =
        wait_until("it runs again", || Some(node.wait_running("web", "main")).filter(|new| *new != pid));
    assert_eq!(file(pid, "resolv.conf").unwrap(), "nameserver 10.0.0.2\n");
    wait_until("one line is added", || (file(pid, "hosts")? == once).then_some(()));
}
