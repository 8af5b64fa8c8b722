//! Links and files of an image or a volume in the way of what podkeep mounts, makes, masks and writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use podkeep::container::Bind;

use crate::bench::Bench;

fn bind(source: &Path, destination: &str) -> Bind {
    Bind::new(source, destination)
}

/// An empty folder of the host that nothing may ever appear in.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Victim {
        Victim(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn assert_untouched(&self) {
        let found: Vec<PathBuf> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(found, [] as [PathBuf; 0]);
    }
}

/// CVE-2026-47766, CVE-2026-41579: devices made, and file systems mounted, where a link of the image leads.
#[test]
fn a_link_of_the_image_to_a_folder_of_the_host_gets_no_devices_and_no_mounts() {
    let victim = Victim::new();
    for name in ["dev", "proc", "sys"] {
        for to in ["/host".to_owned(), "host".to_owned(), format!("../../../..{}", victim.path().display())] {
            let mut bench = Bench::new();
            bench.binds = vec![bind(victim.path(), "/host")];
            symlink(&to, bench.layer().join(name)).unwrap();
            let failure = bench.failure(&["true"]);
            assert!(failure.ends_with("(the image has a symbolic link there)"), "{failure}");
            victim.assert_untouched();
        }
    }
}

#[test]
fn links_below_dev_lie_hidden_under_the_containers_own() {
    let victim = Victim::new();
    let mut bench = Bench::new();
    bench.binds = vec![bind(victim.path(), "/host")];
    fs::create_dir(bench.layer().join("dev")).unwrap();
    for name in ["shm", "pts", "mqueue", "null", "ptmx", "fd"] {
        symlink("/host", bench.layer().join("dev").join(name)).unwrap();
    }
    let script = "for d in shm pts mqueue; do test -L /dev/$d && echo link; done; stat -c %t:%T /dev/null";
    assert_eq!(bench.shell(script).output, "1:3\n");
    victim.assert_untouched();
}

#[test]
fn links_of_a_volume_over_sys_get_no_mounts() {
    let (victim, volume) = (Victim::new(), Victim::new());
    symlink("/host", volume.path().join("fs")).unwrap();
    let mut bench = Bench::new();
    bench.binds = vec![bind(victim.path(), "/host"), bind(volume.path(), "/sys")];
    let failure = bench.failure(&["true"]);
    assert!(failure.contains("/sys/fs/cgroup") && failure.contains("ELOOP"), "{failure}");
    victim.assert_untouched();
}

/// CVE-2025-31133, CVE-2025-52565: what masked paths are covered with, exchanged for something of the host's.
#[test]
fn a_dev_null_that_is_none_masks_nothing_and_starts_nothing() {
    let volume = Victim::new();
    let null = volume.path().join("null");
    for to in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "zero"] {
        symlink(to, &null).unwrap();
        let mut bench = Bench::new();
        bench.binds = vec![bind(volume.path(), "/dev")];
        let failure = bench.failure(&["true"]);
        assert!(failure.contains("ELOOP"), "{failure}");
        fs::remove_file(&null).unwrap();
    }
    fs::write(&null, "").unwrap();
    for (source, destination) in
        [(volume.path(), "/dev"), (&null, "/dev/null"), (Path::new("/dev/zero"), "/dev/null")]
    {
        let mut bench = Bench::new();
        bench.binds = vec![bind(source, destination)];
        let failure = bench.failure(&["true"]);
        assert!(failure.contains("ENXIO"), "{failure}");
    }
}

/// Of the kernel's files that came as a volume, the host's own.
#[test]
fn masks_and_read_only_paths_lie_over_volumes_too() {
    let mut bench = Bench::new();
    bench.binds = vec![bind(Path::new("/proc"), "/proc"), bind(Path::new("/sys"), "/sys")];
    let script = "wc -c </proc/timer_list; wc -c </proc/keys; ls /sys/firmware | wc -l
        echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused
        echo h 2>/dev/null >/proc/sysrq-trigger || echo refused";
    assert_eq!(bench.shell(script).output, "0\n0\n0\nrefused\nrefused\n");
}

/// A link there could lead the mask away: to cover something else, or to be covered by it.
#[test]
fn a_link_in_the_place_of_a_masked_or_read_only_path_is_covered_itself() {
    let volume = Victim::new();
    for (name, to) in [("kcore", "/file"), ("keys", "/folder"), ("sys", "/folder"), ("bus", "/host")] {
        symlink(to, volume.path().join(name)).unwrap();
    }
    let (victim, mut bench) = (Victim::new(), Bench::new());
    fs::create_dir(bench.layer().join("folder")).unwrap();
    fs::write(bench.layer().join("file"), "there\n").unwrap();
    bench.binds = vec![bind(volume.path(), "/proc"), bind(victim.path(), "/host")];
    let script = "cat /file; touch /folder/x /host/x && ls /folder; cat /proc/kcore; cat /proc/keys";
    assert_eq!(bench.shell(script).output, "there\nx\n");
    fs::remove_file(victim.path().join("x")).unwrap();
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-28642, CVE-2025-52881: what a runtime writes to `/proc` goes to where somebody else has mounted something.
#[test]
fn a_volume_over_proc_is_written_to_by_nobody_but_the_container() {
    let domain = || fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let before = domain();
    for at in ["/proc", "/proc/self/attr", "/proc/1/attr", "/proc/sys/kernel", "/proc/sys"] {
        let (volume, mut bench) = (Victim::new(), Bench::new());
        bench.binds = vec![bind(volume.path(), at)];
        bench.shell("true");
        volume.assert_untouched();
        assert_eq!(domain(), before);
    }
}

#[test]
fn mount_points_behind_magic_links_are_refused() {
    let volume = Victim::new();
    for at in ["/proc/self/root/x", "/proc/self/cwd/x", "/proc/self/fd/3", "/proc/1/exe"] {
        let mut bench = Bench::new();
        bench.binds = vec![bind(volume.path(), at)];
        let failure = bench.failure(&["true"]);
        assert!(failure.contains("ELOOP"), "{at}: {failure}");
        volume.assert_untouched();
    }
}
