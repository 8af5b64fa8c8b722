//! The sample images, made by umoci and skopeo: what other tools write is what podkeep must read.
//!
//! `scripts/images` makes them, in `target/images`; `PODKEEP_IMAGES` may name another folder.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use podkeep::image::{Folder, Image};

use super::builder::World;

/// A store with every sample image.
fn samples() -> World {
    let made = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images");
    let folder = std::env::var_os("PODKEEP_IMAGES").map_or_else(made, PathBuf::from);
    assert!(folder.is_dir(), "there is no {}: scripts/images makes the sample images", folder.display());
    let world = World::new();
    let candidates = Folder::new(folder).candidates().unwrap();
    assert!(!candidates.is_empty());
    for candidate in candidates {
        world.store.import_from_folder(&candidate).unwrap();
        assert!(world.store.is_imported_from_folder(&candidate).unwrap());
    }
    world
}

#[test]
fn sample_images_are_read_from_layouts_and_both_kinds_of_archive() {
    let world = samples();
    let read = |image: &Image, path: &str| world.store.read_file(image, path, 32 << 20).unwrap();
    let busybox = world.find("busybox:1.35").unwrap();
    assert!(read(&busybox, "/bin/sh").unwrap().starts_with(b"\x7fELF"), "through its symlink");
    let [nginx, redis] = ["nginx:1.22", "redis:7.0"].map(|name| world.find(name).unwrap());
    assert!(read(&nginx, "/etc/passwd").is_some());
    assert_eq!(nginx.layers[0], redis.layers[0], "an OCI archive and a docker-archive share a layer");
    assert!(
        !world.find("threads:1").unwrap().config.entrypoint.is_empty()
            || !world.find("threads:1").unwrap().config.cmd.is_empty()
    );
    assert_eq!(world.find("layers:1").unwrap().layers.len(), 5);
    assert!(world.store.list().unwrap().iter().all(|image| image.size > 0));
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
    value[..length].to_vec()
}

#[test]
fn umocis_layers_arrive_as_they_were_made() {
    let world = samples();
    let image = world.find("layers:1").unwrap();
    let layer = |number: usize| world.store.layers_dir().join(&image.layers[number]);
    let special = layer(1).join("special");
    let meta = |name: &str| fs::symlink_metadata(special.join(name)).unwrap();
    let shown = |name: &str| (meta(name).mode() & 0o7777, meta(name).uid(), meta(name).gid());
    assert_eq!(shown("setuid"), (0o4755, 1000, 1000));
    assert_eq!(shown("setgid"), (0o2755, 1000, 1000));
    assert_eq!(shown("owned"), (0o640, 1234, 5678));
    assert_eq!((shown("sticky").0, shown("read-only-folder").0), (0o1777, 0o555));
    assert_eq!(meta("hardlink-a").ino(), meta("hardlink-b").ino());
    assert_eq!(fs::read_link(special.join("link-out-of-root")).unwrap(), Path::new("../../../../etc/kept"));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("device-null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("old").mtime(), 946_684_798);
    assert_eq!(meta("sparse").len(), 1 << 20);
    assert!(special.join(format!("long-{:0150}", 0)).exists());
    assert_eq!(attribute(&special.join("xattr-user"), "user.podkeep"), b"kept");
    assert_eq!(attribute(&special.join("xattr-capability"), "security.capability")[..5], [1, 0, 0, 2, 0]);
    assert_eq!(fs::symlink_metadata(layer(2).join("etc/removed")).unwrap().rdev(), 0);
    assert_eq!(attribute(&layer(4).join("replaced-folder"), "trusted.overlay.opaque"), b"y");
    let read = |path: &str| world.store.read_file(&image, path, 64).unwrap();
    assert_eq!(read("/special/link-out-of-root"), read("/etc/kept"));
    assert!(read("/etc/kept").is_some() && read("/etc/removed").is_none());
    assert_eq!(read("/etc/replaced").as_deref(), Some(&b"layer 2\n"[..]));
}
