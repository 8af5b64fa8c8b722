//! Layers that try to write outside their root, and bytes that are no layer at all.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::builder::{Layer, World, chain};

/// Imports the layer, which must fail with this text and leave nothing behind, inside or outside.
fn refused(layer: Layer, expected: &str) {
    let world = World::new();
    fs::create_dir(world.path("outside")).unwrap();
    fs::write(world.path("outside/file"), "untouched").unwrap();
    let error = world.import_layers(&[layer.finish()]).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("layer sha256:"), "{text}");
    assert_nothing_left(&world);
}

fn assert_nothing_left(world: &World) {
    let count = |path: &Path| fs::read_dir(path).unwrap().count();
    for folder in ["layers", "diffs", "blobs", "parts", "configs", "manifests", "refs", "sources", "tmp"] {
        assert_eq!(count(&world.path("store").join(folder)), 0, "{folder}");
    }
    if world.path("outside").exists() {
        assert_eq!(fs::read_to_string(world.path("outside/file")).unwrap(), "untouched");
        assert_eq!(count(&world.path("outside")), 1);
    }
    assert!(!world.path("store/evil").exists() && !world.path("evil").exists());
}

#[test]
fn names_that_leave_the_root_are_refused() {
    refused(Layer::new().file("etc/../../evil", "x"), r#"entry "etc/../../evil": leaves the root"#);
    refused(Layer::new().file("../evil", "x"), "leaves the root");
    refused(Layer::new().file("/../evil", "x"), "leaves the root");
    refused(Layer::new().folder(".."), "leaves the root");
    refused(Layer::new().pax(&[("path", b"a/../../evil")]).file("a", "x"), "leaves the root");
    refused(Layer::new().file("/.", "x"), "leaves the root");
    refused(Layer::new().symlink(".", "/"), "leaves the root");
}

#[test]
fn an_absolute_name_is_one_below_the_root() {
    let world = World::new();
    let root = world.unpacked(Layer::new().file("/./podkeep-evil", "x"));
    assert!(root.join("podkeep-evil").is_file() && !Path::new("/podkeep-evil").exists());
}

#[test]
fn nothing_is_written_through_a_symlink_that_leads_out() {
    let outside = "its parent is reached over a symlink";
    for target in ["/tmp", "/", "../../../outside", "..", "../../../../../../../../etc"] {
        refused(Layer::new().symlink("link", target).file("link/file", "evil"), outside);
        refused(Layer::new().symlink("link", target).folder("link/deep/er"), outside);
        refused(Layer::new().symlink("link", target).file("link/.wh.file", ""), outside);
        refused(Layer::new().symlink("link", target).hardlink("stolen", "link/file"), "leaves the root");
    }
    refused(Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", ""), outside);
    refused(Layer::new().symlink("a", "nowhere").file("a/x", ""), outside);
    refused(Layer::new().symlink("a", "/proc/self/root").file("a/evil", ""), outside);
}

#[test]
fn a_folder_entry_over_a_symlink_replaces_the_link() {
    let world = World::new();
    fs::create_dir(world.path("outside")).unwrap();
    let target = world.path("outside");
    let layer = Layer::new()
        .symlink("link", target.to_str().unwrap())
        .entry(EntryType::Directory, "link", "", 0o700, b"")
        .file("link/file", "");
    let root = world.unpacked(layer);
    assert!(root.join("link/file").is_file() && !target.join("file").exists());
    assert!(fs::symlink_metadata(root.join("link")).unwrap().is_dir());
}

#[test]
fn hardlinks_reach_only_what_the_layer_has() {
    refused(Layer::new().hardlink("x", "../../../outside/file"), "leaves the root");
    refused(Layer::new().hardlink("x", "/etc/passwd"), "is not in this layer");
    refused(Layer::new().hardlink("x", "x"), "is not in this layer");
    refused(Layer::new().folder("d").hardlink("x", "d"), "is a folder");
    refused(Layer::new().folder("d").hardlink("x", "/"), "is a folder");
    refused(Layer::new().file(".wh.gone", "").hardlink("x", "gone"), "is not in this layer");
}

#[test]
fn overlays_own_marks_cannot_be_forged() {
    let mut header = header(EntryType::Char, "forged");
    header.set_device_major(0).unwrap();
    header.set_device_minor(0).unwrap();
    refused(Layer::new().raw(header, b""), "overlayfs' own mark");
    refused(Layer::new().entry(EntryType::Char, "numberless", "", 0o644, b""), "device number is not valid");
    let redirect: &[(&str, &[u8])] = &[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")];
    refused(Layer::new().pax(redirect).folder("forged"), "overlayfs' own");
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        refused(Layer::new().file(name, ""), "the whiteout names no file");
    }
}

#[test]
fn malformed_entries_are_refused_by_name() {
    refused(Layer::new().file("a", "").file("a/b", ""), r#"entry "a/b": its parent is not a folder"#);
    refused(Layer::new().entry(EntryType::new(b'V'), "volume", "", 0o644, b""), "type 'V'");
    refused(Layer::new().symlink("empty", ""), "symlink's target");
    refused(Layer::new().pax(&[("uid", b"4294967295")]).file("a", ""), "uid is not valid");
    refused(Layer::new().pax(&[("GNU.sparse.major", b"1")]).file("a", ""), "read its content");
    refused(Layer::new().pax(&[("path", "a/".repeat(300).as_bytes())]).file("a", ""), "deeper than");
    refused(Layer::new().pax(&[("path", "a".repeat(5000).as_bytes())]).file("a", ""), "longer than");
    refused(Layer::new().pax(&[("path", "a".repeat(300).as_bytes())]).file("a", ""), "File name too long");
    refused(
        Layer::new().pax(&[("comment", &[b'x'; 3 << 20])]).file("a", ""),
        "header of an entry is too long",
    );
}

#[test]
fn an_entry_that_is_cut_off_is_refused() {
    let whole = Layer::new().file("a", &"x".repeat(4000)).finish();
    let world = World::new();
    let error = world.import_layers(&[whole[..2000].to_vec()]).unwrap_err();
    assert!(chain(&error).contains("the archive ends after 1488 of its 4000 bytes"), "{}", chain(&error));
    assert_nothing_left(&world);
}

#[test]
fn a_file_larger_than_a_layer_may_be_is_refused_before_it_is_written() {
    refused(Layer::new().claiming(header(EntryType::Regular, "bomb"), 65 << 30), "unpacks to more than");
}

fn header(kind: EntryType, name: &str) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic_as_a_layer(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = World::new().import_layers(&[bytes]);
    }

    #[test]
    fn no_bytes_panic_as_an_archive(bytes in proptest::collection::vec(any::<u8>(), 0..4096), kind in 0usize..3) {
        let head: &[u8] = [&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"][kind];
        let world = World::new();
        fs::write(world.path("x.tar"), [head, &bytes].concat()).unwrap();
        prop_assert!(world.store.import(&world.path("x.tar")).is_err());
        assert_nothing_left(&world);
    }

    /// A good layer, cut or with one byte changed: it may still be a layer, since its diff ID is made from what it is now.
    #[test]
    fn no_damage_panics(cut in 0usize..6000, at in 0usize..6000, byte: u8) {
        let mut bytes = Layer::new()
            .pax(&[("mtime", "1.5"), ("SCHILY.xattr.user.a", "b")])
            .file("a/b", "content")
            .hardlink("c", "a/b")
            .symlink("d", "c")
            .file(".wh.e", "")
            .finish();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut.max(1));
        let _ = World::new().import_layers(&[bytes]);
    }

    #[test]
    fn names_never_leave_the_root(names in proptest::collection::vec("[a./]{1,8}", 1..6), kinds in proptest::collection::vec(0..4, 6)) {
        let mut layer = Layer::new();
        for (name, kind) in names.iter().zip(kinds) {
            layer = match kind {
                0 => layer.file(name, "x"),
                1 => layer.folder(name),
                2 => layer.symlink(name, &names[0]),
                _ => layer.hardlink(name, &names[0]),
            };
        }
        let world = World::new();
        let count = |name: &str| fs::read_dir(world.path(name)).unwrap().count();
        let before = count("store");
        let _ = world.import_layers(&[layer.finish()]);
        let mut top: Vec<_> = fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        top.sort();
        prop_assert_eq!(top, ["source", "store"]);
        prop_assert_eq!(count("store"), before);
        prop_assert_eq!(count("store/tmp"), 0);
    }
}
