//! The sample images, made by umoci and skopeo: what other tools write is what podkeep must read.
//!
//! They lie in the folder that `PODKEEP_IMAGES` names (`scripts/images` makes them).

use std::path::PathBuf;

use podkeep::image::{Folder, Image};

use super::builder::World;

/// A store with every sample image, or `None` (and a word about it) where there are none.
fn samples() -> Option<World> {
    let Some(folder) = std::env::var_os("PODKEEP_IMAGES").map(PathBuf::from) else {
        println!("did not run: PODKEEP_IMAGES is not set");
        return None;
    };
    let world = World::new();
    let candidates = Folder::new(folder).candidates().unwrap();
    assert!(!candidates.is_empty());
    for candidate in candidates {
        world.store.import(&candidate).unwrap();
        assert!(world.store.is_imported(&candidate).unwrap());
    }
    Some(world)
}

#[test]
fn sample_images_are_read_from_layouts_and_both_kinds_of_archive() {
    let Some(world) = samples() else { return };
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
