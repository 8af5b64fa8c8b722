//! Probes of real servers on loopback: what each way of asking makes of each kind of answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use podkeep::manifest::pod::HttpGet;
use podkeep::probe::{self, Asker, Attempt, Get, Outcome, Step, Way};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Far more than any answer here takes; a test that waits so long has failed.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A program that says its port first and ends when its standard input does.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(script: &str, arguments: &[&str]) -> Server {
        let path = format!("{}/tests/probe/{script}", env!("CARGO_MANIFEST_DIR"));
        // Debian's, which has the packages; another may stand before it in the path.
        let mut child = Command::new("/usr/bin/python3")
            .arg(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 (scripts/install probes)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("the server's port: scripts/install probes");
        Server { child, address: ([127, 0, 0, 1], port).into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: SocketAddr, way: Way) -> Outcome {
    let mut attempt = match Attempt::begin(probe::open(address).unwrap(), address, way) {
        Ok(attempt) => attempt,
        Err(outcome) => return outcome,
    };
    match hear(&mut attempt) {
        Step::Verdict(outcome) => outcome,
        Step::Elsewhere(address, get) => ask(address, Way::Http(get)),
        Step::Wait => unreachable!("it has waited"),
    }
}

/// What an attempt comes to that was begun.
fn hear(attempt: &mut Attempt) -> Step {
    if let Some(outcome) = attempt.ask() {
        return Step::Verdict(outcome);
    }
    let mut seen = PollFlags::IN;
    loop {
        match attempt.step() {
            Step::Wait => {}
            step => return step,
        }
        // What is to be sent fits in any socket's buffer, so that after the connection only answers are awaited.
        let wanted =
            if seen.contains(PollFlags::OUT) { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = [PollFd::new(attempt, wanted)];
        assert_ne!(poll(&mut fds, Some(&PATIENCE)).unwrap(), 0, "no answer");
        seen |= fds[0].revents();
    }
}

fn verdict(attempt: &mut Attempt) -> Outcome {
    match hear(attempt) {
        Step::Verdict(outcome) => outcome,
        other => panic!("no verdict: {other:?}"),
    }
}

fn grpc(service: &str) -> Way {
    Way::Grpc { service: service.to_owned(), timeout: Duration::from_secs(1) }
}

fn failure(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failure(message) => message,
        other => panic!("no failure: {other:?}"),
    }
}

/// A port that nobody listens on.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_connection_is_all_that_tcp_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(ask(listener.local_addr().unwrap(), Way::Tcp), Outcome::Success);
    let listener = TcpListener::bind("[::1]:0").unwrap();
    assert_eq!(ask(listener.local_addr().unwrap(), Way::Tcp), Outcome::Success);
    let address = free_port();
    let message = failure(ask(address, Way::Tcp));
    assert!(message.starts_with(&format!("dial tcp {address}: Connection refused")), "{message}");
}

#[test]
fn what_rests_asks_again_from_the_same_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut attempt = begin(address, Way::Tcp);
    for _ in 0..3 {
        assert_eq!(verdict(&mut attempt), Outcome::Success);
        assert!(attempt.rest());
        // What was reset before it was taken still says so.
        let (mut taken, _) = listener.accept().unwrap();
        assert!(taken.read(&mut [0]).is_err(), "it rests without a connection");
        attempt.connect().unwrap();
    }
    assert_eq!(verdict(&mut attempt), Outcome::Success);
    assert!(attempt.rest());
    drop(listener);
    let refused = attempt.connect().map(|()| verdict(&mut attempt)).unwrap_or_else(|outcome| outcome);
    assert!(failure(refused).starts_with(&format!("dial tcp {address}: Connection refused")));
}

#[test]
fn each_answer_to_the_same_question_counts_for_itself() {
    let server = Server::start("http_server.py", &[]);
    let mut attempt = begin(server.address, http(false, server.address, "by_turns/200/500", &[]));
    for _ in 0..3 {
        assert_eq!(verdict(&mut attempt), Outcome::Success);
        assert!(attempt.rest());
        attempt.connect().unwrap();
        assert_eq!(failure(verdict(&mut attempt)), "HTTP probe failed with statuscode: 500");
        assert!(attempt.rest());
        attempt.connect().unwrap();
    }
}

#[test]
fn where_an_answer_has_led_to_is_not_asked_first() {
    let server = Server::start("http_server.py", &[]);
    let mut attempt = begin(server.address, http(false, server.address, "to/status/200", &[]));
    let Step::Elsewhere(address, get) = hear(&mut attempt) else { panic!("it leads elsewhere") };
    let mut elsewhere = begin(address, Way::Http(get));
    assert_eq!(verdict(&mut elsewhere), Outcome::Success);
    assert!(!elsewhere.rest());
}

fn begin(address: SocketAddr, way: Way) -> Attempt {
    Attempt::begin(probe::open(address).unwrap(), address, way).unwrap()
}

#[test]
fn a_probe_leaves_no_socket_behind_in_time_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(ask(address, Way::Tcp), Outcome::Success);
    // Taken and closed on this side, too.
    drop(listener.accept());
    let end = format!(" 0100007F:{:04X} ", address.port());
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let of_it: Vec<_> = sockets.lines().filter(|line| line.contains(&end)).collect();
    assert!(of_it.len() == 1 && of_it[0].contains(" 0A "), "only one, which listens: {of_it:#?}");
}

#[test]
fn grpc_passes_only_what_serves() {
    let server = Server::start("grpc_server.py", &[]);
    for service in ["", "up"] {
        assert_eq!(ask(server.address, grpc(service)), Outcome::Success, "{service:?}");
    }
    assert_eq!(
        failure(ask(server.address, grpc("down"))),
        "service unhealthy (responded with \"NOT_SERVING\")"
    );
    assert_eq!(
        failure(ask(server.address, grpc("nobody"))),
        "the server does not know this service: no service of that name, ü"
    );
}

#[test]
fn a_server_without_grpc_health_is_told_apart() {
    let server = Server::start("grpc_server.py", &["--without-health"]);
    let message = failure(ask(server.address, grpc("")));
    assert!(message.starts_with("this server does not implement the grpc health protocol"), "{message}");
}

fn http(https: bool, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Way {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (host, port) = (Some(address.ip().to_string()), address.port());
    let get = HttpGet { https, host, port, path: format!("/{path}"), headers };
    Way::Http(Get::new(&get, Asker::Probe, Ipv4Addr::LOCALHOST.into()).unwrap())
}

#[test]
fn http_passes_from_200_to_399() {
    let server = Server::start("http_server.py", &[]);
    let get = |path: &str| ask(server.address, http(false, server.address, path, &[]));
    for path in ["status/200", "status/204", "chunked", "endless", "old", "to/status/200"] {
        assert_eq!(get(path), Outcome::Success, "{path}");
    }
    for status in [400, 404, 500, 503] {
        let message = format!("HTTP probe failed with statuscode: {status}");
        assert_eq!(get(&format!("status/{status}")), Outcome::Failure(message));
    }
    assert_eq!(get("to/status/500"), Outcome::Failure("HTTP probe failed with statuscode: 500".to_owned()));
    for (path, location) in [("abroad", "http://other.example/"), ("status/304", "")] {
        let message = format!("Probe terminated redirects, Response location: {location}");
        assert_eq!(get(path), Outcome::Warning(message), "{path}");
    }
    assert!(failure(get("loop/0")).contains("stopped after 10 redirects"));
    let url = format!("Get \"http://{}/short\": ", server.address);
    assert_eq!(failure(get("short")), url + "unexpected end of the body");
    assert!(failure(get("nonsense")).starts_with("Get \"http://"));
}

#[test]
fn headers_are_sent_as_the_kubelet_sends_them() {
    let server = Server::start("http_server.py", &[]);
    let named = [("X-One", "1"), ("host", "name.example")];
    assert_eq!(ask(server.address, http(false, server.address, "headers_/", &named)), Outcome::Success);
    let without = [("X-One", "1"), ("host", "name.example"), ("Accept", "")];
    assert_eq!(
        failure(ask(server.address, http(false, server.address, "headers_/", &without))),
        "HTTP probe failed with statuscode: 400"
    );
}

#[test]
fn nobodys_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=nobody.example", "-keyout", &key, "-out", &certificate])
        .stderr(Stdio::null())
        .status()
        .expect("openssl (scripts/install)");
    assert!(made.success());
    let server = Server::start("http_server.py", &[&certificate, &key]);
    let get = |https: bool, path: &str| ask(server.address, http(https, server.address, path, &[]));
    for path in ["status/200", "chunked", "endless", "to/status/200"] {
        assert_eq!(get(true, path), Outcome::Success, "{path}");
    }
    assert!(failure(get(true, "short")).contains("unexpected end"));
    assert!(
        failure(get(false, "status/200")).starts_with("Get \"http://"),
        "plain HTTP to a server with TLS"
    );
    let plain = Server::start("http_server.py", &[]);
    let over_tls = http(true, plain.address, "status/200", &[]);
    assert!(failure(ask(plain.address, over_tls)).starts_with("Get \"https://"), "TLS to one without");
}

#[test]
fn a_server_that_hangs_up_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            // What is left unread would make the end of the connection a reset.
            let mut asked = Vec::new();
            while !asked.ends_with(&[0; 5]) {
                let mut part = [0; 4096];
                let length = stream.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..length]);
            }
            stream.write_all(answer).unwrap();
        }
    });
    let message = failure(ask(address, grpc("")));
    assert_eq!(message, "health rpc probe failed: the connection was closed before an answer");
    assert!(failure(ask(address, grpc(""))).contains("answers in HTTP/1"));
    server.join().unwrap();
}
