//! What the store keeps, for how long, and what it does when something in it is damaged.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podkeep::image::{Cleaned, Digest, Error, Image, Keep, Policy, Reference};
use serde_json::json;

use super::builder::{Layer, World, chain, gzip};

fn layer_of(content: &str) -> Vec<u8> {
    Layer::new().folder("etc").file("etc/content", content).symlink("link", "etc/content").finish()
}

/// A layout of one image of these layers, gzip compressed.
fn layout(world: &World, name: &str, contents: &[&str]) -> PathBuf {
    let mut layout = world.layout(name);
    let blobs: Vec<_> =
        contents.iter().map(|content| layer_of(content)).map(|layer| (gzip(&layer), layer)).collect();
    let manifest = layout.image(&blobs, json!({"Cmd": ["sh"]}));
    layout.name(&format!("{name}:1"), manifest);
    layout.write()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn tree(world: &World, image: &Image, layer: usize) -> PathBuf {
    world.store.layers_dir().join(&image.layers[layer])
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Words of what `verify` found, and whether each is mended.
fn verify(world: &World) -> Vec<(String, bool)> {
    let found = world.store.verify().unwrap();
    found.into_iter().map(|damage| (format!("{}: {}", damage.what, damage.why), damage.mended)).collect()
}

fn assert_whole(world: &World, name: &str, content: &str) {
    let image = world.find(name).unwrap();
    let read = world.store.read_file(&image, "/link", 64).unwrap();
    assert_eq!(read.as_deref(), Some(content.as_bytes()), "{name}");
    assert_eq!(verify(world), []);
}

#[test]
fn a_damaged_layer_is_found_and_made_again_from_its_blob() {
    let world = World::new();
    let source = layout(&world, "web", &["one", "two"]);
    world.store.import(&source).unwrap();
    fs::remove_dir_all(&source).unwrap();
    assert_whole(&world, "web:1", "two");
    let before = world.find("web:1").unwrap();
    fs::write(tree(&world, &before, 1).join("etc/content"), "twO").unwrap();
    let found = verify(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.contains("etc/content has another") && found[0].1, "{found:?}");
    let after = world.find("web:1").unwrap();
    assert_eq!(before.layers[0], after.layers[0]);
    assert_ne!(before.layers[1], after.layers[1]);
    assert!(tree(&world, &before, 1).exists(), "a container may run on it");
    assert_whole(&world, "web:1", "two");

    let keep = |images: &[&Image]| Keep {
        images: images.iter().map(|image| image.id.clone()).collect(),
        references: [reference("web:1")].into(),
    };
    world.store.clean(&Policy::all_unused(), &keep(&[&after]), false).unwrap();
    assert!(tree(&world, &before, 1).exists());
    world.store.clean(&Policy::all_unused(), &keep(&[]), false).unwrap();
    assert!(!tree(&world, &before, 1).exists() && tree(&world, &after, 1).exists());
}

#[test]
fn without_its_blob_a_layer_is_made_again_from_where_it_came() {
    let world = World::new();
    let source = layout(&world, "web", &["one"]);
    world.store.import_from_folder(&source).unwrap();
    for blob in names(&world.path("store/blobs")) {
        fs::write(world.path("store/blobs").join(blob), "no blob").unwrap();
    }
    fs::remove_dir_all(tree(&world, &world.find("web:1").unwrap(), 0)).unwrap();
    assert!(matches!(world.store.find(&reference("web:1")), Err(error) if error.is_damage()));
    assert!(!world.store.is_imported_from_folder(&source).unwrap());
    assert!(world.store.list().unwrap()[0].damage.as_ref().unwrap().contains("the layer is missing"));
    let found = verify(&world);
    assert_eq!(found.iter().map(|(_, mended)| *mended).collect::<Vec<_>>(), [true, true], "{found:?}");
    assert_whole(&world, "web:1", "one");
}

#[test]
fn damaged_content_that_nothing_can_mend_comes_back_with_its_image() {
    let world = World::new();
    let source = layout(&world, "web", &["one", "two"]);
    world.store.import(&source).unwrap();
    let aside = world.path("aside");
    fs::rename(&source, &aside).unwrap();
    for blob in names(&world.path("store/blobs")) {
        fs::remove_file(world.path("store/blobs").join(blob)).unwrap();
    }
    let before = world.find("web:1").unwrap();
    fs::write(tree(&world, &before, 1).join("etc/content"), "twO").unwrap();
    for _ in 0..2 {
        let found = verify(&world);
        assert!(
            matches!(&found[..], [(what, false)] if what.contains("etc/content has another")),
            "{found:?}"
        );
        assert!(matches!(world.store.find(&reference("web:1")), Err(error) if error.is_damage()));
    }
    world.store.import(&aside).unwrap();
    let after = world.find("web:1").unwrap();
    assert_eq!(before.layers[0], after.layers[0]);
    assert_ne!(before.layers[1], after.layers[1]);
    assert!(tree(&world, &before, 1).exists(), "a container may run on it");
}

#[test]
fn what_was_found_damaged_and_is_whole_again_serves_again() {
    let world = World::new();
    let source = layout(&world, "web", &["one"]);
    world.store.import(&source).unwrap();
    fs::remove_dir_all(&source).unwrap();
    fs::remove_dir_all(world.path("store/blobs")).unwrap();
    fs::create_dir(world.path("store/blobs")).unwrap();
    let content = tree(&world, &world.find("web:1").unwrap(), 0).join("etc/content");
    let mode = |mode| fs::set_permissions(&content, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o600);
    assert!(verify(&world).iter().any(|(_, mended)| !mended));
    mode(0o644);
    verify(&world);
    assert!(world.find("web:1").is_some());
}

#[test]
fn a_manifest_that_is_gone_is_found_mended_and_never_made_up() {
    let world = World::new();
    let source = layout(&world, "web", &["one"]);
    world.store.import(&source).unwrap();
    let manifest = world.path("store/manifests").join(&names(&world.path("store/manifests"))[0]);
    fs::write(&manifest, "{}").unwrap();
    let error = world.store.save(&[reference("web:1")], Vec::new()).unwrap_err();
    assert!(matches!(error, Error::NoManifest { .. }), "{error}");
    let found = verify(&world);
    assert!(matches!(&found[..], [(what, true)] if what.contains("has another digest")), "{found:?}");
    fs::remove_file(&manifest).unwrap();
    fs::remove_dir_all(&source).unwrap();
    assert!(matches!(&verify(&world)[..], [(_, false)]));
}

/// An index of ours and of another machine's manifest, which is not there.
fn with_index(world: &World, name: &str) -> (PathBuf, String) {
    let mut layout = world.layout(name);
    let layer = layer_of(name);
    let mut manifest = layout.image(&[(gzip(&layer), layer)], json!({}));
    manifest["platform"] = json!({"os": "linux", "architecture": super::builder::architecture()});
    let other = json!({"mediaType": super::builder::MANIFEST, "digest": Digest::of(b"other").to_string(), "size": 5,
        "platform": {"os": "linux", "architecture": "s390x"}});
    let index =
        json!({"schemaVersion": 2, "mediaType": super::builder::INDEX, "manifests": [other, manifest]});
    let index = layout.typed_blob(super::builder::INDEX, index.to_string().as_bytes());
    let digest = index["digest"].as_str().unwrap().to_owned();
    layout.name(&format!("{name}:1"), index);
    (layout.write(), digest)
}

#[test]
fn what_is_saved_is_found_by_the_digest_of_its_index() {
    let world = World::new();
    let (source, digest) = with_index(&world, "web");
    world.store.import(&source).unwrap();
    let by_digest = format!("web@{digest}");
    let mut archive = Vec::new();
    world
        .store
        .clean(
            &Policy::all_unused(),
            &Keep { references: [reference("web:1")].into(), ..Keep::default() },
            false,
        )
        .unwrap();
    world.store.save(&[reference(&by_digest)], &mut archive).unwrap();
    let other = World::new();
    other.store.import_stream(&*archive, &|_| ()).unwrap();
    assert_eq!(other.find(&by_digest).unwrap().id, world.find("web:1").unwrap().id);
    assert_whole(&other, "web:1", "web");
}

#[test]
fn an_image_is_the_folders_for_as_long_as_its_file_lies_there() {
    let world = World::new();
    let folder = layout(&world, "images/folder", &["folder"]);
    let name = reference("images/folder:1");
    world.store.import(&folder).unwrap();
    assert!(!world.store.is_of_folder(&name).unwrap());
    world.store.import_from_folder(&folder).unwrap();
    assert!(world.store.is_of_folder(&name).unwrap());
    fs::remove_dir_all(&folder).unwrap();
    assert!(!world.store.is_of_folder(&name).unwrap());
}

#[test]
fn an_image_of_the_folder_stays_though_a_person_loads_it_or_the_folder_is_out_of_reach() {
    for by_hand_first in [true, false] {
        let world = World::new();
        let folder = layout(&world, "images/folder", &["folder"]);
        if by_hand_first {
            world.store.import(&folder).unwrap();
            assert!(!world.store.is_imported_from_folder(&folder).unwrap());
            world.store.import_from_folder(&folder).unwrap();
        } else {
            world.store.import_from_folder(&folder).unwrap();
            world.store.import(&folder).unwrap();
            assert!(world.store.is_imported_from_folder(&folder).unwrap());
        }
        assert_eq!(clean(&world, &Keep::default(), false).1, [""; 0]);
        fs::rename(world.path("images"), world.path("unmounted")).unwrap();
        assert_eq!(clean(&world, &Keep::default(), false).1, [""; 0]);
        fs::create_dir(world.path("images")).unwrap();
        assert_eq!(clean(&world, &Keep::default(), false).1, ["images/folder:1"]);
    }
}

#[test]
fn what_nothing_can_mend_is_said_and_comes_back_with_its_image() {
    let world = World::new();
    let source = layout(&world, "web", &["one"]);
    world.store.import(&source).unwrap();
    let aside = world.path("aside");
    fs::rename(&source, &aside).unwrap();
    for folder in ["blobs", "layers"] {
        fs::remove_dir_all(world.path("store").join(folder)).unwrap();
        fs::create_dir(world.path("store").join(folder)).unwrap();
    }
    let found = verify(&world);
    assert!(found.iter().any(|(_, mended)| !mended), "{found:?}");
    assert!(!world.store.mend(&reference("web:1")).unwrap());
    fs::rename(&aside, &source).unwrap();
    assert!(world.store.mend(&reference("web:1")).unwrap());
    assert_whole(&world, "web:1", "one");
}

#[test]
fn broken_records_and_configurations_are_mended_before_a_start() {
    for folder in ["diffs", "configs", "manifests"] {
        let world = World::new();
        let source = layout(&world, "web", &["one"]);
        world.store.import(&source).unwrap();
        for name in names(&world.path("store").join(folder)) {
            fs::write(world.path("store").join(folder).join(name), "{").unwrap();
        }
        let kept = world.store.clean(&Policy::all_unused(), &Keep::default(), true);
        assert!(kept.is_ok(), "{folder}");
        assert!(world.store.mend(&reference("web:1")).unwrap(), "{folder}");
        assert_eq!(
            world.store.read_file(&world.find("web:1").unwrap(), "/link", 9).unwrap().unwrap(),
            b"one"
        );
    }
}

/// Nothing is thrown away because a record that would have named it cannot be read.
#[test]
fn a_record_that_cannot_be_read_costs_no_layer() {
    for folder in ["diffs", "configs", "refs"] {
        let world = World::new();
        world.store.import(&layout(&world, "web", &["one"])).unwrap();
        let keep = Keep { images: [world.find("web:1").unwrap().id].into(), ..Keep::default() };
        for name in names(&world.path("store").join(folder)) {
            fs::write(world.path("store").join(folder).join(name), "{").unwrap();
        }
        world.store.clean(&Policy::all_unused(), &keep, false).unwrap();
        podkeep::image::Store::open(&world.path("store")).unwrap();
        assert_eq!(names(world.store.layers_dir()).len(), 1, "{folder}");
    }
}

fn clean(world: &World, keep: &Keep, dry_run: bool) -> (Cleaned, Vec<String>) {
    let cleaned = world.store.clean(&Policy::all_unused(), keep, dry_run).unwrap();
    let names = cleaned.images.iter().flat_map(|image| &image.references).map(ToString::to_string).collect();
    (cleaned, names)
}

#[test]
fn unused_images_go_oldest_use_first_and_shared_layers_with_the_last() {
    let world = World::new();
    for (name, contents) in [("a", &["base", "a"]), ("b", &["base", "b"]), ("c", &["base", "c"])] {
        world.store.import(&layout(&world, name, contents)).unwrap();
        world.store.mark_used(&[world.find(&format!("{name}:1")).unwrap().id]).unwrap();
    }
    world.store.mark_used(&[world.find("a:1").unwrap().id]).unwrap();
    let keep = Keep { references: [reference("b:1")].into(), ..Keep::default() };
    let (planned, would) = clean(&world, &keep, true);
    assert_eq!(would, ["c:1", "a:1"]);
    assert_eq!(names(world.store.layers_dir()).len(), 4, "a dry run removes nothing");
    assert_eq!(clean(&world, &keep, false).0, planned);
    assert!(world.find("a:1").is_none() && world.find("c:1").is_none());
    assert_eq!(names(world.store.layers_dir()).len(), 2);
    assert_eq!(names(&world.path("store/blobs")).len(), 2);
    assert_whole(&world, "b:1", "b");
    clean(&world, &Keep::default(), false);
    for folder in ["layers", "diffs", "listings", "blobs", "configs", "manifests", "refs", "tmp"] {
        assert_eq!(names(&world.path("store").join(folder)), [""; 0], "{folder}");
    }
}

#[test]
fn images_in_use_or_in_the_image_folder_stay() {
    let world = World::new();
    for name in ["used", "loaded"] {
        world.store.import(&layout(&world, name, &[name])).unwrap();
    }
    let folder = layout(&world, "folder", &["folder"]);
    world.store.import_from_folder(&folder).unwrap();
    let keep = Keep { images: [world.find("used:1").unwrap().id].into(), ..Keep::default() };
    assert_eq!(clean(&world, &keep, false).1, ["loaded:1"]);
    assert_whole(&world, "used:1", "used");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(clean(&world, &keep, false).1, ["folder:1"], "it lies there no more");
}

#[test]
fn a_young_image_stays_and_a_small_disk_is_said() {
    let world = World::new();
    world.store.import(&layout(&world, "web", &["web"])).unwrap();
    let policy = Policy { maximum_age: Some(Duration::ZERO), ..Policy::kubelet() };
    let young = world.store.clean(&Policy { thresholds: None, ..policy.clone() }, &Keep::default(), false);
    assert_eq!(young.unwrap(), Cleaned::default());
    // Every disk is fuller than nothing.
    let full = Policy { thresholds: Some((0, 0)), ..policy };
    let cleaned = world.store.clean(&full, &Keep::default(), false).unwrap();
    assert!(cleaned.images.is_empty() && cleaned.lacking > 0, "{cleaned:?}");
    assert!(cleaned.spare_copies > 0, "spare copies are the first to go");
    assert_eq!(names(&world.path("store/blobs")), [""; 0]);
    assert_whole(&world, "web:1", "web");
}

#[test]
fn removing_a_reference_leaves_the_image_to_the_others() {
    let world = World::new();
    let mut layout = world.layout("source");
    let layer = layer_of("x");
    let manifest = layout.image(&[(layer.clone(), layer)], json!({}));
    layout.name("web:1", manifest.clone());
    layout.name("web:2", manifest);
    world.store.import(&layout.write()).unwrap();
    let remove = |name: &str| world.store.remove(&reference(name), &Keep::default()).unwrap();
    assert_eq!(remove("web:3"), None);
    assert_eq!(remove("web:1").unwrap().bytes, 0);
    assert_whole(&world, "web:2", "x");
    assert!(remove("web:2").unwrap().bytes > 0);
    assert_eq!(names(world.store.layers_dir()), [""; 0]);
}

#[test]
fn what_is_needed_is_not_removed_whatever_it_is_called() {
    let world = World::new();
    let (source, digest) = with_index(&world, "web");
    world.store.import(&source).unwrap();
    let keep = Keep { references: [reference(&format!("web@{digest}"))].into(), ..Keep::default() };
    let remove = |name: &str, keep: &Keep| world.store.remove(&reference(name), keep);
    assert!(matches!(remove("web:1", &keep), Err(Error::Named { .. })));
    assert!(matches!(remove(&format!("web@{digest}"), &keep), Err(Error::Named { .. })));
    assert!(remove("web:1", &Keep::default()).unwrap().is_some());

    let folder = layout(&world, "images/folder", &["folder"]);
    world.store.import_from_folder(&folder).unwrap();
    let error = remove("images/folder:1", &Keep::default()).unwrap_err();
    assert!(matches!(&error, Error::InFolder { path, .. } if *path == folder), "{error}");
    fs::remove_dir_all(&folder).unwrap();
    assert!(remove("images/folder:1", &Keep::default()).unwrap().is_some());
}

#[test]
fn what_is_saved_is_loaded_with_the_same_digests() {
    let world = World::new();
    world.store.import(&layout(&world, "web", &["base", "web"])).unwrap();
    world.store.import(&layout(&world, "other", &["base", "other"])).unwrap();
    let mut archive = Vec::new();
    world.store.save(&[reference("web:1"), reference("other:1")], &mut archive).unwrap();
    let other_world = World::new();
    other_world.store.import_stream(&*archive, &|_| ()).unwrap();
    assert_whole(&other_world, "web:1", "web");
    assert_whole(&other_world, "other:1", "other");
    for folder in ["blobs", "configs", "manifests", "diffs"] {
        assert_eq!(names(&world.path("store").join(folder)), names(&other_world.path("store").join(folder)));
    }
    let path = other_world.path("again.tar");
    other_world
        .store
        .save(&[reference("web:1"), reference("other:1")], File::create(&path).unwrap())
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), archive);
    let missing = world.store.save(&[reference("none:1")], Vec::new()).unwrap_err();
    assert!(matches!(missing, Error::NoImage { .. }));
    fs::remove_dir_all(world.path("store/blobs")).unwrap();
    let missing = world.store.save(&[reference("web:1")], Vec::new()).unwrap_err();
    assert!(chain(&missing).contains("is not kept any more"), "{missing}");
}

#[test]
fn blobs_are_not_kept_where_they_are_not_wanted() {
    let world = World::new();
    let store = world.store.clone().keep_blobs(false);
    store.import(&layout(&world, "web", &["web"])).unwrap();
    assert_eq!(names(&world.path("store/blobs")), [""; 0]);
    assert_whole(&world, "web:1", "web");
}

/// Memory and disk are bounded before names are held: a hostile archive once could ask for gigabytes.
#[test]
fn an_archive_of_endless_names_is_refused() {
    let world = World::new();
    let mut archive = Layer::new();
    for number in 0..3000 {
        archive = archive.pax(&[("path", format!("{number}/{}", "x".repeat(4000)).as_bytes())]).file("x", "");
    }
    let path = world.path("long.tar");
    fs::write(&path, archive.finish()).unwrap();
    let error = world.store.import(&path).unwrap_err();
    assert!(chain(&error).contains("too many members"), "{error}");
}

#[test]
fn the_store_counts_what_images_share() {
    let world = World::new();
    world.store.import(&layout(&world, "a", &["base", "one"])).unwrap();
    world.store.import(&layout(&world, "b", &["base", "three"])).unwrap();
    let shown: Vec<_> = world.store.list().unwrap().iter().map(|image| (image.size, image.shared)).collect();
    assert_eq!(shown, [(7, 4), (9, 4)]);
}
