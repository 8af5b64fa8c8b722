//! How the root and what lies in it are mounted, and the devices in its `/dev`.

use std::fs;

use serde_json::json;

use crate::bench::Bench;
use crate::with_users;

#[test]
fn a_root_spreads_mounts_as_asked() {
    for (asked, mark, sees_late) in [
        (None, "", false),
        (Some("rprivate"), "", false),
        (Some("rslave"), "master:", true),
        (Some("rshared"), "shared:", true),
        (Some("unbindable"), "unbindable", false),
    ] {
        let mut bench = Bench::new();
        let root = bench.rootfs();
        bench.host(&["mount", "--bind"], &[&root, &root]);
        bench.host(&["mount", "--make-shared"], &[&root]);
        if let Some(asked) = asked {
            bench.spec["linux"]["rootfsPropagation"] = json!(asked);
        }
        let running = bench.start(
            "cut -d' ' -f5- /proc/self/mountinfo | grep '^/ '; mkdir /inside; mount -t tmpfs inside /inside; echo up; \
             read line < /fifo; grep -c ' /mnt ' /proc/self/mountinfo; exit 0",
        );
        running.wait_for("up");
        let of_the_host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !of_the_host.contains("rootfs/inside"),
            "{asked:?}: nothing of the container's is the host's"
        );
        bench.host(&["mount", "-t", "tmpfs", "late"], &[&root.join("mnt")]);
        bench.feed("go");
        let output = running.finish().output;
        bench.host(&["umount"], &[&root.join("mnt")]);
        bench.host(&["umount"], &[&root]);
        let lines: Vec<&str> = output.lines().collect();
        let (marks, _) = lines[0].split_once(" - ").unwrap();
        let marks: Vec<&str> = marks.split(' ').skip(2).filter(|mark| !mark.is_empty()).collect();
        match mark {
            "" => assert_eq!(marks, [""; 0], "{asked:?}"),
            mark => assert!(marks.iter().any(|found| found.starts_with(mark)), "{asked:?}: {marks:?}"),
        }
        assert_eq!(lines[2], if sees_late { "1" } else { "0" }, "{asked:?}");
    }
    let mut bench = Bench::new();
    bench.spec["linux"]["rootfsPropagation"] = json!("sideways");
    assert!(bench.try_start("true").unwrap_err().contains("`sideways` is no way for mounts to spread"));
}

/// A folder of the host with another file system's folder mounted in it, both of them root's.
fn folder_with_a_mount(bench: &Bench) -> [std::path::PathBuf; 2] {
    let [volume, other] = ["volume", "other"].map(|name| bench.directory(name));
    let below = bench.directory("volume/below");
    fs::write(volume.join("file"), "").unwrap();
    fs::write(other.join("file"), "").unwrap();
    bench.host(&["mount", "--bind"], &[&other, &below]);
    [volume, below]
}

#[test]
fn recursive_attributes_are_those_of_what_is_mounted_below_too() {
    let mut bench = Bench::new();
    let [volume, below] = folder_with_a_mount(&bench);
    for (at, options) in [("/all", ["rbind", "rro"]), ("/one", ["rbind", "ro"])] {
        bench.mount(json!({"destination": at, "type": "bind", "source": volume, "options": options}));
    }
    let script =
        "for at in /all /all/below /one /one/below; do touch $at/x 2>/dev/null && echo $at; done; exit 0";
    let output = bench.run(script).success();
    bench.host(&["umount"], &[&below]);
    assert_eq!(output, "/one/below");
}

#[test]
fn owners_are_mapped_in_what_is_mounted_below_only_if_asked() {
    let mut bench = Bench::new();
    with_users(&mut bench);
    let [volume, below] = folder_with_a_mount(&bench);
    for (at, options) in [("/all", ["rbind", "ridmap"]), ("/one", ["rbind", "idmap"])] {
        bench.mount(json!({"destination": at, "type": "bind", "source": volume, "options": options}));
    }
    let output = bench.run("stat -c %u /all/file /all/below/file /one/file /one/below/file").success();
    bench.host(&["umount"], &[&below]);
    assert_eq!(output, "0\n0\n0\n65534");
}

#[test]
fn devices_have_the_mode_and_the_owner_that_they_are_given() {
    let mut bench = Bench::new();
    bench.spec["linux"]["devices"] = json!([
        {"path": "/dev/deep/pipe", "type": "p", "major": 0, "minor": 0, "fileMode": 0o622, "uid": 5, "gid": 6},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 9, "fileMode": 0o600},
    ]);
    let output =
        bench.run("stat -c '%F %a %u %g %t:%T' /dev/deep/pipe /dev/zero /dev/disk /dev/null").success();
    assert_eq!(
        output,
        "fifo 622 5 6 0:0\ncharacter special file 640 7 8 1:5\nblock special file 600 0 0 7:9\n\
         character special file 666 0 0 1:3"
    );
}

#[test]
fn a_domain_name_is_set_in_its_namespace_only() {
    let name = || fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let before = name();
    let mut bench = Bench::new();
    bench.spec["domainname"] = json!("inner.example");
    assert_eq!(bench.run("cat /proc/sys/kernel/domainname").success(), "inner.example");
    assert_eq!(name(), before);
}
