//! Pods of a node, and their addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::process::Signal;

use super::web::{
    addresses, asked_at, asked_from_host, behind_port, clear_host, host_name, ip, nft, server, url,
    with_ingress,
};
use crate::harness::manifest::ShellPod;
use crate::harness::{Census, Node, Options, kill, wait_until};
use crate::namespace::{Namespace, assert_same};

fn traces() -> Vec<String> {
    Namespace::own().traces()
}

fn tables() -> String {
    Namespace::own().nft(&["list", "tables"], "")
}

fn links() -> String {
    Namespace::own().run("ip", &["-br", "link"], "")
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
            assert_eq!(
                node.ask(&["exec", pod, "--", "wget", "-q", "-O", "-", &url((address, 80))]),
                format!("{}\n", host_name(other))
            );
        }
        let hosts = node.ask(&["exec", pod, "--", "cat", "/etc/hosts"]);
        for address in &own {
            assert!(hosts.contains(&format!("{address}\t{}\n", host_name(pod))), "{hosts}");
        }
        let wide = node.ask(&["ps", "-o", "wide"]);
        assert!(own.iter().all(|own| wide.contains(&own.to_string())), "{wide}");
    }
}

#[test]
fn a_pod_keeps_its_address_over_a_new_worker_and_gives_it_back_when_it_goes() {
    clear_host();
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
    wait_until("its link is gone", || (!links().contains("pk0acb0002")).then_some(()));
    assert!(asked_from_host(own[0]).is_none());
    node.manifest("three.yaml", &server("three"));
    node.wait_running("three", "main");
    assert!(addresses(&node, "three")[0] > second[0]);

    // Whose Pod went while no worker was there.
    ip("link add pk0acbf00d type veth peer name stray");
    ip(&format!("link set pk0acbf00d alias \"podkeep of {}\"", node.run().display()));
    ip("link add pk0acbf00e type veth peer name others");
    kill(node.worker().unwrap(), Signal::KILL);
    wait_until("the stray link is gone", || (!links().contains("pk0acbf00d")).then_some(()));
    assert!(links().contains("pk0acbf00e"), "it is somebody else's");
    ip("link del pk0acbf00e");
    wait_until("a worker answers", || node.try_list());
    node.stop();
    assert_same(&traces(), &before);
}

#[test]
fn a_node_without_a_network_gives_its_pods_a_loopback() {
    let node = Node::start(Options { config: "podNetwork: Loopback\n", ..Options::default() });
    let before = traces();
    node.manifest("one.yaml", &server("one"));
    node.wait_running("one", "main");
    let list = node.list();
    assert_eq!(list.pod("one").unwrap().0["status"].get("podIP"), None);
    assert_same(&traces(), &before);
    assert!(
        node.ask(&["exec", "one", "--", "cat", "/etc/hosts"])
            .contains(&format!("127.0.1.1\t{}\n", host_name("one")))
    );
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
    let wide = node.ask(&["ps", "-o", "wide"]);
    assert!(wide.contains(" 8080->80/TCP "), "{wide}");
    let url = "http://10.203.0.1:8080/name";
    for pod in ["asks", "web"] {
        assert_eq!(
            node.ask(&["exec", pod, "--", "wget", "-q", "-O", "-", url]),
            format!("{}\n", host_name("web"))
        );
    }

    let described = node.ask(&["describe", "web"]);
    let [v4, v6] = addresses(&node, "web").try_into().unwrap();
    for rule in [
        "  table inet podkeep: in place\n".to_owned(),
        format!("  *:8080/TCP → {v4}:80, [{v6}]:80\n"),
        "  ingress: all\n".to_owned(),
        "  masquerade: from 10.203.0.0/16,fd".to_owned(),
    ] {
        assert!(described.contains(&rule), "{described}");
    }

    // Of two that want one port, the second waits, and gets it when the first is gone.
    node.manifest("second.yaml", &behind_port("second", port));
    let why = format!("host port 8080/TCP is default/{}'s", host_name("web"));
    node.wait_for(&why, |list| list.to_string().contains(&why).then_some(()));

    let mut open = TcpStream::connect(local(8080)).unwrap();
    nft("flush ruleset");
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
fn of_two_that_want_a_port_at_the_same_time_one_has_it_also_on_the_hosts_network() {
    let node = Node::start(Options::default());
    // What a hostPath shows is looked at beside the loop: both are under way at once.
    let manifest = |name, network: &str| {
        let spec = format!(
            "{network}terminationGracePeriodSeconds: 0\nvolumes: [{{name: etc, hostPath: {{path: /etc}}}}]"
        );
        let container = "ports: [{containerPort: 8085, hostPort: 8085}]";
        ShellPod { name, script: "exec sleep 1000", spec: &spec, container }.yaml()
    };
    let (first, second, third) = ("hostNetwork: true\n", "hostNetwork: true\n", "");
    node.manifest(
        "a.yaml",
        &[manifest("a", first), manifest("b", second), manifest("c", third)].join("---\n"),
    );
    node.wait_running("a", "main");
    let why = format!("host port 8085/TCP is default/{}'s", host_name("a"));
    for waits in ["b", "c"] {
        node.wait_for(waits, |list| (list.pod(waits)?.0["status"]["message"] == why.as_str()).then_some(()));
    }
    // A new version of the first one comes before those who wait; when that is gone, the next need not wait for its time.
    let again = manifest("a", "hostNetwork: true\nactiveDeadlineSeconds: 7000\n");
    node.manifest("a.yaml", &[again, manifest("b", second), manifest("c", third)].join("---\n"));
    node.wait_for("the new version", |list| {
        let pod = list.pod("a")?.0;
        let is_new = pod["spec"]["activeDeadlineSeconds"] == 7000 && pod["status"]["phase"] == "Running";
        is_new.then_some(())
    });
    node.manifest("a.yaml", &manifest("b", second));
    node.wait_running("b", "main");
}

#[test]
fn ipv6_that_is_switched_on_or_off_between_two_workers_is_each_pods_as_it_was_given() {
    let node = Node::start(Options::default());
    let switch = |to: &str| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", to).unwrap();
        node.wait_for_new_worker(node.kill_worker());
    };
    let answers = |pod: &str, count: usize| {
        node.wait_running(pod, "main");
        let own = addresses(&node, pod);
        assert_eq!(own.len(), count, "{pod}: {own:?}");
        for ip in &own {
            assert_eq!(wait_until(pod, || asked_from_host(*ip)), host_name(pod), "{ip}");
        }
        own
    };
    let said = |pod: &str| node.list().pod(pod).unwrap().0["podkeep"]["notEnforced"].to_string();
    node.manifest("both.yaml", &server("both"));
    let before = answers("both", 2);

    switch("1");
    assert_eq!(answers("both", 1), before[..1]);
    assert!(said("both").contains("this host has IPv6 off by now"), "{}", said("both"));
    node.manifest("one.yaml", &server("one"));
    answers("one", 1);
    assert!(!said("one").contains("IPv6"), "{}", said("one"));

    switch("0");
    assert_eq!(answers("both", 2), before);
    assert!(!said("both").contains("IPv6"), "{}", said("both"));
    answers("one", 1);
    assert!(said("one").contains("no address of IPv6: the host had it off"), "{}", said("one"));
    node.manifest("two.yaml", &server("two"));
    answers("two", 2);
    node.stop();
}

#[test]
fn a_pod_that_has_lost_its_namespaces_gets_others_with_its_addresses() {
    let node = Node::start(Options::default());
    let second = "\n  - {name: second, image: busybox:1.35, command: [sleep, '1000']}\n";
    node.manifest("web.yaml", &format!("{}{second}", server("web").trim_end()));
    let pids = ["main", "second"].map(|container| node.wait_running("web", container));
    let own = addresses(&node, "web");
    wait_until("an answer", || asked_from_host(own[0]));
    let (site, _) = node.end(Signal::KILL);
    pids.map(|pid| kill(pid, Signal::KILL));
    wait_until("the link is gone", || (!links().contains("pk0acb0002")).then_some(()));

    let node = Node::start_in(site);
    for ip in &own {
        assert_eq!(wait_until("an answer", || asked_from_host(*ip)), host_name("web"));
    }
    let pids = ["main", "second"].map(|container| {
        node.wait_for(container, |list| {
            let found = list.pod("web")?.container(container)?;
            found.pid.filter(|pid| !pids.contains(pid))
        })
    });
    let of = |pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(of(pids[0]), of(pids[1]));
    assert_eq!(addresses(&node, "web"), own);
    node.stop();
}

#[test]
fn what_a_killed_podkeep_has_left_is_gone_with_the_next_start_whatever_its_configuration() {
    clear_host();
    let before = traces();
    for next in ["podNetwork: Loopback\n", "podCIDR: 10.99.0.0/16\n", ""] {
        let node = Node::start(Options::default());
        node.manifest("one.yaml", &server("one"));
        node.wait_running("one", "main");
        fs::remove_file(node.manifests().join("one.yaml")).unwrap();
        node.wait_gone("one");
        let (site, _) = node.end(Signal::KILL);
        assert!(traces()[1].contains("10.203.0.1"), "{next}");
        site.configure(next);
        let node = Node::start_in(site);
        assert_same(&traces(), &before);
        node.stop();
    }
}

/// Waves of Pods, each behind a port of its own and for some of those who ask: 30 in three; 1,000 with `PODKEEP_LONG=1`, the first 300 of
/// them side by side.
#[test]
fn waves_of_pods_answer_behind_a_port_each_and_leave_the_host_as_it_was() {
    let waves = if std::env::var_os("PODKEEP_LONG").is_some() { [300, 350, 350] } else { [10; 3] };
    clear_host();
    let (before, census) = (traces(), Census::take());
    let node = Node::start(Options::default());
    // Of the node itself, which stays: its addresses and its table.
    let mut without_pods = None;
    for count in waves {
        wave(&node, count);
        let now = [traces(), Namespace::own().settings()].concat();
        assert_same(&now, without_pods.get_or_insert_with(|| now.clone()));
    }
    node.stop();
    assert_same(&traces(), &before);
    census.assert_again(Census::take);
}

/// They come, each answers, and they go.
fn wave(node: &Node, count: u16) {
    let name = |number: u16| format!("many-{number}");
    for number in 0..count {
        let port = format!("ports: [{{containerPort: 80, hostPort: {}}}]", 20000 + number);
        let ingress = if number % 2 == 0 { "hostport" } else { "all" };
        let manifest = with_ingress(&behind_port(&name(number), &port), ingress);
        node.manifest(&format!("{}.yaml", name(number)), &manifest);
    }
    for number in 0..count {
        // No list is looked at, which is long by now.
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 20000 + number));
        assert_eq!(wait_until(&name(number), || asked_at(at)), host_name(&name(number)));
    }
    assert_eq!(links().matches("pk0acb").count(), usize::from(count));
    (0..count).for_each(|number| node.remove(&format!("{}.yaml", name(number))));
    for left in (0..usize::from(count)).rev().step_by(50).chain([0]) {
        node.wait_for(&format!("{left} are left"), |list| (list.pods().count() <= left).then_some(()));
    }
    wait_until("their links are gone", || (!links().contains("pk0acb")).then_some(()));
}
