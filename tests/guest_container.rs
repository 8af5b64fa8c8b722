//! Real containers: what a process finds in one, and what is said when one cannot start.
//!
//! Run with `scripts/vm test guest_container`; anywhere else these tests fail.

#[path = "guest_container/harness.rs"]
mod harness;
#[path = "guest_container/spawner.rs"]
mod spawner;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::{Bench, Seccomp};
use podkeep::container::{Bind, Parent, ResolvedUser};
use podkeep::manifest::pod::Access;
use podkeep::sys::fork_guard::ForkGuard;
use rustix::fs::{Mode, OFlags};

/// Nothing allocates between clone and exec: a process that did would end instead of becoming its program.
#[global_allocator]
static ALLOCATOR: ForkGuard = ForkGuard;

/// Capabilities of a container of containerd.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";
const NO_CAPABILITIES: &str = "0000000000000000";

fn nobody() -> ResolvedUser {
    ResolvedUser { uid: 1000, gid: 2000, additional_gids: vec![2000, 7], home: "/home/me".to_owned() }
}

/// The value of a line of `/proc/PID/status`.
fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

#[test]
fn the_first_process_is_pid_1_in_its_own_session_with_the_pods_name() {
    // `$$` is Kubernetes' way to write one `$`.
    let outcome = Bench::new().shell("echo $$$$; hostname; set -- $(cat /proc/self/stat); echo $6; exit 7");
    assert_eq!(outcome.output, "1\nweb\n1\n");
    assert_eq!(outcome.status, Some(7));
}

#[test]
fn it_is_born_in_its_cgroup_and_sees_that_as_the_root() {
    let mut bench = Bench::new();
    assert_eq!(bench.shell("cat /proc/self/cgroup").output, "0::/\n");

    bench.container().command = vec!["sleep".to_owned(), "1000".to_owned()];
    let running = bench.start().unwrap();
    let shown = fs::read_to_string(format!("/proc/{}/cgroup", running.spawned.pid)).unwrap();
    assert_eq!(shown, format!("0::/{}\n", bench.cgroup.file_name().unwrap().to_str().unwrap()));
    assert_eq!(bench.shell("ls /sys/fs/cgroup/cgroup.procs").output, "/sys/fs/cgroup/cgroup.procs\n");
}

#[test]
fn a_sibling_has_the_callers_parent_and_its_pid_is_told() {
    let mut bench = Bench::new();
    bench.container().command = vec!["sleep".to_owned(), "1000".to_owned()];
    let told = AtomicU32::new(0);
    let running = bench.start_as(Parent::CallersParent, Some(&told)).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), running.spawned.pid);
    let status = fs::read_to_string(format!("/proc/{}/status", running.spawned.pid)).unwrap();
    assert_eq!(field(&status, "PPid"), std::os::unix::process::parent_id().to_string());
}

#[test]
fn exactly_these_mounts_are_there() {
    let mounts = |script: &str, bench: &mut Bench| {
        let shown = bench.shell(script).output;
        let parse = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = words.iter().position(|word| *word == "-").unwrap() + 1;
            format!("{} {} {}", words[4], words[kind], words[5])
        };
        shown.lines().map(parse).collect::<Vec<_>>()
    };
    let mut bench = Bench::new();
    bench.container().security.privileged = true;
    let shown = mounts("cat /proc/self/mountinfo", &mut bench);
    assert_eq!(
        shown,
        [
            "/ overlay rw,relatime",
            "/proc proc rw,nosuid,nodev,noexec,relatime",
            "/dev tmpfs rw,nosuid",
            "/sys sysfs rw,nosuid,nodev,noexec,relatime",
            "/dev/pts devpts rw,nosuid,noexec,relatime",
            "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime",
            "/dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime",
            "/sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime",
        ]
    );
    let mut bench = Bench::new();
    let shown = mounts("grep -E ' / /sys(/fs/cgroup)? ' /proc/self/mountinfo", &mut bench);
    assert_eq!(
        shown,
        [
            "/sys sysfs ro,nosuid,nodev,noexec,relatime",
            "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec,relatime"
        ]
    );
}

#[test]
fn the_host_sees_none_of_it() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut bench = Bench::new();
    bench.container().command = vec!["sleep".to_owned(), "1000".to_owned()];
    let running = bench.start().unwrap();
    assert_eq!(mounts(), before);
    drop(running);
    assert_eq!(mounts(), before);
}

#[test]
fn no_descriptor_of_the_host_is_inside() {
    // One that somebody forgot to mark close-on-exec, and to a directory of the host at that (CVE-2024-21626).
    let _forgotten = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    let outcome =
        Bench::new().shell("ls /proc/self/fd; readlink /proc/self/fd/0; stat -c %d /dev/fd/0 /dev/null");
    let lines: Vec<&str> = outcome.output.lines().collect();
    // 3 is the directory that `ls` reads.
    assert_eq!(lines[..5], ["0", "1", "2", "3", "/dev/null"]);
    let dev =
        Bench::new().shell("stat -L -c '%d %t %T' /proc/self/fd/0; stat -c '%d %t %T' /dev/null").output;
    let (input, null) = dev.trim().split_once('\n').unwrap();
    assert_eq!(input, null, "stdin is the container's own /dev/null");
}

#[test]
fn no_program_is_found_through_a_descriptor_of_the_host() {
    // execve resolves its path before what is close-on-exec is closed: through a directory of the host, an image's
    // entrypoint would run the host's programs (CVE-2024-21626).
    // Several, since the report takes the place of one of them.
    let open = |_| rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let forgotten: Vec<_> = (0..5).map(open).collect();
    let on_the_host = std::env::current_exe().unwrap();
    let mut bench = Bench::new();
    let highest = forgotten.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    for number in 3..=highest {
        let through = format!("/proc/self/fd/{number}{}", on_the_host.display());
        let failure = bench.failure(&[&through]);
        assert!(failure.starts_with("execute /proc/self/fd/"), "{failure}");
    }
}

#[test]
fn signals_are_as_a_new_process_expects_them() {
    let status = Bench::new().shell("exec cat /proc/self/status").output;
    assert_eq!(field(&status, "SigIgn"), NO_CAPABILITIES);
    assert_eq!(field(&status, "SigBlk"), NO_CAPABILITIES);
}

#[test]
fn the_usual_devices_and_links_are_there() {
    let script = "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$d; done
        for l in fd stdin stdout stderr core ptmx; do readlink /dev/$l; done
        echo x >/dev/null && dd if=/dev/zero bs=4 count=1 2>/dev/null | wc -c";
    assert_eq!(
        Bench::new().shell(script).output,
        "/dev/null 666 1:3\n/dev/zero 666 1:5\n/dev/full 666 1:7\n/dev/random 666 1:8\n\
         /dev/urandom 666 1:9\n/dev/tty 666 5:0\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\npts/ptmx\n4\n"
    );
}

#[test]
fn root_has_the_default_capabilities_and_nobody_none() {
    let sets = |bench: &mut Bench| {
        let status = bench.shell("cat /proc/self/status").output;
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| field(&status, name).to_owned())
    };
    let [none, default] = [NO_CAPABILITIES, DEFAULT_CAPABILITIES];
    assert_eq!(sets(&mut Bench::new()), [none, default, default, default, none]);

    let mut bench = Bench::new();
    bench.user = nobody();
    assert_eq!(sets(&mut bench), [none, none, none, default, none]);

    let mut bench = Bench::new();
    bench.container().security.capabilities_drop = vec!["ALL".to_owned()];
    assert_eq!(sets(&mut bench), [none; 5]);

    let mut bench = Bench::new();
    bench.container().security.privileged = true;
    let hosts = fs::read_to_string("/proc/self/status").unwrap();
    let all = field(&hosts, "CapBnd");
    assert_eq!(sets(&mut bench), [none, all, all, all, none]);
}

#[test]
fn the_kernels_secrets_are_masked_and_its_switches_read_only() {
    let script = "wc -c </proc/timer_list; wc -c </proc/keys; ls /sys/firmware | wc -l
        echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo refused
        echo 1 2>/dev/null >/proc/sysrq-trigger || echo refused
        mkdir /sys/firmware/x 2>/dev/null || echo refused
        mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused";
    assert_eq!(Bench::new().shell(script).output, "0\n0\n0\nrefused\nrefused\nrefused\nrefused\n");

    let mut bench = Bench::new();
    bench.container().security.privileged = true;
    let script = "test $(wc -c </proc/timer_list) -gt 0 && mkdir /sys/fs/cgroup/x && echo free";
    assert_eq!(bench.shell(script).output, "free\n");
    fs::remove_dir(bench.cgroup.join("x")).unwrap();
}

#[test]
fn a_privileged_container_has_the_hosts_devices() {
    let mut bench = Bench::new();
    bench.container().security.privileged = true;
    assert_eq!(bench.shell("stat -c %F /dev/vda").output, "block special file\n");
    assert_eq!(Bench::new().shell("stat /dev/vda 2>/dev/null || echo none").output, "none\n");
}

#[test]
fn a_read_only_root_is_read_only_but_its_volumes_are_not() {
    let mut bench = Bench::new();
    let volume = bench.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    bench.binds = vec![Bind::new(volume.clone(), "/data")];
    bench.container().security.read_only_root = true;
    let outcome = bench.shell("touch /x 2>&1; touch /data/y /dev/shm/z && echo written");
    assert_eq!(outcome.output, "touch: /x: Read-only file system\nwritten\n");
    assert!(volume.join("y").exists());
}

#[test]
fn binds_of_files_and_folders_and_read_only_ones() {
    let mut bench = Bench::new();
    let host = bench.dir.path().join("host");
    fs::create_dir_all(host.join("folder")).unwrap();
    fs::write(host.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    let bind = |name: &str, destination: &str, read_only| Bind {
        access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
        ..Bind::new(host.join(name), destination)
    };
    bench.binds = vec![
        bind("folder", "/deep/in/here/folder", true),
        bind("folder", "/deep", false),
        bind("hosts", "/etc/hosts", true),
    ];
    let outcome = bench.shell(
        "cat /etc/hosts; echo x 2>/dev/null >/etc/hosts || echo refused
         touch /deep/in/here/folder/x 2>/dev/null || echo refused; touch /deep/y && ls /deep",
    );
    assert_eq!(outcome.output, "127.0.0.1 localhost\nrefused\nrefused\nin\ny\n");
}

#[test]
fn the_working_directory_is_made_and_entered() {
    let mut bench = Bench::new();
    bench.container().working_dir = Some("/srv/new/here".to_owned());
    assert_eq!(bench.shell("pwd; umask").output, "/srv/new/here\n0022\n");
}

#[test]
fn user_groups_and_environment_are_set() {
    let mut bench = Bench::new();
    bench.user = nobody();
    bench.image.env = vec!["A=image".to_owned()];
    let outcome =
        bench.shell("id -u; id -g; id -G; echo $HOME $A $HOSTNAME $PATH; touch /x 2>/dev/null || echo no");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(outcome.output, format!("1000\n2000\n2000 7\n/home/me image web {path}\nno\n"));
}

#[test]
fn the_network_is_a_loopback_of_its_own_or_the_hosts() {
    let script = "cat /sys/class/net/lo/flags; readlink /proc/self/ns/net; readlink /proc/self/ns/uts";
    let hosts =
        |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    let own = Bench::new().shell(script).output;
    assert!(own.starts_with("0x9\n"), "{own}");
    assert!(!own.contains(&hosts("net")) && !own.contains(&hosts("uts")), "{own}");

    let mut bench = Bench::new();
    bench.pod.host_network = true;
    bench.pod.hostname = None;
    assert_eq!(bench.shell(script).output, format!("0x9\n{}\n{}\n", hosts("net"), hosts("uts")));
}

#[test]
fn a_program_that_cannot_run_is_told_apart() {
    let sentence = |command: &[&str]| Bench::new().failure(command);
    let missing = sentence(&["nothere", "x"]);
    assert!(missing.starts_with("execute nothere: ENOENT ("), "{missing}");
    let missing = sentence(&["/no/such/file"]);
    assert!(missing.starts_with("execute /no/such/file: ENOENT ("), "{missing}");

    let mut bench = Bench::new();
    fs::write(bench.layer().join("bin/plain"), "hello").unwrap();
    let forbidden = bench.failure(&["plain"]);
    assert!(forbidden.starts_with("execute plain: EACCES (permission denied"), "{forbidden}");
    fs::set_permissions(bench.layer().join("bin/plain"), fs::Permissions::from_mode(0o755)).unwrap();
    let foreign = bench.failure(&["plain"]);
    assert!(foreign.starts_with("execute plain: ENOEXEC ("), "{foreign}");
}

#[test]
fn a_bind_without_a_source_and_a_missing_layer_are_named() {
    let mut bench = Bench::new();
    bench.binds = vec![Bind::new("/no/such", "/data")];
    assert_eq!(bench.failure(&["true"]), "open /no/such: ENOENT");

    let mut bench = Bench::new();
    bench.lower = vec!["b".to_owned()];
    assert!(bench.failure(&["true"]).starts_with("mount overlay on "));
}

#[test]
fn a_hundred_and_twenty_layers_are_one_root() {
    let mut bench = Bench::new();
    for number in 1..120 {
        let name = format!("l{number}");
        let layer = bench.dir.path().join("layers").join(&name);
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file{number}")), "").unwrap();
        fs::write(layer.join("top"), &name).unwrap();
        bench.lower.push(name);
    }
    assert_eq!(bench.shell("ls -d /file* | wc -l; cat /top").output, "119\nl119");
}

#[test]
fn links_of_the_image_lead_nowhere_else() {
    let victim = tempfile::tempdir().unwrap();
    for (name, to) in [("proc", victim.path()), ("dev", "/".as_ref()), ("sys", "nowhere".as_ref())] {
        let mut bench = Bench::new();
        symlink(to, bench.layer().join(name)).unwrap();
        let sentence = bench.failure(&["true"]);
        assert!(sentence.ends_with("ELOOP (the image has a symbolic link there)"), "{sentence}");
    }

    let mut bench = Bench::new();
    let secret = bench.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "s").unwrap();
    symlink(victim.path(), bench.layer().join("data")).unwrap();
    fs::create_dir(bench.layer().join("etc")).unwrap();
    symlink("../../../../../run/x/resolv.conf", bench.layer().join("etc/resolv.conf")).unwrap();
    let bind = |source: &std::path::Path, destination: &str| Bind {
        access: Access::ReadOnly,
        ..Bind::new(source, destination)
    };
    bench.binds = vec![bind(&secret, "/data/in"), bind(&secret.join("key"), "/etc/resolv.conf")];
    let script = format!("cat {}/in/key /run/x/resolv.conf", victim.path().display());
    assert_eq!(bench.shell(&script).output, "ss");
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0, "nothing on the host was touched");
    assert!(!fs::exists("/run/x").unwrap());
}

#[test]
fn the_default_profile_holds_with_and_without_new_privileges() {
    for no_new_privileges in [false, true] {
        let mut bench = Bench::new();
        bench.user = nobody();
        bench.no_new_privileges = no_new_privileges;
        let status = bench.shell("cat /proc/self/status").output;
        assert_eq!(field(&status, "Seccomp"), "2");
        assert_eq!(field(&status, "NoNewPrivs"), if no_new_privileges { "1" } else { "0" });
    }
    // A user namespace needs no capability: only the profile stands against it.
    let unshare = "unshare -U true 2>/dev/null && echo unshared || echo refused";
    assert_eq!(Bench::new().shell(unshare).output, "refused\n");
    let mut bench = Bench::new();
    bench.seccomp = Seccomp::Off;
    assert_eq!(bench.shell(unshare).output, "unshared\n");
    assert_eq!(field(&bench.shell("cat /proc/self/status").output, "Seccomp"), "0");
}

#[test]
fn a_device_of_the_host_can_be_made_but_not_opened() {
    let disk = rustix::fs::stat("/dev/vda").unwrap().st_rdev;
    let (major, minor) = (rustix::fs::major(disk), rustix::fs::minor(disk));
    let script = format!(
        "mknod /disk b {major} {minor} && mknod /nothing c 1 3 && echo made
         dd if=/disk of=/dev/null count=1 2>&1 | grep -o 'not permitted'
         echo x >/nothing && echo harmless"
    );
    assert_eq!(Bench::new().shell(&script).output, "made\nnot permitted\nharmless\n");

    let mut bench = Bench::new();
    bench.container().security.privileged = true;
    assert_eq!(bench.shell("dd if=/dev/vda count=1 2>/dev/null | wc -c").output, "512\n");
}
