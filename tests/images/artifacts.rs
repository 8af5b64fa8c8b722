//! Artifacts: files in an image's shape.

use std::fs;

use serde_json::{Value, json};

use super::builder::{Layer, Layout, MANIFEST, World, chain, gzip};

const TITLE: &str = "org.opencontainers.image.title";

/// An artifact of these layers, under `data:1`.
fn import(world: &World, mut layout: Layout, layers: &[Value]) -> Result<(), String> {
    let config = layout.typed_blob("application/vnd.oci.empty.v1+json", b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.data",
        "config": config, "layers": layers});
    let manifest = layout.typed_blob(MANIFEST, manifest.to_string().as_bytes());
    layout.name("data:1", manifest);
    world.store.import(&layout.write()).map(drop).map_err(|error| chain(&error))
}

fn file(layout: &Layout, title: &str, content: &[u8]) -> Value {
    let mut layer = layout.typed_blob("application/octet-stream", content);
    layer["annotations"] = json!({TITLE: title});
    layer
}

fn content(world: &World, path: &str) -> Vec<u8> {
    let image = world.find("data:1").unwrap();
    let found = world.store.read_file(&image, path, 1 << 20).unwrap();
    found.unwrap_or_else(|| panic!("{path} is not there"))
}

#[test]
fn each_layer_is_a_file_as_it_came_and_tars_of_images_are_unpacked() {
    let world = World::new();
    let layout = world.layout("data");
    let large = vec![7; 100_001];
    let compressed = gzip(b"stays compressed");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let untitled = layout.typed_blob("application/octet-stream", b"untitled");
    let name = untitled["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let tar = Layer::new().folder("lib").file("lib/a", "in a tar").finish();
    let layers = [
        file(&layout, "model.bin", &large),
        file(&layout, "conf/deep/app.yaml", b"a: 1\n"),
        file(&layout, "conf/empty", b""),
        file(&layout, "a.gz", &compressed),
        file(&layout, &long, b"long"),
        untitled,
        layout.typed_blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&tar)),
        layout.typed_blob("application/vnd.oci.empty.v1+json", b"{}"),
    ];
    import(&world, layout, &layers).unwrap();
    assert!(world.find("data:1").unwrap().is_artifact);
    assert_eq!(content(&world, "/model.bin"), large);
    assert_eq!(content(&world, "/conf/deep/app.yaml"), b"a: 1\n");
    assert_eq!(content(&world, "/conf/empty"), b"");
    assert_eq!(content(&world, "/a.gz"), compressed);
    assert_eq!(content(&world, &format!("/{long}")), b"long");
    assert_eq!(content(&world, &format!("/{name}")), b"untitled");
    assert_eq!(content(&world, "/lib/a"), b"in a tar");
    let reference = "data:1".parse().unwrap();
    let error = world.store.save(&[reference], Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("data:1 is an artifact: podkeep cannot save those"), "{error}");
    assert_eq!(fs::read_dir(world.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn one_content_under_two_names_is_two_files() {
    let world = World::new();
    let layout = world.layout("data");
    let layers = [file(&layout, "a", b"same"), file(&layout, "b", b"same")];
    import(&world, layout, &layers).unwrap();
    assert_eq!(content(&world, "/a"), content(&world, "/b"));
}

#[test]
fn a_damaged_file_is_found_and_made_again_from_its_blob() {
    let world = World::new();
    let layout = world.layout("data");
    let layers = [file(&layout, "conf/a", b"whole")];
    import(&world, layout, &layers).unwrap();
    fs::remove_dir_all(world.path("data")).unwrap();
    let folder = || world.store.layers_dir().join(&world.find("data:1").unwrap().layers[0]);
    assert_eq!(world.store.verify().unwrap(), []);
    fs::write(folder().join("conf/a"), "wrong").unwrap();
    let damages = world.store.verify().unwrap();
    assert!(damages.len() == 1 && damages[0].mended, "{damages:?}");
    assert_eq!(content(&world, "/conf/a"), b"whole");
    fs::remove_dir_all(folder()).unwrap();
    assert!(world.store.mend(&"data:1".parse().unwrap()).unwrap());
    assert_eq!(content(&world, "/conf/a"), b"whole");
}

#[test]
fn what_cannot_be_files_is_refused() {
    let refused = |layers: &dyn Fn(&Layout) -> Vec<Value>| {
        let world = World::new();
        let layout = world.layout("data");
        let layers = layers(&layout);
        let error = import(&world, layout, &layers).unwrap_err();
        assert!(world.find("data:1").is_none());
        assert_eq!(fs::read_dir(world.store.layers_dir()).unwrap().count(), 0);
        error
    };
    for title in ["../a", "/etc/passwd", "a/../../b", "", ".wh.a", "a/"] {
        let error = refused(&|layout| vec![file(layout, title, b"x")]);
        let expected = format!("data:1 is an artifact: {title:?} cannot be the name of a file in it");
        assert!(error.ends_with(&expected), "{error}");
    }
    let error = refused(&|layout| vec![file(layout, "a", b"x"), file(layout, "a", b"y")]);
    assert!(error.ends_with("two of its files are called \"a\""), "{error}");
    let error = refused(&|layout| vec![layout.typed_blob("application/vnd.oci.empty.v1+json", b"{}")]);
    assert!(error.ends_with("it holds no file"), "{error}");
}

#[test]
fn a_blob_of_another_size_or_content_is_refused() {
    for (size, expected) in [(3, "3"), (5, "5"), (600, "600")] {
        let world = World::new();
        let layout = world.layout("data");
        let mut layer = file(&layout, "a", b"four");
        layer["size"] = json!(size);
        let error = import(&world, layout, &[layer]).unwrap_err();
        assert!(error.contains(&format!("long, not {expected}")), "{error}");
    }
    let world = World::new();
    let layout = world.layout("data");
    let layer = file(&layout, "a", b"four");
    let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    fs::write(layout.root.join("blobs/sha256").join(digest), "five").unwrap();
    let error = import(&world, layout, &[layer]).unwrap_err();
    assert!(error.contains("the blob has the digest"), "{error}");
}
