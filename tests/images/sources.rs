//! Layouts and archives as tools write them, and as they break.

use std::fs;

use podkeep::image::{Digest, Folder, Reference, Store};
use serde_json::{Value, json};

use super::builder::{INDEX, Layer, MANIFEST, World, architecture, archive_of, chain, gzip, zstd};

fn simple(content: &str) -> Vec<u8> {
    Layer::new().file("file", content).finish()
}

fn plain(layer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (layer.to_vec(), layer.to_vec())
}

#[test]
fn layers_of_every_compression_are_unpacked_and_shared_ones_once() {
    let world = World::new();
    let [one, two, three] = ["1", "2", "3"].map(simple);
    let mut layout = world.layout("all");
    // pzstd and tools that keep a table of contents begin with a frame that is to be skipped.
    let skipped = [&[0x5e, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello", &zstd(&three)].concat();
    let web = layout
        .image(&[plain(&one), (gzip(&two), two.clone()), (skipped, three.clone())], json!({"User": "7"}));
    let other = layout.image(&[(zstd(&two), two.clone()), plain(&one)], json!({}));
    layout.name("web:1", web);
    layout.name("registry.example/team/other:2", other);
    let imported = world.store.import(&layout.write()).unwrap();
    let counts: Vec<_> = imported.iter().map(|one| (one.reference.to_string(), one.new_layers)).collect();
    assert_eq!(counts, [("web:1".to_owned(), 3), ("registry.example/team/other:2".to_owned(), 0)]);
    let (web, other) = (world.find("web:1").unwrap(), world.find("registry.example/team/other:2").unwrap());
    assert_eq!(web.config.user, "7");
    assert_eq!(other.layers, [web.layers[1].clone(), web.layers[0].clone()]);
    assert_eq!(fs::read_dir(world.store.layers_dir()).unwrap().count(), 3);
    let top = world.store.layers_dir().join(&web.layers[2]);
    assert_eq!(fs::read_to_string(top.join("file")).unwrap(), "3");
}

#[test]
fn archives_of_a_layout_are_read_however_compressed() {
    let source = World::new();
    let mut layout = source.layout("web");
    let image = layout.image(&[plain(&simple("x"))], json!({}));
    layout.name("web:1", image);
    let tar = archive_of(&layout.write());
    for (name, bytes) in [("a.tar", tar.clone()), ("a.tar.gz", gzip(&tar)), ("a.tar.zst", zstd(&tar))] {
        let world = World::new();
        fs::write(world.path(name), bytes).unwrap();
        assert_eq!(world.store.import(&world.path(name)).unwrap().len(), 1, "{name}");
        assert!(world.find("docker.io/library/web:1").is_some());
        assert_eq!(fs::read_dir(world.path("store/tmp")).unwrap().count(), 0);
    }
}

/// One image, whose layer is there twice.
pub fn docker_archive(config: Value, layer: &[u8], tags: Value) -> Vec<u8> {
    let configuration = json!({"architecture": architecture(), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer).to_string(), Digest::of(layer).to_string()]}});
    let text = configuration.to_string();
    let config_name = format!("{}.json", Digest::of(text.as_bytes()).hex());
    let manifest =
        json!([{"Config": config_name, "RepoTags": tags, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    Layer::new()
        .file("a/layer.tar", std::str::from_utf8(layer).unwrap())
        .symlink("b/layer.tar", "../a/layer.tar")
        .file(&config_name, &text)
        .file("manifest.json", &manifest.to_string())
        .finish()
}

#[test]
fn a_docker_archive_is_read_with_its_links_and_all_its_tags() {
    let world = World::new();
    let bytes =
        docker_archive(json!({"Cmd": ["sh"], "Env": null}), &simple("x"), json!(["web:1", "host:5000/web"]));
    fs::write(world.path("saved.tar"), gzip(&bytes)).unwrap();
    world.store.import(&world.path("saved.tar")).unwrap();
    let image = world.find("web:1").unwrap();
    assert_eq!(image.layers.len(), 1, "a layer that is there twice is mounted once");
    assert_eq!(image.config.cmd, ["sh"]);
    assert_eq!(world.find("host:5000/web:latest").unwrap().id, image.id);
    let list = world.store.list().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].references.len(), 2);
}

#[test]
fn an_image_without_a_name_is_called_after_its_file() {
    let world = World::new();
    fs::write(world.path("my-app.tar.gz"), gzip(&docker_archive(json!({}), &simple("x"), Value::Null)))
        .unwrap();
    world.store.import(&world.path("my-app.tar.gz")).unwrap();
    assert!(world.find("my-app").is_some());

    let mut layout = world.layout("shell");
    let image = layout.image(&[plain(&simple("y"))], json!({}));
    layout.name("3.20", image.clone());
    world.store.import(&layout.write()).unwrap();
    assert!(world.find("shell:3.20").is_some(), "a bare tag belongs to the layout's name");

    let mut layout = world.layout("two");
    layout.unnamed(image.clone());
    layout.unnamed(image);
    let error = world.store.import(&layout.write()).unwrap_err();
    assert!(chain(&error).contains("2 images have no name"), "{}", chain(&error));
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let world = World::new();
    let mut layout = world.layout("many");
    let ours = layout.image(&[plain(&simple("ours"))], json!({"User": "ours"}));
    let newer = layout.image(&[plain(&simple("newer"))], json!({"User": "newer"}));
    let theirs = layout.image_for(&[plain(&simple("theirs"))], json!({"User": "theirs"}), "s390x");
    let mut manifests = Vec::new();
    for (mut descriptor, arch, variant) in
        [(theirs, "s390x", None), (newer, architecture(), Some("v99")), (ours, architecture(), None)]
    {
        descriptor["platform"] = json!({"os": "linux", "architecture": arch, "variant": variant});
        manifests.push(descriptor);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let index = layout.typed_blob(INDEX, index.as_bytes());
    let digest = index["digest"].as_str().unwrap().to_owned();
    layout.name("web:1", index);
    world.store.import(&layout.write()).unwrap();
    assert_eq!(world.find("web:1").unwrap().config.user, "ours");
    assert_eq!(
        world.find(&format!("web@{digest}")).unwrap().config.user,
        "ours",
        "found by the index's digest"
    );
    assert!(world.find(&format!("other@{digest}")).is_none());

    let mut layout = world.layout("theirs");
    let theirs = layout.image_for(&[plain(&simple("theirs"))], json!({}), "s390x");
    layout.name("web:2", theirs);
    let text = chain(&world.store.import(&layout.write()).unwrap_err());
    assert!(text.contains("web:2 is for linux/s390x, this machine runs linux/"), "{text}");
}

#[test]
fn every_changed_blob_is_noticed_and_nothing_is_kept() {
    let source = World::new();
    let mut layout = source.layout("web");
    let layer = simple("x");
    let image = layout.image(&[(gzip(&layer), layer.clone())], json!({}));
    layout.name("web:1", image);
    let root = layout.write();
    let blobs: Vec<_> =
        fs::read_dir(root.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        let mut changed = good.clone();
        // The gzip header's time: a change that decompression does not see.
        changed[5] ^= 1;
        for bad in [changed, [&good[..], b"x"].concat(), good[..good.len() - 1].to_vec()] {
            fs::write(&blob, bad).unwrap();
            let error = source.store.import(&root).unwrap_err();
            assert_eq!(fs::read_dir(source.store.refs_dir()).unwrap().count(), 0);
            assert_eq!(fs::read_dir(source.store.layers_dir()).unwrap().count(), 0, "{}", chain(&error));
        }
        fs::write(&blob, good).unwrap();
    }
    source.store.import(&root).unwrap();
}

#[test]
fn a_wrong_diff_id_a_missing_layer_and_too_many_are_refused() {
    let world = World::new();
    let mut layout = world.layout("wrong");
    let image = layout.image(&[(gzip(&simple("a")), simple("b"))], json!({}));
    layout.name("web:1", image);
    let text = chain(&world.store.import(&layout.write()).unwrap_err());
    assert!(text.contains("the decompressed tar has the digest"), "{text}");

    let mut layout = world.layout("missing");
    let lost = simple("lost");
    let image = layout.image(&[plain(&lost)], json!({}));
    fs::remove_file(layout.root.join("blobs/sha256").join(Digest::of(&lost).hex())).unwrap();
    layout.name("web:1", image);
    let text = chain(&world.store.import(&layout.write()).unwrap_err());
    assert!(text.contains("is missing"), "{text}");

    let mut layout = world.layout("many");
    let image = layout.image(&vec![plain(&simple("x")); 121], json!({}));
    layout.name("web:1", image);
    let text = chain(&world.store.import(&layout.write()).unwrap_err());
    assert!(text.contains("121 layers, at most 120"), "{text}");
}

#[test]
fn indexes_documents_and_links_have_bounds_and_each_is_said() {
    let refused = |world: &World, source: &std::path::Path| chain(&world.store.import(source).unwrap_err());
    let world = World::new();
    let mut layout = world.layout("nested");
    let mut next = layout.image(&[plain(&simple("x"))], json!({}));
    for _ in 0..4 {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [next]}).to_string();
        next = layout.typed_blob(INDEX, index.as_bytes());
    }
    layout.name("web:1", next);
    let text = refused(&world, &layout.write());
    assert!(text.contains("is not followed further than 4 levels"), "{text}");

    let mut layout = world.layout("large");
    let image = layout.image(&[plain(&simple("x"))], json!({"Labels": {"large": "x".repeat(4 << 20)}}));
    layout.name("web:1", image);
    let text = refused(&world, &layout.write());
    assert!(text.contains("bytes long, at most 4194304 are allowed"), "{text}");

    let names: Vec<String> = (0..10).map(|number| format!("link-{number}")).collect();
    let links = names.windows(2).fold(Layer::new(), |tar, pair| tar.symlink(&pair[0], &pair[1]));
    let manifest = json!([{"Config": "config.json", "RepoTags": ["web:1"], "Layers": ["link-0"]}]);
    let config = json!({"architecture": architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&simple("x")).to_string()]}});
    let tar = links.file("config.json", &config.to_string()).file("manifest.json", &manifest.to_string());
    fs::write(world.path("links.tar"), tar.finish()).unwrap();
    let text = refused(&world, &world.path("links.tar"));
    assert!(text.contains("is a symlink chain longer than 8 links"), "{text}");
    assert_eq!(fs::read_dir(world.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_digest_of_another_algorithm_is_called_so() {
    let world = World::new();
    let mut layout = world.layout("web");
    let digest = format!("sha512:{}", "0".repeat(128));
    layout.name("web:1", json!({"mediaType": MANIFEST, "digest": digest, "size": 3}));
    let text = chain(&world.store.import(&layout.write()).unwrap_err());
    assert!(
        text.ends_with(
            "is a SHA-512 digest, and podkeep knows SHA-256 only: have the image written with sha256 digests"
        ),
        "{text}"
    );
    let error = format!("web@{digest}").parse::<Reference>().unwrap_err();
    assert!(
        error.to_string().ends_with("its digest is a SHA-512 one, and podkeep knows SHA-256 only"),
        "{error}"
    );
}

#[test]
fn what_is_no_image_gets_a_sentence() {
    let world = World::new();
    fs::create_dir(world.path("empty")).unwrap();
    fs::write(world.path("text.tar"), "hello").unwrap();
    fs::write(world.path("other.tar"), simple("x")).unwrap();
    for name in ["empty", "text.tar", "other.tar"] {
        let text = chain(&world.store.import(&world.path(name)).unwrap_err());
        assert!(text.contains(name), "{text}");
    }
    let text = chain(&world.store.import(&world.path("none.tar")).unwrap_err());
    assert!(text.contains("none.tar") && text.contains("No such file"), "{text}");
}

#[test]
fn a_source_is_known_until_it_changes() {
    let world = World::new();
    let folder = Folder::new(world.path("images"));
    fs::create_dir(world.path("images")).unwrap();
    let archive = world.path("images/web.tar");
    fs::write(&archive, docker_archive(json!({}), &simple("1"), json!(["web:1"]))).unwrap();
    assert_eq!(folder.candidates().unwrap(), std::slice::from_ref(&archive));
    assert!(!world.store.is_imported_from_folder(&archive).unwrap());
    world.store.import(&archive).unwrap();
    assert!(!world.store.is_imported_from_folder(&archive).unwrap(), "a person has loaded it");
    world.store.import_from_folder(&archive).unwrap();
    let reopened = Store::open(&world.path("store")).unwrap();
    assert!(reopened.is_imported_from_folder(&archive).unwrap());
    fs::write(&archive, docker_archive(json!({}), &simple("22"), json!(["web:1"]))).unwrap();
    assert!(!reopened.is_imported_from_folder(&archive).unwrap());
    let before = world.find("web:1").unwrap().id;
    reopened.import(&archive).unwrap();
    assert_ne!(world.find("web:1").unwrap().id, before, "the name goes to the new image");
}

#[test]
fn two_imports_at_once_leave_one_image() {
    let world = World::new();
    let archive = world.path("web.tar");
    fs::write(&archive, docker_archive(json!({}), &simple("1"), json!(["web:1"]))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Store::open(&world.path("store")).unwrap().import(&archive).unwrap());
        }
    });
    assert_eq!(fs::read_dir(world.store.layers_dir()).unwrap().count(), 1);
    let reference: Reference = "web:1".parse().unwrap();
    assert!(world.store.find(&reference).unwrap().is_some());
}

/// A layout that skopeo has written with every platform's image, of which only the named one's blobs are left.
fn sparse_layout(world: &World, kept: &str) -> std::path::PathBuf {
    let mut layout = world.layout("several");
    let manifests = [architecture(), "s390x"].map(|arch| {
        let mut descriptor = layout.image_for(&[plain(&simple(arch))], json!({"User": arch}), arch);
        descriptor["platform"] = json!({"os": "linux", "architecture": arch});
        descriptor
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let index = layout.typed_blob(INDEX, index.as_bytes());
    layout.name("1", index);
    let source = layout.write();
    let target = world.path("web");
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--all"])
        .arg(format!("oci:{}:1", source.display()))
        .arg(format!("oci:{}:1", target.display()))
        .output()
        .expect("skopeo is there (scripts/install images)");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let place =
        |descriptor: &Value| target.join("blobs/sha256").join(&descriptor["digest"].as_str().unwrap()[7..]);
    let read = |path: std::path::PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let index = read(place(&read(target.join("index.json"))["manifests"][0]));
    let others = index["manifests"].as_array().unwrap().iter();
    for descriptor in others.filter(|one| one["platform"]["architecture"] != kept) {
        let manifest = read(place(descriptor));
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.chain([descriptor, &manifest["config"]]).for_each(|one| fs::remove_file(place(one)).unwrap());
    }
    assert_eq!(fs::read_dir(target.join("blobs/sha256")).unwrap().count(), 4, "the index and one image");
    target
}

/// As tools save the one platform that they have, under the digest that all platforms share.
#[test]
fn of_an_index_only_what_this_machine_runs_has_to_be_there() {
    for archived in [false, true] {
        let world = World::new();
        let layout = sparse_layout(&world, architecture());
        let source = if archived { world.path("web.tar") } else { layout.clone() };
        if archived {
            fs::write(&source, archive_of(&layout)).unwrap();
        }
        world.store.import(&source).unwrap();
        assert_eq!(world.find("web:1").unwrap().config.user, architecture());
        assert_eq!(world.store.verify().unwrap(), []);

        let world = World::new();
        let layout = sparse_layout(&world, "s390x");
        let source = if archived { world.path("web.tar") } else { layout.clone() };
        if archived {
            fs::write(&source, archive_of(&layout)).unwrap();
        }
        let text = chain(&world.store.import(&source).unwrap_err());
        assert!(text.contains("blobs/sha256/") && text.ends_with("is missing"), "{text}");
        assert_eq!(fs::read_dir(world.store.refs_dir()).unwrap().count(), 0);
    }
}
