//! Real servers and clients over the network of Pods: from Pods, from the host, and from the world by host ports; and out into the world.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::Value;

use super::web::{addresses, server};
use super::world::World;
use crate::harness::{Node, Options, wait_until};
use crate::host::{UPLINK4, UPLINK6, WORLD4, WORLD6};
use crate::namespace::Namespace;
use crate::talk::serve_tcp;

/// nginx, which has its own program to give away, and says who has come.
const NGINX: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: nginx}
data:
  nginx.conf: |
    daemon off;
    pid /tmp/nginx.pid;
    events {}
    http {
      log_format who 'from $remote_addr';
      access_log /dev/stdout who;
      client_body_temp_path /tmp/body;
      proxy_temp_path /tmp/proxy;
      fastcgi_temp_path /tmp/fastcgi;
      uwsgi_temp_path /tmp/uwsgi;
      scgi_temp_path /tmp/scgi;
      server {
        listen 8080;
        listen [::]:8080;
        location = /nginx { alias /usr/sbin/nginx; }
      }
    }
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: config, configMap: {name: nginx}}]
  containers:
  - name: main
    image: nginx:1.22
    command: [nginx, -e, /dev/stderr, -c, /config/nginx.conf]
    volumeMounts: [{name: config, mountPath: /config}]
    ports: [{containerPort: 8080, hostPort: 8080}]
";

/// The first word of a line.
fn word(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

#[test]
fn nginx_serves_a_file_to_pods_to_the_host_and_to_the_world() {
    let world = World::new();
    let node = Node::start(Options { images: vec!["nginx", "busybox"], ..Options::default() });
    node.manifest("web.yaml", NGINX);
    node.manifest("asks.yaml", &server("asks"));
    for pod in ["web", "asks"] {
        node.wait_running(pod, "main");
    }
    let (web, asks) = (addresses(&node, "web"), addresses(&node, "asks"));
    wait_until("nginx listens", || std::net::TcpStream::connect((web[0], 8080)).ok());
    let sum = node.ask(&["exec", "web", "--", "busybox", "sha256sum", "/usr/sbin/nginx"]);
    let from_pod = |at: SocketAddr| {
        let script = format!("wget -q -O - http://{at}/nginx | sha256sum");
        node.ask(&["exec", "asks", "--", "sh", "-c", &script])
    };
    let with_curl = |from: &Namespace, at: SocketAddr| {
        from.run("sh", &["-c", &format!("curl -sSfg http://{at}/nginx | sha256sum")], "")
    };
    let mut seen = Vec::new();
    for (family, uplink, outside) in
        [(0, IpAddr::from(UPLINK4), IpAddr::from(WORLD4)), (1, UPLINK6.into(), WORLD6.into())]
    {
        let (own, by_port) = ((web[family], 8080).into(), (uplink, 8080).into());
        let node_address = first_of(web[family]);
        for (received, from) in [
            (from_pod(own), asks[family]),
            (from_pod(by_port), asks[family]),
            (with_curl(&Namespace::own(), own), node_address),
            (with_curl(&world, by_port), outside),
        ] {
            assert_eq!(word(&received), word(&sum), "{own}, as {from}");
            seen.push(format!("from {from}"));
        }
    }
    wait_until("nginx has said who came", || {
        let logs = node.ask(&["logs", "web"]);
        let came: Vec<&str> = logs.lines().filter(|line| line.starts_with("from ")).collect();
        (came.len() >= seen.len()).then(|| assert_eq!(came, seen))
    });

    // Out into the world, which sees the host.
    serve_tcp(&world, 80);
    for (to, seen) in [(WORLD4.to_string(), UPLINK4.to_string()), (WORLD6.to_string(), UPLINK6.to_string())] {
        assert_eq!(node.ask(&["exec", "asks", "--", "timeout", "20", "nc", &to, "80"]), seen);
    }
}

/// The node's own address of the range that this one is of.
fn first_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            [a, b, 0, 1].into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            [a, b, c, d, 0, 0, 0, 1].into()
        }
    }
}

fn iperf3(name: &str, command: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - {{name: main, image: \"iperf3:3.12\", command: {command}, ports: {ports}}}\n"
    )
}

/// What is carried: of TCP this many bytes, of UDP too, of which some may be lost.
const BYTES: u64 = 2 << 20;

/// A transfer to `to`, or from there (`-R`), by TCP or UDP (`-u`).
fn words(to: IpAddr, flags: &str) -> Vec<String> {
    let words = format!("iperf3 -c {to} -J -n {BYTES} {flags}");
    words.split_whitespace().map(str::to_owned).collect()
}

/// Whether iperf3 says that it was carried.
fn is_carried(said: &[u8], flags: &str) -> bool {
    let Ok(said) = serde_json::from_slice::<Value>(said) else { return false };
    let (end, count) = (&said["end"], |value: &Value| value.as_u64().unwrap_or_default());
    if flags.contains("-u") {
        count(&end["sum"]["packets"]) > count(&end["sum"]["lost_packets"])
    } else {
        count(&end["sum_received"]["bytes"]) >= BYTES
    }
}

#[test]
fn iperf3_carries_tcp_and_udp_both_ways() {
    let world = World::new();
    let node = Node::start(Options { images: vec!["iperf3"], ..Options::default() });
    let ports =
        "[{containerPort: 5201, hostPort: 5201}, {containerPort: 5201, hostPort: 5201, protocol: UDP}]";
    node.manifest("server.yaml", &iperf3("server", "[iperf3, -s]", ports));
    node.manifest("client.yaml", &iperf3("client", "[busybox, sleep, '1000']", "[]"));
    let root = format!("/proc/{}/root", node.wait_running("server", "main"));
    node.wait_running("client", "main");
    let own = addresses(&node, "server");
    let from_pod = |words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        node.try_ask(&[&["exec", "client", "--"], &*words].concat())
    };
    // The program of the image, wherever its packets are to come from.
    let from = |namespace: &Namespace, words: &[String]| {
        namespace.inside(|| Command::new("chroot").arg(&root).args(words).output().unwrap())
    };
    for (own, uplink) in own.into_iter().zip([IpAddr::from(UPLINK4), UPLINK6.into()]) {
        for flags in ["", "-R", "-u -b 100M", "-u -b 100M -R"] {
            // It serves one after the other, and says so to who comes too early.
            wait_until("from a Pod", || {
                is_carried(&from_pod(&words(own, flags)).stdout, flags).then_some(())
            });
        }
        let host = Namespace::own();
        for (namespace, to, flags) in [
            (&host, own, "-R"),
            (&host, own, "-u -b 100M"),
            (&world, uplink, ""),
            (&world, uplink, "-u -b 100M -R"),
        ] {
            wait_until("from outside", || {
                is_carried(&from(namespace, &words(to, flags)).stdout, flags).then_some(())
            });
        }
    }
}
