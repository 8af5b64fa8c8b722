//! A disk that is full, at whichever write: an error says so, nothing is half there, and with more room the same command works.
//!
//! The disk is a tmpfs in a mount namespace of its own, which goes when its one process does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::server::Server;
use super::site::{Served, Site, count};

const PODKEEP: &str = env!("CARGO_BIN_EXE_podkeep");

/// A small file system that nobody else sees.
struct Disk {
    /// Where those who are inside have it.
    path: PathBuf,
    /// Keeps the namespace; ends with its standard input.
    inside: Child,
}

impl Disk {
    fn new(path: &Path, pages: u64) -> Disk {
        let mount = format!("mount -t tmpfs -o size={}k disk \"$0\" && echo there && read -r end", pages * 4);
        let mut inside = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &mount])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(inside.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Disk { path: path.to_owned(), inside }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let pid = self.inside.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &pid, program]).args(arguments);
        command.env("HOME", "/nonexistent").env_remove("DOCKER_CONFIG").output().unwrap()
    }

    /// Its files, seen from outside.
    fn see(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.inside.id().to_string())
            .join("root")
            .join(self.path.strip_prefix("/").unwrap())
            .join(name)
    }

    fn grow(&self) {
        let path = self.path.to_str().unwrap();
        assert!(self.run("mount", &["-o", "remount,size=64m", path]).status.success());
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let filled = fs::write(self.see("filler"), vec![1; 8 << 20]);
        assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.inside.stdin.take());
        let _ = self.inside.wait();
    }
}

/// A server of one image, with a layer of 100 kB, and `podkeep ARGS` for the store on the disk.
struct Node {
    site: Site,
    server: Server,
}

impl Node {
    fn new() -> Node {
        let served = Served::large(100_000);
        let server = Server::start(move |request| served.answer(request));
        Node { site: Site::new(), server }
    }

    fn root(&self) -> PathBuf {
        let root = self.site.path("root");
        fs::create_dir_all(&root).unwrap();
        root
    }

    fn reference(&self) -> String {
        self.server.reference("web:1")
    }

    fn ask(&self, disk: &Disk, arguments: &[&str]) -> Output {
        let root = self.root();
        disk.run(PODKEEP, &[&["--root-dir", root.to_str().unwrap()], arguments].concat())
    }

    fn pull(&self, disk: &Disk) -> Output {
        self.ask(disk, &["pull", "--quiet", &self.reference()])
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", words(output));
}

/// What of the store names something.
fn names(disk: &Disk) -> usize {
    let count = |folder: &str| fs::read_dir(disk.see("images").join(folder)).map_or(0, |names| names.count());
    ["refs", "diffs", "tmp"].map(count).iter().sum()
}

#[test]
fn a_pull_meets_a_full_disk_anywhere() {
    let node = Node::new();
    let (mut refused, mut taken) = (0, 0);
    for pages in (2..34).step_by(4).chain((34..100).step_by(11)) {
        let disk = Disk::new(&node.root(), pages);
        let output = node.pull(&disk);
        let words = words(&output);
        if output.status.success() {
            taken += 1;
        } else {
            refused += 1;
            let is_said = ["No space left on device", "make room"].iter().any(|said| words.contains(said));
            assert!(is_said && words.lines().count() == 1, "{pages} pages: {words}");
            assert_eq!(names(&disk), 0, "{pages} pages: {words}");
            disk.grow();
            assert_done(&node.pull(&disk));
        }
        let verified = node.ask(&disk, &["images", "--verify"]);
        assert_eq!(String::from_utf8_lossy(&verified.stdout), "every image is whole\n", "{pages} pages");
        assert_eq!(count(&disk.see("images/tmp")) + count(&disk.see("images/parts")), 0, "{pages} pages");
    }
    assert!(refused > 5 && taken > 0, "{refused} refused, {taken} taken");
}

#[test]
fn an_archive_that_does_not_fit_leaves_the_one_that_was_there() {
    let node = Node::new();
    let out = node.site.path("out");
    fs::create_dir(&out).unwrap();
    assert_done(&node.pull(&Disk::new(&out, 1000)));
    let archive = out.join("saved.tar");
    let save = ["save", &node.reference(), "-o", archive.to_str().unwrap()];
    let (mut refused, mut taken) = (0, 0);
    for pages in (2..50).step_by(5) {
        let disk = Disk::new(&out, pages);
        fs::write(disk.see("saved.tar"), "before").unwrap();
        let output = node.ask(&disk, &save);
        if output.status.success() {
            taken += 1;
        } else {
            refused += 1;
            let words = words(&output);
            assert!(words.contains("No space left on device") && words.lines().count() == 1, "{words}");
            assert_eq!(fs::read(disk.see("saved.tar")).unwrap(), b"before");
            assert_eq!(count(&disk.see("")), 1, "{pages} pages");
            disk.grow();
            assert_done(&node.ask(&disk, &save));
        }
        assert_eq!(count(&disk.see("")), 1, "{pages} pages");
        assert_done(&node.ask(&disk, &["load", archive.to_str().unwrap()]));
    }
    assert!(refused > 5 && taken > 0, "{refused} refused, {taken} taken");
}

/// It is the clean-up that is to make room: it may need none.
#[test]
fn a_full_disk_is_cleaned_up() {
    for arguments in [&["prune"][..], &["rmi", "IMAGE"]] {
        for with_blobs in [true, false] {
            let node = Node::new();
            let disk = Disk::new(&node.root(), 1000);
            assert_done(&node.pull(&disk));
            if !with_blobs {
                let blobs = disk.see("images/blobs");
                fs::remove_dir_all(&blobs).unwrap();
                fs::create_dir(&blobs).unwrap();
            }
            disk.fill();
            let reference = node.reference();
            let arguments: Vec<&str> =
                arguments.iter().map(|word| if *word == "IMAGE" { &*reference } else { word }).collect();
            assert_done(&node.ask(&disk, &arguments));
            for folder in ["layers", "blobs", "configs", "manifests", "refs", "diffs", "listings", "tmp"] {
                assert_eq!(count(&disk.see("images").join(folder)), 0, "{arguments:?}: {folder}");
            }
            fs::remove_file(disk.see("filler")).unwrap();
            assert_done(&node.pull(&disk));
        }
    }
}

/// Nothing can go, and nothing goes: what is there serves as before.
#[test]
fn a_full_disk_of_needed_images_stays_whole() {
    let node = Node::new();
    let disk = Disk::new(&node.root(), 1000);
    assert_done(&node.pull(&disk));
    disk.fill();
    let before = count(&disk.see("images/layers"));
    for arguments in [&["pull", "--quiet", &node.reference()][..], &["images"], &["images", "--verify"]] {
        assert_done(&node.ask(&disk, arguments));
    }
    assert_eq!((count(&disk.see("images/layers")), count(&disk.see("images/tmp"))), (before, 0));
}
