//! Registries that lie: each lie costs an error and nothing else.

use podkeep::http::Cause;
use podkeep::image::{Failure, Lie};

use serde_json::json;

use super::builder::{Layer, architecture};
use super::server::{Answer, End, Request, Server};
use super::site::{INDEX, MANIFEST, Served, Site, count, is_for};

/// What a pull fails with where everything is honest but the layer's blob.
fn layer_as(answer: impl Fn(&Served, &Request) -> Answer + Send + Sync + 'static) -> Failure {
    let served = Served::small();
    let server = Server::start(move |request| match is_for(request, &served.layers[0]) {
        true => answer(&served, request),
        false => served.answer(request),
    });
    let site = Site::new();
    let failure = site.refused(&server.reference("web:1"));
    if let Failure::Lie { lie: Lie::Digest(_), .. } = &failure {
        assert_eq!(count(&site.path("store/parts")), 0, "nothing of a lie is kept");
    }
    failure
}

/// What a pull fails with where this is what the tag means.
fn manifest_as(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Failure {
    let server = Server::start(move |_| answer());
    Site::new().refused(&server.reference("web:1"))
}

#[track_caller]
fn lie(failure: Failure) -> Lie {
    let Failure::Lie { host, lie, .. } = failure else { panic!("{failure}") };
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    lie
}

#[test]
fn another_blob_of_the_same_size_is_found_out() {
    let failure = layer_as(|served, _| {
        let mut bytes = served.layer().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Answer::ok(bytes)
    });
    assert!(matches!(lie(failure), Lie::Digest(_)));
    assert!(matches!(lie(layer_as(|served, _| Answer::ok(vec![0; served.layer().len()]))), Lie::Digest(_)));
}

#[test]
fn a_blob_of_another_size_is_not_even_begun() {
    for change in [-1i64, 1] {
        let failure = layer_as(move |served, _| {
            let mut bytes = served.layer().to_vec();
            bytes.resize((bytes.len() as i64 + change) as usize, 0);
            Answer::ok(bytes)
        });
        let Lie::Size { expected, actual } = lie(failure) else { panic!() };
        assert_eq!(actual as i64, expected as i64 + change);
    }
}

#[test]
fn an_endless_blob_ends_where_it_should_have() {
    let failure = layer_as(|served, _| Answer::ok(served.layer()).ending(End::Never));
    assert!(matches!(lie(failure), Lie::Endless { .. }));
}

#[test]
fn a_blob_that_is_always_cut_off_is_given_up() {
    let served = Served::small();
    let server = Server::start(move |request| match is_for(request, &served.layers[0]) {
        true => served.answer(request).ending(End::CutAfter(1)),
        false => served.answer(request),
    });
    let site = Site::new();
    let failure = site.refused(&server.reference("web:1"));
    let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
    assert!(matches!(error.cause, Cause::Broken(_)), "{failure}");
    assert_eq!(server.asked("/blobs/").len(), 1 + 5, "the configuration, and five attempts");
}

#[test]
fn another_range_than_was_asked_for_is_refused() {
    let failure = {
        let served = Served::large(1 << 20);
        let server =
            Server::start(move |request| match (is_for(request, &served.layers[0]), request.from()) {
                (true, 0) => served.answer(request).ending(End::CutAfter(300_000)),
                (true, _) => Answer::new(206, served.layer()).header("content-range", "bytes 0-9/10"),
                _ => served.answer(request),
            });
        Site::new().pull(&server.reference("web:1")).unwrap_err().failure
    };
    assert!(matches!(lie(*failure), Lie::Nonsense(_)));
}

#[test]
fn endless_redirects_end() {
    let failure = manifest_as(|| Answer::new(302, "").header("location", "/v2/web/manifests/1"));
    let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
    assert!(matches!(error.cause, Cause::Redirects { limit: 10 }), "{failure}");
}

#[test]
fn a_redirect_to_plain_http_elsewhere_or_to_a_file_is_not_followed() {
    for to in ["http://registry.example/x", "file:///etc/shadow", "ftp://x/"] {
        let failure = manifest_as(move || Answer::new(302, "").header("location", to));
        let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
        assert!(matches!(error.cause, Cause::PlainHttp | Cause::RedirectedTo(_)), "{failure}");
    }
}

/// What `http://` and `skip_verify` allow, they allow to the host that is named.
#[test]
fn no_credential_goes_over_plain_http_to_a_host_that_is_not_named() {
    for more in ["", "skip_verify = true\n"] {
        for realm in [true, false] {
            let server = Server::start(move |_| match realm {
                true => Answer::new(401, "")
                    .header("www-authenticate", "Bearer realm=\"http://tokens.invalid/\",service=\"x\""),
                false => Answer::new(302, "").header("location", "http://elsewhere.invalid/v2/"),
            });
            let mut site = Site::new();
            site.hosts("r.example", &format!("server = \"http://{}\"\n{more}", server.address));
            site.log_in("r.example", "user", "pw");
            let failure = site.refused("r.example/web:1");
            let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
            assert!(matches!(error.cause, Cause::PlainHttp), "{failure}");
        }
    }
}

#[test]
fn a_manifest_of_a_gigabyte_is_not_read() {
    for answer in [
        Answer::ok("").header("content-length", "1000000000").ending(End::CutAfter(0)),
        Answer::ok(vec![b' '; 1 << 20]).ending(End::Never),
    ] {
        let failure = manifest_as(move || answer.clone());
        let Failure::Unreachable(error) = &failure else { panic!("{failure}") };
        assert!(matches!(error.cause, Cause::TooLarge { .. }), "{failure}");
    }
}

#[test]
fn a_manifest_that_is_another_one_than_was_asked_for_is_refused() {
    let served = Served::small();
    let other = Served::of_layers(&[Layer::new().finish()]);
    let (digest, bytes) =
        (podkeep::image::Digest::of(&served.manifests["1"].1), other.manifests["1"].1.clone());
    let server = Server::start(move |_| Answer::ok(bytes.clone()).header("content-type", MANIFEST));
    let site = Site::new();
    assert!(matches!(lie(site.refused(&server.reference(&format!("web@{digest}")))), Lie::Digest(_)));
}

#[test]
fn what_is_no_manifest_is_refused_by_what_it_is() {
    let cases = [
        ("text/html", "<html>Please log in to this network</html>", "is not valid JSON"),
        (MANIFEST, r#"{"manifests":[],"layers":[]}"#, "a manifest and an index at once"),
        (INDEX, r#"{"schemaVersion":2,"manifests":[]}"#, "this machine runs linux/"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion":1}"#,
            "manifest.v1+prettyjws, which podkeep cannot read",
        ),
        (MANIFEST, "{}", "is not valid JSON"),
    ];
    for (media_type, text, expected) in cases {
        let failure = manifest_as(move || Answer::ok(text).header("content-type", media_type));
        assert!(matches!(failure, Failure::Image(_)), "{failure}");
        let shown = super::builder::chain(&failure);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn an_index_that_names_itself_for_ever_ends() {
    let mut served = Served::default();
    let mut below = served.add_image(&[Layer::new().finish()], architecture());
    let mut media_type = MANIFEST;
    for _ in 0..6 {
        let size = served.manifests[&below].1.len();
        let entry = json!({"mediaType": media_type, "digest": below, "size": size});
        media_type = INDEX;
        below = served
            .add_manifest(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}));
    }
    let top = served.manifests[&below].clone();
    served.manifests.insert("1".to_owned(), top);
    let server = Server::start(move |request| served.answer(request));
    let failure = Site::new().refused(&server.reference("web:1"));
    assert!(failure.to_string().contains("is not followed further"), "{failure}");
}

#[test]
fn a_layer_that_leaves_its_root_is_refused_and_writes_nothing() {
    let served = Served::of_layers(&[Layer::new().file("../../../../evil", "x").finish()]);
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let failure = site.refused(&server.reference("web:1"));
    let shown = super::builder::chain(&failure);
    assert!(shown.contains("leaves the root"), "{shown}");
    assert!(!site.path("evil").exists());
}

#[test]
fn a_strangers_words_move_no_cursor() {
    let failure = manifest_as(|| Answer::new(403, r#"{"errors":[{"message":"\u001b[2Jgone\n"}]}"#));
    assert!(failure.to_string().contains("refuses ([2Jgone)"), "{failure}");
}
