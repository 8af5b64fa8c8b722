//! `podkeep pull` as a person types it.

use std::process::{Command, Output};

use super::server::{End, Server};
use super::site::{Served, Site, is_for};
use super::terminal::on_terminal;

/// `podkeep pull` into the site's store, with its folder of hosts and no credentials of this machine.
pub fn podkeep(site: &Site) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podkeep"));
    command.arg("pull").arg("--root-dir").arg(site.path("root")).arg("--hosts-dir").arg(site.path("certs.d"));
    command.env("HOME", site.path("home")).env_remove("DOCKER_CONFIG");
    command
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn progress_goes_to_standard_error_and_the_image_to_standard_output() {
    let served = Served::small();
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let reference = server.reference("web:1");
    let output = podkeep(&site).arg(&reference).output().unwrap();
    let (out, error) = said(&output);
    assert!(output.status.success(), "{error}");
    assert!(out.starts_with(&format!("{reference} sha256:")) && out.lines().count() == 1, "{out}");
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with(&format!("{reference}: 1 layer to fetch, ")), "{error}");
    assert!(lines[1].ends_with(": done"), "{error}");
}

/// The layer comes in two halves, so that there is a moment at which a bar is half full.
#[test]
fn a_terminal_shows_bars_and_what_is_done() {
    let served = Served::large(1 << 20);
    let layer = served.layers[0].clone();
    let half = served.layer().len().div_ceil(2);
    let server = Server::start(move |request| match is_for(request, &layer) && request.from() == 0 {
        true => served.answer(request).ending(End::CutAfter(half)),
        false => served.answer(request),
    });
    let mut command = podkeep(&Site::new());
    command.arg(server.reference("web:1"));
    let (out, shown) = on_terminal(command);
    assert_eq!(out.lines().count(), 1, "{out}");
    let [bar, done] = ["[===============               ]  ", "  done\r\n"];
    assert!(shown.contains("0 of 1 layers, 0B of ") && shown.contains("1 of 1 layers, "), "{shown:?}");
    assert!(shown.contains(bar) && shown.contains("; again in ") && shown.contains(done), "{shown:?}");
    assert!(shown.contains("\x1b["), "they are drawn over each other: {shown:?}");
}

#[test]
fn quiet_says_the_image_only() {
    let served = Served::small();
    let server = Server::start(move |request| served.answer(request));
    let output = podkeep(&Site::new()).arg("--quiet").arg(server.reference("web:1")).output().unwrap();
    let (out, error) = said(&output);
    assert_eq!((output.status.code(), out.lines().count(), error.as_str()), (Some(0), 1, ""));
}

#[test]
fn a_name_that_is_none_is_refused_before_anybody_is_asked() {
    let output = podkeep(&Site::new()).arg("Web:1").output().unwrap();
    let (out, error) = said(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert_eq!(error, "podkeep: \"Web:1\" is not an image reference: the name must be lower-case\n");
}

#[test]
fn an_unknown_host_is_said_in_one_line() {
    let output =
        podkeep(&Site::new()).arg("--quiet").arg("registry.invalid/web:1").env("HTTPS_PROXY", "").output();
    let (_, error) = said(&output.unwrap());
    // Where no DNS server can be asked that is what is said.
    let is_said = error.contains("there is no host \"registry.invalid\"") || error.contains("the DNS server");
    assert!(is_said && error.lines().count() == 1, "{error}");
}
