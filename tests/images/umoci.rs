//! Random stacks of layers: what podkeep's layers show, merged by overlayfs' rules, is what umoci unpacks, entry for entry.
//!
//! umoci comes with `scripts/install images`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use serde_json::json;
use tar::{EntryType, Header};

use super::builder::{Layer, World};

/// One entry of a random layer. Names are few, so that layers meet.
#[derive(Clone, Debug)]
enum Change {
    File {
        path: PathBuf,
        content: Vec<u8>,
        mode: u32,
        owner: u32,
        time: Time,
        attribute: bool,
        sparse: Option<Sparse>,
    },
    Folder {
        path: PathBuf,
        mode: u32,
        owner: u32,
        time: Time,
    },
    Symlink {
        path: PathBuf,
        target: String,
    },
    /// To a file that this layer has, by its number among them.
    Hardlink {
        path: PathBuf,
        to: usize,
    },
    Device {
        path: PathBuf,
        minor: u32,
        time: Time,
    },
    Fifo {
        path: PathBuf,
        time: Time,
    },
    Whiteout {
        path: PathBuf,
    },
    Opaque {
        path: PathBuf,
    },
}

/// Whole seconds, and how often a half is added.
#[derive(Clone, Copy, Debug)]
struct Time {
    seconds: i64,
    fraction: &'static str,
}

fn at(seconds: i64) -> Time {
    Time { seconds, fraction: "" }
}

impl Time {
    fn shown(self) -> String {
        format!("{}{}", self.seconds, self.fraction)
    }
}

/// A number as GNU tar writes it that has no octal digits: two's complement, behind a bit that says so.
fn binary(number: i64) -> [u8; 12] {
    let mut field = [if number < 0 { 0xff } else { 0 }; 12];
    field[4..].copy_from_slice(&number.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// GNU tar's ways to write a file without its holes.
#[derive(Clone, Copy, Debug)]
enum Sparse {
    Zero,
    One,
    Inline,
}

fn path() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof![8 => "[a-c]", 1 => Just("x".repeat(120)), 1 => Just("ä b".to_owned())];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.iter().collect())
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o644), Just(0o755), Just(0o700), Just(0o4755), Just(0o2711), Just(0o1777), Just(0o000)]
}

fn time() -> impl Strategy<Value = Time> {
    let seconds = prop_oneof![
        2 => Just(0),
        2 => Just(1),
        6 => 900_000_000i64..1_800_000_000,
        1 => Just(4_000_000_000),
        2 => -2_000_000_000i64..0
    ];
    let fraction =
        prop_oneof![3 => Just(""), 1 => Just(".5"), 1 => Just(".000000001"), 1 => Just(".1234567899")];
    (seconds, fraction).prop_map(|(seconds, fraction)| Time { seconds, fraction })
}

fn sparse() -> impl Strategy<Value = Option<Sparse>> {
    prop_oneof![
        4 => Just(None),
        1 => prop_oneof![Just(Sparse::Zero), Just(Sparse::One), Just(Sparse::Inline)].prop_map(Some)
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let zeros = (0usize..300_000).prop_map(|length| vec![0; length]);
    prop_oneof![3 => proptest::collection::vec(any::<u8>(), 0..600), 1 => zeros]
}

fn change() -> impl Strategy<Value = Change> {
    let owner = prop_oneof![Just(0u32), Just(1000), Just(3_000_000)];
    prop_oneof![
        6 => (path(), content(), mode(), owner.clone(), time(), any::<bool>(), sparse()).prop_map(
            |(path, content, mode, owner, time, attribute, sparse)| Change::File { path, content, mode, owner, time, attribute, sparse }
        ),
        5 => (path(), mode(), owner, time()).prop_map(|(path, mode, owner, time)| Change::Folder { path, mode, owner, time }),
        2 => (path(), "[a-c/.]{1,6}").prop_map(|(path, target)| Change::Symlink { path, target }),
        2 => (path(), any::<prop::sample::Index>()).prop_map(|(path, to)| Change::Hardlink { path, to: to.index(64) }),
        1 => (path(), 1u32..9, time()).prop_map(|(path, minor, time)| Change::Device { path, minor, time }),
        1 => (path(), time()).prop_map(|(path, time)| Change::Fifo { path, time }),
        3 => path().prop_map(|path| Change::Whiteout { path }),
        1 => path().prop_map(|path| Change::Opaque { path }),
    ]
}

/// A layer as image tools write them: no path twice, parents listed before what is in them, whiteouts of other names only.
///
/// `lists_parents`: whether folders that are only written into are listed too.
fn build(changes: &[Change], lists_parents: bool) -> Vec<u8> {
    let mut layer = Layer::new();
    let mut made = BTreeMap::<PathBuf, bool>::new();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut whiteouts = BTreeSet::new();
    for change in changes {
        let path = path_of(change);
        let parents: Vec<&Path> =
            path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        let fits = parents
            .iter()
            .all(|parent| made.get(*parent).copied().unwrap_or(true) && !whiteouts.contains(*parent));
        let has_target = !matches!(change, Change::Hardlink { .. }) || !files.is_empty();
        if made.contains_key(path) || whiteouts.contains(path) || !fits || !has_target {
            continue;
        }
        // A whiteout in a folder that is nowhere: containerd makes the folder, umoci does not.
        if lists_parents || matches!(change, Change::Whiteout { .. }) {
            for parent in parents.iter().rev() {
                if made.insert(parent.to_path_buf(), true).is_none() {
                    layer =
                        add(layer, parent, EntryType::Directory, "", 0o755, 0, at(1_600_000_000), b"", false);
                }
            }
        } else {
            made.extend(parents.iter().map(|parent| (parent.to_path_buf(), true)));
        }
        layer = match change {
            Change::File { content, mode, owner, time, attribute, sparse: Some(sparse), .. } => {
                files.push(path.clone());
                made.insert(path.clone(), false);
                let (records, stored) = without_holes(content, *sparse, path);
                let extended = extended(path, "", *owner, *time, *attribute).into_iter().chain(records);
                layer.pax(&extended.collect::<Vec<_>>()).entry(EntryType::Regular, "x", "", *mode, &stored)
            }
            Change::File { content, mode, owner, time, attribute, sparse: None, .. } => {
                files.push(path.clone());
                made.insert(path.clone(), false);
                add(layer, path, EntryType::Regular, "", *mode, *owner, *time, content, *attribute)
            }
            Change::Folder { mode, owner, time, .. } => {
                made.insert(path.clone(), true);
                add(layer, path, EntryType::Directory, "", *mode, *owner, *time, b"", false)
            }
            Change::Symlink { target, .. } => {
                made.insert(path.clone(), false);
                add(layer, path, EntryType::Symlink, target, 0o777, 0, at(1_500_000_000), b"", false)
            }
            Change::Hardlink { to, .. } => {
                let target = &files[to % files.len()];
                made.insert(path.clone(), false);
                add(layer, path, EntryType::Link, target.to_str().unwrap(), 0o644, 0, at(0), b"", false)
            }
            Change::Device { minor, time, .. } => {
                made.insert(path.clone(), false);
                let mut header = Header::new_gnu();
                header.set_entry_type(EntryType::Char);
                header.set_device_major(1).unwrap();
                header.set_device_minor(*minor).unwrap();
                header.set_mode(0o600);
                header.as_old_mut().mtime = binary(time.seconds);
                layer.pax(&[("path", path.as_os_str().as_bytes())]).raw(header, b"")
            }
            Change::Fifo { time, .. } => {
                made.insert(path.clone(), false);
                add(layer, path, EntryType::Fifo, "", 0o600, 0, *time, b"", false)
            }
            Change::Whiteout { .. } => {
                whiteouts.insert(path.clone());
                let mut name = OsString::from(".wh.");
                name.push(path.file_name().unwrap());
                add(layer, &path.with_file_name(name), EntryType::Regular, "", 0o600, 0, at(0), b"", false)
            }
            Change::Opaque { .. } => {
                // First what it hides, as every tool that writes such a file does.
                if made.keys().any(|known| known.starts_with(path)) {
                    continue;
                }
                made.insert(path.clone(), true);
                layer = add(layer, path, EntryType::Directory, "", 0o750, 0, at(1_400_000_000), b"", false);
                add(layer, &path.join(".wh..wh..opq"), EntryType::Regular, "", 0o600, 0, at(0), b"", false)
            }
        };
    }
    layer.finish()
}

/// Extended records for the content without its zeros, and what is left of it.
fn without_holes(content: &[u8], sparse: Sparse, path: &Path) -> (Vec<(&'static str, Vec<u8>)>, Vec<u8>) {
    let (mut map, mut stored) = (Vec::new(), Vec::new());
    for (number, piece) in
        content.chunks(100).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0))
    {
        map.push((number * 100, piece.len()));
        stored.extend_from_slice(piece);
    }
    // GNU tar ends every map so.
    map.push((content.len(), 0));
    let text = |number: usize| number.to_string().into_bytes();
    let name = path.as_os_str().as_bytes().to_vec();
    let listed = |separator: &str| {
        let numbers: Vec<_> =
            map.iter().map(|(offset, length)| format!("{offset}{separator}{length}")).collect();
        numbers.join(separator)
    };
    let size = text(content.len());
    let records = match sparse {
        Sparse::Zero => {
            let pieces = map.iter().flat_map(|(offset, length)| {
                [("GNU.sparse.offset", text(*offset)), ("GNU.sparse.numbytes", text(*length))]
            });
            [("GNU.sparse.size", size), ("GNU.sparse.numblocks", text(map.len()))]
                .into_iter()
                .chain(pieces)
                .collect()
        }
        Sparse::One => vec![
            ("GNU.sparse.size", size),
            ("GNU.sparse.numblocks", text(map.len())),
            ("GNU.sparse.name", name),
            ("GNU.sparse.map", listed(",").into_bytes()),
        ],
        Sparse::Inline => {
            let mut head = format!("{}\n{}\n", map.len(), listed("\n")).into_bytes();
            head.resize(head.len().next_multiple_of(512), 0);
            stored.splice(..0, head);
            vec![
                ("GNU.sparse.major", text(1)),
                ("GNU.sparse.minor", text(0)),
                ("GNU.sparse.name", name),
                ("GNU.sparse.realsize", size),
            ]
        }
    };
    (records, stored)
}

/// Gives what is no folder a name that no folder has: what becomes of a file or a symlink of a lower layer that is written into without a
/// word about it, every tool decides otherwise (umoci follows the link or fails, containerd puts a folder in its place, as podkeep does).
fn keep_off_folders(change: &mut Change) {
    match change {
        Change::File { path, .. }
        | Change::Symlink { path, .. }
        | Change::Hardlink { path, .. }
        | Change::Device { path, .. }
        | Change::Fifo { path, .. } => {
            let mut name = OsString::from("f");
            name.push(path.file_name().unwrap());
            path.set_file_name(name);
        }
        // Below a set-group-ID folder the kernel gives that bit to those that umoci makes up; podkeep's have mode 0755.
        Change::Folder { mode, .. } => *mode &= !0o2000,
        Change::Whiteout { .. } | Change::Opaque { .. } => {}
    }
}

fn path_of(change: &Change) -> &PathBuf {
    match change {
        Change::File { path, .. }
        | Change::Folder { path, .. }
        | Change::Symlink { path, .. }
        | Change::Hardlink { path, .. }
        | Change::Device { path, .. }
        | Change::Fifo { path, .. }
        | Change::Whiteout { path }
        | Change::Opaque { path } => path,
    }
}

#[allow(clippy::too_many_arguments, reason = "a tar header has as many fields")]
fn add(
    layer: Layer,
    path: &Path,
    kind: EntryType,
    link: &str,
    mode: u32,
    owner: u32,
    time: Time,
    content: &[u8],
    attribute: bool,
) -> Layer {
    layer.pax(&extended(path, link, owner, time, attribute)).entry(kind, "x", "", mode, content)
}

fn extended(
    path: &Path,
    link: &str,
    owner: u32,
    time: Time,
    attribute: bool,
) -> Vec<(&'static str, Vec<u8>)> {
    let owner = owner.to_string().into_bytes();
    let mut records = vec![
        ("path", path.as_os_str().as_bytes().to_vec()),
        ("uid", owner.clone()),
        ("gid", owner),
        ("mtime", time.shown().into_bytes()),
    ];
    if !link.is_empty() {
        records.push(("linkpath", link.as_bytes().to_vec()));
    }
    if attribute {
        records.push(("SCHILY.xattr.user.podkeep", b"kept\n=\0".to_vec()));
        // cap_net_bind_service=ep, version 2.
        let capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        records.push(("SCHILY.xattr.security.capability", capability.to_vec()));
    }
    records
}

/// What is compared of one entry.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    /// `None` for folders that no layer lists: nobody says when they were made.
    time: Option<(i64, i64)>,
    device: u64,
    content: Vec<u8>,
    attributes: Vec<Option<Vec<u8>>>,
}

fn show(path: &Path) -> Shown {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let (kind, size, content) = match kind {
        _ if kind.is_dir() => ('d', 0, Vec::new()),
        _ if kind.is_symlink() => ('l', 0, fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
        _ if kind.is_file() => ('f', meta.len(), fs::read(path).unwrap()),
        _ if kind.is_fifo() => ('p', 0, Vec::new()),
        _ => ('c', 0, Vec::new()),
    };
    let attribute = |name: &str| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(path, name, &mut value).ok().map(|length| value[..length].to_vec())
    };
    Shown {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        size,
        time: Some((meta.mtime(), meta.mtime_nsec())),
        device: if kind == 'c' { meta.rdev() } else { 0 },
        content,
        attributes: ["user.podkeep", "security.capability"].map(attribute).into(),
    }
}

/// Which names share an inode, as sets of paths.
fn links(tree: &BTreeMap<PathBuf, PathBuf>) -> BTreeSet<Vec<&Path>> {
    let mut by_inode = BTreeMap::<(u64, u64), Vec<&Path>>::new();
    for (path, place) in tree {
        let meta = fs::symlink_metadata(place).unwrap();
        if !meta.is_dir() {
            by_inode.entry((meta.dev(), meta.ino())).or_default().push(path);
        }
    }
    by_inode.into_values().filter(|paths| paths.len() > 1).collect()
}

/// Every path of a folder, and where it lies.
fn flat(root: &Path, below: &Path, tree: &mut BTreeMap<PathBuf, PathBuf>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let place = root.join(&path);
        let is_folder = fs::symlink_metadata(&place).unwrap().is_dir();
        tree.insert(path.clone(), place);
        if is_folder {
            flat(root, &path, tree);
        }
    }
}

/// Every path of the merged view, and the layer's file that stands there.
fn merged(layers: &[PathBuf]) -> BTreeMap<PathBuf, PathBuf> {
    let mut tree = BTreeMap::new();
    for layer in layers {
        let mut own = BTreeMap::new();
        flat(layer, Path::new(""), &mut own);
        for (path, place) in own {
            let meta = fs::symlink_metadata(&place).unwrap();
            let mut value = [0; 1];
            let is_opaque =
                meta.is_dir() && rustix::fs::lgetxattr(&place, "trusted.overlay.opaque", &mut value).is_ok();
            if !meta.is_dir()
                || is_opaque
                || tree.get(&path).is_some_and(|below: &PathBuf| !below.is_dir() || below.is_symlink())
            {
                tree.retain(|known: &PathBuf, _| !known.starts_with(&path));
            }
            let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            if !is_whiteout {
                tree.insert(path, place);
            }
        }
    }
    tree
}

fn umoci(layout: &Path, bundle: &Path) -> PathBuf {
    let output = Command::new("umoci")
        .args(["raw", "unpack", "--image", &format!("{}:web", layout.display())])
        .arg(bundle)
        .output()
        .expect("umoci runs: scripts/install images");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bundle.to_owned()
}

fn compare(stack: &[Vec<Change>], lists_parents: bool) -> Result<(), TestCaseError> {
    compare_layers(stack.iter().map(|changes| build(changes, lists_parents)).collect(), lists_parents)
}

fn compare_layers(stack: Vec<Vec<u8>>, lists_parents: bool) -> Result<(), TestCaseError> {
    let world = World::new();
    let mut layout = world.layout("source");
    let blobs: Vec<_> = stack.into_iter().map(|layer| (layer.clone(), layer)).collect();
    let manifest = layout.image(&blobs, json!({}));
    layout.name("web", manifest);
    let source = layout.write();
    world.store.import(&source).unwrap();
    let image = world.find("source:web").unwrap();
    let ours =
        merged(&image.layers.iter().map(|layer| world.store.layers_dir().join(layer)).collect::<Vec<_>>());
    let bundle = umoci(&source, &world.path("bundle"));
    let mut theirs = BTreeMap::new();
    flat(&bundle, Path::new(""), &mut theirs);
    prop_assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, place) in &ours {
        let (mut ours, mut theirs) = (show(place), show(&theirs[path]));
        if ours.kind == 'd' && !lists_parents {
            (ours.time, theirs.time) = (None, None);
        }
        prop_assert_eq!(ours, theirs, "{}", path.display());
    }
    prop_assert_eq!(links(&ours), links(&theirs));
    prop_assert_eq!(world.store.verify().unwrap(), []);
    Ok(())
}

/// 24 stacks, or what PODKEEP_LONG makes of them.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PODKEEP_LONG").is_some() { 500 } else { 24 };
    ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() }
}

fn stack() -> impl Strategy<Value = Vec<Vec<Change>>> {
    proptest::collection::vec(proptest::collection::vec(change(), 0..10), 1..5)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn layers_merge_to_what_umoci_unpacks(stack in stack()) {
        compare(&stack, true)?;
    }

    #[test]
    fn layers_that_do_not_list_their_folders_do_too(mut stack in stack()) {
        stack.iter_mut().flatten().for_each(keep_off_folders);
        compare(&stack, false)?;
    }
}

/// What GNU tar writes of a folder with sparse files, long names and old times, in each of its formats.
#[test]
fn what_gnu_tar_writes_is_what_umoci_unpacks() {
    let folder = tempfile::tempdir().unwrap();
    let long = "long/".repeat(40);
    fs::create_dir_all(folder.path().join(&long)).unwrap();
    for (name, pieces) in [("holes", &[1u64, 300, 1000][..]), ("empty", &[]), (&*format!("{long}name"), &[5])]
    {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_len(5 << 20).unwrap();
        for piece in pieces {
            std::os::unix::fs::FileExt::write_all_at(&file, b"content", piece * 4096 + 9).unwrap();
        }
    }
    fs::hard_link(folder.path().join("holes"), folder.path().join("linked")).unwrap();
    let formats: [&[&str]; 5] = [
        // umoci does not know its sparse entries; unpacking.rs has one.
        &["--format=gnu"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=oldgnu"],
    ];
    for format in formats {
        for time in ["@1234567890", "@-1234567890"] {
            let mut tar = Command::new("tar");
            tar.args(["--create", "--numeric-owner", "--mtime", time]).args(format);
            let output = tar.arg("--directory").arg(folder.path()).arg(".").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout.len() < 1 << 20, format.contains(&"--sparse"), "{format:?}");
            compare_layers(vec![output.stdout], true)
                .unwrap_or_else(|error| panic!("{format:?} {time}: {error}"));
        }
    }
}
