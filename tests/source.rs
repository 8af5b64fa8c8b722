//! A source on real folders: what it tells after what people, editors and tools do to files. Time is passed in, and
//! inotify is awaited with poll(2): nothing sleeps.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podkeep::source::{Change, FileError, FolderError, MAX_FILE_BYTES, REMOVAL_DELAY, SETTLE_TIME, Source};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const RESCAN: Duration = Duration::from_secs(20);

/// A folder under watch, and what its changes add up to.
struct World {
    /// Held by one test at a time: a program that another test starts has, until it executes, a copy of every file that
    /// is open for writing here, and a file that somebody writes to is not read.
    _alone: MutexGuard<'static, ()>,
    root: tempfile::TempDir,
    source: Source,
    now: Duration,
    told: BTreeMap<String, Vec<u8>>,
}

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that the next one could trip over.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// With the folder there, holding `files`, and its first listing told.
    fn with(files: &[(&str, &str)]) -> World {
        let alone = alone();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("manifests")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join("manifests").join(name), text).unwrap();
        }
        let mut world = World::new(alone, root, "manifests");
        world.settle();
        world
    }

    fn on(root: tempfile::TempDir, path: &str) -> World {
        World::new(alone(), root, path)
    }

    fn new(alone: MutexGuard<'static, ()>, root: tempfile::TempDir, path: &str) -> World {
        let now = Duration::from_secs(100);
        let source = Source::open(&root.path().join(path), RESCAN, now).unwrap();
        World { _alone: alone, root, source, now, told: BTreeMap::new() }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// All that the source has to say now, in words.
    fn step(&mut self) -> Vec<String> {
        let changes = self.source.step(self.now);
        self.words(changes)
    }

    /// Steps until inotify has no more to say; events of a finished system call are there when it returns.
    fn events(&mut self) -> Vec<String> {
        let mut words = self.step();
        while self.readable() {
            words.extend(self.step());
        }
        words
    }

    fn readable(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.source.fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    fn after(&mut self, pause: Duration) -> Vec<String> {
        self.now += pause;
        self.events()
    }

    /// Goes from deadline to deadline until only the rescan is left.
    fn settle(&mut self) -> Vec<String> {
        let mut words = self.events();
        for _ in 0..50 {
            if self.source.deadline() >= self.now + RESCAN - Duration::from_secs(9) {
                return words;
            }
            self.now = self.now.max(self.source.deadline());
            words.extend(self.events());
        }
        panic!("never comes to rest: deadline {:?}, now {:?}", self.source.deadline(), self.now);
    }

    fn words(&mut self, changes: Vec<Change>) -> Vec<String> {
        changes.into_iter().map(|change| self.word(change)).collect()
    }

    fn word(&mut self, change: Change) -> String {
        let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
        match change {
            Change::Read { file, bytes } => {
                let word = format!("read {} {}", name(&file), String::from_utf8_lossy(&bytes));
                self.told.insert(name(&file), bytes);
                word
            }
            Change::Gone { file } => {
                self.told.remove(&name(&file));
                format!("gone {}", name(&file))
            }
            Change::Unreadable { file, error } => format!("unreadable {}: {}", name(&file), short(&error)),
            Change::FolderUnreadable { error: FolderError::Io { source, .. } } => {
                format!("folder: {}", source.kind())
            }
            Change::FolderUnreadable { error } => format!("folder: {error}"),
            Change::FolderBack => "folder back".to_owned(),
            Change::Listed { files } => {
                format!("listed {}", files.iter().map(|file| name(file)).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

fn short(error: &FileError) -> String {
    match error {
        FileError::Io { source, .. } => source.kind().to_string(),
        FileError::TooLarge { .. } => "too large".to_owned(),
        FileError::NotRegular { kind, .. } => (*kind).to_owned(),
        FileError::OpenForWriting { .. } => "open for writing".to_owned(),
        FileError::Url(error) => panic!("a file is no URL: {error}"),
    }
}

fn sh(folder: &Path, script: &str) {
    let status = Command::new("sh").arg("-ec").arg(script).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_step_reads_every_manifest_in_order_and_the_listing_follows() {
    let root = tempfile::tempdir().unwrap();
    sh(
        root.path(),
        "mkdir manifests; cd manifests; for f in b.yaml a.json c.yml .h.yaml d.yaml~ e.bak README; do printf 1 >$f; done",
    );
    let mut world = World::on(root, "manifests");
    assert!(world.source.deadline() <= world.now);
    assert_eq!(world.step(), ["read a.json 1", "read b.yaml 1", "read c.yml 1"]);
    assert_eq!(world.after(REMOVAL_DELAY), ["listed a.json b.yaml c.yml"]);
    assert_eq!(world.source.deadline(), world.now - REMOVAL_DELAY + RESCAN);
}

#[test]
fn a_file_is_read_when_its_writer_closes_it() {
    let mut world = World::with(&[]);
    let mut writer = File::create(world.file("a.yaml")).unwrap();
    writer.write_all(b"on").unwrap();
    assert_eq!(world.events(), NOTHING);
    writer.write_all(b"e").unwrap();
    assert_eq!(world.events(), NOTHING);
    drop(writer);
    assert_eq!(world.settle(), ["read a.yaml one"]);
}

#[test]
fn a_writer_that_keeps_the_file_open_over_start_and_rescan_yields_nothing_half() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("manifests")).unwrap();
    let mut writer = File::create(root.path().join("manifests/a.yaml")).unwrap();
    writer.write_all(b"ha").unwrap();
    let mut world = World::on(root, "manifests");
    assert_eq!(world.step(), NOTHING);
    assert_eq!(world.after(REMOVAL_DELAY), ["listed a.yaml"]);
    assert_eq!(world.after(RESCAN), NOTHING);
    writer.write_all(b"lf").unwrap();
    let changes = world.source.rescan(world.now);
    assert_eq!(world.words(changes), NOTHING);
    assert_eq!(world.after(Duration::from_secs(2)), NOTHING);
    assert_eq!(world.after(Duration::from_secs(4)), ["unreadable a.yaml: open for writing"]);
    drop(writer);
    assert_eq!(world.events(), ["read a.yaml half"]);
}

#[test]
fn a_writer_through_a_symbolic_link_is_waited_for_by_the_clock() {
    let mut world = World::with(&[]);
    let target = world.root.path().join("target");
    let mut writer = File::create(&target).unwrap();
    writer.write_all(b"whole").unwrap();
    symlink(&target, world.file("a.yaml")).unwrap();
    assert_eq!(world.events(), NOTHING);
    drop(writer);
    assert_eq!(world.events(), NOTHING);
    assert_eq!(world.after(Duration::from_secs(1)), ["read a.yaml whole"]);
    fs::write(&target, "changed").unwrap();
    assert_eq!(world.events(), NOTHING);
    assert_eq!(world.after(RESCAN), ["read a.yaml changed"]);
    fs::remove_file(&target).unwrap();
    assert_eq!(world.after(RESCAN), ["unreadable a.yaml: entity not found"]);
    assert_eq!(world.after(RESCAN), NOTHING);
    fs::write(&target, "changed").unwrap();
    assert_eq!(world.after(RESCAN), ["read a.yaml changed"]);
}

#[test]
fn an_empty_file_is_given_a_second() {
    let mut world = World::with(&[]);
    File::create(world.file("a.yaml")).unwrap();
    assert_eq!(world.events(), NOTHING);
    fs::write(world.file("a.yaml"), "x").unwrap();
    assert_eq!(world.events(), ["read a.yaml x"]);
    File::create(world.file("b.yaml")).unwrap();
    assert_eq!(world.events(), NOTHING);
    assert_eq!(world.after(SETTLE_TIME), ["read b.yaml "]);
}

#[test]
fn touch_and_an_equal_rewrite_say_nothing() {
    let mut world = World::with(&[("a.yaml", "one")]);
    sh(&world.folder(), "touch a.yaml; chmod 600 a.yaml");
    assert_eq!(world.settle(), NOTHING);
    sh(&world.folder(), "printf one >a.yaml");
    assert_eq!(world.settle(), NOTHING);
}

#[test]
fn an_idle_rescan_reads_nothing() {
    let mut world = World::with(&[("a.yaml", "one"), ("b.yaml", "two")]);
    // A writer that has written nothing shows who looks inside: a file found open would be tried again in a second.
    let _writer = OpenOptions::new().append(true).open(world.file("a.yaml")).unwrap();
    assert_eq!(world.after(RESCAN), NOTHING);
    assert_eq!(world.source.deadline(), world.now + RESCAN);
}

#[test]
fn every_way_to_save_a_file_is_one_read() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let from = elsewhere.path().join("new").display().to_string();
    fs::write(&from, "new").unwrap();
    let ways = [
        ("printf", "printf new >a.yaml".to_owned()),
        ("slow", "{ printf n; printf e; printf w; } >a.yaml".to_owned()),
        ("cp over", format!("cp {from} a.yaml")),
        ("mv from another file system", format!("cp {from} {from}2; mv -f {from}2 a.yaml")),
        ("sed -i", "sed -i s/old/new/ a.yaml".to_owned()),
        (
            "vim, backup by rename",
            "printf x >4913; rm 4913; mv a.yaml a.yaml~; printf new >a.yaml; rm a.yaml~".to_owned(),
        ),
        ("vim, backup by copy", "cp a.yaml a.yaml~; printf new >a.yaml; rm a.yaml~".to_owned()),
        ("rsync", "printf new >.a.yaml.AbCd; chmod 644 .a.yaml.AbCd; mv .a.yaml.AbCd a.yaml".to_owned()),
        ("ln -sfn", "printf new >target; ln -sfn target a.yaml".to_owned()),
        ("hard link", "printf new >target; ln -f target a.yaml".to_owned()),
    ];
    for (way, script) in ways {
        let mut world = World::with(&[("a.yaml", "old")]);
        sh(&world.folder(), &script);
        assert_eq!(world.settle(), ["read a.yaml new"], "{way}");
    }
}

#[test]
fn real_vim_saves_with_one_read() {
    let found = {
        // Until it executes, it has open what other tests write, which is not read then.
        let _alone = alone();
        Command::new("vim").arg("--version").output()
    };
    if found.is_err() {
        return println!("not run: there is no vim here");
    }
    for options in ["", "set backup", "set nowritebackup", "set backupcopy=yes", "set backupcopy=no"] {
        let mut world = World::with(&[("a.yaml", "old\n")]);
        let script = format!("vim -u NONE -n -es -c '{options}' -c '%s/old/new/' -c wq a.yaml </dev/null");
        sh(&world.folder(), &script);
        assert_eq!(world.settle(), ["read a.yaml new\n"], "{options}");
    }
}

#[test]
fn a_removed_file_is_gone_after_a_moment() {
    let mut world = World::with(&[("a.yaml", "one")]);
    fs::remove_file(world.file("a.yaml")).unwrap();
    assert_eq!(world.events(), NOTHING);
    assert_eq!(world.source.deadline(), world.now + REMOVAL_DELAY);
    assert_eq!(world.after(REMOVAL_DELAY - Duration::from_millis(1)), NOTHING);
    assert_eq!(world.after(Duration::from_millis(1)), ["gone a.yaml"]);
    fs::write(world.file("a.yaml"), "one").unwrap();
    assert_eq!(world.events(), ["read a.yaml one"]);
}

#[test]
fn the_new_name_is_read_before_the_old_one_is_gone() {
    let mut world = World::with(&[("a.yaml", "one")]);
    fs::rename(world.file("a.yaml"), world.file("b.yaml")).unwrap();
    assert_eq!(world.events(), ["read b.yaml one"]);
    assert_eq!(world.settle(), ["gone a.yaml"]);
}

#[test]
fn a_renamed_file_is_not_gone_while_its_new_name_is_being_written() {
    let mut world = World::with(&[("a.yaml", "one")]);
    fs::rename(world.file("a.yaml"), world.file("b.yaml")).unwrap();
    let writer = OpenOptions::new().append(true).open(world.file("b.yaml")).unwrap();
    assert_eq!(world.events(), NOTHING);
    assert_eq!(world.after(REMOVAL_DELAY), NOTHING);
    drop(writer);
    assert_eq!(world.settle(), ["read b.yaml one", "gone a.yaml"]);
}

#[test]
fn what_cannot_be_read_is_said_once_and_does_not_block() {
    let mut world = World::with(&[]);
    fs::create_dir(world.file("dir.yaml")).unwrap();
    sh(&world.folder(), "mkfifo fifo.yaml");
    File::create(world.file("big.yaml")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    symlink("/dev/zero", world.file("zero.yaml")).unwrap();
    assert_eq!(
        world.events(),
        [
            "unreadable big.yaml: too large",
            "unreadable dir.yaml: directory",
            "unreadable fifo.yaml: FIFO",
            "unreadable zero.yaml: device"
        ]
    );
    assert_eq!(world.after(RESCAN), NOTHING);
    File::create(world.file("big.yaml")).unwrap().write_all(b"small").unwrap();
    assert_eq!(world.events(), ["read big.yaml small"]);
}

#[test]
fn after_trouble_the_same_content_is_read_again() {
    let mut world = World::with(&[("a.yaml", "one")]);
    sh(&world.folder(), "mv a.yaml kept; mkdir a.yaml");
    assert_eq!(world.settle(), ["unreadable a.yaml: directory"]);
    sh(&world.folder(), "rmdir a.yaml; mv kept a.yaml");
    assert_eq!(world.settle(), ["read a.yaml one"]);
}

#[test]
fn a_file_of_the_largest_size_is_read() {
    let mut world = World::with(&[]);
    let largest = vec![b'#'; MAX_FILE_BYTES as usize];
    fs::write(world.file("a.yaml"), &largest).unwrap();
    world.events();
    assert_eq!(world.told["a.yaml"], largest);
}

#[test]
fn a_folder_that_is_missing_at_start_is_found_when_it_is_made() {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::on(root, "etc/podkeep/manifests");
    let folder = world.root.path().join("etc/podkeep/manifests");
    assert_eq!(world.step(), ["folder: entity not found"]);
    assert_eq!(world.after(RESCAN), NOTHING);
    fs::create_dir(world.root.path().join("etc")).unwrap();
    assert_eq!(world.events(), NOTHING);
    fs::create_dir_all(&folder).unwrap();
    assert_eq!(world.events(), ["folder back"]);
    fs::write(folder.join("a.yaml"), "one").unwrap();
    assert_eq!(world.settle(), ["read a.yaml one", "listed a.yaml"]);
}

#[test]
fn a_folder_that_is_made_all_at_once_is_found() {
    let mut world = World::on(tempfile::tempdir().unwrap(), "etc/podkeep/manifests");
    world.step();
    sh(world.root.path(), "mkdir -p etc/podkeep/manifests; printf one >etc/podkeep/manifests/a.yaml");
    assert_eq!(world.settle(), ["folder back", "read a.yaml one", "listed a.yaml"]);
}

#[test]
fn a_folder_renamed_away_and_back_removes_nothing() {
    let mut world = World::with(&[("a.yaml", "one")]);
    let away = world.root.path().join("away");
    fs::rename(world.folder(), &away).unwrap();
    assert_eq!(world.events(), ["folder: entity not found"]);
    fs::write(away.join("b.yaml"), "unseen").unwrap();
    assert_eq!(world.settle(), NOTHING);
    fs::rename(&away, world.folder()).unwrap();
    assert_eq!(world.settle(), ["folder back", "read b.yaml unseen"]);
    fs::write(world.file("a.yaml"), "two").unwrap();
    assert_eq!(world.events(), ["read a.yaml two"]);
}

#[test]
fn the_listing_waits_for_a_folder_that_vanishes_right_after_the_start() {
    let root = tempfile::tempdir().unwrap();
    sh(root.path(), "mkdir manifests; printf one >manifests/a.yaml");
    let mut world = World::on(root, "manifests");
    let away = world.root.path().join("away");
    assert_eq!(world.step(), ["read a.yaml one"]);
    fs::rename(world.folder(), &away).unwrap();
    assert_eq!(world.after(REMOVAL_DELAY), ["folder: entity not found"]);
    fs::rename(&away, world.folder()).unwrap();
    assert_eq!(world.settle(), ["folder back", "listed a.yaml"]);
}

#[test]
fn a_replaced_folder_is_compared_and_watched() {
    let mut world = World::with(&[("a.yaml", "one"), ("b.yaml", "two")]);
    sh(world.root.path(), "mv manifests old; mkdir manifests; cp old/b.yaml manifests");
    assert_eq!(world.settle(), ["gone a.yaml"]);
    fs::write(world.file("c.yaml"), "three").unwrap();
    assert_eq!(world.events(), ["read c.yaml three"]);
    fs::write(world.root.path().join("old/d.yaml"), "nobody cares").unwrap();
    assert!(!world.readable(), "the old folder is still watched");
}

#[test]
fn a_removed_and_recreated_folder_is_watched_again() {
    let mut world = World::with(&[("a.yaml", "one")]);
    fs::remove_dir_all(world.folder()).unwrap();
    assert_eq!(world.settle(), ["folder: entity not found"]);
    assert_eq!(world.after(RESCAN), NOTHING);
    fs::create_dir(world.folder()).unwrap();
    assert_eq!(world.settle(), ["folder back", "gone a.yaml"]);
    fs::write(world.file("a.yaml"), "one").unwrap();
    assert_eq!(world.events(), ["read a.yaml one"]);
}

#[test]
fn an_emptied_folder_removes() {
    let mut world = World::with(&[("a.yaml", "one"), ("b.yaml", "two")]);
    sh(&world.folder(), "rm a.yaml b.yaml");
    assert_eq!(world.settle(), ["gone a.yaml", "gone b.yaml"]);
}

#[test]
fn a_folder_behind_a_symbolic_link_is_followed_when_the_link_moves() {
    let root = tempfile::tempdir().unwrap();
    sh(root.path(), "mkdir one two; printf 1 >one/a.yaml; printf 2 >two/a.yaml; ln -s one manifests");
    let mut world = World::on(root, "manifests");
    assert_eq!(world.settle(), ["read a.yaml 1", "listed a.yaml"]);
    sh(world.root.path(), "ln -s two next; mv -T next manifests");
    assert_eq!(world.settle(), ["read a.yaml 2"]);
}

#[test]
fn a_single_file_is_watched_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("manifests")).unwrap();
    let mut world = World::on(root, "manifests/a.yaml");
    assert_eq!(world.settle(), ["listed "]);
    fs::write(world.file("b.yaml"), "other").unwrap();
    fs::write(world.file("a.yaml"), "one").unwrap();
    assert_eq!(world.settle(), ["read a.yaml one"]);
    fs::remove_file(world.file("a.yaml")).unwrap();
    assert_eq!(world.settle(), ["gone a.yaml"]);
}

#[test]
fn a_single_file_may_have_any_name() {
    let root = tempfile::tempdir().unwrap();
    sh(root.path(), "printf one >pod.manifest");
    let mut world = World::on(root, "pod.manifest");
    assert_eq!(world.settle(), ["read pod.manifest one", "listed pod.manifest"]);
}

#[test]
fn an_overflown_queue_leads_to_a_rescan() {
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let mut world = World::with(&[("a.yaml", "one")]);
    // Two names in turn, because equal events in a row are merged.
    for _ in 0..limit / 2 + 1 {
        fs::write(world.file("x"), "").unwrap();
        fs::write(world.file("y"), "").unwrap();
    }
    fs::write(world.file("a.yaml"), "two").unwrap();
    assert_eq!(world.events(), ["read a.yaml two"]);
}

#[test]
fn a_writer_that_will_not_wait_is_let_in_after_the_look() {
    let mut world = World::with(&[("a.yaml", "one")]);
    let changes = world.source.rescan(world.now);
    assert_eq!(world.words(changes), NOTHING);
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(world.file("a.yaml")).unwrap();
}

/// What a random hand does to the folder.
#[derive(Clone, Debug)]
enum Deed {
    Write(usize, String),
    /// Leaves the file open until another deed of this kind closes it.
    HoldOpen(usize, String),
    Release,
    Rename(usize, usize),
    Remove(usize),
    ReplaceFolder,
    MoveFolderAwayAndBack,
    RemoveFolder,
    Step,
    Wait(u64),
}

const FILES: [&str; 5] = ["a.yaml", "b.yml", "c.json", ".hidden.yaml", "d.yaml~"];

fn deed() -> impl Strategy<Value = Deed> {
    let file = || 0..FILES.len();
    prop_oneof![
        4 => (file(), "[a-c]{0,3}").prop_map(|(file, text)| Deed::Write(file, text)),
        2 => (file(), "[a-c]{0,3}").prop_map(|(file, text)| Deed::HoldOpen(file, text)),
        2 => Just(Deed::Release),
        3 => (file(), file()).prop_map(|(from, to)| Deed::Rename(from, to)),
        2 => file().prop_map(Deed::Remove),
        1 => Just(Deed::ReplaceFolder),
        1 => Just(Deed::MoveFolderAwayAndBack),
        1 => Just(Deed::RemoveFolder),
        4 => Just(Deed::Step),
        3 => (0..1500u64).prop_map(Deed::Wait),
    ]
}

impl World {
    /// Deeds that the folder's state does not allow do nothing.
    fn do_it(&mut self, deed: &Deed, open: &mut Option<File>) {
        let folder = self.folder();
        let away = self.root.path().join("away");
        match deed {
            Deed::Write(file, text) => drop(fs::write(folder.join(FILES[*file]), text)),
            Deed::HoldOpen(file, text) => {
                *open = File::create(folder.join(FILES[*file])).ok();
                if let Some(open) = open {
                    open.write_all(text.as_bytes()).unwrap();
                }
            }
            Deed::Release => *open = None,
            Deed::Rename(from, to) => drop(fs::rename(folder.join(FILES[*from]), folder.join(FILES[*to]))),
            Deed::Remove(file) => drop(fs::remove_file(folder.join(FILES[*file]))),
            Deed::ReplaceFolder => {
                drop(fs::remove_dir_all(&away));
                drop(fs::rename(&folder, &away));
                drop(fs::create_dir(&folder));
            }
            Deed::MoveFolderAwayAndBack => {
                drop(fs::remove_dir_all(&away));
                drop(fs::rename(&folder, &away));
                self.step();
                drop(fs::rename(&away, &folder));
            }
            Deed::RemoveFolder => drop(fs::remove_dir_all(&folder)),
            Deed::Step => drop(self.step()),
            Deed::Wait(millis) => drop(self.after(Duration::from_millis(*millis))),
        }
    }

    fn real_content(&self) -> BTreeMap<String, Vec<u8>> {
        let names = ["a.yaml", "b.yml", "c.json"];
        names.iter().filter_map(|name| Some(((*name).to_owned(), fs::read(self.file(name)).ok()?))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without a rescan: events alone have to bring the source to the truth.
    #[test]
    fn what_was_told_ends_as_what_is_there(deeds in prop::collection::vec(deed(), 1..40)) {
        let mut world = World::with(&[("a.yaml", "start")]);
        let mut open = None;
        for deed in &deeds {
            world.do_it(deed, &mut open);
        }
        drop(open);
        drop(fs::create_dir(world.folder()));
        world.settle();
        prop_assert_eq!(&world.told, &world.real_content());
    }
}
