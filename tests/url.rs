//! Questions to real servers on loopback: what they see of a question, and what becomes of every kind of answer.

#[path = "registry/server.rs"]
#[allow(dead_code)]
mod server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use podkeep::http::{Cancel, Cause, Headers};
use podkeep::source::{Answer, Due, MAX_FILE_BYTES, Question, Target, UrlError, UrlSource, Validators};
use server::{Answer as Reply, End, Server};

fn source(url: &str, headers: Headers) -> UrlSource {
    let target = Target { url: url.parse().unwrap(), headers };
    UrlSource::new(target, Duration::from_secs(1), Duration::ZERO)
}

/// The source's next question.
fn question(source: &mut UrlSource) -> Question {
    match source.step(source.deadline().unwrap()) {
        Some(Due::Ask(question)) => question,
        other => panic!("{other:?}"),
    }
}

fn ask(url: &str) -> Result<Answer, UrlError> {
    question(&mut source(url, Headers::default())).ask(&Cancel::default())
}

/// What comes of a server that always answers so.
fn outcome(reply: Reply) -> Result<Answer, UrlError> {
    let server = Server::start(move |_| reply.clone());
    ask(&format!("http://{}/pods", server.address))
}

fn content(text: &str) -> Answer {
    Answer::Content { bytes: text.into(), validators: Validators::default() }
}

#[test]
fn what_is_known_already_is_asked_for_only_if_it_has_changed() {
    let server = Server::start(|request| {
        let known = request.header("if-none-match") == Some("W/\"1\"");
        let reply = if known { Reply::new(304, "") } else { Reply::ok("pods") };
        reply.header("etag", "W/\"1\"").header("last-modified", "Wed, 25 Nov 2026 10:00:00 GMT")
    });
    let mut source = source(&format!("http://{}/pods?node=1", server.address), Headers::default());
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = question(&mut source).ask(&Cancel::default()).unwrap();
        source.answered(Ok(answer.clone()), source.deadline().unwrap());
        answers.push(answer);
    }
    assert!(matches!(answers.as_slice(), [Answer::Content { .. }, Answer::Unchanged]), "{answers:?}");
    let asked = server.asked("/pods?node=1");
    let conditions: Vec<_> =
        asked.iter().map(|r| (r.header("if-none-match"), r.header("if-modified-since"))).collect();
    assert_eq!(conditions, [(None, None), (Some("W/\"1\""), Some("Wed, 25 Nov 2026 10:00:00 GMT"))]);
}

#[test]
fn headers_and_password_go_to_the_server_and_not_to_where_it_redirects() {
    let other = Server::start(|_| Reply::ok("pods"));
    let to = format!("http://{}/elsewhere", other.address);
    let server = Server::start(move |_| Reply::new(302, "").header("location", to.clone()));
    let mut headers = Headers::default();
    headers.add("X-Token", "sesame").unwrap();
    let mut source = source(&format!("http://me:p%40w@{}/pods", server.address), headers);
    assert_eq!(question(&mut source).ask(&Cancel::default()).unwrap(), content("pods"));
    let seen = |server: &Server| {
        let asked = server.asked("/").remove(0);
        let header = |name| asked.header(name).map(str::to_owned);
        (header("x-token"), header("authorization"), header("host"))
    };
    // me:p@w
    let (token, basic) = (Some("sesame".to_owned()), Some("Basic bWU6cEB3".to_owned()));
    assert_eq!(seen(&server), (token, basic, Some(server.address.to_string())));
    assert_eq!(seen(&other), (None, None, Some(other.address.to_string())));
}

#[test]
fn a_redirect_on_the_same_server_takes_the_headers_along() {
    let server = Server::start(|request| match request.path.as_str() {
        "/pods" => Reply::new(301, "").header("location", "/v2/pods"),
        _ => Reply::ok(request.header("authorization").unwrap_or_default()),
    });
    let answer = ask(&format!("http://me:pw@{}/pods", server.address)).unwrap();
    assert_eq!(answer, content("Basic bWU6cHc="));
}

#[test]
fn every_status_but_200_is_an_error() {
    for status in [204, 206, 304, 401, 404, 500] {
        let error = outcome(Reply::new(status, "")).unwrap_err();
        assert!(matches!(error, UrlError::Status { status: found, .. } if found == status), "{error}");
    }
}

#[test]
fn what_breaks_off_or_is_too_long_is_no_answer() {
    let cause = |reply| match outcome(reply).unwrap_err() {
        UrlError::Http(error) => error.cause,
        other => panic!("{other}"),
    };
    let cut = cause(Reply::ok("kind: Pod\n").ending(End::CutAfter(4)));
    assert!(matches!(cut, Cause::Broken(_)), "{cut}");
    let endless = cause(Reply::ok(vec![b'#'; 1 << 16]).ending(End::Never));
    assert!(matches!(endless, Cause::TooLarge { limit: MAX_FILE_BYTES }), "{endless}");
    let long = cause(Reply::ok("").header("content-length", (MAX_FILE_BYTES + 1).to_string()));
    assert!(matches!(long, Cause::TooLarge { .. }), "{long}");
}

#[test]
fn a_server_that_falls_silent_is_left_at_once_when_it_is_given_up() {
    let server = Server::start(|_| Reply::ok("kind: Pod\n").ending(End::SilenceAfter(4)));
    let mut source = source(&format!("http://{}/pods", server.address), Headers::default());
    let (question, cancel) = (question(&mut source), Cancel::default());
    let asking = std::thread::spawn({
        let cancel = cancel.clone();
        move || question.ask(&cancel)
    });
    while server.asked("/pods").is_empty() {
        std::thread::yield_now();
    }
    cancel.cancel();
    let error = asking.join().unwrap().unwrap_err();
    assert!(matches!(&error, UrlError::Http(error) if error.is_cancelled()), "{error}");
}

#[test]
fn nobody_there_is_said_so() {
    let server = Server::start(|_| Reply::ok(""));
    let url = format!("http://{}/pods", server.address);
    server.stop();
    let error = ask(&url).unwrap_err();
    assert!(matches!(&error, UrlError::Http(error) if matches!(error.cause, Cause::Connect(_))), "{error}");
}

/// Where the authority's file is known only to a process with this in its environment.
const TLS_URL: &str = "PODKEEP_TEST_TLS_URL";

/// The test runs itself: trust is in the environment, which a process of many threads cannot change.
#[test]
fn over_tls_the_server_must_be_of_an_authority_that_is_known() {
    if let Ok(url) = std::env::var(TLS_URL) {
        match ask(&url).unwrap() {
            Answer::Content { bytes, .. } => assert_eq!(bytes, b"kind: List\n"),
            other => panic!("{other:?}"),
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let certificate = dir.path().join("cert.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"])
        .args(["/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-days", "2", "-keyout", "key.pem", "-out"])
        .arg(&certificate)
        .current_dir(&dir)
        .output()
        .expect("openssl is there (scripts/install images)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(dir.path().join("pods"), "kind: List\n").unwrap();
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-WWW"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
    let url = format!("https://{address}/pods");

    let stranger = ask(&url).unwrap_err();
    let this_test = "over_tls_the_server_must_be_of_an_authority_that_is_known";
    let trusting = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this_test])
        .env(TLS_URL, &url)
        .env("SSL_CERT_FILE", &certificate)
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(matches!(stranger, UrlError::UnknownAuthority { .. }), "{stranger}");
    let trusting = trusting.unwrap();
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stdout));
}
