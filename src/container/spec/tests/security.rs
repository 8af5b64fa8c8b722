//! What `securityContext` and the Pod's namespaces become.

use oci_spec::runtime::{LinuxMemory, Process};

use super::*;
use crate::manifest::pod::{AppArmorProfile, SeLinuxOptions, SupplementalGroupsPolicy, Sysctl};

const IDS: IdRange = IdRange { first: 131_072, size: 65_536 };

impl Ingredients {
    fn process(&self) -> Process {
        self.spec().unwrap().process().clone().unwrap()
    }

    fn groups(&self) -> Vec<u32> {
        self.process().user().additional_gids().clone().unwrap()
    }

    fn kinds(&self) -> String {
        let namespaces = self.linux().namespaces().clone().unwrap();
        let kinds: Vec<String> = namespaces.iter().map(|namespace| namespace.typ().to_string()).collect();
        kinds.join(" ")
    }
}

#[test]
fn namespaces_are_the_containers_unless_the_pod_is_in_the_hosts() {
    type Change = fn(&mut Pod);
    let cases: [(Change, &str); 7] = [
        (|_| {}, "mnt pid cgroup ipc uts net"),
        (|pod| pod.host_network = true, "mnt pid cgroup ipc uts"),
        (|pod| pod.hostname = None, "mnt pid cgroup ipc net"),
        (|pod| pod.host_pid = true, "mnt cgroup ipc uts net"),
        (|pod| pod.host_ipc = true, "mnt pid cgroup uts net"),
        (|pod| pod.share_process_namespace = true, "mnt pid cgroup ipc uts net"),
        (|pod| pod.host_users = false, "user mnt pid cgroup ipc uts net"),
    ];
    for (change, kinds) in cases {
        let mut ingredients = Ingredients::new();
        ingredients.ids = Some(IDS);
        change(&mut ingredients.pod);
        assert_eq!(ingredients.kinds(), kinds);
    }
}

#[test]
fn ids_are_mapped_only_in_a_user_namespace() {
    let mut ingredients = Ingredients::new();
    ingredients.ids = Some(IDS);
    assert_eq!(ingredients.linux().uid_mappings(), &None);

    ingredients.pod.host_users = false;
    let linux = ingredients.linux();
    let mapping = linux.uid_mappings().as_ref().unwrap()[0];
    assert_eq!((mapping.container_id(), mapping.host_id(), mapping.size()), (0, 131_072, 65_536));
    assert_eq!(linux.gid_mappings(), linux.uid_mappings());
}

#[test]
fn a_pod_without_its_range_of_ids_is_not_put_among_the_hosts() {
    let mut ingredients = Ingredients::new();
    ingredients.pod.host_users = false;
    assert!(matches!(ingredients.spec(), Err(Error::NoIds)));
}

#[test]
fn an_id_beyond_the_range_is_named() {
    let with = |change: fn(&mut Ingredients)| {
        let mut ingredients = Ingredients::new();
        ingredients.pod.host_users = false;
        ingredients.ids = Some(IDS);
        change(&mut ingredients);
        ingredients.spec().map_err(|error| error.to_string())
    };
    assert!(with(|i| i.user.uid = 65_535).is_ok());
    let error = with(|i| i.user.uid = 65_536).unwrap_err();
    assert!(error.starts_with("the user 65536 does not exist"), "{error}");
    let error = with(|i| i.pod.fs_group = Some(70_000)).unwrap_err();
    assert!(error.starts_with("the group 70000 does not exist"), "{error}");
}

#[test]
fn the_pods_groups_follow_those_of_the_image() {
    let mut ingredients = Ingredients::new();
    ingredients.user.additional_gids = vec![33, 4, 9];
    ingredients.pod.supplemental_groups = vec![100, 4, 50];
    ingredients.pod.fs_group = Some(7);
    assert_eq!(ingredients.groups(), [33, 4, 9, 100, 50, 7]);

    ingredients.pod.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
    assert_eq!(ingredients.groups(), [33, 100, 4, 50, 7]);
}

#[test]
fn only_a_plain_no_forbids_new_privileges() {
    for (allowed, forbidden) in [(None, false), (Some(true), false), (Some(false), true)] {
        let mut ingredients = Ingredients::new();
        ingredients.container().security.allow_privilege_escalation = allowed;
        assert_eq!(ingredients.process().no_new_privileges(), Some(forbidden), "{allowed:?}");
    }
}

#[test]
fn an_unmasked_proc_hides_nothing() {
    let mut ingredients = Ingredients::new();
    ingredients.pod.host_users = false;
    ingredients.ids = Some(IDS);
    assert!(ingredients.linux().masked_paths().is_some());
    ingredients.container().security.proc_mount = ProcMount::Unmasked;
    let linux = ingredients.linux();
    assert_eq!((linux.masked_paths(), linux.readonly_paths()), (&None, &None));
    assert!(ingredients.mounts().contains(&"/sys sysfs nosuid,noexec,nodev,ro".to_owned()));
}

#[test]
fn labels_and_profiles_are_for_hosts_that_heed_them() {
    let mut ingredients = Ingredients::new();
    let security = &mut ingredients.container().security;
    security.apparmor = Some(AppArmorProfile::Localhost("tight".to_owned()));
    security.selinux = Some(SeLinuxOptions { level: Some("s0:c1".to_owned()), ..SeLinuxOptions::default() });
    let (process, linux) = (ingredients.process(), ingredients.linux());
    let labels = (process.apparmor_profile(), process.selinux_label(), linux.mount_label());
    assert_eq!(labels, (&None, &None, &None));

    ingredients.lsm = Lsm { apparmor: true, selinux: true };
    let process = ingredients.process();
    assert_eq!(process.apparmor_profile().as_deref(), Some("tight"));
    assert_eq!(process.selinux_label().as_deref(), Some("system_u:system_r:container_t:s0:c1"));
    let label = ingredients.linux().mount_label().clone();
    assert_eq!(label.as_deref(), Some("system_u:object_r:container_file_t:s0:c1"));

    ingredients.container().security = Security::default();
    assert_eq!((ingredients.process().selinux_label(), ingredients.linux().mount_label()), (&None, &None));
}

#[test]
fn sysctls_and_the_oom_score_are_handed_on() {
    let mut ingredients = Ingredients::new();
    assert_eq!(ingredients.linux().sysctl(), &None);
    let sysctl = Sysctl { name: "net.ipv4.conf.eth0/1.mtu".to_owned(), value: "9000".to_owned() };
    ingredients.pod.sysctls = vec![sysctl];
    let sysctls = ingredients.linux().sysctl().clone().unwrap();
    assert_eq!(sysctls.get("net.ipv4.conf.eth0/1.mtu").map(String::as_str), Some("9000"));
    assert_eq!(ingredients.process().oom_score_adj(), None);
    ingredients.oom_score_adj = Some(-997);
    assert_eq!(ingredients.process().oom_score_adj(), Some(-997));
}

#[test]
fn limits_stay_when_the_rules_for_devices_are_added() {
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(1 << 20));
    let mut ingredients = Ingredients::new();
    ingredients.resources.set_memory(Some(memory));
    for privileged in [false, true] {
        ingredients.container().security.privileged = privileged;
        let resources = ingredients.linux().resources().clone().unwrap();
        assert_eq!(resources.memory(), &Some(memory), "privileged: {privileged}");
        assert_eq!(resources.devices().is_none(), privileged);
    }
}

#[test]
fn shared_memory_is_the_pods_or_the_hosts() {
    let source = |ingredients: &Ingredients| {
        let spec = ingredients.spec().unwrap();
        let all = spec.mounts().clone().unwrap_or_default();
        let found: Vec<_> = all.iter().filter(|mount| mount.destination().ends_with("shm")).collect();
        assert_eq!(found.len(), 1);
        (found[0].typ().clone().unwrap(), found[0].source().clone().unwrap())
    };
    let mut ingredients = Ingredients::new();
    assert_eq!(source(&ingredients), ("tmpfs".to_owned(), "shm".into()));
    ingredients.shm = Some("/pods/shm".into());
    assert_eq!(source(&ingredients), ("bind".to_owned(), "/pods/shm".into()));
    ingredients.pod.host_ipc = true;
    assert_eq!(source(&ingredients), ("bind".to_owned(), "/dev/shm".into()));
    ingredients.binds = vec![bind("/dev/shm", false)];
    assert_eq!(source(&ingredients), ("bind".to_owned(), "/volume".into()), "a volume there wins");
}

#[test]
fn a_hundred_thousand_variables_are_taken_in_at_once() {
    let mut ingredients = Ingredients::new();
    ingredients.image.env = (0..100_000).map(|n| format!("IMAGE_{n}={n}")).collect();
    ingredients.container().env =
        (0..100_000).map(|n| EnvVar::text(&format!("V{n}"), &format!("$(V{})", n / 2))).collect();
    let environment = ingredients.environment();
    assert_eq!(environment.len(), 200_003);
    assert_eq!(environment[100_002], "V0=$(V0)");
}
