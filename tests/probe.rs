//! Probes of real servers on loopback: what each way of asking makes of each kind of answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use podkeep::probe::{Attempt, Outcome, Question, Way};
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
    let question = Question { address, way, timeout: Duration::from_secs(1) };
    let mut attempt = match Attempt::begin(&question, None) {
        Ok(attempt) => attempt,
        Err(outcome) => return outcome,
    };
    let mut seen = PollFlags::IN;
    loop {
        if let Some(outcome) = attempt.step() {
            return outcome;
        }
        // What is to be sent fits in any socket's buffer, so that after the connection only answers are awaited.
        let wanted =
            if seen.contains(PollFlags::OUT) { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = [PollFd::new(&attempt, wanted)];
        assert_ne!(poll(&mut fds, Some(&PATIENCE)).unwrap(), 0, "no answer");
        seen |= fds[0].revents();
    }
}

fn grpc(service: &str) -> Way {
    Way::Grpc { service: service.to_owned(), user_agent: "kube-probe/1.36".to_owned() }
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

#[test]
fn a_server_that_hangs_up_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    let message = failure(ask(address, grpc("")));
    assert!(message.contains("closed before an answer") || message.contains("broke"), "{message}");
    assert!(failure(ask(address, grpc(""))).contains("answers in HTTP/1"));
    server.join().unwrap();
}
