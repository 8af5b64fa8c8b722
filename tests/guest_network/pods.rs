//! Pods of a node, and their addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::manifest::ShellPod;
use crate::harness::{NODE_NAME, Node, Options, kill, wait_until};

/// Serves its own name over HTTP.
pub fn server(name: &str) -> String {
    behind_port(name, "")
}

/// The same, with lines about ports of the host.
pub fn behind_port(name: &str, lines: &str) -> String {
    let script = "mkdir -p /www; hostname >/www/name; exec httpd -f -p 80 -h /www";
    ShellPod { name, script, spec: "terminationGracePeriodSeconds: 0", container: lines }.yaml()
}

pub fn addresses(node: &Node, pod: &str) -> Vec<IpAddr> {
    let list = node.list();
    let status = &list.pod(pod).unwrap().0["status"];
    let ips =
        status["podIPs"].as_array().unwrap().iter().map(|one| one["ip"].as_str().unwrap().parse().unwrap());
    let ips: Vec<IpAddr> = ips.collect();
    assert_eq!(status["podIP"], ips[0].to_string());
    ips
}

pub fn host_name(pod: &str) -> String {
    format!("{pod}-{NODE_NAME}")
}

/// What the server in a Pod says to who asks from the host.
pub fn asked_from_host(address: IpAddr) -> Option<String> {
    asked_at(SocketAddr::new(address, 80))
}

pub fn asked_at(address: SocketAddr) -> Option<String> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    connection.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    Some(answer.lines().last().unwrap_or_default().to_owned())
}

/// Links, addresses, routes and neighbours of the host, as iproute2 shows them.
fn traces() -> Vec<String> {
    let show = |what: &str| {
        let output = Command::new("ip").args(what.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    ["-br link", "-br addr", "-4 route show table all", "-6 route show table all", "neigh"].map(show).into()
}

/// The nodes of other tests were killed, and have given nothing back.
fn clear_loopback() {
    for family in ["-4", "-6"] {
        let flush = [family, "addr", "flush", "dev", "lo", "scope", "global"];
        assert!(Command::new("ip").args(flush).status().unwrap().success());
    }
}

#[test]
fn pods_reach_each_other_and_the_host_by_the_addresses_that_are_shown() {
    let node = Node::start(Options::default());
    for pod in ["one", "two"] {
        node.manifest(&format!("{pod}.yaml"), &server(pod));
    }
    for (pod, other) in [("one", "two"), ("two", "one")] {
        node.wait_running(pod, "main");
        node.wait_running(other, "main");
        let (own, of_other) = (addresses(&node, pod), addresses(&node, other));
        assert_eq!(own.len(), 2, "{own:?}");
        for address in of_other {
            let answer = wait_until("an answer", || asked_from_host(address));
            assert_eq!(answer, host_name(other));
            let url = match address {
                IpAddr::V4(ip) => format!("http://{ip}/name"),
                IpAddr::V6(ip) => format!("http://[{ip}]/name"),
            };
            assert_eq!(
                node.ask(&["exec", pod, "--", "wget", "-q", "-O", "-", &url]),
                format!("{}\n", host_name(other))
            );
        }
        let hosts = node.ask(&["exec", pod, "--", "cat", "/etc/hosts"]);
        for address in &own {
            assert!(hosts.contains(&format!("{address}\t{}\n", host_name(pod))), "{hosts}");
        }
        assert!(node.ask(&["ps", "-o", "wide"]).contains(&own[0].to_string()));
    }
}

#[test]
fn a_pod_keeps_its_address_over_a_new_worker_and_gives_it_back_when_it_goes() {
    clear_loopback();
    let before = traces();
    let node = Node::start(Options::default());
    node.manifest("one.yaml", &server("one"));
    node.wait_running("one", "main");
    let own = addresses(&node, "one");
    wait_until("an answer", || asked_from_host(own[0]));
    let mut connection = TcpStream::connect((own[0], 80)).unwrap();

    node.wait_for_new_worker(node.kill_worker());
    assert_eq!(addresses(&node, "one"), own);
    connection.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("{}\n", host_name("one"))), "{answer}");

    // What the configuration says by now is for a node without Pods.
    node.configure("podCIDR: 10.99.0.0/16\n");
    let worker = node.worker().unwrap();
    node.signal(Signal::HUP);
    node.wait_for_new_worker(worker);
    assert_eq!(addresses(&node, "one"), own);

    // The next one gets another address, the one after this one's removal too.
    node.manifest("two.yaml", &server("two"));
    node.wait_running("two", "main");
    let second = addresses(&node, "two");
    assert!(second[0] > own[0], "{second:?}");
    fs::remove_file(node.manifests().join("one.yaml")).unwrap();
    node.wait_gone("one");
    assert!(asked_from_host(own[0]).is_none());
    node.manifest("three.yaml", &server("three"));
    node.wait_running("three", "main");
    assert!(addresses(&node, "three")[0] > second[0]);

    // Whose Pod went while no worker was there.
    let ip =
        |arguments: &str| assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
    ip("link add pk0acbf00d type veth peer name stray");
    let owner = format!("podkeep of {}", node.run().display());
    assert!(
        Command::new("ip").args(["link", "set", "pk0acbf00d", "alias", &owner]).status().unwrap().success()
    );
    ip("link add pk0acbf00e type veth peer name others");
    kill(node.worker().unwrap(), Signal::KILL);
    wait_until("the stray link is gone", || (!traces()[0].contains("pk0acbf00d")).then_some(()));
    assert!(traces()[0].contains("pk0acbf00e"), "it is somebody else's");
    ip("link del pk0acbf00e");
    wait_until("a worker answers", || node.try_list());
    node.stop();
    assert_eq!(traces(), before);
}

#[test]
fn a_node_without_a_network_gives_its_pods_a_loopback() {
    let node = Node::start(Options { config: "podNetwork: Loopback\n", ..Options::default() });
    let before = traces();
    node.manifest("one.yaml", &server("one"));
    node.wait_running("one", "main");
    let list = node.list();
    assert_eq!(list.pod("one").unwrap().0["status"].get("podIP"), None);
    assert_eq!(traces(), before);
    assert!(
        node.ask(&["exec", "one", "--", "cat", "/etc/hosts"])
            .contains(&format!("127.0.1.1\t{}\n", host_name("one")))
    );
}

fn tables() -> String {
    let output = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_host_port_leads_to_one_pod_whoever_asks_and_is_put_back_when_others_flush_it() {
    let before = tables();
    let node = Node::start(Options::default());
    let port = "ports: [{containerPort: 80, hostPort: 8080}]";
    node.manifest("web.yaml", &behind_port("web", port));
    node.wait_running("web", "main");
    node.manifest("asks.yaml", &server("asks"));
    node.wait_running("asks", "main");
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(wait_until("an answer", || asked_at(local(8080))), host_name("web"));
    let url = "http://10.203.0.1:8080/name";
    for pod in ["asks", "web"] {
        assert_eq!(
            node.ask(&["exec", pod, "--", "wget", "-q", "-O", "-", url]),
            format!("{}\n", host_name("web"))
        );
    }

    // Of two that want one port, the second waits, and gets it when the first is gone.
    node.manifest("second.yaml", &behind_port("second", port));
    let why = format!("host port 8080/TCP is default/{}'s", host_name("web"));
    node.wait_for(&why, |list| list.to_string().contains(&why).then_some(()));

    let mut open = TcpStream::connect(local(8080)).unwrap();
    assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
    assert_eq!(wait_until("the port is back", || asked_at(local(8080))), host_name("web"));
    open.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("{}\n", host_name("web"))), "{answer}");

    // Over a new worker too.
    node.wait_for_new_worker(node.kill_worker());
    assert_eq!(asked_at(local(8080)).unwrap(), host_name("web"));
    fs::remove_file(node.manifests().join("web.yaml")).unwrap();
    node.wait_running("second", "main");
    assert_eq!(wait_until("an answer", || asked_at(local(8080))), host_name("second"));
    fs::remove_file(node.manifests().join("second.yaml")).unwrap();
    node.wait_gone("second");
    assert!(asked_at(local(8080)).is_none());
    assert!(tables().contains("podkeep"));
    node.stop();
    assert_eq!(tables(), before);
}

#[test]
fn who_may_reach_a_pod_is_its_annotations_to_say() {
    let node = Node::start(Options::default());
    node.manifest("asks.yaml", &server("asks"));
    for (number, ingress) in ["none", "hostport", "pods"].iter().enumerate() {
        let port = format!("ports: [{{containerPort: 80, hostPort: 909{number}}}]");
        let annotated = format!("metadata: {{annotations: {{podkeep.io/ingress: {ingress}}}, ");
        node.manifest(
            &format!("{ingress}.yaml"),
            &behind_port(ingress, &port).replace("metadata: {", &annotated),
        );
    }
    node.wait_running("asks", "main");
    for (number, (ingress, by_host, by_port, by_pod)) in
        [("none", false, false, false), ("hostport", false, true, false), ("pods", false, false, true)]
            .iter()
            .enumerate()
    {
        node.wait_running(ingress, "main");
        let address = addresses(&node, ingress)[0];
        // It listens, as its own probes would see.
        let own = ["exec", ingress, "--", "wget", "-q", "-O", "-", &format!("http://{address}/name")];
        wait_until("it listens", || node.try_ask(&own).status.success().then_some(()));
        assert_eq!(asked_from_host(address).is_some(), *by_host, "{ingress}");
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090 + number as u16));
        assert_eq!(asked_at(port).is_some(), *by_port, "{ingress}");
        let url = format!("http://{address}/name");
        // busybox's own `-T` ends in a SIGSEGV.
        let asked = node.try_ask(&["exec", "asks", "--", "timeout", "5", "wget", "-q", "-O", "-", &url]);
        assert_eq!(asked.status.success(), *by_pod, "{ingress}: {asked:?}");
    }
}

#[test]
fn a_link_that_is_taken_down_or_loses_its_route_is_put_right() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &server("web"));
    node.wait_running("web", "main");
    let own = addresses(&node, "web");
    wait_until("an answer", || asked_from_host(own[0]));
    let link = "pk0acb0002";
    for harm in [
        format!("link set {link} down"),
        format!("link del {link}"),
        "route del 10.203.0.2".to_owned(),
        "-6 route flush proto 112".to_owned(),
        "addr del 10.203.0.1/32 dev lo".to_owned(),
    ] {
        assert!(Command::new("ip").args(harm.split(' ')).status().unwrap().success(), "{harm}");
        for address in &own {
            assert_eq!(wait_until(&harm, || asked_from_host(*address)), host_name("web"), "{harm}");
        }
        let neighbours = traces()[4].clone();
        assert!(own.iter().all(|ip| neighbours.contains(&ip.to_string())), "{harm}: {neighbours}");
    }

    // What others drop has the last word: it is named as long as it is there.
    let nft = |words: &str| assert!(Command::new("nft").arg(words).status().unwrap().success(), "{words}");
    nft("add table ip theirs");
    nft("add chain ip theirs passing { type filter hook forward priority 0; policy drop; }");
    let named = "network: another firewall drops: table ip theirs, chain passing: policy drop";
    node.wait_for(named, |list| list.to_string().contains(named).then_some(()));
    nft("delete table ip theirs");
    node.wait_for("it is gone", |list| (!list.to_string().contains(named)).then_some(()));
}

/// A server of the host's, for everything that is no Pod: it knows `dns.site` alone.
fn serve_names() -> thread::JoinHandle<()> {
    let socket = UdpSocket::bind("127.0.0.53:53").unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            let is_known = answer[12..].starts_with(b"\x03dns\x04site\x00\x00\x01");
            answer[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
            // What was added to the question (EDNS) is not answered.
            answer[10..12].copy_from_slice(&[0, 0]);
            answer.truncate(12 + 10 + 4);
            if is_known {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    })
}

#[test]
fn pods_find_each_other_by_name_and_everybody_else_as_the_host_does() {
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\n").unwrap();
    serve_names();
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &server("web"));
    let named = "hostname: first\nsubdomain: db\nterminationGracePeriodSeconds: 0";
    let script = "exec sleep 1000";
    let manifest = |name| ShellPod { name, script, spec: named, container: "" }.yaml();
    node.manifest("one.yaml", &manifest("one"));
    for pod in ["web", "one"] {
        node.wait_running(pod, "main");
    }
    let (web, one) = (addresses(&node, "web"), addresses(&node, "one"));
    let look = |from: &str, name: &str| {
        let found = node.try_ask(&["exec", from, "--", "nslookup", name]);
        String::from_utf8_lossy(&found.stdout).into_owned() + &String::from_utf8_lossy(&found.stderr)
    };
    let is_found = |from: &str, name: &str, all: &[IpAddr]| {
        let answer = look(from, name);
        assert!(all.iter().all(|ip| answer.contains(&ip.to_string())), "{name}: {answer}");
    };
    is_found("one", "web.default.pod.podkeep.internal", &web);
    is_found("web", "first.db.default.svc", &one);
    is_found("web", "db.default.svc", &one);
    is_found("one", "dns.site", &["192.0.2.7".parse().unwrap()]);
    // By a short name, as programs do it: through the search list.
    let url = "http://web/name";
    assert_eq!(
        node.ask(&["exec", "one", "--", "wget", "-q", "-O", "-", url]),
        format!("{}\n", host_name("web"))
    );
    let resolv = node.ask(&["exec", "one", "--", "cat", "/etc/resolv.conf"]);
    assert!(
        resolv.contains("search default.pod.podkeep.internal pod.podkeep.internal default.svc svc\n"),
        "{resolv}"
    );
    assert!(resolv.contains("nameserver 10.203.0.1\n"), "{resolv}");

    kill(node.worker().unwrap(), Signal::KILL);
    wait_until("a new worker knows them too", || {
        look("one", "web.default.pod.podkeep.internal").contains(&web[0].to_string()).then_some(())
    });
    fs::remove_file(node.manifests().join("web.yaml")).unwrap();
    node.wait_gone("web");
    let gone = look("one", "web.default.pod.podkeep.internal");
    assert!(gone.contains("NXDOMAIN"), "{gone}");
}

/// 30 Pods, each behind a port of its own; 300 with `PODKEEP_LONG=1`.
#[test]
fn many_pods_answer_behind_a_port_each_and_leave_the_host_as_it_was() {
    let count: u16 = if std::env::var_os("PODKEEP_LONG").is_some() { 300 } else { 30 };
    clear_loopback();
    let before = (traces(), tables());
    let node = Node::start(Options::default());
    let port = |number: u16| 20000 + number;
    for number in 0..count {
        let lines = format!("ports: [{{containerPort: 80, hostPort: {}}}]", port(number));
        node.manifest(&format!("many-{number}.yaml"), &behind_port(&format!("many-{number}"), &lines));
    }
    for number in 0..count {
        let name = format!("many-{number}");
        node.wait_running(&name, "main");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port(number)));
        assert_eq!(wait_until(&name, || asked_at(at)), host_name(&name));
    }
    let links = traces()[0].matches("pk0acb").count();
    assert_eq!(links, usize::from(count));
    node.stop();
    assert_eq!((traces(), tables()), before);
}
