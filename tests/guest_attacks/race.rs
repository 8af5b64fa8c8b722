//! CVE-2021-30465, CVE-2023-27561, CVE-2024-45310: a container that exchanges a folder for a link under the mount point of
//! another one, in a volume that both have, while that is being started.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use podkeep::container::{Bind, SubPath};
use podkeep::manifest::pod::EnvVar;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::bench::{Bench, Running};

const ROUNDS: usize = 200;
/// Set for the program that runs inside of a container.
const INSIDE: &str = "PODKEEP_TEST_INSIDE";

#[test]
fn links_that_come_and_go_under_a_mount_point_lead_nowhere() {
    if std::env::var_os(INSIDE).is_some() {
        exchange_forever();
    }
    let host = tempfile::tempdir().unwrap();
    let [shared, secret, canary] = ["shared", "secret", "canary"].map(|name| host.path().join(name));
    [&shared, &secret, &canary].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    fs::write(secret.join("key"), "secret\n").unwrap();
    fs::create_dir(shared.join("folder")).unwrap();
    symlink(format!("../../../../../..{}", canary.display()), shared.join("link")).unwrap();
    let bind = |source: &Path, destination: &str| Bind::new(source, destination);

    let name = "race::links_that_come_and_go_under_a_mount_point_lead_nowhere";
    let attack = attack(&shared, name);

    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let look = format!("cat {}/in/key 2>/dev/null || echo inside", canary.display());
    let mut victim = Bench::new();
    victim.binds = vec![bind(&shared, "/shared"), bind(&secret, "/shared/folder/in")];
    victim.container().command = ["/bin/sh", "-c", &look].map(str::to_owned).into();
    let mut ways = [0; 3];
    for round in 0..ROUNDS {
        give_new_cgroup(&mut victim, round);
        match victim.start().map(|running| running.finish().output) {
            Ok(output) if output == "inside\n" => ways[0] += 1,
            Ok(output) if output == "secret\n" => ways[1] += 1,
            // Exchanged between two looks of ours: nothing is mounted then.
            Err(error) if error.to_string().starts_with("bind ") => ways[2] += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "something appeared on the host");
    }
    let [folder, link, refused] = ways;
    assert!(folder > 0 && link > 0, "no race: {folder} by the folder, {link} by the link, {refused} refused");
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing was made in what was mounted");
    drop(attack);
}

/// As the node does for every run: the kernel takes 64 device filters in one.
fn give_new_cgroup(bench: &mut Bench, round: usize) {
    let new = bench.cgroup.with_file_name(format!("container-race-{round}"));
    fs::create_dir(&new).unwrap();
    fs::remove_dir(std::mem::replace(&mut bench.cgroup, new)).unwrap();
}

/// CVE-2017-1002101, CVE-2021-25741: the part of a volume that another container mounts is exchanged for a link out of it.
#[test]
fn a_sub_path_that_is_exchanged_for_a_link_meanwhile_shows_nothing_of_the_host() {
    if std::env::var_os(INSIDE).is_some() {
        exchange_forever();
    }
    let host = tempfile::tempdir().unwrap();
    let shared = host.path().join("shared");
    fs::create_dir_all(shared.join("folder")).unwrap();
    fs::write(shared.join("folder/key"), "inside\n").unwrap();
    fs::write(host.path().join("key"), "secret\n").unwrap();
    symlink("..", shared.join("link")).unwrap();
    let name = "race::a_sub_path_that_is_exchanged_for_a_link_meanwhile_shows_nothing_of_the_host";
    let attack = attack(&shared, name);

    let mut ways = [0; 2];
    let mut victim = Bench::new();
    for round in 0..ROUNDS {
        give_new_cgroup(&mut victim, round);
        // By turns, a file that is there and a folder that has to be made.
        let (path, at, owner) = match round % 2 {
            0 => ("folder/key", "/file", None),
            _ => ("folder/new/er", "/folder", Some(0)),
        };
        victim.binds = vec![Bind::new(shared.join(path), at)];
        let part = SubPath { destination: at.into(), volume: shared.clone(), path: path.to_owned(), owner };
        victim.sub_paths = vec![part];
        victim.container().command =
            ["/bin/sh", "-c", &format!("cat {at} 2>/dev/null || echo inside")].map(str::to_owned).into();
        match victim.start().map(|running| running.finish().output) {
            Ok(output) if output == "inside\n" => ways[0] += 1,
            Err(error) if error.to_string().starts_with(&format!("open {path} in the volume")) => {
                ways[1] += 1
            }
            other => panic!("{other:?}"),
        }
        assert!(!host.path().join("new").exists(), "something appeared on the host");
    }
    let [inside, refused] = ways;
    assert!(inside > 0 && refused > 0, "no race: {inside} inside, {refused} refused");
    drop(attack);
}

/// A container that exchanges `/shared/folder` for `/shared/link` and back, in the test of that name.
fn attack(shared: &Path, name: &str) -> (Running, Bench) {
    let mut attacker = Bench::new();
    fs::copy(std::env::current_exe().unwrap(), attacker.layer().join("attack")).unwrap();
    attacker.binds = vec![Bind::new(shared, "/shared")];
    attacker.container().command = ["/attack", "--exact", name].map(str::to_owned).into();
    attacker.container().env = vec![EnvVar::text(INSIDE, "1")];
    let running = attacker.start().unwrap();
    (running, attacker)
}

fn exchange_forever() -> ! {
    loop {
        renameat_with(CWD, "/shared/folder", CWD, "/shared/link", RenameFlags::EXCHANGE).unwrap();
    }
}
