//! Pods on networks that CNI plugins make: Debian's, and scripts that write down what they were told.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::web::{addresses, asked_at, asked_from_host, behind_port, host_name, server};
use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, Site, wait_until};

/// Writes down which command it got for whom and what it has read; fails where a file beside it, named after the command, says so, and
/// hangs where that is empty. Passes on what the plugin before has made, or makes an address up.
const SCRIPT: &str = r#"#!/bin/sh
dir=${0%/*}; input=$(cat)
printf '%s %s netns=%s %s\n' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$input" >>"$dir/log"
if [ -e "$dir/$CNI_COMMAND" ]; then [ -s "$dir/$CNI_COMMAND" ] || exec sleep 1000; cat "$dir/$CNI_COMMAND"; exit 1; fi
[ "$CNI_COMMAND" != ADD ] || printf '{"cniVersion": "1.1.0", "ips": [{"address": "10.99.0.9/24"}]}'
"#;

/// A site whose plugins are looked for in a folder of its own first: `scripted` lies there.
fn site(more: &str) -> Site {
    let site = Site::new(Options::default());
    fs::create_dir_all(site.cni()).unwrap();
    let bin = bin(&site);
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("scripted"), SCRIPT).unwrap();
    fs::set_permissions(bin.join("scripted"), fs::Permissions::from_mode(0o755)).unwrap();
    site.configure(&format!("cniBinDirs: [{}, /usr/lib/cni]\n{more}", bin.display()));
    site
}

fn bin(site: &Site) -> std::path::PathBuf {
    site.base().join("bin")
}

/// The lines of `scripted`.
fn told(site: &Site) -> Vec<String> {
    let log = fs::read_to_string(bin(site).join("log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// Their commands, in a line.
fn commands(site: &Site) -> String {
    let command = |line: String| line.split(' ').next().unwrap().to_owned();
    told(site).into_iter().map(command).collect::<Vec<_>>().join(" ")
}

fn network(site: &Site, version: &str, name: &str, plugins: &str) {
    let list = format!(r#"{{"cniVersion": "{version}", "name": "{name}", "plugins": [{plugins}]}}"#);
    let aside = site.base().join("aside.json");
    fs::write(&aside, list).unwrap();
    fs::rename(aside, site.cni().join("10-test.conflist")).unwrap();
}

/// Of host-local: addresses are files of this folder.
fn books(site: &Site) -> std::path::PathBuf {
    site.base().join("ipam")
}

fn bridge(site: &Site, name: &str) -> String {
    format!(
        r#"{{"type": "bridge", "bridge": "{name}", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {{"type": "host-local", "dataDir": "{}",
                "ranges": [[{{"subnet": "10.88.7.0/24"}}], [{{"subnet": "fd00:88:7::/64"}}]],
                "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "::/0"}}]}}}}"#,
        books(site).display()
    )
}

fn lent(site: &Site, network: &str) -> Vec<String> {
    let all = fs::read_dir(books(site).join(network)).into_iter().flatten();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.parse::<IpAddr>().is_ok()).collect()
}

fn output(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(arguments: &str) -> String {
    output("ip", arguments)
}

fn tables() -> String {
    output("nft", "list tables")
}

/// Removes what iptables has made for the plugins, and they leave.
fn forget_tables_but(before: &str) {
    for table in tables().lines().filter(|table| !before.contains(table)) {
        output("nft", &format!("delete {table}"));
    }
}

fn ask(node: &Node, pod: &str, address: IpAddr) -> String {
    let url = format!("http://{}/name", SocketAddr::new(address, 80));
    node.ask(&["exec", pod, "--", "wget", "-q", "-O", "-", &url])
}

#[test]
fn pods_on_a_bridge_of_cni_reach_each_other_and_leave_nothing_though_its_file_has_gone() {
    let (site, tables) = (site(""), tables());
    let portmap = r#"{"type": "portmap", "capabilities": {"portMappings": true}}"#;
    let plugins = format!(r#"{}, {portmap}, {{"type": "loopback"}}"#, bridge(&site, "pkcni0"));
    network(&site, "1.0.0", "bridged", &plugins);
    let node = Node::start_in(site);
    node.manifest("web.yaml", &behind_port("web", "ports: [{containerPort: 80, hostPort: 8081}]"));
    node.manifest("asks.yaml", &server("asks").replace("spec:\n", "spec:\n  hostUsers: false\n"));
    node.wait_running("web", "main");
    node.wait_running("asks", "main");
    let (web, asks) = (addresses(&node, "web"), addresses(&node, "asks"));
    assert!(
        web[0].to_string().starts_with("10.88.7.") && web[1].to_string().starts_with("fd00:88:7:"),
        "{web:?}"
    );
    for address in &web {
        assert_eq!(wait_until(&format!("{address} answers"), || asked_from_host(*address)), host_name("web"));
        assert_eq!(ask(&node, "asks", *address), format!("{}\n", host_name("web")));
    }
    let hosts = node.ask(&["exec", "web", "--", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{}\t{}\n", web[0], host_name("web"))), "{hosts}");
    assert!(node.ask(&["describe", "web"]).contains("CNI network bridged"));
    let loopback = node.ask(&["exec", "web", "--", "ip", "addr", "show", "lo"]);
    assert!(loopback.contains("127.0.0.1/8") && loopback.contains("UP"), "{loopback}");

    // Its host port, from the host and from elsewhere.
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
    assert_eq!(wait_until("its port answers", || asked_at(local)), host_name("web"));
    ip("netns add outside");
    ip("link add out0 type veth peer name out1 netns outside");
    ip("addr add 192.0.2.1/24 dev out0");
    ip("link set out0 up");
    ip("-n outside addr add 192.0.2.2/24 dev out1");
    ip("-n outside link set out1 up");
    let from_outside = ["netns", "exec", "outside", "curl", "-s", "-m", "10", "http://192.0.2.1:8081/name"];
    let answer = || {
        let said = Command::new("ip").args(from_outside).output().unwrap().stdout;
        (!said.is_empty()).then(|| String::from_utf8(said).unwrap())
    };
    assert_eq!(wait_until("an answer to the world", answer), format!("{}\n", host_name("web")));

    // A new worker finds it as it was.
    let mut open = TcpStream::connect(local).unwrap();
    node.wait_for_new_worker(node.kill_worker());
    assert_eq!((addresses(&node, "web"), addresses(&node, "asks")), (web.clone(), asks.clone()));
    open.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut said = String::new();
    open.read_to_string(&mut said).unwrap();
    assert!(said.ends_with(&format!("{}\n", host_name("web"))), "{said}");

    // Without the file, what is there is undone all the same, and who comes now has podkeep's own network.
    fs::remove_file(node.cni().join("10-test.conflist")).unwrap();
    assert_eq!(lent(&node, "bridged").len(), 4);
    node.remove("web.yaml");
    node.wait_gone("web");
    assert!(asked_at(local).is_none());
    let mut left = lent(&node, "bridged");
    left.sort();
    assert_eq!(left, asks.iter().map(IpAddr::to_string).collect::<Vec<_>>());
    node.manifest("own.yaml", &server("own"));
    node.wait_running("own", "main");
    assert!(addresses(&node, "own")[0].to_string().starts_with("10.203."));
    assert_eq!(addresses(&node, "asks"), asks);
    assert_eq!(wait_until("an answer", || asked_from_host(asks[0])), host_name("asks"));
    let site = node.stop();
    assert_eq!(lent(&site, "bridged"), Vec::<String>::new());
    let rules = output("iptables-save", "-t nat");
    assert!(!rules.contains("CNI-DN-") && !rules.contains("8081") && !rules.contains("10.88.7."), "{rules}");
    assert_eq!(ip("-br link show master pkcni0"), "");
    assert!(!site.root().join("cni").exists() && !site.run().join("netns").exists());
    ip("link del pkcni0");
    ip("netns del outside");
    forget_tables_but(&tables);
}

#[test]
fn a_plugin_that_fails_is_quoted_and_what_others_have_done_until_then_is_undone() {
    let (site, tables) = (site(""), tables());
    let plugins = format!(r#"{}, {{"type": "scripted"}}"#, bridge(&site, "pkcni1"));
    network(&site, "1.0.0", "failing", &plugins);
    fs::write(bin(&site).join("ADD"), r#"{"code": 101, "msg": "out of luck", "details": "today"}"#).unwrap();
    let node = Node::start_in(site);
    node.manifest("web.yaml", &server("web"));
    let why = r#"CNI network "failing": plugin type="scripted" failed (add): out of luck; today"#;
    node.wait_for(why, |list| {
        let pod = list.pod("web")?;
        let waits = pod.container("main")?.waiting()? == "ContainerCreating";
        (waits && pod.message().contains(why)).then_some(())
    });
    wait_until("it is undone", || commands(&node).starts_with("ADD DEL").then_some(()));
    wait_until("no address is lent", || lent(&node, "failing").is_empty().then_some(()));
    assert!(node.ask(&["events", "web"]).contains("FailedCreatePodSandBox"));

    // It is tried again, with whatever network there is by then.
    fs::remove_file(bin(&node).join("ADD")).unwrap();
    network(&node, "1.0.0", "other", &bridge(&node, "pkcni1"));
    node.wait_running("web", "main");
    let own = addresses(&node, "web");
    assert_eq!(wait_until("an answer", || asked_from_host(own[0])), host_name("web"));
    assert_eq!((lent(&node, "failing").len(), lent(&node, "other").len()), (0, 2));

    // What it wants and no plugin gives is said, and so is a file that is no network.
    node.manifest("port.yaml", &behind_port("port", "ports: [{containerPort: 80, hostPort: 8082}]"));
    let is_said = |pod: &str, words: &str| {
        node.wait_for(words, |list| list.pod(pod)?.message().contains(words).then_some(()));
    };
    is_said("port", "host ports: no plugin of the CNI network other has the capability portMappings");
    let closed =
        server("closed").replace("metadata: {", "metadata: {annotations: {podkeep.io/ingress: none}, ");
    node.manifest("closed.yaml", &closed);
    is_said("closed", "podkeep.io/ingress is of podkeep's own network");
    fs::write(node.cni().join("00-broken.conflist"), "{").unwrap();
    node.manifest("late.yaml", &server("late"));
    is_said("late", "00-broken.conflist: EOF while parsing");
    fs::remove_file(node.cni().join("00-broken.conflist")).unwrap();
    node.wait_running("late", "main");
    node.stop();
    ip("link del pkcni1");
    forget_tables_but(&tables);
}

/// What `scripted` got with the first line that begins so.
fn input(site: &Site, begin: &str) -> Value {
    let line = told(site).into_iter().find(|line| line.starts_with(begin)).unwrap();
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

#[test]
fn a_new_worker_checks_links_undoes_those_of_nobody_and_what_was_half_done() {
    let site = site("podNetwork: CNI\n");
    let node = Node::start_in(site);
    // Without its network, no Pod starts.
    let annotated =
        "metadata: {annotations: {kubernetes.io/ingress-bandwidth: 10M, podkeep.io/ips: 10.99.0.9}, ";
    let job = ShellPod {
        name: "web",
        script: "exec sleep 1000",
        spec: "terminationGracePeriodSeconds: 0",
        container: "",
    };
    node.manifest("web.yaml", &job.yaml().replace("metadata: {", annotated));
    let lacks =
        format!("podNetwork: CNI: there is no *.conflist, *.conf or *.json in {}", node.cni().display());
    node.wait_for(&lacks, |list| list.pod("web")?.message().contains(&lacks).then_some(()));

    // Killed while the plugin is at work, which ends with it.
    fs::write(bin(&node).join("ADD"), "").unwrap();
    let plugin = r#"{"type": "scripted", "capabilities": {"bandwidth": true, "ips": true}}"#;
    network(&node, "1.1.0", "scripted", plugin);
    wait_until("the plugin runs", || commands(&node).ends_with("ADD").then_some(()));
    let hanging = || output("ps", "-eo args").lines().any(|line| line == "sleep 1000");
    wait_until("it hangs", || hanging().then_some(()));
    let worker = node.kill_worker();
    wait_until("it ends with its worker", || (!hanging()).then_some(()));
    fs::remove_file(bin(&node).join("ADD")).unwrap();
    node.wait_for_new_worker(worker);
    node.wait_running("web", "main");
    let uid = node.list().pod("web").unwrap().uid().to_owned();
    let netns = node.run().join("netns").join(&uid);
    let lines = told(&node);
    let own: Vec<_> = lines.iter().filter(|line| line.contains(&uid)).collect();
    let is_line = |at: usize, command: &str, netns: &str| {
        own[at].starts_with(&format!("{command} {uid} netns={netns} "))
    };
    assert!(is_line(0, "ADD", &netns.to_string_lossy()), "{own:?}");
    let undone = own.iter().position(|line| line.starts_with(&format!("DEL {uid} netns= "))).unwrap();
    assert!(own[undone + 1..].iter().any(|line| line.starts_with("ADD ")), "{own:?}");
    let told_of_pod = &input(&node, &format!("ADD {uid}"))["runtimeConfig"];
    assert_eq!(
        told_of_pod["bandwidth"],
        serde_json::json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX})
    );
    assert_eq!(told_of_pod["ips"], serde_json::json!(["10.99.0.9"]));
    assert_eq!(addresses(&node, "web"), ["10.99.0.9".parse::<IpAddr>().unwrap()]);

    // Another worker: one attachment is nobody's, and the plugin finds that of the Pod wrong.
    let stray = "0123456789abcdef0123456789abcdef";
    let record = |uid: &str| node.root().join("cni").join(format!("{uid}.json"));
    let text = fs::read_to_string(record(&uid)).unwrap();
    fs::write(record(stray), text.replace(&uid, stray)).unwrap();
    fs::write(bin(&node).join("CHECK"), r#"{"code": 9, "msg": "where is eth0?"}"#).unwrap();
    let before = told(&node).len();
    node.wait_for_new_worker(node.kill_worker());
    let news = || told(&node).split_off(before);
    wait_until("it is checked", || news().iter().any(|line| line.starts_with("CHECK")).then_some(()));
    let heads: Vec<String> = news().iter().map(|line| line[..line.find(" {").unwrap()].to_owned()).collect();
    assert_eq!(
        heads,
        [
            format!("DEL {stray} netns="),
            "GC  netns=".to_owned(),
            format!("CHECK {uid} netns={}", netns.display())
        ]
    );
    let valid = &input(&node, "GC")["cni.dev/valid-attachments"];
    assert!(!Path::new(&record(stray)).exists());
    assert!(valid.is_array(), "{valid}");
    let last_gc = news().into_iter().find(|line| line.starts_with("GC")).unwrap();
    assert!(last_gc.contains(&format!(r#"[{{"containerID":"{uid}","ifname":"eth0"}}]"#)), "{last_gc}");
    wait_until("it is said", || node.ask(&["events", "web"]).contains("where is eth0?").then_some(()));
    node.wait_running("web", "main");

    // Who fails to undo is asked again, and the Pod says why it does not go.
    fs::write(bin(&node).join("DEL"), r#"{"code": 11, "msg": "later"}"#).unwrap();
    node.remove("web.yaml");
    let why = r#"plugin type="scripted" failed (delete): later"#;
    node.wait_for(why, |list| list.pod("web")?.message().contains(why).then_some(()));
    fs::remove_file(bin(&node).join("DEL")).unwrap();
    node.wait_gone("web");
    node.stop();
}

#[test]
fn pods_on_macvlan_have_the_addresses_that_they_ask_for() {
    let site = site("");
    ip("link add mv0 type veth peer name mv1");
    ip("link set mv0 up");
    ip("link set mv1 up");
    let plugin = format!(
        r#"{{"type": "macvlan", "master": "mv0", "mode": "bridge", "capabilities": {{"ips": true}},
            "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.77.0.0/24"}}]]}}}}"#,
        books(&site).display()
    );
    network(&site, "0.4.0", "lan", &plugin);
    let node = Node::start_in(site);
    let ready = "readinessProbe: {httpGet: {path: /name, port: 80}, periodSeconds: 1}";
    let fixed = behind_port("fixed", ready)
        .replace("metadata: {", "metadata: {annotations: {podkeep.io/ips: 10.77.0.77}, ");
    node.manifest("fixed.yaml", &fixed);
    node.manifest("any.yaml", &server("any"));
    node.wait_running("any", "main");
    node.wait_for("fixed is ready", |list| list.pod("fixed")?.is("Ready").then_some(()));
    let own = addresses(&node, "fixed");
    assert_eq!(own, ["10.77.0.77".parse::<IpAddr>().unwrap()]);
    assert_eq!(ask(&node, "any", own[0]), format!("{}\n", host_name("fixed")));
    // Checked by the plugin itself: its path is the one it was made with, though another process's.
    let worker = node.kill_worker();
    node.wait_for_new_worker(worker);
    assert_eq!(ask(&node, "any", own[0]), format!("{}\n", host_name("fixed")));
    let site = node.stop();
    assert!(!site.node_log_text().contains("failed (check)"), "{}", site.node_log_text());
    assert_eq!(lent(&site, "lan"), Vec::<String>::new());
    ip("link del mv0");
}
