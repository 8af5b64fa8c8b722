//! What is done side by side: registries here hold back what they were asked for until something else has happened.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use podkeep::image::Progress;

use super::builder::Layer;
use super::gate::Gate;
use super::server::{End, Server};
use super::site::{Served, Site, is_for, missing, noise};

/// Layers that a pull has under way at a time, as docs/images.md says.
const AT_ONCE: usize = 3;

fn layers(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let layer = |number: u64| {
        let layer = Layer::new().file(&format!("first-{number}"), "");
        layer.file("noise", &noise(number + 1, bytes)).finish()
    };
    (0..count as u64).map(layer).collect()
}

#[test]
fn as_many_layers_are_asked_for_at_once_as_may_be() {
    let served = Served::of_layers(&layers(AT_ONCE, 10));
    let (wanted, gate) = (served.layers.clone(), Gate::of(AT_ONCE));
    let server = Server::start(move |request| {
        let is_held = wanted.iter().any(|layer| is_for(request, layer));
        if is_held && !gate.pass(&request.path) { missing() } else { served.answer(request) }
    });
    let image = Site::new().pull(&server.reference("web:1")).unwrap();
    assert_eq!(image.layers.len(), AT_ONCE);
}

/// The first layer does not come before the second one is done.
#[test]
fn a_layer_is_unpacked_while_another_is_still_to_come() {
    let served = Served::of_layers(&layers(2, 10));
    let [held, other] = [0, 1].map(|number| served.layers[number].clone());
    let gate = Arc::new(Gate::of(2));
    let at_server = gate.clone();
    let server = Server::start(move |request| {
        if is_for(request, &held) && !at_server.pass("held") { missing() } else { served.answer(request) }
    });
    let site = Site::new();
    let watch = |progress: &Progress<'_>| match progress {
        Progress::Done { layer } if layer.to_string() == other => drop(gate.pass("other")),
        _ => {}
    };
    site.pull_with(&server.reference("web:1"), &watch).unwrap();
}

/// Of each layer the second half comes when the first file of every layer is there.
#[test]
fn layers_are_unpacked_at_once_and_while_they_come() {
    let served = Served::of_layers(&layers(AT_ONCE, 1 << 20));
    let site = Site::new();
    let (tmp, halves) = (site.path("store/tmp"), served.layers.clone());
    let server = Server::start(move |request| {
        if !halves.iter().any(|layer| is_for(request, layer)) {
            return served.answer(request);
        }
        if request.from() == 0 {
            let half = served.layer().len() / 2;
            return served.answer(request).ending(End::CutAfter(half));
        }
        if is_unpacked(&tmp) { served.answer(request) } else { missing() }
    });
    let image = site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(image.layers.len(), AT_ONCE);
    assert_eq!(site.waits.lock().unwrap().len(), AT_ONCE, "each layer came in two halves");
}

/// Waits until every layer's first file lies in the folder of who writes them.
fn is_unpacked(tmp: &Path) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        let mut found = Vec::new();
        files(tmp, &mut found);
        if (0..AT_ONCE).all(|number| found.contains(&format!("first-{number}"))) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The names of all files below a folder, in which others are at work.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.file_name().into_string().unwrap()),
        }
    }
}
