//! The way that everything goes well: platforms, layers, mirrors, redirects, and what is not fetched twice.

use serde_json::json;

use podkeep::image::{Digest, Failure, Progress};

use super::builder::{Layer, architecture};
use super::server::{Answer, Server};
use super::site::{INDEX, MANIFEST, Served, Site, is_for, missing};

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[test]
fn an_image_comes_over_plain_http_from_this_machine_without_being_named() {
    let served = Served::small();
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let image = site.pull(&server.reference("team/web:1")).unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
    assert_eq!(image.config.cmd, ["sh"]);
    let accept = server.asked("/v2/team/web/manifests/1")[0].header("accept").unwrap().to_owned();
    assert_eq!(accept.matches("application/vnd.").count(), 4, "{accept}");
}

#[test]
fn an_artifact_comes_as_files_and_is_not_fetched_again() {
    let mut served = Served::default();
    let config = served.add_blob("application/vnd.oci.empty.v1+json", b"{}".into());
    let mut layer = served.add_blob("application/octet-stream", b"weights".into());
    layer["annotations"] = json!({"org.opencontainers.image.title": "model/a.bin"});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "artifactType": "application/vnd.example.model"});
    let digest = served.add_manifest(MANIFEST, &manifest);
    let manifest = served.manifests[&digest].clone();
    served.manifests.insert("1".to_owned(), manifest);
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    for _ in 0..2 {
        let image = site.pull(&server.reference("team/model:1")).unwrap();
        assert!(image.is_artifact);
        assert_eq!(site.read(&image, "/model/a.bin"), "weights");
    }
    assert_eq!(server.asked("/blobs/").len(), 1, "the file; nobody needs what stands for no configuration");
}

/// Images for other platforms stand before and behind ours.
fn several_platforms(index_type: &str) -> Served {
    let mut served = Served::default();
    let layer = |name: &str| vec![Layer::new().file("platform", name).finish()];
    let [wrong, right] = ["other", architecture()].map(|name| served.add_image(&layer(name), name));
    let entry = |digest: &str, architecture: &str, variant: Option<&str>| {
        let (media_type, bytes) = &served.manifests[digest];
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "platform": platform})
    };
    let manifests = [
        entry(&wrong, "s390x", None),
        entry(&right, architecture(), None),
        // What only newer processors run.
        entry(&wrong, architecture(), Some("v4")),
    ];
    let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": manifests});
    let digest = served.add_manifest(index_type, &index);
    let index = served.manifests[&digest].clone();
    served.manifests.insert("1".to_owned(), index);
    served
}

#[test]
fn of_several_platforms_the_right_one_is_chosen_and_nothing_of_the_others_is_fetched() {
    for index_type in [INDEX, DOCKER_LIST] {
        let served = several_platforms(index_type);
        let server = Server::start(move |request| served.answer(request));
        let site = Site::new();
        let image = site.pull(&server.reference("web:1")).unwrap();
        assert_eq!(site.read(&image, "/platform"), architecture());
        assert_eq!((server.asked("/manifests/").len(), server.asked("/blobs/").len()), (2, 2));
    }
}

#[test]
fn no_image_for_this_platform_says_which_there_are() {
    let mut served = Served::default();
    let digest = served.add_image(&[Layer::new().finish()], "s390x");
    let manifest = served.manifests[&digest].clone();
    served.manifests.insert("1".to_owned(), manifest);
    let server = Server::start(move |request| served.answer(request));
    let failure = Site::new().refused(&server.reference("web:1"));
    assert!(failure.to_string().contains("is for linux/s390x, this machine runs linux/"), "{failure}");
}

#[test]
fn a_reference_by_digest_needs_no_tag_and_no_second_look() {
    let served = Served::small();
    let digest = Digest::of(&served.manifests["1"].1);
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let reference = server.reference(&format!("web:ignored@{digest}"));
    let image = site.pull(&reference).unwrap();
    let asked = server.asked("").len();
    assert_eq!(site.pull(&reference).unwrap().id, image.id);
    assert_eq!(server.asked("").len(), asked);
    assert!(server.asked("ignored").is_empty());
}

#[test]
fn an_image_that_is_there_costs_one_question_until_its_tag_moves() {
    let moved = std::sync::Arc::new(std::sync::Mutex::new(Served::small()));
    let current = moved.clone();
    let server = Server::start(move |request| current.lock().unwrap().answer(request));
    let site = Site::new();
    let reference = server.reference("web:1");
    let first = site.pull(&reference).unwrap();
    let asked = server.asked("").len();
    site.pull(&reference).unwrap();
    let more = server.asked("").split_off(asked);
    assert_eq!(more.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["HEAD"]);

    *moved.lock().unwrap() = Served::of_layers(&[Layer::new().file("hello", "again\n").finish()]);
    let second = site.pull(&reference).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(site.read(&second, "/hello"), "again\n");
}

#[test]
fn layers_that_are_there_are_not_fetched_again() {
    let base = Layer::new().file("base", "1").finish();
    let top = Layer::new().file("top", "2").finish();
    let mut served = Served::of_layers(std::slice::from_ref(&base));
    let digest = served.add_image(&[base.clone(), top, base], architecture());
    let manifest = served.manifests[&digest].clone();
    served.manifests.insert("2".to_owned(), manifest);
    let base = served.layers[0].clone();
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    site.pull(&server.reference("web:1")).unwrap();
    let image = site.pull(&server.reference("web:2")).unwrap();
    assert_eq!(site.read(&image, "/top"), "2");
    assert_eq!(server.asked(&base).len(), 1);
}

#[test]
fn twenty_layers_come_in_order_however_they_arrive() {
    let layers: Vec<_> = (0..20).map(|n| Layer::new().file("number", &n.to_string()).finish()).collect();
    let served = Served::of_layers(&layers);
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let image = site
        .pull_with(&server.reference("web:1"), &|progress| {
            if let Progress::Done { .. } = progress {
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        })
        .unwrap();
    assert_eq!(image.layers.len(), 20);
    assert_eq!(site.read(&image, "/number"), "19");
    assert_eq!(done.into_inner(), 20);
}

#[test]
fn a_mirror_is_asked_first_and_told_whose_images_it_is_to_give() {
    let served = Served::small();
    let origin = Server::start(|_| missing());
    let mirror = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.address, mirror.address);
    site.hosts("docker.io", &text);
    site.pull("web:1").unwrap();
    assert!(origin.asked("").is_empty());
    assert_eq!(mirror.asked("/v2/library/web/manifests/1?ns=docker.io").len(), 1);
}

#[test]
fn a_mirror_that_lacks_it_fails_or_lies_is_passed_over() {
    let served = Served::small();
    let layer = served.layers[0].clone();
    let honest = served.clone();
    let origin = Server::start(move |request| honest.answer(request));
    let lacks = Server::start(|_| missing());
    let fails = Server::start(|_| Answer::new(500, ""));
    let lies = Server::start(move |request| match is_for(request, &layer) {
        true => Answer::ok(vec![0; served.layer().len()]),
        false => served.answer(request),
    });
    let site = Site::new();
    let hosts: Vec<_> =
        [&lacks, &fails, &lies].map(|one| format!("[host.\"http://{}\"]\n", one.address)).to_vec();
    site.hosts("r.example", &format!("server = \"http://{}\"\n{}", origin.address, hosts.concat()));
    let image = site.pull("r.example/web:1").unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
    assert_eq!((lies.asked("/blobs/").len(), origin.asked("/blobs/").len()), (2, 1));
    assert_eq!(fails.asked("").len(), 1, "once it has failed it is not asked first again");
}

/// The bad entry comes long before the digest could be compared.
#[test]
fn a_mirror_whose_layer_cannot_be_unpacked_is_passed_over_if_it_is_not_the_one_that_was_promised() {
    let served = Served::large(4 << 20);
    let layer = served.layers[0].clone();
    let mut bad = Layer::new().file("../outside", "x").finish();
    bad.resize(served.layer().len(), 0);
    let honest = served.clone();
    let origin = Server::start(move |request| honest.answer(request));
    let lies = Server::start(move |request| match is_for(request, &layer) {
        true => Answer::ok(bad.clone()),
        false => served.answer(request),
    });
    let site = Site::new();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.address, lies.address);
    site.hosts("r.example", &text);
    let image = site.pull("r.example/web:1").unwrap();
    assert_eq!(site.read(&image, "/hello"), "world\n");
    assert_eq!((lies.asked("/blobs/").len(), origin.asked("/blobs/").len()), (2, 1));
}

#[test]
fn what_mirrors_said_stands_beside_the_registrys_own_answer() {
    let origin = Server::start(|_| missing());
    let mirror = Server::start(|_| Answer::new(500, ""));
    let site = Site::new();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.address, mirror.address);
    site.hosts("r.example", &text);
    let error = site.pull("r.example/web:1").unwrap_err();
    assert!(matches!(*error.failure, Failure::NotFound { .. }));
    let expected = format!(
        "pull r.example/web:1: r.example does not have r.example/web:1; before that: {} answers 500 for r.example/web:1",
        mirror.address
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_redirect_is_followed_and_takes_no_secret_along() {
    let served = Served::small();
    let layer = served.layers[0].clone();
    let content = served.layer().to_vec();
    let elsewhere = Server::start(move |_| Answer::ok(content.clone()));
    let to = format!("http://{}/signed?token=x", elsewhere.address);
    let server = Server::start(move |request| {
        if request.header("authorization").is_none() {
            return Answer::new(401, "").header("www-authenticate", "Basic realm=x");
        }
        match is_for(request, &layer) {
            true => Answer::new(307, "").header("location", &to),
            false => served.answer(request),
        }
    });
    let mut site = Site::new();
    site.log_in(&server.address.to_string(), "user", "pw");
    site.pull(&server.reference("web:1")).unwrap();
    let asked = elsewhere.asked("/signed?token=x");
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, None));
}
