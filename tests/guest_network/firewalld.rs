//! firewalld and podkeep on one host: neither undoes the other's rules.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::web::{addresses, asked_at, behind_port, host_name, server, url};
use crate::harness::{Node, Options, kill, wait_until};
use crate::namespace::Namespace;

/// There until it is dropped, with the bus that it needs.
struct Firewalld {
    bus: Child,
    daemon: Child,
}

impl Firewalld {
    fn start() -> Firewalld {
        fs::create_dir_all("/run/dbus").unwrap();
        let mut bus = Command::new("dbus-daemon");
        let bus = bus.args(["--system", "--nofork", "--nopidfile"]).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the bus is there", || fs::metadata("/run/dbus/system_bus_socket").ok());
        let mut daemon = Command::new("firewalld");
        daemon.args(["--nofork", "--nopid"]).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = daemon.spawn().unwrap();
        Firewalld { bus, daemon }
    }
}

impl Drop for Firewalld {
    /// As its service ends: it takes its rules away.
    fn drop(&mut self) {
        kill(self.daemon.id(), Signal::TERM);
        let _ = self.daemon.wait();
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

fn tell(arguments: &[&str]) {
    Namespace::own().run("firewall-cmd", &[&["--quiet"], arguments].concat(), "");
}

fn table(name: &str) -> String {
    Namespace::own().nft(&["list", "table", "inet", name], "")
}

/// After `--complete-reload`, which takes its time, with `PODKEEP_LONG=1` only.
#[test]
fn firewalld_and_podkeep_leave_each_others_rules_alone() {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &behind_port("web", "ports: [{containerPort: 80, hostPort: 8080}]"));
    node.manifest("asks.yaml", &server("asks"));
    for pod in ["web", "asks"] {
        node.wait_running(pod, "main");
    }
    let own = addresses(&node, "web");
    let by_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    wait_until("an answer", || asked_at(by_port));
    let ways = own.iter().map(|own| url((*own, 80))).chain(["http://web/name".to_owned()]);
    let ways: Vec<String> = ways.collect();
    let asks = |url: &String| {
        node.try_ask(&["exec", "asks", "--", "timeout", "5", "wget", "-q", "-O", "-", url]).status.success()
    };
    assert!(ways.iter().all(asks));
    let ours = table("podkeep");

    let firewalld = Firewalld::start();
    let named =
        "table inet firewalld, chain filter_FORWARD (firewalld): its last rule drops or rejects everything";
    node.wait_for(named, |list| list.to_string().contains(named).then_some(()));
    // What it rejects is rejected, whatever our table says.
    assert!(!ways[..2].iter().any(asks));
    assert_eq!(asked_at(by_port), Some(host_name("web")));
    assert_eq!(table("podkeep"), ours);

    let ranges = ["--add-source=10.203.0.0/16", &format!("--add-source={}/64", own[1])];
    tell(&[&["--permanent", "--zone=trusted"], &ranges[..]].concat());
    let reloads = ["--reload", "--complete-reload"];
    let reloads = if std::env::var_os("PODKEEP_LONG").is_some() { &reloads[..] } else { &reloads[..1] };
    for reload in reloads {
        tell(&[*reload]);
        assert_eq!(table("podkeep"), ours, "{reload}");
        assert!(ways.iter().all(asks), "{reload}");
        assert_eq!(asked_at(by_port), Some(host_name("web")), "{reload}");
    }
    let theirs = table("firewalld");
    Namespace::own().nft(&["delete", "table", "inet", "podkeep"], "");
    assert_eq!(wait_until("our rules are back", || asked_at(by_port)), host_name("web"));
    assert_eq!((table("podkeep"), table("firewalld")), (ours, theirs));

    drop(firewalld);
    node.wait_for("it is gone", |list| (!list.to_string().contains("firewalld")).then_some(()));
    assert!(ways.iter().all(asks));
}
