//! The cgroup tree on a real kernel: what is limited, counted, killed and removed. Needs root and the v2 controllers.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use podkeep::cgroup::{ContainerLimits, Error, Group, PodCgroupName, PodLimits, Tree, populated_in};
use podkeep::manifest::pod::QosClass;
use podkeep::manifest::{PodId, Uid};
use rustix::event::{PollFd, PollFlags, poll};

const MOUNT: &str = "/sys/fs/cgroup";
const MIB: u64 = 1 << 20;
/// Set in the process that plays podkeep inside of a delegated group.
const DELEGATED: &str = "PODKEEP_TEST_DELEGATED";

#[test]
fn limits_are_written() {
    let tree = tree("limits");
    assert!(tree.missing_controllers().is_empty(), "{:?}", tree.missing_controllers());
    let limits = PodLimits {
        cpu_request_milli: 500,
        cpu_limit_milli: Some(1500),
        memory_limit: Some(64 * MIB),
        pids_max: Some(100),
    };
    let pod = tree.pod(QosClass::Burstable, &name("web"), &limits).unwrap();
    assert_eq!(pod.path(), Path::new("/podkeep-test-limits/burstable/default_web_01234567"));
    assert_eq!(read(&pod, "cpu.weight"), "59");
    assert_eq!(read(&pod, "cpu.max"), "150000 100000");
    assert_eq!(read(&pod, "memory.max"), (64 * MIB).to_string());
    assert_eq!(read(&pod, "pids.max"), "100");

    let limits =
        ContainerLimits { cpu_request_milli: 250, cpu_limit_milli: Some(10), memory_limit: Some(32 * MIB) };
    let container = pod.child("nginx", &limits).unwrap();
    assert_eq!(read(&container, "cpu.weight"), "35");
    assert_eq!(read(&container, "cpu.max"), "1000 100000");
    assert_eq!(read(&container, "memory.max"), (32 * MIB).to_string());
    assert_eq!(read(&container, "memory.oom.group"), "1");
    if at(&container, "memory.swap.max").exists() {
        assert_eq!(read(&container, "memory.swap.max"), "0");
    }

    let unlimited = pod.child("sidecar", &ContainerLimits::default()).unwrap();
    assert_eq!(read(&unlimited, "cpu.max"), "max 100000");
    assert_eq!(read(&unlimited, "memory.max"), "max");
    assert_eq!(read(&unlimited, "cpu.weight"), "1");

    tree.weigh_class(QosClass::Burstable, 1000).unwrap();
    assert_eq!(
        fs::read_to_string(format!("{MOUNT}/podkeep-test-limits/burstable/cpu.weight")).unwrap(),
        "100\n"
    );
    assert_eq!(
        fs::read_to_string(format!("{MOUNT}/podkeep-test-limits/besteffort/cpu.weight")).unwrap(),
        "1\n"
    );
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
    assert!(!Path::new("/sys/fs/cgroup/podkeep-test-limits").exists());
}

#[test]
fn an_oom_kill_takes_the_whole_container_and_is_counted_anew_for_the_next() {
    let tree = tree("oom");
    let pod = tree.pod(QosClass::Burstable, &name("web"), &PodLimits::default()).unwrap();
    let limits = ContainerLimits { memory_limit: Some(16 * MIB), ..Default::default() };
    let container = pod.child("eater", &limits).unwrap();
    let mut bystander = run_in(&container, "exec sleep 1000");
    // tail keeps the last line, and this one never ends.
    let mut eater = run_in(&container, "exec tail /dev/zero");
    assert_eq!(eater.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(bystander.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(container.oom_kills().unwrap() >= 1);
    assert!(!container.populated().unwrap());

    let successor = pod.child("eater", &limits).unwrap();
    assert_eq!(successor.oom_kills().unwrap(), 0);
    assert_eq!(container.oom_kills().unwrap(), 0, "a removed group reads as empty");
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
}

#[test]
fn a_fork_bomb_stops_at_pids_max_and_is_killed() {
    let tree = tree("bomb");
    let limits = PodLimits { pids_max: Some(64), ..Default::default() };
    let pod = tree.pod(QosClass::BestEffort, &name("web"), &limits).unwrap();
    let container = pod.child("bomb", &ContainerLimits::default()).unwrap();
    // The shell gives up when it cannot fork.
    let mut bomb = run_in(&container, "while sleep 1000 & do :; done 2>/dev/null");
    assert!(!bomb.wait().unwrap().success());
    let pids = container.processes().unwrap();
    assert!((32..=64).contains(&pids.len()), "{} processes", pids.len());
    assert!(container.populated().unwrap());
    assert!(matches!(container.remove(), Err(Error::Busy(_))));

    let events = container.events().unwrap();
    assert!(populated_in(events.as_fd()).unwrap());
    container.kill().unwrap();
    wait_until_empty(&events);
    assert!(container.processes().unwrap().is_empty());
    container.remove().unwrap();
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
}

#[test]
fn a_populated_container_is_not_made_anew() {
    let tree = tree("populated");
    let pod = tree.pod(QosClass::BestEffort, &name("web"), &PodLimits::default()).unwrap();
    let container = pod.child("sleeper", &ContainerLimits::default()).unwrap();
    let mut sleeper = run_in(&container, "echo; exec sleep 1000");
    wait_for_output(&mut sleeper);
    let again = pod.child("sleeper", &ContainerLimits::default());
    assert!(matches!(&again, Err(Error::Populated(path)) if path == container.path()), "{again:?}");
    assert_eq!(container.processes().unwrap(), [sleeper.id()]);
    assert_eq!(pod.processes().unwrap(), [sleeper.id()]);

    pod.kill().unwrap();
    sleeper.wait().unwrap();
    wait_until_empty(&pod.events().unwrap());
    pod.child("sleeper", &ContainerLimits::default()).unwrap();
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
}

#[test]
fn what_a_container_made_inside_is_removed_with_it() {
    let tree = tree("nested");
    let pod = tree.pod(QosClass::BestEffort, &name("web"), &PodLimits::default()).unwrap();
    let container = pod.child("systemd", &ContainerLimits::default()).unwrap();
    fs::create_dir_all(at(&container, "system.slice/a.service/leaf")).unwrap();
    fs::create_dir(at(&container, "user.slice")).unwrap();
    fs::create_dir(at(&container, "").join(OsStr::from_bytes(b"no \xff text"))).unwrap();
    assert_eq!(container.children().unwrap().len(), 3);
    let deep = (0..40).fold(at(&container, ""), |path, _| path.join("d"));
    assert!(fs::create_dir_all(deep).is_err(), "depth has an end");

    let again = pod.child("systemd", &ContainerLimits::default()).unwrap();
    assert!(again.children().unwrap().is_empty());
    container.remove().expect("the old handle is gone, and does not remove the new group");
    assert!(at(&again, "").exists());
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
}

#[test]
fn pods_are_found_again() {
    let first = tree("again");
    let made = first.pod(QosClass::Guaranteed, &name("web"), &PodLimits::default()).unwrap();
    made.child("nginx", &ContainerLimits { memory_limit: Some(MIB), ..Default::default() }).unwrap();
    fs::create_dir(format!("{MOUNT}/podkeep-test-again/guaranteed/stranger")).unwrap();
    drop((first, made));

    let second = tree("again");
    let pods = second.existing_pods().unwrap();
    let [pod] = pods.as_slice() else { panic!("{pods:?}") };
    assert_eq!((pod.qos, &pod.name), (QosClass::Guaranteed, &name("web")));
    let container = pod.group.existing_child("nginx").unwrap().unwrap();
    assert_eq!(read(&container, "memory.max"), MIB.to_string());
    assert_eq!(container.oom_kills().unwrap(), 0);
    assert!(pod.group.existing_child("redis").unwrap().is_none());
    assert!(second.existing_pod(QosClass::Burstable, &name("web")).unwrap().is_none());

    pod.group.remove().unwrap();
    assert!(!second.remove_if_empty().unwrap(), "the stranger's group stays");
    let third = tree("again");
    fs::remove_dir(format!("{MOUNT}/podkeep-test-again/guaranteed/stranger")).unwrap();
    assert!(third.remove_if_empty().unwrap());
}

#[test]
fn a_delegated_group_becomes_the_root() {
    if std::env::var_os(DELEGATED).is_some() {
        return be_delegated();
    }
    require_guest();
    let service = PathBuf::from(format!("{MOUNT}/test.service"));
    fs::create_dir(&service).unwrap();
    rustix::fs::setxattr(&service, "trusted.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    fs::write(format!("{MOUNT}/cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
    // Twice: at the second start, we begin in the leaf of the first.
    for start in [service.clone(), service.join("node")] {
        let this_test = std::env::current_exe().unwrap();
        let script =
            format!("exec {} --exact a_delegated_group_becomes_the_root --nocapture", this_test.display());
        let mut podkeep = shell_in(&start, &script).env(DELEGATED, "1").spawn().unwrap();
        assert!(podkeep.wait().unwrap().success());
    }
    for left in ["node", ""] {
        fs::remove_dir(service.join(left)).unwrap();
    }
}

fn be_delegated() {
    let tree = Tree::open(None).unwrap();
    assert_eq!(tree.path(), Path::new("/test.service"));
    assert!(tree.missing_controllers().is_empty(), "{:?}", tree.missing_controllers());
    assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), "0::/test.service/node\n");
    let limits = PodLimits { pids_max: Some(7), ..Default::default() };
    let pod = tree.pod(QosClass::Guaranteed, &name("web"), &limits).unwrap();
    assert_eq!(pod.path(), Path::new("/test.service/guaranteed/default_web_01234567"));
    assert_eq!(read(&pod, "pids.max"), "7");
    pod.remove().unwrap();
    assert!(tree.remove_if_empty().unwrap());
}

fn require_guest() {
    assert!(std::env::var_os("PODKEEP_GUEST").is_some(), "run it with: scripts/vm test guest_cgroup");
}

fn tree(name: &str) -> Tree {
    require_guest();
    Tree::open(Some(&format!("/podkeep-test-{name}"))).unwrap()
}

fn name(pod: &str) -> PodCgroupName {
    let id = PodId { namespace: "default".into(), name: pod.into() };
    PodCgroupName::new(&id, &Uid::parse("0123456789abcdef0123456789abcdef").unwrap())
}

fn at(group: &Group, file: &str) -> PathBuf {
    let below_mount = group.path().strip_prefix("/").unwrap();
    Path::new(MOUNT).join(below_mount).join(file)
}

fn read(group: &Group, file: &str) -> String {
    fs::read_to_string(at(group, file)).unwrap().trim_end().to_owned()
}

fn shell_in(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("echo $$ >{}/cgroup.procs && {script}", directory.display()));
    command
}

fn run_in(group: &Group, script: &str) -> Child {
    shell_in(&at(group, ""), script).stdout(Stdio::piped()).spawn().unwrap()
}

fn wait_for_output(child: &mut Child) {
    use std::io::Read;
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
}

fn wait_until_empty(events: &OwnedFd) {
    while populated_in(events.as_fd()).unwrap() {
        poll(&mut [PollFd::new(events, PollFlags::PRI)], None).unwrap();
    }
}
