//! What a layer says about its files is what lies in the store.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::json;
use tar::{EntryType, Header};

use super::builder::{Layer, World};

fn device(kind: EntryType, name: &str, major: u32, minor: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.set_mode(0o660);
    header.set_mtime(7);
    header.set_device_major(major).unwrap();
    header.set_device_minor(minor).unwrap();
    header
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    rustix::fs::lgetxattr(path, name, &mut value).ok().map(|length| value[..length].to_vec())
}

#[test]
fn owners_modes_times_and_attributes_arrive() {
    let capability: &[u8] = b"\x01\0\0\x02\n\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("gid", b"70000"),
            ("mtime", b"1700000000.123456789"),
            ("uid", b"65534"),
        ])
        .entry(EntryType::Regular, "bin", "", 0o4755, b"program")
        .pax(&[("SCHILY.xattr.user.note", b"a\nb")])
        .entry(EntryType::Directory, "tmp/", "", 0o1777, b"")
        .file("tmp/later", "changes the folder's time");
    let root = World::new();
    let unpacked = root.unpacked(layer);
    let bin = fs::metadata(unpacked.join("bin")).unwrap();
    assert_eq!((bin.uid(), bin.gid(), bin.mode() & 0o7777), (65534, 70000, 0o4755));
    assert_eq!((bin.mtime(), bin.mtime_nsec()), (1_700_000_000, 123_456_789));
    assert_eq!(attribute(&unpacked.join("bin"), "security.capability").unwrap(), capability);
    let tmp = fs::metadata(unpacked.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_700_000_000));
    assert_eq!(attribute(&unpacked.join("tmp"), "user.note").unwrap(), b"a\nb");
}

#[test]
fn links_devices_and_fifos_arrive() {
    let layer = Layer::new()
        .file("a/file", "one")
        .hardlink("b/second", "./a/file")
        .symlink("c/link", "/absolute/../target")
        .hardlink("c/link2", "/c/link")
        .raw(device(EntryType::Char, "null", 1, 3), b"")
        .raw(device(EntryType::Block, "disk", 8, 1), b"")
        .entry(EntryType::Fifo, "fifo", "", 0o622, b"");
    let world = World::new();
    let root = world.unpacked(layer);
    let inode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("a/file"), inode("b/second"));
    assert_eq!(inode("c/link"), inode("c/link2"));
    assert_eq!(fs::read_link(root.join("c/link")).unwrap(), Path::new("/absolute/../target"));
    let null = fs::metadata(root.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777, null.mtime()), (rustix::fs::makedev(1, 3), 0o660, 7));
    assert!(fs::metadata(root.join("disk")).unwrap().file_type().is_block_device());
    let fifo = fs::metadata(root.join("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o7777 == 0o622);
    assert_eq!(fs::metadata(root.join("b")).unwrap().mode() & 0o7777, 0o755, "a parent that is not listed");
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    attribute(path, "trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

#[test]
fn whiteouts_become_overlays_own() {
    let layer = Layer::new()
        .file("gone/.wh.file", "")
        .file("fresh/.wh..wh..opq", "")
        .file("fresh/file", "new")
        .file(".wh..wh.plnk", "aufs")
        .file(".wh.again", "")
        .folder("again")
        .folder("first")
        .file(".wh.first", "")
        .file(".wh.implied", "")
        .file("implied/file", "")
        .file("kept", "")
        .file(".wh.kept", "")
        .folder("plain");
    let world = World::new();
    let root = world.unpacked(layer);
    assert!(is_whiteout(&root.join("gone/file")));
    assert!(is_opaque(&root.join("fresh")) && root.join("fresh/file").is_file());
    for name in ["again", "first", "implied"] {
        assert!(is_opaque(&root.join(name)), "{name} replaces what lower layers have");
    }
    assert!(root.join("kept").is_file(), "a whiteout is meant for lower layers");
    assert!(!is_opaque(&root.join("plain")));
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again", "first", "fresh", "gone", "implied", "kept", "plain"]);
}

#[test]
fn the_last_entry_of_a_name_stays() {
    let layer = Layer::new()
        .folder("x")
        .file("x/inner", "")
        .file("x", "now a file")
        .folder("x")
        .file("y", "old")
        .hardlink("z", "y")
        .file("y", "new")
        .symlink("link", "y")
        .file("link", "over the link, not through it");
    let world = World::new();
    let root = world.unpacked(layer);
    assert!(root.join("x").is_dir() && !root.join("x/inner").exists());
    assert_eq!(fs::read_to_string(root.join("y")).unwrap(), "new");
    assert_eq!(fs::read_to_string(root.join("z")).unwrap(), "old");
    assert!(fs::symlink_metadata(root.join("link")).unwrap().is_file());
}

#[test]
fn a_relative_symlink_leads_around_inside_the_layer() {
    let layer = Layer::new().folder("usr/lib").symlink("lib", "usr/lib").file("lib/x", "through");
    let world = World::new();
    let root = world.unpacked(layer);
    assert_eq!(fs::read_to_string(root.join("usr/lib/x")).unwrap(), "through");
}

#[test]
fn zeros_become_holes_and_sparse_entries_their_full_size() {
    let mut sparse = Header::new_gnu();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_path("sparse").unwrap();
    sparse.set_mode(0o644);
    sparse.set_mtime(0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.realsize[..11].copy_from_slice(b"00004000003");
    gnu.sparse[0].offset[..11].copy_from_slice(b"00004000000");
    gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000000003");
    let zeros = "\0".repeat(1 << 20);
    let world = World::new();
    let root = world.unpacked(Layer::new().raw(sparse, b"end").file("zeros", &zeros).file("after", "x"));
    let file = fs::metadata(root.join("sparse")).unwrap();
    assert_eq!(file.len(), (1 << 20) + 3);
    assert!(file.blocks() * 512 < 1 << 19);
    assert!(fs::read(root.join("sparse")).unwrap().ends_with(b"\0end"));
    assert_eq!(fs::metadata(root.join("zeros")).unwrap().len(), 1 << 20);
    assert!(root.join("after").exists());
}

#[test]
fn files_are_read_through_the_layers() {
    let bottom = Layer::new()
        .file("etc/passwd", "bottom")
        .file("etc/group", "group")
        .file("etc/old/file", "hidden")
        .file("opt/a/file", "hidden too")
        .file("usr/share/name", "shared");
    let middle = Layer::new()
        .file("etc/.wh.group", "")
        .file("etc/.wh.old", "")
        .file("opt/a/.wh..wh..opq", "")
        .symlink("abs", "/../../etc/passwd")
        .symlink("usr/rel", "../usr/./share/name")
        .symlink("loop", "loop");
    let top = Layer::new().file("etc/passwd", "top").file("etc/old/other", "other");
    let world = World::new();
    world.import_layers(&[bottom, middle, top].map(Layer::finish)).unwrap();
    let image = world.find("web:1").unwrap();
    let read = |path: &str| {
        let content = world.store.read_file(&image, path, 16).unwrap();
        content.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(read("/etc/passwd").as_deref(), Some("top"));
    assert_eq!(read("abs").as_deref(), Some("top"));
    assert_eq!(read("usr/rel").as_deref(), Some("shared"));
    assert_eq!(read("../../../etc/old/other").as_deref(), Some("other"));
    for missing in ["etc/group", "etc/old/file", "opt/a/file", "etc", "etc/passwd/x", "", "/"] {
        assert_eq!(read(missing), None, "{missing}");
    }
    assert!(world.store.read_file(&image, "loop", 16).is_err());
    assert!(world.store.read_file(&image, "etc/passwd", 2).is_err());
}

#[test]
fn an_opaque_root_leaves_no_layer_below() {
    let world = World::new();
    let layers = [Layer::new().file("old", ""), Layer::new().file(".wh..wh..opq", "").file("new", "")];
    world.import_layers(&layers.map(Layer::finish)).unwrap();
    let image = world.find("web:1").unwrap();
    assert_eq!(image.layers.len(), 1);
    assert_eq!(world.store.read_file(&image, "old", 1).unwrap(), None);
    assert!(world.store.read_file(&image, "new", 1).unwrap().is_some());
}

#[test]
fn an_archive_without_its_last_padding_is_whole() {
    let mut layer = Layer::new().file("first", "1").file("last", "content").finish();
    layer.truncate(512 * 3 + "content".len());
    let world = World::new();
    world.import_layers(&[layer]).unwrap();
    let image = world.find("web:1").unwrap();
    assert_eq!(world.store.read_file(&image, "last", 16).unwrap().unwrap(), b"content");
}

/// What a layer does not list looks as the layers below say, in this image and only in it.
#[test]
fn folders_that_a_layer_writes_into_and_does_not_list_keep_their_attributes() {
    let world = World::new();
    let base = Layer::new()
        .entry(EntryType::Directory, "tmp", "", 0o1777, b"")
        .entry(EntryType::Directory, "srv", "", 0o700, b"")
        .entry(EntryType::Directory, "gone", "", 0o700, b"")
        .entry(EntryType::Directory, "hidden", "", 0o700, b"");
    let upper = Layer::new()
        .file("tmp/x", "")
        .file("srv/new/x", "")
        .file(".wh.gone", "")
        .file("gone/x", "")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/x", "");
    let (base, upper) = (base.finish(), upper.finish());
    world.import_layers(&[base, upper.clone()]).unwrap();
    let image = world.find("web:1").unwrap();
    assert_eq!(image.layers.len(), 3, "one for the folders");
    let seen = |layer: usize, name: &str| {
        let meta = fs::symlink_metadata(world.store.layers_dir().join(&image.layers[layer]).join(name));
        meta.map(|meta| (meta.mode() & 0o7777, meta.mtime())).ok()
    };
    assert_eq!(seen(2, "tmp"), Some((0o1777, 1_700_000_000)));
    assert_eq!(seen(2, "srv"), Some((0o700, 1_700_000_000)));
    assert_eq!([seen(2, "tmp/x"), seen(2, "srv/new"), seen(2, "gone"), seen(2, "hidden")], [None; 4]);
    assert_eq!(seen(1, "gone").unwrap().0, 0o755);
    assert_eq!(world.store.read_file(&image, "/tmp/x", 1).unwrap().as_deref(), Some(&b""[..]));

    let mut layout = world.layout("other");
    let manifest = layout.image(&[(upper.clone(), upper)], json!({}));
    layout.name("other:1", manifest);
    world.store.import(&layout.write()).unwrap();
    let other = world.find("other:1").unwrap();
    assert_eq!(other.layers[0], image.layers[1], "the layer itself is shared");
    assert_eq!(fs::read_dir(world.store.layers_dir().join(&other.layers[1])).unwrap().count(), 0);
}
