//! Probes and hooks of real containers: who is ready, who is started again, what comes before what.
//!
//! Run with `scripts/vm test guest_probes`; anywhere else these tests fail.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use harness::list::List;
use harness::manifest::ShellPod;
use harness::{Node, Options, process, wait_until};
use podkeep::sys::namespace::{self, Tour};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

fn pod(name: &str, script: &str, container: &str) -> String {
    let spec = "terminationGracePeriodSeconds: 5";
    ShellPod { name, script, spec, container }.yaml()
}

/// A container that serves `/www` over HTTP on port 8080 of its Pod.
const SERVE: &str = "mkdir -p /www; echo hello >/www/index.html; exec httpd -f -p 8080 -h /www";

fn is_ready(list: &List, pod: &str, container: &str) -> bool {
    list.pod(pod).and_then(|pod| pod.container(container)).is_some_and(|c| c.status["ready"] == true)
}

fn ip(list: &List, pod: &str) -> String {
    list.pod(pod).unwrap().0["status"]["podIP"].as_str().expect("an address").to_owned()
}

fn has_event(node: &Node, pod: &str, reason: &str, part: &str) {
    wait_until(reason, || {
        let events = node.ask(&["events", pod]);
        events.lines().any(|line| line.contains(reason) && line.contains(part)).then_some(())
    });
}

#[test]
fn sockets_are_opened_in_one_network_after_the_other() {
    let make = || namespace::make(u64::from(UnshareFlags::NEWNET.bits()), &[]).unwrap().net.unwrap();
    let (a, b) = (make(), make());
    let now_in = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let home = now_in();
    let mut tour = Tour::default();
    for network in [Some(&a), Some(&b), Some(&b), None, None, Some(&b), Some(&a)] {
        tour.enter(network.map(AsFd::as_fd)).unwrap();
        let path = network.map(|network| format!("/proc/self/fd/{}", network.as_raw_fd()));
        let wanted = path.map_or(home.clone(), |path| fs::read_link(path).unwrap());
        assert_eq!(now_in(), wanted);
    }
    drop(tour);
    assert_eq!(now_in(), home);
}

#[test]
fn what_is_not_alive_is_started_again() {
    let node = Node::start(Options::default());
    let probe =
        "livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}";
    node.manifest(
        "exec.yaml",
        &pod("exec", "touch /tmp/alive; sleep 3; rm /tmp/alive; exec sleep 1000", probe),
    );
    let probe = "livenessProbe: {httpGet: {path: /gone, port: 8080}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}";
    node.manifest("http.yaml", &pod("http", SERVE, probe));
    for name in ["exec", "http"] {
        node.wait_for("a restart", |list| (list.pod(name)?.container("main")?.restarts() > 0).then_some(()));
    }
    has_event(&node, "http", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404");
    has_event(&node, "exec", "Unhealthy", "Liveness probe failed");
    has_event(&node, "exec", "Killing", "Container main failed liveness probe, will be restarted");
}

#[test]
fn ready_is_what_answers() {
    let node = Node::start(Options::default());
    let ports = "ports: [{name: web, containerPort: 8080}]";
    let probes = [
        ("http", format!("{ports}\nreadinessProbe: {{httpGet: {{path: /index.html, port: web}}, periodSeconds: 1}}")),
        ("tcp", format!("{ports}\nreadinessProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1}}")),
        ("exec", "env: [{name: PORT, value: '8080'}]\nreadinessProbe: {exec: {command: [wget, -q, -O, /dev/null, 'http://127.0.0.1:$(PORT)/']}, periodSeconds: 1}".to_owned()),
    ];
    for (name, probe) in &probes {
        node.manifest(&format!("{name}.yaml"), &pod(name, &format!("sleep 2; {SERVE}"), probe));
    }
    let probe = "readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}";
    node.manifest("never.yaml", &pod("never", "exec sleep 1000", probe));
    for (name, _) in &probes {
        node.wait_for("it is ready", |list| list.pod(name)?.is("Ready").then_some(()));
    }
    let refused = format!("dial tcp {}:9: Connection refused", ip(&node.list(), "never"));
    has_event(&node, "never", "Unhealthy", &format!("Readiness probe failed: {refused}"));
    let list = node.list();
    let never = list.pod("never").unwrap();
    assert!(!never.is("Ready"));
    assert_eq!(never.container("main").unwrap().restarts(), 0, "who is not ready is left alone");
}

#[test]
fn who_asks_often_asks_from_one_socket() {
    let node = Node::start(Options::default());
    let sockets = || -> BTreeSet<PathBuf> {
        let all = fs::read_dir(format!("/proc/{}/fd", node.worker().expect("it runs"))).unwrap();
        let all = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        all.filter(|what| what.to_string_lossy().starts_with("socket:")).collect()
    };
    // The first one brings what the node has for all.
    node.manifest("first.yaml", &pod("first", "exec sleep 1000", ""));
    node.wait_running("first", "main");
    let before = sockets();
    let serve = "mkdir -p /www; echo hello >/www/index.html; exec httpd -f -vv -p 8080 -h /www";
    let probe = "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}";
    node.manifest("often.yaml", &pod("often", serve, probe));
    let was_asked = |times: usize| {
        wait_until("it was asked", || {
            let said = node.try_ask(&["logs", "often"]).stdout;
            (String::from_utf8_lossy(&said).matches("response:200").count() >= times).then_some(())
        });
        sockets()
    };
    let (early, late) = (was_asked(3), was_asked(6));
    let kept: Vec<_> = early.intersection(&late).filter(|socket| !before.contains(*socket)).collect();
    assert_eq!(kept.len(), 1, "{before:?} {early:?} {late:?}");
    node.remove("often.yaml");
    node.wait_gone("often");
    assert!(!sockets().contains(kept[0]), "it would keep the Pod's network");
}

#[test]
fn a_probe_that_hangs_is_killed_with_all_that_it_began() {
    let node = Node::start(Options::default());
    // Also what is in a session of its own, and what has lost its parent there.
    let probe = "readinessProbe: {exec: {command: [sh, -c, 'sleep 777 & setsid sleep 778 & (setsid sh -c \"sleep 779; exit\" &); sleep 777']}, timeoutSeconds: 1, periodSeconds: 100}";
    node.manifest("hang.yaml", &pod("hang", "exec sleep 1000", probe));
    let main = node.wait_running("hang", "main");
    has_event(&node, "hang", "Unhealthy", "timed out");
    // The container's first process does not reap what is left to it, as most do not.
    let runs =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    wait_until("only the container is left", || {
        let all = process::in_cgroup(&process::cgroup(main));
        all.into_iter().filter(runs).eq([main]).then_some(())
    });
}

#[test]
fn a_hook_after_the_start_holds_back_the_next_container() {
    let node = Node::start(Options::default());
    let text = "apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  terminationGracePeriodSeconds: 5
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: proxy
    image: busybox:1.35
    command: [sleep, '1000']
    volumeMounts: [{name: shared, mountPath: /shared}]
    lifecycle: {postStart: {exec: {command: [sh, -c, 'sleep 2; touch /shared/proxied']}}}
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'ls /shared; exec sleep 1000']
    volumeMounts: [{name: shared, mountPath: /shared}]
";
    node.manifest("pair.yaml", text);
    node.wait_running("pair", "main");
    wait_until("its output", || (node.ask(&["logs", "pair", "-c", "main"]) == "proxied\n").then_some(()));
    // One that fails ends its container, which is started again.
    let hook = "lifecycle: {postStart: {exec: {command: [sh, -c, 'echo no luck; exit 3']}}}";
    node.manifest("bad.yaml", &pod("bad", "exec sleep 1000", hook));
    has_event(&node, "bad", "FailedPostStartHook", "exited with 3: no luck");
    node.wait_for("a restart", |list| (list.pod("bad")?.container("main")?.restarts() > 0).then_some(()));
}

#[test]
fn a_hook_before_the_stop_comes_before_the_signal() {
    let node = Node::start(Options::default());
    let hook = "lifecycle: {stopSignal: SIGUSR1, preStop: {exec: {command: [sh, -c, 'echo preStop >/proc/1/fd/1; sleep 1']}}}";
    let script = "trap 'echo SIGUSR1; exit 0' USR1; echo ready; while :; do sleep 1000 & wait $!; done";
    node.manifest("polite.yaml", &pod("polite", script, hook));
    wait_until("it is ready", || (node.try_ask(&["logs", "polite"]).stdout == b"ready\n").then_some(()));
    node.remove("polite.yaml");
    node.wait_gone("polite");
    assert_eq!(node.ask(&["logs", "polite"]), "ready\npreStop\nSIGUSR1\n");
}

/// nginx is the server of both. Of gRPC it knows HTTP/2, with an answer that lies in a file.
#[test]
fn https_and_grpc_are_asked_of_real_servers() {
    let node = Node::start(Options { images: vec!["nginx"], ..Options::default() });
    let script = r"
echo 'events {}
daemon off;
pid /tmp/nginx.pid;
http {
  access_log off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  server {
    listen 8443 ssl;
    ssl_certificate /etc/nginx/tls/certificate.pem;
    ssl_certificate_key /etc/nginx/tls/key.pem;
    location /well { return 204; }
  }
  server {
    listen 9000 http2;
    default_type application/grpc;
    root /tmp;
    error_page 405 =200 /serving;
    location /grpc.health.v1.Health/Check { return 405; }
    location /serving { add_trailer grpc-status 0; }
  }
}' >/tmp/nginx.conf
printf '\0\0\0\0\2\10\1' >/tmp/serving
exec nginx -e /dev/stderr -c /tmp/nginx.conf
";
    let container = |name: &str, script: &str, probe: &str| {
        let command = serde_json::json!(["sh", "-c", script]);
        format!(
            "  - name: {name}\n    image: nginx:1.22\n    command: {command}\n    readinessProbe: {{{probe}, periodSeconds: 1}}\n"
        )
    };
    let https = |path: &str| format!("httpGet: {{scheme: HTTPS, path: {path}, port: 8443}}");
    let wait = "exec busybox sleep 1000";
    let containers = [
        container("https", script, &https("/well")),
        container("grpc", wait, "grpc: {port: 9000}"),
        container("lost", wait, &https("/lost")),
        container("plain", wait, "grpc: {port: 8443}"),
    ];
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  terminationGracePeriodSeconds: 5\n  containers:\n";
    node.manifest("web.yaml", &(text.to_owned() + &containers.concat()));
    for name in ["https", "grpc"] {
        node.wait_for("it is ready", |list| is_ready(list, "web", name).then_some(()));
    }
    has_event(&node, "web", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    has_event(&node, "web", "Unhealthy", "health rpc probe failed");
    for name in ["lost", "plain"] {
        assert!(!is_ready(&node.list(), "web", name), "{name}");
    }
}

#[test]
fn a_hook_over_http_fails_with_what_is_no_success() {
    let node = Node::start(Options::default());
    // One that is begun first, because it takes half a minute: a server that accepts connections and answers none.
    let text = r#"apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: busybox:1.35
    command:
    - sh
    - -c
    - |
      mkdir -p /www
      echo hello >/www/index.html
      httpd -p 8080 -h /www
      httpd -f -p 8081 -h /www &
      until wget -q -O /dev/null http://127.0.0.1:8081/; do sleep 0.1; done
      kill -STOP $!
      touch /tmp/up
      exec sleep 1000
    lifecycle: {postStart: {exec: {command: [sh, -c, 'until [ -e /tmp/up ]; do sleep 0.1; done']}}}
    readinessProbe: {httpGet: {port: 8081}, periodSeconds: 1, timeoutSeconds: 1}
  - name: refused
    image: busybox:1.35
    command: [sleep, '1000']
    lifecycle: {postStart: {httpGet: {path: /gone, port: 8080}}}
  - name: ignored
    image: busybox:1.35
    command: [sleep, '1000']
    lifecycle: {postStart: {httpGet: {path: /, port: 8081}}}
"#;
    node.manifest("hooked.yaml", text);
    let container = "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
lifecycle: {postStart: {sleep: {seconds: 0}}, preStop: {httpGet: {path: /gone, port: 8080}}}";
    let spec = "terminationGracePeriodSeconds: 2";
    node.manifest("web.yaml", &ShellPod { name: "web", script: SERVE, spec, container }.yaml());
    node.wait_for("it is ready", |list| list.pod("web")?.is("Ready").then_some(()));
    node.remove("web.yaml");
    node.wait_gone("web");
    has_event(&node, "web", "FailedPreStopHook", "HTTP hook failed with statuscode: 404");
    has_event(&node, "hooked", "Unhealthy", "context deadline exceeded");
    has_event(&node, "hooked", "FailedPostStartHook", "HTTP hook failed with statuscode: 404");
    has_event(&node, "hooked", "FailedPostStartHook", "context deadline exceeded");
}

#[test]
fn a_hook_goes_on_over_the_end_of_the_worker_and_runs_once() {
    let node = Node::start(Options::default());
    let spec = "terminationGracePeriodSeconds: 5\nvolumes: [{name: shared, emptyDir: {}}]";
    let container = "volumeMounts: [{name: shared, mountPath: /shared}]
lifecycle: {postStart: {exec: {command: [sh, -c, 'echo begun >>/shared/hook; until [ -e /shared/go ]; do sleep 0.1; done; echo said; echo ended >>/shared/hook']}}}";
    let text = ShellPod { name: "hook", script: "exec sleep 1000", spec, container }.yaml();
    node.manifest("hook.yaml", &text);
    let main = node.wait_running("hook", "main");
    let shared = format!("/proc/{main}/root/shared");
    let said = || fs::read_to_string(format!("{shared}/hook")).unwrap_or_default();
    wait_until("the hook runs", || (said() == "begun\n").then_some(()));
    harness::kill(node.worker().expect("a worker"), Signal::KILL);
    node.wait_for("the next worker", |list| list.pod("hook").map(drop));
    assert!(!node.list().pod("hook").unwrap().is("Ready"), "its hook has not ended");
    fs::write(format!("{shared}/go"), "").unwrap();
    node.wait_for("it is ready", |list| list.pod("hook")?.is("Ready").then_some(()));
    assert_eq!(said(), "begun\nended\n");
    assert_eq!(node.wait_running("hook", "main"), main);
}
