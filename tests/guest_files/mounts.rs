//! Parts of volumes, mounts that come later, and what a Pod leaves of the host's: as seen from inside, and from the host.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options, Site, census, wait_until};

/// A folder of the host on a file system whose owners can be mapped: a tmpfs of 6.1 is none.
pub fn folder() -> tempfile::TempDir {
    fs::create_dir_all("/var/tmp").unwrap();
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// What one container says of parts of a hostPath, an emptyDir and a ConfigMap, the deepest places first.
const PARTS: &str = "volumeMounts:
- {name: data, mountPath: /m/b/c/d, subPath: deep/er}
- {name: host, mountPath: /m/b/c, subPathExpr: $(WHO)/logs}
- {name: host, mountPath: /m/b, subPath: link, readOnly: true}
- {name: data, mountPath: /m}
- {name: map, mountPath: /etc/one.conf, subPath: one.conf}
- {name: host, mountPath: /etc/file, subPath: a/file}
- {name: file, mountPath: /etc/alone}
";

fn parts(host: &Path, who: &str, users: &str) -> String {
    let host = host.display();
    let spec = format!(
        "restartPolicy: Never\n{users}volumes:\n- {{name: data, emptyDir: {{}}}}\n- {{name: map, configMap: {{name: m}}}}\n\
         - {{name: host, hostPath: {{path: {host}}}}}\n- {{name: file, hostPath: {{path: {host}/a/file, type: File}}}}\n"
    );
    let container = format!("env: [{{name: WHO, value: {who}}}]\n{PARTS}");
    let script = "stat -c '%n %a %u:%g' /m /m/b /m/b/c /m/b/c/d /m/deep/er /etc/one.conf
        cat /etc/one.conf /etc/file /etc/alone; ls /m/b; touch /m/b/x 2>&1; touch /m/b/c/mine /m/b/c/d/x; ls /m/deep/er
        { echo >/etc/one.conf; } 2>&1; echo changed >/etc/file";
    let pod = ShellPod { name: "job", script, spec: &spec, container: &container }.yaml();
    format!(
        "{pod}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{one.conf: \"one\\n\"}}\n"
    )
}

#[test]
fn parts_of_volumes_are_mounted_whatever_their_order_and_made_where_they_are_missing() {
    let dir = folder();
    let host = dir.path().join("host");
    fs::DirBuilder::new().mode(0o751).create(&host).unwrap();
    fs::create_dir_all(host.join("a/c")).unwrap();
    symlink("./a", host.join("link")).unwrap();
    let node = Node::start(Options::default());
    for (who, users) in [("one", ""), ("two", "hostUsers: false\n")] {
        fs::write(host.join("a/file"), "file\n").unwrap();
        let output = node.output_of(&parts(&host, who, users));
        let expected = "/m 777 0:0\n/m/b 755 0:0\n/m/b/c 751 0:0\n/m/b/c/d 777 0:0\n/m/deep/er 777 0:0\n/etc/one.conf 644 0:0\n\
            one\nfile\nfile\nc\nfile\ntouch: /m/b/x: Read-only file system\nx\nsh: can't create /etc/one.conf: Read-only file system\n";
        assert_eq!(output, expected, "{users}");
        assert_eq!(fs::read_to_string(host.join("a/file")).unwrap(), "changed\n");
        let made = fs::metadata(host.join(who).join("logs/mine")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0), "{users}");
    }
    let mode = |path: &str| fs::metadata(host.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(["one", "one/logs", "two", "two/logs"].map(mode), [0o751; 4]);
}

/// Why the container of Pod `web` waits.
fn lacks(node: &Node, part: &str) -> String {
    node.wait_for(part, |list| {
        let main = list.pod("web")?.container("main")?;
        let is_it = main.waiting() == Some("CreateContainerConfigError") && main.message().contains(part);
        is_it.then(|| main.message().to_owned())
    })
}

fn web(volume: &str, mount: &str) -> String {
    let spec =
        format!("restartPolicy: Never\nterminationGracePeriodSeconds: 0\nvolumes: [{{name: v, {volume}}}]\n");
    let container =
        format!("volumeMounts: [{{name: v, mountPath: /v, {mount}}}]\nenv: [{{name: UP, value: ../x}}]\n");
    ShellPod { name: "web", script: "cat /v; exec sleep 1000", spec: &spec, container: &container }.yaml()
}

#[test]
fn a_part_that_is_not_in_its_volume_keeps_the_container_waiting_and_touches_nothing() {
    let dir = folder();
    let [host, outside] = ["host", "outside"].map(|name| dir.path().join(name));
    [&host, &outside].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    symlink(&outside, host.join("absolute")).unwrap();
    symlink("../outside", host.join("relative")).unwrap();
    let node = Node::start(Options::default());
    let host_path = format!("hostPath: {{path: {}}}", host.display());
    for link in ["absolute", "relative"] {
        node.manifest("web.yaml", &web(&host_path, &format!("subPath: {link}/x")));
        let expected =
            format!("open {link}/x in the volume {}: EXDEV (a symbolic link there is", host.display());
        let message = lacks(&node, &format!("open {link}/x"));
        assert!(message.starts_with(&expected), "{message}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&host).unwrap().count(), 2);
    // In the place of one that waits, a version that could not start would only be rehearsed.
    node.remove("web.yaml");
    node.wait_gone("web");
    for (expression, expected) in [
        ("$(UP)", "volumeMount /v: unable to provision SubPath `../x`: must not contain '..'"),
        ("$(NONE)", "volumeMount /v: missing value for NONE"),
    ] {
        node.manifest("web.yaml", &web(&host_path, &format!("subPathExpr: {expression}")));
        assert_eq!(lacks(&node, "volumeMount"), expected);
        node.remove("web.yaml");
        node.wait_gone("web");
    }
    let map =
        |keys: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{{keys}}}\n");
    node.manifest("m.yaml", &map("a: \"1\""));
    node.manifest("web.yaml", &web("configMap: {name: m}", "subPath: b"));
    let message = lacks(&node, "open b in the volume");
    assert!(message.ends_with("ENOENT (there is no such file or folder in the volume)"), "{message}");
    // At once, whatever its restartPolicy is: nothing has run yet.
    node.manifest("m.yaml", &map("a: \"1\", b: \"2\""));
    let pid = node.wait_running("web", "main");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/root/v")).unwrap(), "2");
    assert_eq!(node.list().pod("web").unwrap().container("main").unwrap().restarts(), 0);
}

/// A mount of the host's, unmounted when this goes.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs_at(path: PathBuf) -> Mounted {
        fs::create_dir_all(&path).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        Mounted(path)
    }

    fn over_itself(path: PathBuf, propagation: MountPropagationFlags) -> Mounted {
        fs::create_dir_all(&path).unwrap();
        mount_bind(&path, &path).unwrap();
        mount_change(&path, propagation).unwrap();
        Mounted(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn inside(pid: u32, path: &str) -> bool {
    Path::new("/proc").join(pid.to_string()).join("root").join(path).exists()
}

#[test]
fn mounts_that_come_later_are_seen_where_that_was_asked_for() {
    let dir = folder();
    let shared = Mounted::over_itself(dir.path().join("shared"), MountPropagationFlags::PRIVATE);
    let node = Node::start(Options::default());
    let path = shared.0.display();
    let spec =
        format!("terminationGracePeriodSeconds: 0\nvolumes: [{{name: v, hostPath: {{path: {path}}}}}]\n");
    let mounts = "volumeMounts:
- {name: v, mountPath: /none}
- {name: v, mountPath: /host, mountPropagation: HostToContainer}
";
    let pod =
        |spec: &str, container: &str, script: &str| ShellPod { name: "web", script, spec, container }.yaml();
    node.manifest("web.yaml", &pod(&spec, mounts, "exec sleep 1000"));
    let expected = format!(
        "volume v: its mountPropagation needs a shared mount, and {path} is on {path}, which is none: \
         `mount --make-shared {path}` makes it one"
    );
    node.wait_for("the Pod says why not", |list| (list.pod("web")?.message() == expected).then_some(()));
    mount_change(&shared.0, MountPropagationFlags::SHARED).unwrap();

    for users in ["", "hostUsers: false\n"] {
        node.manifest("web.yaml", &pod(&format!("{spec}{users}"), mounts, "exec sleep 1000"));
        let pid = node.wait_running("web", "main");
        let later = Mounted::tmpfs_at(shared.0.join("later"));
        fs::write(later.0.join("seen"), "").unwrap();
        assert!(inside(pid, "host/later/seen"), "{users}");
        assert!(inside(pid, "none/later") && !inside(pid, "none/later/seen"), "{users}");
        node.remove("web.yaml");
        node.wait_gone("web");
    }

    let both = "securityContext: {privileged: true}\nvolumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]\n";
    let script = "mkdir -p /v/made; mount -t tmpfs tmpfs /v/made; touch /v/made/file
        trap 'umount /v/made; exit' TERM; while :; do sleep 0.1; done";
    node.manifest("web.yaml", &pod(&spec.replace(": 0\n", ": 30\n"), both, script));
    wait_until("the container's mount on the host", || shared.0.join("made/file").exists().then_some(()));
    // The host's it stays: it is for who has mounted it to unmount it.
    node.remove("web.yaml");
    node.wait_gone("web");
    assert!(shared.0.join("made").exists() && !shared.0.join("made/file").exists());
}

#[test]
fn what_a_container_leaves_mounted_in_an_empty_dir_goes_with_the_pod() {
    let site = Site::new(Options::default());
    mount_bind(site.base(), site.base()).unwrap();
    mount_change(site.base(), MountPropagationFlags::SHARED).unwrap();
    let node = Node::start_in(site);
    let mounted =
        || census::mount_points().into_iter().filter(|point| point.starts_with(node.root())).count();
    for medium in ["", "medium: Memory"] {
        let spec =
            format!("terminationGracePeriodSeconds: 0\nvolumes: [{{name: v, emptyDir: {{{medium}}}}}]\n");
        let container = "securityContext: {privileged: true}\nvolumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]\n";
        let script = "for d in a 'a/b c' a; do mkdir -p \"/v/$d\"; mount -t tmpfs tmpfs \"/v/$d\"; done; exec sleep 1000";
        node.manifest("web.yaml", &ShellPod { name: "web", script, spec: &spec, container }.yaml());
        let own = usize::from(!medium.is_empty());
        wait_until("the container's mounts on the host", || (mounted() == 3 + own).then_some(()));
        node.remove("web.yaml");
        node.wait_gone("web");
        assert_eq!(mounted(), 0, "{medium}");
    }
}

#[test]
fn recursively_read_only_is_all_that_is_mounted_below() {
    let dir = folder();
    let below = Mounted::tmpfs_at(dir.path().join("below"));
    let node = Node::start(Options::default());
    let spec = format!(
        "restartPolicy: Never\nvolumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        dir.path().display()
    );
    let container = "volumeMounts:
- {name: v, mountPath: /ro, readOnly: true, recursiveReadOnly: Disabled}
- {name: v, mountPath: /rro, readOnly: true, recursiveReadOnly: Enabled}
- {name: v, mountPath: /maybe, readOnly: true, recursiveReadOnly: IfPossible}
";
    let script = "for d in ro rro maybe; do { touch /$d/x; touch /$d/below/$d && echo written; } 2>&1; done
        grep -c ' /\\(rro\\|maybe\\)/below tmpfs ro,' /proc/mounts";
    let refused = |path: &str| format!("touch: /{path}: Read-only file system\n");
    let output = node.output_of(&ShellPod { name: "job", script, spec: &spec, container }.yaml());
    let [ro, rro, maybe] = ["ro/x", "rro/x", "maybe/x"].map(refused);
    let [rro_below, maybe_below] = ["rro/below/rro", "maybe/below/maybe"].map(refused);
    assert_eq!(output, format!("{ro}written\n{rro}{rro_below}{maybe}{maybe_below}2\n"));
    let script = "grep -c ' /\\(rro\\|maybe\\)/below tmpfs ro,' /proc/mounts";
    let spec = format!("{spec}hostUsers: false\n");
    assert_eq!(node.output_of(&ShellPod { name: "job", script, spec: &spec, container }.yaml()), "2\n");
    drop(below);
}

/// Everything below a folder: what it is, its mode, owner and content.
fn everything(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let (kind, link) = (path.symlink_metadata().unwrap(), fs::read_link(&path).ok());
        let text = kind.is_file().then(|| fs::read_to_string(&path).unwrap());
        found.push(format!("{path:?} {:o} {}:{} {link:?} {text:?}", kind.mode(), kind.uid(), kind.gid()));
        if kind.is_dir() {
            found.extend(everything(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn a_host_path_is_untouched_by_the_pods_removal_however_it_was_mounted() {
    let dir = folder();
    let [host, outside] = ["host", "outside"].map(|name| dir.path().join(name));
    for folder in ["part/of/it", "over", "mounted", "later"] {
        fs::create_dir_all(host.join(folder)).unwrap();
        fs::write(host.join(folder).join("file"), folder).unwrap();
    }
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    symlink(&outside, host.join("link")).unwrap();
    let _shared = Mounted::over_itself(host.clone(), MountPropagationFlags::SHARED);
    let left = Mounted::tmpfs_at(host.join("mounted"));
    fs::write(left.0.join("left"), "left").unwrap();
    let before = everything(dir.path());

    let spec = format!(
        "terminationGracePeriodSeconds: 0\nsecurityContext: {{fsGroup: 2000}}\nvolumes:\n- {{name: empty, emptyDir: {{}}}}\n\
         - {{name: host, hostPath: {{path: {}}}}}\n- {{name: by-link, hostPath: {{path: {}/link}}}}\n",
        host.display(),
        host.display(),
    );
    let container = "securityContext: {privileged: true}
volumeMounts:
- {name: host, mountPath: /b, mountPropagation: Bidirectional}
- {name: host, mountPath: /h}
- {name: empty, mountPath: /h/over}
- {name: host, mountPath: /e/part, subPath: part/of}
- {name: by-link, mountPath: /l}
- {name: empty, mountPath: /e/over}
- {name: host, mountPath: /e/over/host}
";
    let script = "touch /h/over/x /e/over/y; cat /h/mounted/left /l/file /e/part/it/file; echo; mount -t tmpfs tmpfs /b/later
        touch /b/later/x; exec sleep 1000";
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &ShellPod { name: "web", script, spec: &spec, container }.yaml());
    wait_until("the container's mount on the host", || host.join("later/x").exists().then_some(()));
    let seen = || node.ask(&["logs", "web"]);
    assert_eq!(
        wait_until("what it sees", || Some(seen()).filter(|log| !log.is_empty())),
        "leftoutsidepart/of/it\n"
    );
    node.remove("web.yaml");
    node.wait_gone("web");
    wait_until("the Pod's folder is deleted", || {
        let trash = fs::read_dir(node.root().join("trash")).unwrap();
        (trash.count() == 0).then_some(())
    });
    // What it has left mounted hides what is there, as it does while the Pod runs.
    assert!(host.join("later/x").exists());
    unmount(host.join("later"), UnmountFlags::DETACH).unwrap();
    assert_eq!(everything(dir.path()), before);
}
