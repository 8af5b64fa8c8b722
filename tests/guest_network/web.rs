//! A Pod that serves its own name, who asks it, and what the host does meanwhile.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::manifest::ShellPod;
use crate::harness::{NODE_NAME, Node};
use crate::namespace::Namespace;

/// Serves its own name over HTTP.
pub fn server(name: &str) -> String {
    behind_port(name, "")
}

/// The same, with lines about ports of the host.
pub fn behind_port(name: &str, lines: &str) -> String {
    let script = "mkdir -p /www; hostname >/www/name; exec httpd -f -p 80 -h /www";
    ShellPod { name, script, spec: "terminationGracePeriodSeconds: 0", container: lines }.yaml()
}

/// The manifest with `podkeep.io/ingress`.
pub fn with_ingress(manifest: &str, who: &str) -> String {
    manifest.replace("metadata: {", &format!("metadata: {{annotations: {{podkeep.io/ingress: {who}}}, "))
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

/// Where it is at this address.
pub fn url(at: impl Into<SocketAddr>) -> String {
    format!("http://{}/name", at.into())
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

/// Does something to the host's links, addresses or routes.
#[track_caller]
pub fn ip(command: &str) {
    Namespace::own().ip(command);
}

/// Does something to the host's firewall.
#[track_caller]
pub fn nft(commands: &str) {
    Namespace::own().nft(&["-f", "-"], commands);
}

/// The nodes of other tests were killed, and have given nothing back.
pub fn clear_host() {
    let host = Namespace::own();
    for family in ["-4", "-6"] {
        host.run("ip", &[family, "addr", "flush", "dev", "lo", "scope", "global"], "");
    }
    nft("table inet podkeep\ndelete table inet podkeep");
}
