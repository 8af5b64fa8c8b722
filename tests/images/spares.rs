//! What `podkeep save` gives out again: manifests and blobs, which come back with their image when they are gone or damaged.

use std::fs;
use std::path::{Path, PathBuf};

use podkeep::image::{Error, Reference, Store};
use serde_json::{Value, json};

use super::builder::{Layer, World, chain, gzip, zstd};
use super::sources::docker_archive;

fn layer_of(content: &str) -> Vec<u8> {
    Layer::new().file("content", content).finish()
}

fn save(store: &Store, names: &[&str]) -> Result<Vec<u8>, Error> {
    let references: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut archive = Vec::new();
    store.save(&references, &mut archive).map(|()| archive)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The ways in which a file of the store is not what it was.
const HARMS: [fn(&Path); 3] = [
    |file| fs::remove_file(file).unwrap(),
    |file| fs::write(file, "{}").unwrap(),
    |file| {
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
    },
];

fn assert_comes_back(world: &World, source: &Path, folders: &[&str]) {
    world.store.import(source).unwrap();
    let (image, archive) = (world.find("web:1").unwrap(), save(&world.store, &["web:1"]).unwrap());
    for folder in folders {
        for file in files(&world.path("store").join(folder)) {
            for (number, harm) in HARMS.iter().enumerate() {
                harm(&file);
                let error = save(&world.store, &["web:1"]).unwrap_err();
                assert!(
                    chain(&error).ends_with("load its image again, or pull it with --spare-copies"),
                    "{error}"
                );
                assert_eq!(world.store.import(source).unwrap()[0].new_layers, 0);
                let again = save(&world.store, &["web:1"]).unwrap();
                assert!(again == archive, "{} with harm {number}", file.display());
            }
        }
    }
    assert_eq!(world.find("web:1").unwrap(), image, "no layer was unpacked again");
    assert_eq!(world.store.verify().unwrap(), []);
    assert_eq!(files(&world.path("store/tmp")), [""; 0].map(PathBuf::from));
}

#[test]
fn loading_an_image_again_brings_back_what_the_store_has_lost_of_it() {
    let world = World::new();
    let mut layout = world.layout("source");
    let blobs = ["one", "two"].map(layer_of).map(|layer| (gzip(&layer), layer));
    let manifest = layout.image(&blobs, json!({}));
    layout.name("web:1", manifest);
    assert_comes_back(&world, &layout.write(), &["blobs", "manifests"]);
}

#[test]
fn a_docker_archive_brings_back_its_layers_too() {
    let world = World::new();
    let archive = world.path("saved.tar");
    fs::write(&archive, docker_archive(json!({}), &layer_of("x"), json!(["web:1"]))).unwrap();
    assert_comes_back(&world, &archive, &["blobs"]);
}

/// Its layers need not match what their diff IDs say as long as they are not unpacked: what is kept of them has to.
#[test]
fn a_blob_that_is_another_layers_is_not_kept_for_one_that_is_there() {
    let world = World::new();
    let archive = world.path("saved.tar");
    let good = docker_archive(json!({}), &layer_of("good"), json!(["web:1"]));
    fs::write(&archive, &good).unwrap();
    world.store.import(&archive).unwrap();
    fs::remove_file(&files(&world.path("store/blobs"))[0]).unwrap();
    let bad = String::from_utf8(good).unwrap().replace("good", "evil");
    fs::write(&archive, bad).unwrap();
    let error = world.store.import(&archive).unwrap_err();
    assert!(chain(&error).contains("the decompressed tar has the digest"), "{error}");
    assert_eq!(files(&world.path("store/blobs")).len(), 0);
}

/// Two images of one layer, compressed in two ways; their names are those of the layouts.
fn two_layouts(world: &World) -> [PathBuf; 2] {
    let plain = layer_of("shared");
    [("web", gzip(&plain)), ("other", zstd(&plain))].map(|(name, blob)| {
        let mut layout = world.layout(name);
        let manifest = layout.image(&[(blob, plain.clone())], json!({"Cmd": [name]}));
        layout.name(&format!("{name}:1"), manifest);
        layout.write()
    })
}

/// Every blob that the archive's manifests name lies in it.
fn assert_whole(archive: &[u8]) {
    let world = World::new();
    fs::create_dir(world.path("out")).unwrap();
    tar::Archive::new(archive).unpack(world.path("out")).unwrap();
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let place = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        world.path("out/blobs").join(digest)
    };
    for manifest in read(world.path("out/index.json"))["manifests"].as_array().unwrap() {
        for layer in read(place(manifest))["layers"].as_array().unwrap() {
            assert!(place(layer).exists(), "{layer}");
        }
    }
    world.store.import_stream(archive, &|_| ()).unwrap();
}

#[test]
fn two_images_of_one_layer_are_each_saved_with_the_blob_that_they_name() {
    let world = World::new();
    let [web, other] = two_layouts(&world);
    world.store.import(&web).unwrap();
    // The node takes no spare copy for a layer that is there.
    world.store.import_from_folder(&other).unwrap();
    let error = save(&world.store, &["other:1"]).unwrap_err();
    assert!(matches!(error, Error::NoBlob { .. }), "{error}");
    assert_eq!(world.store.import(&other).unwrap()[0].new_layers, 0);
    let reopened = Store::open(&world.path("store")).unwrap();
    for names in [&["web:1"][..], &["other:1"], &["web:1", "other:1"]] {
        assert_whole(&save(&reopened, names).unwrap());
    }
    assert_eq!(files(&world.path("store/blobs")).len(), 2);
    assert_eq!(files(reopened.layers_dir()).len(), 1);
}

#[test]
fn an_archive_of_two_images_of_one_layer_brings_both_its_blobs() {
    let world = World::new();
    for source in two_layouts(&world) {
        world.store.import(&source).unwrap();
    }
    let archive = save(&world.store, &["web:1", "other:1"]).unwrap();
    let fresh = World::new();
    fresh.store.import_stream(&*archive, &|_| ()).unwrap();
    assert!(save(&fresh.store, &["web:1", "other:1"]).unwrap() == archive);
    let tree = fresh.store.layers_dir().join(&fresh.find("web:1").unwrap().layers[0]);
    fs::write(tree.join("content"), "damage").unwrap();
    assert!(fresh.store.verify().unwrap().iter().all(|damage| damage.mended));
    assert!(save(&fresh.store, &["web:1", "other:1"]).unwrap() == archive, "mending forgets no blob");
}
