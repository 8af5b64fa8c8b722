//! Proofs of who asks: basic, tokens of a token server, identity tokens, helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use podkeep::image::{Credentials, Failure};

use super::builder::Layer;
use super::server::{Answer, Request, Server};
use super::site::{Served, Site, is_for};

/// Base64 of `user:pw`.
const USER: &str = "Basic dXNlcjpwdw==";

/// A registry that wants a token, and its token server, which gives `token-N`; the registry takes each for `uses` requests.
fn with_tokens(wanted: &'static str, uses: usize) -> Server {
    let served = Served::small();
    let given = Mutex::new((0, uses));
    Server::start(move |request| {
        let mut given = given.lock().unwrap();
        if request.path.starts_with("/token") {
            return token(request, wanted, &mut given.0);
        }
        let current = format!("Bearer token-{}", given.0);
        if request.header("authorization") == Some(&current) && given.1 > 0 {
            given.1 -= 1;
            return served.answer(request);
        }
        given.1 = uses;
        let host = request.header("host").unwrap();
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="registry",scope="repository:team/web:pull""#
        );
        Answer::new(401, "").header("www-authenticate", challenge)
    })
}

fn token(request: &Request, wanted: &str, number: &mut usize) -> Answer {
    let shown = request.header("authorization").unwrap_or(&request.body);
    if shown != wanted {
        return Answer::new(401, "");
    }
    *number += 1;
    Answer::ok(format!(r#"{{"token":"token-{number}","expires_in":60}}"#))
}

#[test]
fn a_token_is_fetched_without_credentials_and_used_for_everything() {
    let server = with_tokens("", usize::MAX);
    Site::new().pull(&server.reference("team/web:1")).unwrap();
    let asked = server.asked("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?scope=repository%3Ateam%2Fweb%3Apull&service=registry");
}

#[test]
fn a_token_of_nobody_that_opens_nothing_asks_for_credentials() {
    // As Docker's own registry answers for what is private, or does not exist.
    let server = with_tokens("", 0);
    let failure = Site::new().refused(&server.reference("team/web:1"));
    assert!(failure.to_string().contains("none are known for it"), "{failure}");
}

#[test]
fn a_token_is_fetched_with_user_and_password() {
    let server = with_tokens(USER, usize::MAX);
    let mut site = Site::new();
    site.log_in(&server.address.to_string(), "user", "pw");
    site.pull(&server.reference("team/web:1")).unwrap();
}

#[test]
fn a_token_that_expires_during_the_pull_is_fetched_anew() {
    let server = with_tokens(USER, 1);
    let mut site = Site::new();
    site.log_in(&server.address.to_string(), "user", "pw");
    site.pull(&server.reference("team/web:1")).unwrap();
    assert_eq!(server.asked("/token").len(), 3);
}

#[test]
fn layers_whose_token_expires_at_once_share_the_next_one() {
    let layers: Vec<_> = (0..6).map(|n| Layer::new().file("number", &n.to_string()).finish()).collect();
    let served = Served::of_layers(&layers);
    let given = Mutex::new(0);
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            return token(request, USER, &mut given.lock().unwrap());
        }
        let wanted = if served.layers.iter().any(|layer| is_for(request, layer)) { "2" } else { "1" };
        if request.header("authorization") == Some(&format!("Bearer token-{wanted}")) {
            return served.answer(request);
        }
        let host = request.header("host").unwrap();
        let challenge = format!(r#"Bearer realm="http://{host}/token""#);
        Answer::new(401, "").header("www-authenticate", challenge)
    });
    let mut site = Site::new();
    site.log_in(&server.address.to_string(), "user", "pw");
    site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(server.asked("/token").len(), 2);
}

#[test]
fn an_identity_token_is_exchanged() {
    let form = "scope=repository%3Ateam%2Fweb%3Apull&service=registry&grant_type=refresh%5Ftoken\
                &client_id=podkeep&refresh_token=long%2Dlived";
    let server = with_tokens(form, usize::MAX);
    let mut site = Site::new();
    let text = format!(r#"{{"auths":{{"{}":{{"identitytoken":"long-lived"}}}}}}"#, server.address);
    site.credentials = Credentials::parse("test", text.as_bytes()).unwrap();
    site.pull(&server.reference("team/web:1")).unwrap();
    assert_eq!(server.asked("/token")[0].method, "POST");
}

/// A registry with one user.
fn with_basic() -> Server {
    let served = Served::small();
    Server::start(move |request| match request.header("authorization") {
        Some(USER) => served.answer(request),
        _ => Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .header("www-authenticate", r#"Basic realm="Registry""#),
    })
}

#[test]
fn each_credential_is_tried_until_one_is_let_in() {
    let server = with_basic();
    let mut site = Site::new();
    let address = server.address;
    let text = format!(
        r#"{{"auths":{{"{address}/team":{{"username":"old","password":"pw"}},"{address}":{{"username":"user","password":"pw"}}}}}}"#
    );
    site.credentials = Credentials::parse("test", text.as_bytes()).unwrap();
    site.pull(&server.reference("team/web:1")).unwrap();
    assert_eq!(server.asked("/manifests/").len(), 3, "without, with the wrong one, with the right one");
    assert_eq!(server.asked("/blobs/").len(), 2, "then the right one only");
}

#[test]
fn no_credential_and_a_wrong_one_are_told_apart() {
    let server = with_basic();
    let mut site = Site::new();
    let denied = |failure: Failure| {
        let Failure::Denied { .. } = &failure else { panic!("{failure}") };
        failure.to_string()
    };
    let none = denied(site.refused(&server.reference("web:1")));
    assert!(none.contains("wants to know who asks (authentication required); either there is no"), "{none}");
    site.log_in(&server.address.to_string(), "user", "wrong");
    let wrong = denied(site.refused(&server.reference("web:1")));
    assert!(wrong.contains("check the credentials"), "{wrong}");
}

#[test]
fn a_password_for_one_registry_is_not_shown_to_another() {
    let server = with_basic();
    let mut site = Site::new();
    site.log_in("other.example", "user", "pw");
    site.refused(&server.reference("web:1"));
    assert!(server.asked("").iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_helper_is_asked_for_its_registry() {
    let server = with_basic();
    let site = Site::new();
    let registry = server.address.to_string();
    let script = "#!/bin/sh\nread -r registry\n[ \"$1 $registry\" = 'get WANTED' ] || \
                  { echo 'credentials not found in native keychain'; exit 1; }\n\
                  echo '{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"pw\"}'\n";
    let helper = site.path("docker-credential-test");
    fs::write(&helper, script.replace("WANTED", &registry)).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    // It is looked for along PATH, which belongs to a whole process: one of its own.
    let path = format!("{}:{}", site.dir.path().display(), std::env::var("PATH").unwrap());
    let pull = |helpers: String| {
        fs::write(site.path("config.json"), helpers).unwrap();
        let mut command = super::command::podkeep(&site);
        command.env("PATH", &path).arg("--docker-config").arg(site.path("config.json"));
        command.arg(server.reference("web:1")).output().unwrap()
    };
    let unknown = pull(r#"{"credsStore":"missing"}"#.to_owned());
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && said.contains("run docker-credential-missing: No such file"),
        "{said}"
    );
    let known = pull(format!(r#"{{"credHelpers":{{"{registry}":"test"}}}}"#));
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
}
