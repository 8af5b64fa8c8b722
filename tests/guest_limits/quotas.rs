//! Volumes on a file system that keeps the limits of projects: what it refuses, and what becomes of who is refused.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use podkeep::sys::project_quota::{self, Project};
use rustix::mount::{UnmountFlags, unmount};

use super::failure;
use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, wait_until};

/// Projects of podkeep's.
const OURS: std::ops::Range<u64> = 0x7000_0000..0x8000_0000;
/// The `sizeLimit` of every volume here, and where the file system stops.
const LIMIT: u64 = 2 << 20;
const STOP: u64 = LIMIT + 4096;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An ext4 in a file, unmounted when this goes.
struct Disk {
    _folder: tempfile::TempDir,
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn make() -> Disk {
        fs::create_dir_all("/var/tmp").unwrap();
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let (image, place) = (folder.path().join("image"), folder.path().join("place"));
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir(&place).unwrap();
        let disk = Disk { _folder: folder, image, place };
        let features = ["-O", "quota,project", "-E", "quotatype=prjquota"];
        run("mkfs.ext4", &[&["-q", "-b", "4096"], features.as_slice(), &[disk.image()]].concat());
        // Nobody here makes its device node before it is loaded.
        run("modprobe", &["loop"]);
        run("mount", &["-o", "loop,prjquota", disk.image(), disk.place.to_str().unwrap()]);
        disk
    }

    fn image(&self) -> &str {
        self.image.to_str().unwrap()
    }

    fn node(&self, config: &'static str) -> Node {
        Node::start(Options { at: Some(self.place.join("node")), config, ..Options::default() })
    }

    /// Unmounts it; of the projects that are podkeep's, those that its quota file still has.
    fn left(self) -> Vec<u64> {
        unmount(&self.place, UnmountFlags::empty()).unwrap();
        let listed = run("debugfs", &["-R", "list_quota project", self.image()]);
        let ids = listed.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
        let ids: Vec<u64> = ids.collect();
        assert!(ids.contains(&0), "everybody's is listed: {listed}");
        ids.into_iter().filter(|id| OURS.contains(id)).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}

/// Where the volume of a Pod lies on the host.
fn volume(node: &Node, pod: &str) -> PathBuf {
    let uid = node.list().pod(pod).unwrap().uid().replace('-', "");
    node.root().join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/data")
}

fn id_of(volume: &Path) -> u32 {
    let listed = run("lsattr", &["-pd", volume.to_str().unwrap()]);
    listed.split_whitespace().next().unwrap().parse().unwrap()
}

fn project(node: &Node, id: u32) -> Project {
    project_quota::project(File::open(node.root()).unwrap().as_fd(), id).unwrap()
}

fn is_gone(node: &Node, id: u32) {
    let gone = Project { used: 0, files: 0, limit: 0 };
    wait_until("nothing of the volume is left", || (project(node, id) == gone).then_some(()));
}

/// It has the host's chattr, which its image has not, by `chroot /host`, where the volume is `/mnt`.
fn pod(name: &str, spec: &str, script: &str) -> String {
    let spec = format!(
        "{spec}terminationGracePeriodSeconds: 0\nvolumes:\n- {{name: data, emptyDir: {{sizeLimit: {LIMIT}}}}}\n\
         - {{name: host, hostPath: {{path: /}}}}\n"
    );
    let container = "volumeMounts:
- {name: data, mountPath: /data}
- {name: host, mountPath: /host, readOnly: true}
- {name: data, mountPath: /host/mnt}
";
    ShellPod { name, script, spec: &spec, container }.yaml()
}

/// Nobody is evicted here: nothing is measured.
#[test]
fn the_file_system_refuses_what_exceeds_the_limit_of_a_volume() {
    let disk = Disk::make();
    let node = disk.node("volumeStatsAggPeriod: -1s\n");
    let script = "stat -f -c '%b of %S' /data; head -c 2000000 /dev/zero >/data/fits && echo fits
        dd if=/dev/zero of=/data/more bs=64k count=16 2>&1 | head -n 1; stat -f -c '%f free' /data; exec sleep 1000";
    for users in ["", "hostUsers: false\n"] {
        node.manifest("web.yaml", &pod("web", users, script));
        node.wait_running("web", "main");
        let expected = format!(
            "{} of 4096\nfits\ndd: error writing '/data/more': Disk quota exceeded\n0 free\n",
            STOP / 4096
        );
        wait_until(&expected, || (node.ask(&["logs", "web"]) == expected).then_some(()));
        let volume = volume(&node, "web");
        let id = id_of(&volume);
        assert!(OURS.contains(&id.into()), "{id}");
        let on_disk = run("du", &["-s", "-B1", volume.to_str().unwrap()]);
        let used: u64 = on_disk.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(project(&node, id), Project { used, files: 3, limit: STOP }, "as du counts");
        assert_eq!(used, STOP);

        // The next worker's volume it is, too.
        node.wait_for_new_worker(node.kill_worker());
        let again = ["exec", "web", "--", "sh", "-c", "rm /data/*; head -c 3000000 /dev/zero >/data/again"];
        let output = node.try_ask(&again);
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(project(&node, id), Project { used, files: 2, limit: STOP });
        assert_eq!(node.list().pod("web").unwrap().container("main").unwrap().restarts(), 0);
        node.remove("web.yaml");
        node.wait_gone("web");
        is_gone(&node, id);
    }
    node.stop();
    assert_eq!(disk.left(), [0; 0]);
}

/// Whether it is the file system that knows, or only who looks at each file.
#[test]
fn who_reaches_the_limit_of_the_file_system_is_evicted_however_it_hides_its_files() {
    let disk = Disk::make();
    let node = disk.node("volumeStatsAggPeriod: 100ms\n");
    let own_users = "hostUsers: false\n";
    // In a user namespace a project is nothing that one can choose.
    let stays = "touch /data/f; chroot /host chattr -p 0 /mnt/f 2>&1 || echo refused; exec sleep 1000";
    node.manifest("stays.yaml", &pod("stays", own_users, stays));
    let runs = node.wait_running("stays", "main");
    wait_until("it tries", || node.ask(&["logs", "stays"]).ends_with("refused\n").then_some(()));
    let id = id_of(&volume(&node, "stays"));

    let deleted = "exec 3>/data/f; rm /data/f; cat /dev/zero >&3; exec sleep 1000";
    node.manifest("deleted.yaml", &pod("deleted", own_users, deleted));
    node.manifest("plain.yaml", &pod("plain", "", "cat /dev/zero >/data/f; exec sleep 1000"));
    let thief = format!(
        "touch /data/f; chroot /host chattr -p 0 /mnt/f && chroot /host chattr -p {id} /mnt && head -c 9000000 /dev/zero >/data/f
        exec sleep 1000"
    );
    node.manifest("thief.yaml", &pod("thief", "", &thief));
    let evicted =
        ("Evicted".to_owned(), "Usage of EmptyDir volume \"data\" exceeds the limit \"2Mi\".".to_owned());
    for name in ["deleted", "plain", "thief"] {
        assert_eq!(failure(&node, name), evicted, "{name}");
    }
    // What the thief has given back was its own, and all of it.
    let trash = || fs::read_dir(node.root().join("trash")).map_or(0, |trash| trash.count());
    wait_until("what they wrote is gone", || (trash() == 0).then_some(()));
    assert_eq!(project(&node, id), Project { used: 4096, files: 2, limit: STOP });
    assert_eq!(node.list().pod("stays").unwrap().container("main").unwrap().running_pid(), Some(runs));
    node.stop();
    assert_eq!(disk.left(), [0; 0]);
}
