//! Images made by umoci and skopeo: how they come to the node, and what runs in them.
//!
//! Run with `scripts/vm test guest_images`; anywhere else these tests fail.

mod harness;

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{fs, io};

use harness::manifest::{job, shell_pod};
use harness::site::sample_image;
use harness::{Node, Options, wait_until};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A Pod of one container `main` of an image; `spec` and `container`: further lines, indented as they must be.
fn pod_of(name: &str, image: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{spec}  containers:\n  - name: main\n    \
         image: {image}\n{container}"
    )
}

fn without_images() -> Node {
    Node::start(Options { images: Vec::new(), ..Options::default() })
}

#[test]
fn a_missing_image_is_waited_for_until_it_is_loaded() {
    let node = without_images();
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let (reason, message) = node.wait_for("ErrImagePull", |list| {
        let main = list.pod("web")?.container("main")?;
        main.waiting()
            .filter(|reason| *reason != "ContainerCreating")
            .map(|r| (r.to_owned(), main.message().to_owned()))
    });
    assert_eq!(reason, "ErrImagePull");
    assert!(message.contains("busybox:1.35"), "{message}");
    assert_eq!(node.list().pod("web").unwrap().phase(), "Pending");

    let archive = sample_image("busybox");
    let loaded = node.ask(&["load", archive.to_str().unwrap()]);
    assert!(loaded.contains("busybox:1.35"), "{loaded}");
    node.wait_running("web", "main");
    let list = node.list();
    let main = list.pod("web").unwrap().container("main").unwrap();
    assert_eq!(main.restarts(), 0);
    let id = main.status["imageID"].as_str().unwrap();
    let images = node.ask(&["images"]);
    assert!(
        images.contains("busybox:1.35") && images.contains(&id["sha256:".len()..][..12]),
        "{id}: {images}"
    );
}

#[test]
fn an_image_that_is_dropped_into_the_folder_starts_its_pod() {
    let node = without_images();
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    node.wait_for("ErrImagePull", |list| {
        (list.pod("web")?.container("main")?.waiting()? == "ErrImagePull").then_some(())
    });
    node.add_image("busybox");
    node.wait_running("web", "main");
}

#[test]
fn an_image_that_may_not_be_pulled_and_one_with_a_bad_name_say_so() {
    let node = without_images();
    node.manifest("never.yaml", &pod_of("never", "absent:1", "", "    imagePullPolicy: Never\n"));
    node.wait_for("ErrImageNeverPull", |list| {
        (list.pod("never")?.container("main")?.waiting()? == "ErrImageNeverPull").then_some(())
    });
    node.manifest("name.yaml", &pod_of("name", "\"UPPER CASE\"", "", ""));
    node.wait_for("InvalidImageName", |list| {
        (list.pod("name")?.container("main")?.waiting()? == "InvalidImageName").then_some(())
    });
}

#[test]
fn an_archive_that_is_cut_off_is_refused_and_the_whole_one_taken() {
    let node = without_images();
    let whole = fs::read(sample_image("busybox")).unwrap();
    let half = node.images().join("busybox.tar");
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let message = node.wait_for("ErrImagePull", |list| {
        let main = list.pod("web")?.container("main")?;
        (main.waiting()? == "ErrImagePull").then(|| main.message().to_owned())
    });
    assert!(message.contains(half.to_str().unwrap()), "{message}");
    let refused = node.try_ask(&["load", half.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    node.add_image("busybox");
    node.wait_running("web", "main");
}

#[test]
fn nginx_that_is_not_root_answers_logs_to_stdout_and_ends_with_its_own_signal() {
    let node = Node::start(Options { images: vec!["nginx"], ..Options::default() });
    node.manifest("web.yaml", &pod_of("web", "nginx:1.22", "  hostNetwork: true\n", ""));
    let pid = node.wait_running("web", "main");
    assert_eq!(harness::process::status(pid, "Uid").unwrap(), "101\t101\t101\t101");
    let answer = wait_until("nginx answers", || ask_http("127.0.0.1:18080").ok());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("hello from nginx, kept by podkeep\n"), "{answer}");
    let line = wait_until("the access log", || {
        let output = node.ask(&["logs", "web"]);
        output.lines().find(|line| line.contains("GET / HTTP/1.1")).map(str::to_owned)
    });
    assert!(line.starts_with("127.0.0.1 - - [") && line.contains("\" 200 "), "{line}");

    node.remove("web.yaml");
    node.wait_gone("web");
    let log = node.ask(&["logs", "web"]);
    assert!(log.contains("signal 3 (SIGQUIT) received"), "{log}");
    assert!(log.contains("gracefully shutting down") && log.contains(": exit\n"), "{log}");
}

fn ask_http(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn redis_answers_through_a_socket_in_a_host_path() {
    let host = tempfile::tempdir().unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let spec = format!("  volumes: [{{name: socket, hostPath: {{path: {}}}}}]\n", host.path().display());
    let container =
        "    args: [/etc/redis/podkeep.conf, --unixsocket, /socket/redis.sock, --unixsocketperm, \"777\"]
    volumeMounts: [{name: socket, mountPath: /socket}]\n";
    let node = Node::start(Options { images: vec!["redis"], ..Options::default() });
    node.manifest("redis.yaml", &pod_of("redis", "redis:7.0", &spec, container));
    node.wait_running("redis", "main");
    let socket = host.path().join("redis.sock");
    let answer = wait_until("redis answers", || ask_redis(&socket).ok());
    assert_eq!(answer, "+PONG\r\n");
    let logs = node.ask(&["logs", "redis"]);
    assert!(logs.contains("Ready to accept connections"), "{logs}");
}

fn ask_redis(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"PING\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_threaded_glibc_program_runs_under_the_default_seccomp_profile() {
    let node = Node::start(Options { images: vec!["threads", "busybox"], ..Options::default() });
    node.manifest("threads.yaml", &pod_of("threads", "threads:1", "  restartPolicy: Never\n", ""));
    assert_eq!(node.wait_terminated("threads", "main"), ("Completed".to_owned(), 0));
    assert_eq!(node.ask(&["logs", "threads"]), "threads: 8 of 8 ran\n");
    // 2: a filter.
    node.manifest(
        "mode.yaml",
        &job(
            "mode",
            "sed -n 's/^Seccomp:\t//p' /proc/self/status; unshare -U true 2>/dev/null || echo refused",
        ),
    );
    assert_eq!(node.wait_terminated("mode", "main"), ("Completed".to_owned(), 0));
    assert_eq!(node.ask(&["logs", "mode"]), "2\nrefused\n");
}

/// What the layers of `rootfs-fixtures/layers` make together.
const LAYERS: &[(&str, &str)] = &[
    ("cat /etc/kept /etc/replaced", "layer 1\nlayer 2\n"),
    ("ls -A /etc/removed /removed-folder 2>/dev/null || echo none", "none\n"),
    ("ls -A /replaced-folder; cat /replaced-folder/both", "both\nnew\nlayer 5\n"),
    (
        "cd /special; stat -c '%h %a %u:%g %n' hardlink-a setuid setgid sticky owned",
        "2 644 0:0 hardlink-a\n1 4755 1000:1000 setuid\n1 2755 1000:1000 setgid\n2 1777 0:0 sticky\n1 640 1234:5678 owned\n",
    ),
    (
        "cd /special; [ hardlink-a -ef hardlink-b ] && cat link-absolute link-out-of-root; readlink link-dangling",
        "layer 1\nlayer 1\nnowhere\n",
    ),
    (
        "cd /special; stat -c '%F %t:%T' fifo device-null; echo x >device-null && echo written",
        "fifo 0:0\ncharacter special file 1:3\nwritten\n",
    ),
    (
        "cd /special; stat -c %s sparse empty; stat -c %Y old; cat 'a name' ü; ls | grep -c '^long-0*$'",
        "1048576\n0\n946684798\na name with a space\nan umlaut\n1\n",
    ),
];

#[test]
fn layers_with_removals_and_odd_entries_make_the_right_tree() {
    let node = Node::start(Options { images: vec!["layers"], ..Options::default() });
    for (number, (script, expected)) in LAYERS.iter().enumerate() {
        let name = format!("layers-{number}");
        let manifest = job(&name, script).replace("busybox:1.35", "layers:1");
        node.manifest(&format!("{name}.yaml"), &manifest);
        let end = node.wait_terminated(&name, "main");
        let output = node.try_ask(&["logs", &name]);
        let shown = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(shown.0, *expected, "{script}\n{}", shown.1);
        assert_eq!(end.1, 0, "{script}");
    }
}

/// The image's folder of layers, as a record of the store names it.
fn layer_folders(node: &Node) -> Vec<std::path::PathBuf> {
    let layers = node.root().join("images/layers");
    let folders = fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| !folder.ends_with("mount-points")).collect()
}

#[test]
fn an_image_that_is_damaged_when_its_container_starts_is_mended_by_itself() {
    let node = Node::start(Options::default());
    node.manifest("one.yaml", &shell_pod("one", "exec sleep 1000"));
    node.wait_running("one", "main");
    let archive = node.images().join("busybox.tar");
    fs::remove_file(&archive).unwrap();
    let [layer] = layer_folders(&node).try_into().expect("busybox has one layer");
    fs::rename(&layer, node.base().join("taken away")).unwrap();
    node.manifest("two.yaml", &shell_pod("two", "exec sleep 1000"));
    node.wait_running("two", "main");
    assert_eq!(node.ask(&["images", "--verify"]), "every image is whole\n");
}

/// The busybox image has no `/proc`, no `/etc/hosts` and no `/etc/resolv.conf`.
#[test]
fn a_start_writes_nothing_into_the_writable_layer() {
    let node = Node::start(Options::default());
    let places = node.root().join("images/layers/mount-points");
    for (name, are_there) in [("one", true), ("two", false)] {
        if !are_there {
            fs::remove_dir_all(&places).unwrap();
        }
        node.manifest(&format!("{name}.yaml"), &shell_pod(name, "exec sleep 1000"));
        node.wait_running(name, "main");
        let list = node.list();
        let pod = list.pod(name).unwrap().uid().replace('-', "");
        let upper = node.root().join("pods").join(pod).join("writable.main.0/upper");
        let written: Vec<_> = fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(written.is_empty(), "{written:?}");
    }
    assert!(fs::metadata(places.join("etc/hosts")).unwrap().is_file());
}

/// Whatever the write is that meets the full disk: the error says so, nothing is half there, and with more room the same command works.
#[test]
fn a_disk_that_is_full_at_any_moment_leaves_nothing_half_done() {
    let site = harness::site::Site::new(Options { images: Vec::new(), ..Options::default() });
    let archive = sample_image("busybox");
    let root = site.root();
    fs::create_dir_all(&root).unwrap();
    let images = |what: &str| fs::read_dir(root.join("images").join(what)).map_or(0, |names| names.count());
    let (mut refused, mut taken) = (0, 0);
    // Pages of 4 KiB: small steps where the store itself is made, then through layer, blob and records.
    for pages in (4..40).step_by(4).chain((40..1000).step_by(48)) {
        let size = format!("size={}k", pages * 4);
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(&*CString::new(size).unwrap())).unwrap();
        let output = site.try_ask(&["load", archive.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            taken += 1;
        } else {
            refused += 1;
            assert!(words.contains("No space left on device"), "{pages} pages: {words}");
            assert_eq!(images("refs") + images("diffs") + images("tmp"), 0, "{pages} pages: {words}");
            mount_remount(&root, MountFlags::empty(), c"size=64m").unwrap();
            site.ask(&["load", archive.to_str().unwrap()]);
        }
        assert_eq!(site.ask(&["images", "--verify"]), "every image is whole\n", "{pages} pages");
        assert_eq!((images("refs"), images("layers"), images("tmp")), (1, 1, 0), "{pages} pages");
        unmount(&root, UnmountFlags::empty()).unwrap();
    }
    assert!(refused > 5 && taken > 0, "{refused} refused, {taken} taken");
}

/// Writes a file until nothing more fits on its disk.
fn fill_disk(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let (mut length, mut step) = (0, 1u64 << 30);
    while step >= 1 << 10 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, step) {
            Ok(()) => length += step,
            Err(rustix::io::Errno::NOSPC) => step /= 2,
            other => other.unwrap(),
        }
    }
}

/// A node whose disk is full starts no more than it has folders for, says why, and goes on by itself when there is room; what runs is not hurt.
#[test]
fn a_container_that_finds_the_disk_full_starts_when_there_is_room() {
    let config = "imageGCHighThresholdPercent: 100\n";
    let site = harness::site::Site::new(Options { config, ..Options::default() });
    fs::create_dir_all(site.run()).unwrap();
    mount("tmpfs", site.run(), "tmpfs", MountFlags::empty(), None).unwrap();
    let node = Node::start_in(site);
    node.manifest("old.yaml", &shell_pod("old", "exec sleep 1000"));
    node.wait_running("old", "main");
    // One starts in folders that were made ahead.
    let new = ["new-1", "new-2", "new-3"];
    let aside = node.base().join("prepared");
    fs::create_dir(&aside).unwrap();
    new.iter().for_each(|pod| fs::write(aside.join(pod), shell_pod(pod, "exec sleep 1000")).unwrap());
    let filler = node.base().join("filler");
    fill_disk(&filler);
    let processes = (node.keeper(), node.worker());
    for pod in new {
        fs::rename(aside.join(pod), node.manifests().join(format!("{pod}.yaml"))).unwrap();
    }
    let (pod, message) = node.wait_for("a Pod says that the disk is full", |list| {
        let said = |pod: &&str| Some(list.pod(pod)?.message().to_owned());
        let full = |pod: &&'static str| said(pod).filter(|said| said.contains("No space left on device"));
        new.iter().find_map(|pod| full(pod).map(|said| (*pod, said)))
    });
    println!("{pod}: {message}");
    assert_eq!((node.keeper(), node.worker()), processes, "nothing of the node died of it");
    assert_eq!(node.list().pod("old").unwrap().container("main").unwrap().restarts(), 0);
    fs::remove_file(&filler).unwrap();
    for pod in new {
        node.wait_running(pod, "main");
    }
    assert_eq!(node.ask(&["images", "--verify"]), "every image is whole\n");
}

/// The image folder need not be there at the start, nor stay the same; a layout in it is imported when the last of its files is whole.
#[test]
fn the_image_folder_may_come_late_be_replaced_mounted_over_and_copied_into() {
    let config = "fileCheckFrequency: 1s\nimageGCHighThresholdPercent: 100\n";
    let site = harness::site::Site::new(Options { images: Vec::new(), config, ..Options::default() });
    fs::remove_dir(site.images()).unwrap();
    let node = Node::start_in(site);
    let refs = || fs::read_dir(node.root().join("images/refs")).map_or(0, |refs| refs.count());
    let wait_images = |what: &str, count: usize| wait_until(what, || (refs() == count).then_some(()));
    let prepared = |folder: &str, image: &str| {
        let (folder, source) = (node.base().join(folder), sample_image(image));
        fs::create_dir(&folder).unwrap();
        fs::copy(&source, folder.join(source.file_name().unwrap())).unwrap();
        folder
    };
    fs::rename(prepared("late", "busybox"), node.images()).unwrap();
    wait_images("a folder that comes later is looked into", 1);
    let other = prepared("other", "threads");
    fs::rename(node.images(), node.base().join("old")).unwrap();
    fs::rename(other, node.images()).unwrap();
    wait_images("a folder in the other's place is looked into", 2);

    mount("tmpfs", node.images(), "tmpfs", MountFlags::empty(), None).unwrap();
    let (source, target) = (sample_image("layers"), node.images().join("layers"));
    fs::create_dir_all(target.join("blobs/sha256")).unwrap();
    fs::copy(source.join("index.json"), target.join("index.json")).unwrap();
    let failures = || node.node_log_text().lines().filter(|line| line.contains("images/layers: ")).count();
    wait_until("a layout without blobs is refused, when it rests", || (failures() > 0).then_some(()));
    let blobs: Vec<_> =
        fs::read_dir(source.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap()).collect();
    let (last, first) = blobs.split_last().unwrap();
    let bytes = fs::read(last.path()).unwrap();
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let mut file = fs::File::create(target.join("blobs/sha256").join(last.file_name())).unwrap();
    file.write_all(half).unwrap();
    for blob in first {
        fs::copy(blob.path(), target.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    // No Pod waits for what is being copied.
    node.manifest("never.yaml", &pod_of("never", "absent:1", "", "    imagePullPolicy: Never\n"));
    node.wait_for("ErrImageNeverPull", |list| {
        (list.pod("never")?.container("main")?.waiting()? == "ErrImageNeverPull").then_some(())
    });
    assert_eq!((refs(), failures()), (2, 1), "half a blob is nothing to be read");
    file.write_all(rest).unwrap();
    drop(file);
    wait_images("a layout that is complete is imported", 3);
    assert_eq!(failures(), 1);
    assert_eq!(node.ask(&["images", "--verify"]), "every image is whole\n");
}

/// A file system whose server takes requests and answers none, until it is dropped.
struct Silent<'a> {
    server: Option<fs::File>,
    place: &'a Path,
}

impl Silent<'_> {
    fn mount(place: &Path) -> Silent<'_> {
        let loaded = std::process::Command::new("modprobe").arg("fuse").status().unwrap();
        assert!(loaded.success());
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount("silent", place, "fuse", MountFlags::empty(), Some(&*CString::new(options).unwrap())).unwrap();
        Silent { server: Some(server), place }
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Who waits for an answer is told that there will be none.
        self.server = None;
        unmount(self.place, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn an_image_folder_on_a_server_that_is_gone_stops_nothing() {
    let site = harness::site::Site::new(Options { images: Vec::new(), ..Options::default() });
    site.ask(&["load", sample_image("busybox").to_str().unwrap()]);
    let folder = site.images();
    let silent = Silent::mount(&folder);
    let node = Node::start_in(site);
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    node.wait_running("web", "main");
    // What is not in the store waits for the folder first, but not for ever.
    node.manifest("never.yaml", &pod_of("never", "absent:1", "", "    imagePullPolicy: Never\n"));
    node.wait_for("ErrImageNeverPull", |list| {
        (list.pod("never")?.container("main")?.waiting()? == "ErrImageNeverPull").then_some(())
    });
    let log = node.node_log_text();
    assert!(log.contains("has not answered for 10 s"), "{log}");
    drop(silent);
    // It is looked into again when it is there.
    node.add_image("threads");
    node.manifest("threads.yaml", &pod_of("threads", "threads:1", "  restartPolicy: Never\n", ""));
    assert_eq!(node.wait_terminated("threads", "main"), ("Completed".to_owned(), 0));
}
