//! The test machine itself: the guest is what every other guest test takes for granted.
//!
//! Run with `scripts/vm test guest_smoke`; anywhere else these tests fail.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

/// Controllers that podkeep sets limits with, or reads; the guest has more.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

fn assert_in_guest() {
    assert_eq!(
        env::var("PODKEEP_GUEST").as_deref(),
        Ok("1"),
        "not in the guest: run `scripts/vm test guest_smoke`"
    );
}

fn path_from(variable: &str) -> PathBuf {
    PathBuf::from(env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set")))
}

#[test]
fn init_is_ours() {
    assert_in_guest();
    let cmdline = fs::read("/proc/1/cmdline").unwrap();
    let words: Vec<_> = cmdline.split(|byte| *byte == 0).collect();
    assert!(words.contains(&&b"/run/vm/guest-init"[..]), "PID 1 is {words:?}");
}

#[test]
fn every_cgroup_v2_controller_is_there_and_none_is_bound_to_v1() {
    assert_in_guest();
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let present: BTreeSet<_> = controllers.split_whitespace().collect();
    let missing: Vec<_> = CONTROLLERS.iter().filter(|name| !present.contains(**name)).collect();
    assert!(missing.is_empty(), "missing {missing:?} in {controllers:?}");
}

#[test]
fn overlay_and_a_root_that_can_be_pivoted() {
    assert_in_guest();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    assert!(filesystems.lines().any(|line| line.ends_with("\toverlay")), "{filesystems}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(mounts.lines().any(|line| line.starts_with("/dev/vda / ext4 ")), "{mounts}");
}

#[test]
fn podkeep_and_the_sample_images_are_there() {
    assert_in_guest();
    assert!(path_from("PODKEEP_BIN").is_file());
    let images = path_from("PODKEEP_IMAGES");
    for name in
        ["busybox/oci-layout", "busybox.tar", "nginx.tar", "redis.tar", "threads.tar", "layers/oci-layout"]
    {
        assert!(images.join(name).is_file(), "no {name} in {}", images.display());
    }
}
