//! What a store has lost of an image, though its layers are there, comes back when a person pulls it.

use std::fs;
use std::path::PathBuf;

use podkeep::image::Reference;

use super::builder::Layer;
use super::server::{End, Server};
use super::site::{Served, Site, count, is_for};

fn two_layers() -> Served {
    Served::of_layers(&["one", "two"].map(|text| Layer::new().file("hello", text).finish()))
}

fn save(site: &Site, name: &str) -> Result<Vec<u8>, String> {
    let mut archive = Vec::new();
    let saved = site.store.save(&[name.parse::<Reference>().unwrap()], &mut archive);
    saved.map(|()| archive).map_err(|error| error.to_string())
}

fn files(site: &Site, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path("store").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_is_lost_is_fetched_and_nothing_else() {
    let served = two_layers();
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let by_tag = server.reference("web:1");
    let image = site.pull(&by_tag).unwrap();
    let archive = save(&site, &by_tag).unwrap();
    let digest = fs::read_dir(site.path("store/manifests")).unwrap().next().unwrap().unwrap().file_name();
    let by_digest = format!("{}@sha256:{}", server.reference("web"), &digest.to_str().unwrap()[..64]);
    for name in [&by_tag, &by_digest] {
        for folder in ["blobs", "manifests"] {
            for (number, file) in files(&site, folder).into_iter().enumerate() {
                if number == 0 { fs::remove_file(file).unwrap() } else { fs::write(file, "{}").unwrap() }
            }
            let error = save(&site, &by_tag).unwrap_err();
            assert!(error.ends_with("load its image again, or pull it with --spare-copies"), "{error}");
            let before = server.asked("/blobs/").len();
            if folder == "blobs" {
                site.pull(&by_tag).unwrap();
                assert_eq!(server.asked("/blobs/").len(), before, "the node does not need them");
            }
            assert_eq!(site.pull_whole(name).unwrap().layers, image.layers, "{folder}");
            let fetched = server.asked("/blobs/").len() - before;
            assert_eq!(fetched, if folder == "blobs" { 3 } else { 1 }, "the configuration comes each time");
            assert!(save(&site, &by_tag).unwrap() == archive, "{name} {folder}");
            site.pull_whole(name).unwrap();
            assert_eq!(server.asked("/blobs/").len(), before + fetched, "nothing lacks");
        }
    }
    assert_eq!((count(&site.path("store/tmp")), count(&site.path("store/parts"))), (0, 0));
}

#[test]
fn a_spare_copy_goes_on_where_its_download_broke_off() {
    let served = Served::large(300_000);
    let layer = served.layers[0].clone();
    let blob = served.layer().to_vec();
    let server = Server::start(move |request| match is_for(request, &layer) && request.from() == 0 {
        true => served.answer(request).ending(End::CutAfter(100_000)),
        false => served.answer(request),
    });
    let site = Site::new();
    site.pull(&server.reference("web:1")).unwrap();
    let [file] = files(&site, "blobs").try_into().unwrap();
    fs::remove_file(&file).unwrap();
    site.pull_whole(&server.reference("web:1")).unwrap();
    assert!(fs::read(&file).unwrap() == blob);
}

/// A node far away may have cleaned them away for want of room, again and again.
#[test]
fn a_person_who_pulls_what_is_up_to_date_fetches_no_blob_unless_spare_copies_are_asked_for() {
    let served = two_layers();
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let reference = server.reference("web:1");
    let blobs = site.path("root/images/blobs");
    let fetched = |options: &[&str]| {
        let before = server.asked("").len();
        let output = super::command::podkeep(&site).args(options).arg(&reference).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.asked("")[before..].iter().map(|request| request.method.clone()).collect::<Vec<_>>()
    };
    assert_eq!((fetched(&[]).len(), count(&blobs)), (4, 2), "manifest, configuration, layers");
    fs::remove_dir_all(&blobs).unwrap();
    assert_eq!((fetched(&[]), count(&blobs)), (vec!["HEAD".to_owned()], 0));
    assert_eq!((fetched(&["--spare-copies"]).len(), count(&blobs)), (4, 2));
}

#[test]
fn a_lie_is_no_spare_copy() {
    let served = two_layers();
    let (layer, bytes) = (served.layers[0].clone(), served.layer().to_vec());
    let honest = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(move |request| {
        if is_for(request, &layer) && !honest.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let mut bytes = bytes.clone();
            *bytes.last_mut().unwrap() ^= 1;
            return super::server::Answer::ok(bytes);
        }
        served.answer(request)
    });
    let site = Site::new();
    let image = site.pull(&server.reference("web:1")).unwrap();
    for file in files(&site, "blobs") {
        fs::remove_file(file).unwrap();
    }
    let error = site.pull_whole(&server.reference("web:1")).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    assert_eq!((count(&site.path("store/blobs")), count(&site.path("store/tmp"))), (0, 0));
    assert_eq!(site.read(&image, "/hello"), "two", "the image serves as before");
}
