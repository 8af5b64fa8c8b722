//! The ways in which editors and copiers save a file: each is one new version of the Pod, whole, and never a second one.
//!
//! Run with `scripts/vm test guest_editors`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;
#[allow(dead_code, reason = "this test uses a part of it")]
#[path = "guest_takeover/told.rs"]
mod told;

use std::cell::Cell;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use harness::manifest::shell_pod;
use harness::{Node, Options};

/// A Pod that sleeps for so many seconds: another number is another Pod.
fn sleeper(seconds: u32) -> String {
    shell_pod("web", &format!("exec sleep {seconds}"))
}

/// A node whose rescans can be waited for.
struct Bench {
    node: Node,
    /// What a symbolic link in the folder leads to: a change of it is seen by nothing but a rescan.
    linked: PathBuf,
    rescans: Cell<u32>,
}

impl Bench {
    fn new() -> Bench {
        let node = Node::start(Options { config: "fileCheckFrequency: 500ms", ..Options::default() });
        let linked = node.base().join("linked");
        let bench = Bench { node, linked, rescans: Cell::new(0) };
        bench.write_linked();
        symlink(&bench.linked, bench.node.manifests().join("linked.yaml")).unwrap();
        bench.node.wait_running("linked", "main");
        bench.node.manifest("web.yaml", &sleeper(1000));
        bench.node.wait_running("web", "main");
        bench
    }

    fn write_linked(&self) {
        let number = self.rescans.replace(self.rescans.get() + 1);
        fs::write(&self.linked, shell_pod("linked", &format!("exec sleep {}", 5000 + number))).unwrap();
    }

    /// Two, so that the last one began after this was called.
    fn wait_for_rescan(&self) {
        for _ in 0..2 {
            let before = self.uid("linked");
            self.write_linked();
            self.node.wait_for("a rescan has seen the change behind the link", |list| {
                let pod = list.pod("linked")?;
                (pod.uid() != before && pod.container("main")?.running_pid().is_some()).then_some(())
            });
        }
    }

    fn uid(&self, pod: &str) -> String {
        self.node.list().pod(pod).unwrap().uid().to_owned()
    }

    fn web(&self) -> PathBuf {
        self.node.manifests().join("web.yaml")
    }

    /// `(PID, uids so far)`
    fn state(&self) -> (u32, usize) {
        (self.node.wait_running("web", "main"), told::log_folders(&self.node, "web").len())
    }

    /// Saves the Pod with another number, and checks that there is one new Pod, and only one.
    fn assert_one_restart(&self, what: &str, seconds: impl Display, save: impl FnOnce(&Path)) {
        let (pid, uids) = self.state();
        let uid = self.uid("web");
        save(&self.web());
        self.node.wait_for(&format!("{what}: there is a new Pod"), |list| {
            let pod = list.pod("web")?;
            (pod.uid() != uid && pod.container("main")?.running_pid()? != pid).then_some(())
        });
        self.wait_for_rescan();
        assert_eq!(told::log_folders(&self.node, "web").len(), uids + 1, "{what}");
        assert_eq!(command_of(self.state().0), format!("sleep {seconds}"), "{what}");
        assert_eq!(self.node.list().problems(), Vec::<&str>::new(), "{what}");
    }

    fn assert_no_restart(&self, what: &str, act: impl FnOnce(&Path)) {
        let before = self.state();
        act(&self.web());
        self.wait_for_rescan();
        assert_eq!(self.state(), before, "{what}");
    }
}

/// The words of a process.
fn command_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8(bytes).unwrap().trim_end_matches('\0').replace('\0', " ")
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Vim's way to change a number, with these settings.
fn vim(file: &Path, settings: &str, from: u32, to: u32) {
    let change = format!("%s/sleep {from}/sleep {to}/");
    run(Command::new("vim").args(["-es", "-c", settings, "-c", &change, "-c", "wq"]).arg(file));
}

/// Types into nano on a terminal.
fn nano(file: &Path, from: u32, to: u32) {
    let command = format!("nano {}", file.display());
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "vt100")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    // Before it shows what its keys do, the terminal would take them for its own.
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains("Exit") {
        screen.read_exact(&mut byte).unwrap_or_else(|_| panic!("nano: {}", String::from_utf8_lossy(&seen)));
        seen.push(byte[0]);
    }
    // Replace, all; write out under the same name; exit.
    write!(keys, "\x1csleep {from}\rsleep {to}\rA\x0f\r\x18").unwrap();
    screen.read_to_end(&mut seen).unwrap();
    assert!(script.wait().unwrap().success(), "nano: {}", String::from_utf8_lossy(&seen));
}

#[test]
fn every_way_of_saving_a_file_is_exactly_one_restart() {
    let bench = Bench::new();
    bench.assert_one_restart("vim", 1001, |file| vim(file, "echo", 1000, 1001));
    bench.assert_one_restart("vim, renaming", 1002, |file| vim(file, "set backup backupcopy=no", 1001, 1002));
    bench.assert_one_restart("vim, copying", 1003, |file| vim(file, "set backup backupcopy=yes", 1002, 1003));
    bench.assert_one_restart("nano", 1004, |file| nano(file, 1003, 1004));
    bench.assert_one_restart("sed -i", 1005, |file| {
        run(Command::new("sed").args(["-i", "s/sleep 1004/sleep 1005/"]).arg(file));
    });
    let copy = bench.node.base().join("copy.yaml");
    bench.assert_one_restart("rsync", 1006, |file| {
        fs::write(&copy, sleeper(1006)).unwrap();
        run(Command::new("rsync").arg(&copy).arg(file));
    });
    bench.assert_one_restart("rsync --inplace", 1007, |file| {
        fs::write(&copy, sleeper(1007)).unwrap();
        run(Command::new("rsync").args(["--inplace", "--ignore-times"]).arg(&copy).arg(file));
    });
    bench.assert_one_restart("cp", 1008, |file| {
        fs::write(&copy, sleeper(1008)).unwrap();
        run(Command::new("cp").arg(&copy).arg(file));
    });
    bench.assert_one_restart("mv from another file system", 1009, |file| {
        let elsewhere = Path::new("/dev/shm/web.yaml");
        fs::write(elsewhere, sleeper(1009)).unwrap();
        run(Command::new("mv").arg(elsewhere).arg(file));
    });
}

#[test]
fn what_changes_no_content_restarts_nothing() {
    let bench = Bench::new();
    bench.assert_no_restart("touch", |file| run(Command::new("touch").arg(file)));
    bench.assert_no_restart("chmod", |file| run(Command::new("chmod").arg("600").arg(file)));
    bench.assert_no_restart("the same again", |file| fs::write(file, sleeper(1000)).unwrap());
    bench.assert_no_restart("a comment", |file| {
        fs::write(file, format!("# by hand\n{}", sleeper(1000))).unwrap();
    });
    bench.assert_no_restart("a rename", |file| fs::rename(file, file.with_file_name("site.yml")).unwrap());
    bench.assert_no_restart("a rename back", |file| {
        run(Command::new("mv").arg(file.with_file_name("site.yml")).arg(file));
    });
}

#[test]
fn a_folder_that_takes_the_place_of_another_restarts_what_it_changes() {
    let bench = Bench::new();
    let folder = bench.node.manifests();
    let fill = |name: &str, seconds: u32| {
        let new = folder.with_file_name(name);
        fs::create_dir(&new).unwrap();
        fs::write(new.join("web.yaml"), sleeper(seconds)).unwrap();
        symlink(&bench.linked, new.join("linked.yaml")).unwrap();
        new
    };
    bench.assert_no_restart("the same in another folder", |_| {
        let new = fill("new", 1000);
        fs::rename(&folder, folder.with_file_name("old")).unwrap();
        fs::rename(new, &folder).unwrap();
    });
    bench.assert_one_restart("a changed file in another folder", 1001, |_| {
        let new = fill("newer", 1001);
        fs::rename(&folder, folder.with_file_name("older")).unwrap();
        fs::rename(new, &folder).unwrap();
    });
}

/// A manifest in two pieces, of which the first alone is a good Pod too.
fn pieces(name: &str) -> (String, &'static str) {
    let first = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: main\n    image: busybox:1.35\n    command: [sleep]\n    args:\n    - \"1000\"\n"
    );
    (first, "    - \"2000\"\n")
}

#[test]
fn a_file_that_is_written_slowly_is_never_half_a_pod() {
    let mut bench = Bench::new();
    let before = bench.state();
    // One new file, and one that runs and is written anew in its place.
    let (first, second) = pieces("slow");
    let mut slow = File::create(bench.node.manifests().join("slow.yaml")).unwrap();
    slow.write_all(first.as_bytes()).unwrap();
    let (web_first, web_second) = pieces("web");
    let mut web = File::create(bench.web()).unwrap();
    web.write_all(web_first.as_bytes()).unwrap();
    bench.wait_for_rescan();
    assert!(bench.node.list().pod("slow").is_none(), "half a Pod was started by an event or a rescan");
    assert_eq!(bench.state(), before);

    let Bench { node, linked, rescans } = bench;
    let (site, _) = node.end(Signal::USR1);
    bench = Bench { node: Node::start_in(site), linked, rescans };
    bench.wait_for_rescan();
    assert!(bench.node.list().pod("slow").is_none(), "half a Pod was started by podkeep's start");
    assert_eq!(bench.state(), before);

    slow.write_all(second.as_bytes()).unwrap();
    drop(slow);
    let pid = bench.node.wait_running("slow", "main");
    assert_eq!(command_of(pid), "sleep 1000 2000");
    bench.assert_one_restart("the end of a slow writer", "1000 2000", |_| {
        web.write_all(web_second.as_bytes()).unwrap();
        drop(web);
    });
}
