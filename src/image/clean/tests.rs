//! What goes and what stays, with disks and clocks of the tests' own.

use super::super::artifact::Form;
use super::super::ingest::{ImageSpec, LayerSpec, Origin};
use super::super::stamp::Stamp;
use super::*;

/// Bytes of each image.
const SIZE: u64 = 1000;

/// A store without spare copies, and the folder that it lies in.
struct World {
    dir: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap().keep_blobs(false);
        World { dir, store }
    }

    /// With these images, used in their order: the first one 1000 s after the boot, each of the others 10 s later.
    fn with_used(names: &[&str]) -> World {
        let world = World::new();
        for (name, seconds) in names.iter().zip((1000..).step_by(10)) {
            world.add(name, None);
            world.use_at(name, seconds);
        }
        world
    }

    /// Adds an image of one layer of its own, from a file of the image folder or from elsewhere.
    fn add(&self, name: &str, file: Option<&Path>) {
        let bytes = tar_of(name);
        let diff_id = Digest::of(&bytes);
        let config = serde_json::json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]}});
        let config = config.to_string().into_bytes();
        let layer = LayerSpec { diff_id, blob: None, form: Form::Tar };
        let writing = self.store.begin().unwrap();
        writing.layer(&layer, &*bytes).unwrap();
        let image = ImageSpec {
            references: vec![name.parse().unwrap()],
            manifests: Vec::new(),
            documents: Vec::new(),
            id: Digest::of(&config),
            config,
            layers: vec![layer],
        };
        let origin = file.map(|path| Origin { path, stamp: Stamp::of(path).unwrap(), pinned: true });
        writing.finish(vec![image], origin).unwrap();
    }

    fn id(&self, name: &str) -> Digest {
        self.store.id_of(&name.parse().unwrap()).unwrap().unwrap()
    }

    fn use_at(&self, name: &str, seconds: u64) {
        let mut uses = Uses::read(self.store.uses_file(), &at(seconds)).unwrap();
        uses.mark_used(&self.id(name));
        uses.write(self.store.uses_file(), &Lock::for_tests()).unwrap();
    }

    /// Cleans up: the names of what went, in order, and the bytes that are lacking then.
    fn clean(&self, policy: &Policy, keep: &Keep, room: Room, seconds: u64) -> (Vec<String>, u64) {
        let lock = self.store.lock().unwrap();
        let cleaned = self.store.clean_at(&lock, policy, keep, room, &at(seconds), false);
        let cleaned = cleaned.unwrap().0;
        assert_eq!(cleaned.bytes, SIZE * cleaned.images.len() as u64);
        let names = cleaned.images.iter().flat_map(|image| &image.references).map(ToString::to_string);
        (names.collect(), cleaned.lacking)
    }
}

/// A layer of one file, another one for each name.
fn tar_of(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(SIZE);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let content: Vec<u8> = name.bytes().cycle().take(SIZE as usize).collect();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "file", &*content).unwrap();
    tar.into_inner().unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment { boot: "this".to_owned(), seconds }
}

/// A disk for 100 images.
fn room(available: u64) -> Room {
    Room { capacity: 100 * SIZE, available }
}

fn nothing() -> Keep {
    Keep::default()
}

#[test]
fn a_disk_is_too_full_at_85_per_cent_and_has_room_again_at_80() {
    let lacking_of = |available| lacking(room(available), Policy::kubelet().thresholds.unwrap());
    assert_eq!(lacking_of(16 * SIZE), 0, "84 % are used");
    assert_eq!(lacking_of(15 * SIZE), 5 * SIZE);
    assert_eq!(lacking_of(0), 20 * SIZE);
    assert_eq!(lacking_of(16 * SIZE - 1), 4 * SIZE + 1, "the kubelet rounds what is used up");
    assert_eq!(lacking(Room { capacity: 0, available: 0 }, (85, 80)), 0, "it does not say how large it is");
}

#[test]
fn as_many_go_as_it_takes_and_the_one_that_was_used_longest_ago_first() {
    let world = World::with_used(&["a:1", "b:1", "c:1", "d:1"]);
    world.use_at("a:1", 1100);
    let policy = Policy { thresholds: Some((82, 80)), ..Policy::kubelet() };
    assert_eq!(world.clean(&policy, &nothing(), room(19 * SIZE), 5000), (vec![], 0), "81 % are used");
    let two = vec!["b:1".to_owned(), "c:1".to_owned()];
    assert_eq!(world.clean(&policy, &nothing(), room(18 * SIZE), 5000), (two, 0));
}

#[test]
fn one_that_was_just_used_or_has_just_come_stays_however_full_the_disk_is() {
    let world = World::with_used(&["used:1"]);
    world.add("new:1", None);
    let policy = Policy::kubelet();
    let lacking = 20 * SIZE;
    assert_eq!(world.clean(&policy, &nothing(), room(0), 1119), (vec![], lacking), "119 s, and 0 s");
    assert_eq!(world.clean(&policy, &nothing(), room(0), 1120), (vec!["used:1".to_owned()], lacking - SIZE));
    assert_eq!(world.clean(&policy, &nothing(), room(0), 1238), (vec![], lacking));
    // Its age begins when a clean-up sees it.
    assert_eq!(world.clean(&policy, &nothing(), room(0), 1239), (vec!["new:1".to_owned()], lacking - SIZE));
}

#[test]
fn age_alone_is_a_reason_only_if_it_is_said_to_be() {
    let world = World::with_used(&["old:1", "young:1"]);
    let empty = room(100 * SIZE);
    assert_eq!(world.clean(&Policy::kubelet(), &nothing(), empty, 1_000_000), (vec![], 0));
    let policy = Policy { maximum_age: Some(Duration::from_secs(3600)), ..Policy::kubelet() };
    world.use_at("young:1", 1_000_000);
    assert_eq!(world.clean(&policy, &nothing(), empty, 1_000_200), (vec!["old:1".to_owned()], 0));
}

#[test]
fn what_is_needed_stays_though_the_disk_is_full_and_all_of_it_is_old() {
    let world = World::with_used(&["in-use:1", "named:1", "loaded:1"]);
    let file = world.dir.path().join("folder.tar");
    fs::write(&file, "an archive of the image folder").unwrap();
    world.add("folder:1", Some(&file));
    let keep =
        Keep { images: [world.id("in-use:1")].into(), references: ["named:1".parse().unwrap()].into() };
    let policy = Policy { maximum_age: Some(Duration::ZERO), ..Policy::kubelet() };
    // The first one gives the new one an age.
    world.clean(&policy, &keep, room(100 * SIZE), 1010);
    let expected = (vec!["loaded:1".to_owned()], 19 * SIZE);
    assert_eq!(world.clean(&policy, &keep, room(0), 1_000_000), expected);
    for name in ["in-use:1", "named:1", "folder:1"] {
        assert!(world.store.find(&name.parse().unwrap()).unwrap().is_some(), "{name}");
    }
}

/// Between two boots the clock begins again: it must not count as going back, nor forward.
#[test]
fn another_boot_makes_no_image_old() {
    let world = World::with_used(&["a:1"]);
    let policy = Policy::kubelet();
    let lock = world.store.lock().unwrap();
    let clean = |boot: &str, seconds| {
        let now = Moment { boot: boot.to_owned(), seconds };
        world.store.clean_at(&lock, &policy, &nothing(), room(0), &now, false).unwrap().0.images.len()
    };
    assert_eq!([clean("second", 0), clean("second", 60), clean("third", 59)], [0, 0, 0]);
    assert_eq!(clean("third", 60), 1, "60 s of two boots");
}
