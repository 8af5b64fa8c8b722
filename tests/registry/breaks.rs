//! Networks and servers that break: what came before a break does not come again.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use podkeep::http::Cause;
use podkeep::image::{Digest, Failure, Progress};

use super::builder::Layer;
use super::server::{Answer, End, Server};
use super::site::{Served, Site, count, is_for};

/// Serves an image whose layer's connection is cut after each `piece` bytes, `times` times.
fn cutting(served: Served, piece: usize, times: usize) -> Server {
    let cuts = AtomicUsize::new(0);
    Server::start(move |request| {
        let answer = served.answer(request);
        let cut = is_for(request, &served.layers[0]) && cuts.fetch_add(1, Ordering::Relaxed) < times;
        if cut { answer.ending(End::CutAfter(piece)) } else { answer }
    })
}

#[test]
fn a_blob_goes_on_where_the_connection_broke() {
    let served = Served::large(1 << 20);
    let size = served.layer().len();
    let layer = served.layers[0].clone();
    let server = cutting(served, 300_000, 2);
    let site = Site::new();
    site.pull(&server.reference("web:1")).unwrap();
    let asked: Vec<usize> = server.asked(&layer).iter().map(|request| request.from()).collect();
    assert_eq!(asked.len(), 3);
    assert!(asked[0] == 0 && asked[1] > 200_000 && asked[2] > asked[1] && asked[2] < size, "{asked:?}");
    assert_eq!(site.waits.lock().unwrap().len(), 2);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let served = Served::large(1 << 20);
    let cuts = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if !is_for(request, &served.layers[0]) {
            return served.answer(request);
        }
        let whole = Answer::ok(served.layer());
        if cuts.fetch_add(1, Ordering::Relaxed) == 0 { whole.ending(End::CutAfter(300_000)) } else { whole }
    });
    let site = Site::new();
    let image = site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
}

/// Pulls from a server that breaks for good, so that a part is left; returns its length.
fn leave_a_part(site: &Site, served: &Served) -> u64 {
    let served = served.clone();
    let server = Server::start(move |request| match (is_for(request, &served.layers[0]), request.from()) {
        (true, 0) => served.answer(request).ending(End::CutAfter(700_000)),
        (true, _) => Answer::new(404, ""),
        _ => served.answer(request),
    });
    let failure = site.refused(&server.reference("web:1"));
    assert!(matches!(failure, Failure::NotFound { .. }), "{failure}");
    let part = fs::read_dir(site.path("store/parts")).unwrap().next().unwrap().unwrap();
    part.metadata().unwrap().len()
}

#[test]
fn what_an_earlier_pull_left_is_not_fetched_again() {
    let served = Served::large(1 << 20);
    let site = Site::new();
    let length = leave_a_part(&site, &served);
    assert!(length > 500_000, "{length}");
    let layer = served.layers[0].clone();
    let server = Server::start(move |request| served.answer(request));
    let image = site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
    assert_eq!(
        server.asked(&layer).iter().map(|request| request.from() as u64).collect::<Vec<_>>(),
        [length]
    );
    assert_eq!(count(&site.path("store/parts")), 0);
}

#[test]
fn layers_that_had_come_when_another_failed_are_not_fetched_again() {
    let layers = ["1", "2", "3"].map(|content| Layer::new().file("content", content).finish());
    let served = Served::of_layers(&layers);
    let [first, second, third] = served.layers.clone().try_into().unwrap();
    let (honest, missing) = (served.clone(), third.clone());
    let (tell, done) = mpsc::channel();
    let (tell, done) = (Mutex::new(tell), Mutex::new(done));
    let server = Server::start(move |request| {
        if !is_for(request, &missing) {
            return honest.answer(request);
        }
        // Not before the others are there.
        (0..2).for_each(|_| done.lock().unwrap().recv().unwrap());
        Answer::new(404, "")
    });
    let site = Site::new();
    let failed = site.pull_with(&server.reference("web:1"), &|progress| {
        if let Progress::Done { .. } = progress {
            tell.lock().unwrap().send(()).unwrap();
        }
    });
    assert!(matches!(*failed.unwrap_err().failure, Failure::NotFound { .. }));
    site.assert_empty();

    let server = Server::start(move |request| served.answer(request));
    let image = site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(site.read(&image, "/content"), "3");
    let asked = [&first, &second, &third].map(|layer| server.asked(layer).len());
    assert_eq!(asked, [0, 0, 1]);
    assert_eq!((count(&site.path("store/parts")), count(&site.path("store/blobs"))), (0, 3));
}

#[test]
fn a_part_that_a_power_cut_has_spoilt_is_thrown_away_and_all_of_it_fetched() {
    let served = Served::large(1 << 20);
    let site = Site::new();
    let length = leave_a_part(&site, &served);
    let part = fs::read_dir(site.path("store/parts")).unwrap().next().unwrap().unwrap().path();
    fs::write(&part, vec![0; usize::try_from(length).unwrap()]).unwrap();
    let layer = served.layers[0].clone();
    let server = Server::start(move |request| served.answer(request));
    let image = site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
    assert_eq!(server.asked(&layer).last().unwrap().from(), 0);
}

#[test]
fn a_server_that_is_restarted_is_asked_again() {
    let served = Served::small();
    let failures = AtomicUsize::new(0);
    let server = Server::start(move |request| match failures.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Answer::new(503, ""),
        _ => served.answer(request),
    });
    let site = Site::new();
    site.pull(&server.reference("web:1")).unwrap();
    assert_eq!(site.waits.lock().unwrap().len(), 2);
}

#[test]
fn a_short_rate_limit_is_waited_for_and_a_long_one_is_told() {
    let served = Served::small();
    let first = AtomicUsize::new(0);
    let server = Server::start(move |request| match first.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::new(429, "").header("retry-after", "1"),
        _ => served.answer(request),
    });
    Site::new().pull(&server.reference("web:1")).unwrap();

    let server = Server::start(|_| Answer::new(429, "").header("retry-after", "3600"));
    let failure = Site::new().refused(&server.reference("web:1"));
    let Failure::RateLimited { until: Some(until), .. } = &failure else { panic!("{failure}") };
    assert!(until.duration_since(jiff::Timestamp::now()) > jiff::SignedDuration::from_mins(59), "{failure}");
    assert_eq!(server.asked("").len(), 1, "it is left alone");
}

#[test]
fn a_registry_that_wants_a_long_rest_is_not_asked_by_the_next_pull_either() {
    let server = Server::start(|_| Answer::new(429, "").header("retry-after", "120"));
    let mut site = Site::new();
    for name in ["web:1", "web:1", "other:1"] {
        let failure = site.refused(&server.reference(name));
        assert!(matches!(failure, Failure::RateLimited { until: Some(_), .. }), "{failure}");
    }
    assert_eq!(server.asked("").len(), 1);
    site.log_in(&server.address.to_string(), "user", "pw");
    site.refused(&server.reference("web:1"));
    assert_eq!(server.asked("").len(), 2, "it may count somebody's requests apart from nobody's");
}

#[test]
fn nobody_there_is_said_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = Site::new().refused(&format!("{address}/web:1"));
    let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
    assert!(matches!(error.cause, Cause::Connect(_)), "{failure}");
}

#[test]
fn a_cancelled_pull_ends_at_once_although_the_server_is_silent() {
    let served = Served::large(1 << 20);
    let layer = served.layers[0].clone();
    let server = Server::start(move |request| match is_for(request, &layer) {
        true => served.answer(request).ending(End::SilenceAfter(100_000)),
        false => served.answer(request),
    });
    let site = Site::new();
    let (tell, arrived) = mpsc::channel();
    let (cancel, tell) = (site.cancel.clone(), Mutex::new(tell));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            arrived.recv().unwrap();
            cancel.cancel();
        });
        let error = site.pull_with(&server.reference("web:1"), &|progress| {
            if let Progress::Received { .. } = progress {
                // Only the first is waited for.
                let _ = tell.lock().unwrap().send(());
            }
        });
        assert!(matches!(*error.unwrap_err().failure, Failure::Cancelled));
    });
    site.assert_empty();
    assert_eq!(count(&site.path("store/parts")), 1, "what has come stays");
}

#[test]
fn two_pulls_of_one_image_at_once_both_end_well() {
    let served = Served::large(1 << 20);
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let reference = server.reference("web:1");
    let ids: Vec<Digest> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| site.pull(&reference).unwrap().id)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(count(&site.path("store/layers")), 1);
}
