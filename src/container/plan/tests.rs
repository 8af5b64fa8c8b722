use std::fs::File;

use nix::errno::Errno;

use oci_spec::runtime::{LinuxDeviceBuilder, LinuxDeviceType, PosixRlimitBuilder, PosixRlimitType, User};

use super::*;
use crate::container::namespaces::Namespaces;
use crate::container::recipe::Bind;
use crate::container::spec::tests::Ingredients;
use crate::container::sub_path::SubPath;
use crate::container::{About, StartError};
use crate::manifest::pod::{Access, MountPropagation};

fn root() -> Overlay {
    Overlay {
        layers_dir: "/var/lib/podkeep/layers".into(),
        lower: vec!["a".to_owned(), "b".to_owned()],
        upper: "/pod/upper".into(),
        work: "/pod/work".into(),
        mount_at: "/pod/root".into(),
        volumes: Vec::new(),
    }
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn planned(spec: &Spec, root: &Overlay) -> Result<Plan, PlanError> {
    let namespaces = Namespaces { net: Some(null()), ipc: Some(null()), ..Namespaces::default() };
    let stdio = Stdio::Streams { stdin: None, stdout: null(), stderr: null() };
    plan(spec, Setting::new(Root::Overlay(root.clone()), namespaces, stdio))
}

fn spec_of(ingredients: &Ingredients) -> Spec {
    let mut spec = ingredients.spec().unwrap();
    spec.linux_mut().as_mut().unwrap().set_seccomp(Some((*seccomp::default_profile(0)).clone()));
    spec
}

fn plan_of(ingredients: &Ingredients) -> Plan {
    planned(&spec_of(ingredients), &root()).unwrap()
}

/// Where the first step that begins so stands.
fn place(plan: &Plan, step: &str) -> usize {
    let found = plan.steps.iter().position(|candidate| candidate.to_string().starts_with(step));
    found.unwrap_or_else(|| panic!("no `{step}` in:\n{plan}"))
}

#[test]
fn a_plain_container_takes_these_steps() {
    let mut ingredients = Ingredients::new();
    ingredients.binds = vec![Bind { access: Access::ReadOnly, ..Bind::new("/volume", "/data") }];
    ingredients.container().security.read_only_root = true;
    let printed = plan_of(&ingredients).to_string();
    let lines: Vec<&str> = printed.lines().filter(|line| !line.contains("thermal_throttle")).collect();
    assert_eq!(
        lines,
        [
            "reset signals",
            "join the ipc namespace",
            "join the net namespace",
            "start a session",
            "set the host name web",
            "make a cgroup namespace",
            "redirect stdout",
            "redirect stderr",
            "set umask 0022",
            "make all mounts private",
            "open /volume",
            "mount overlay on /pod/root",
            "open the root /pod/root",
            "mount proc on /proc",
            "mount tmpfs on /dev",
            "open /dev in the container",
            "make device null",
            "make device zero",
            "make device full",
            "make device random",
            "make device urandom",
            "make device tty",
            "link /dev/fd to /proc/self/fd",
            "link /dev/stdin to /proc/self/fd/0",
            "link /dev/stdout to /proc/self/fd/1",
            "link /dev/stderr to /proc/self/fd/2",
            "link /dev/core to /proc/kcore",
            "link /dev/ptmx to pts/ptmx",
            "mount sysfs on /sys",
            "bind /volume to /data",
            "mount devpts on /dev/pts",
            "mount tmpfs on /dev/shm",
            "mount mqueue on /dev/mqueue",
            "mount cgroup2 on /sys/fs/cgroup",
            "open /dev/null as stdin",
            "pivot root",
            "make working directory /",
            "make /proc/bus read-only",
            "make /proc/fs read-only",
            "make /proc/irq read-only",
            "make /proc/sys read-only",
            "make /proc/sysrq-trigger read-only",
            "mask /proc/asound",
            "mask /proc/acpi",
            "mask /proc/interrupts",
            "mask /proc/kcore",
            "mask /proc/keys",
            "mask /proc/latency_stats",
            "mask /proc/timer_list",
            "mask /proc/timer_stats",
            "mask /proc/sched_debug",
            "mask /proc/scsi",
            "mask /sys/firmware",
            "mask /sys/devices/virtual/powercap",
            "make the root read-only",
            "close all other descriptors",
            "enter working directory /",
            "install the seccomp filter",
            "bound capabilities to 0xa80425fb",
            "set groups [0]",
            "set gid 0",
            "set uid 0",
            "set capabilities 0xa80425fb",
            "enter working directory /",
            "verify that the working directory is inside the root",
            "execute /entry",
        ]
    );
}

#[test]
fn mounts_carry_their_options_and_attributes() {
    let plan = plan_of(&Ingredients::new());
    let Step::Mount { options, change, slot, .. } = &plan.steps[place(&plan, "mount tmpfs on /dev/shm")]
    else {
        panic!("no mount");
    };
    let option = |name: &str, value: &str| {
        crate::sys::step::MountOption::Value(
            std::ffi::CString::new(name).unwrap(),
            std::ffi::CString::new(value).unwrap(),
        )
    };
    assert_eq!(options, &[option("mode", "1777"), option("size", "65536k"), option("source", "shm")]);
    assert_eq!((change.set, *slot), (0x2 | 0x4 | 0x8, None));
}

#[test]
fn layers_are_named_from_the_top_down() {
    let plan = plan_of(&Ingredients::new());
    let Step::MountRoot { layers_dir, options, .. } = &plan.steps[place(&plan, "mount overlay")] else {
        panic!("no root");
    };
    assert_eq!(layers_dir.to_str(), Ok("/var/lib/podkeep/layers"));
    assert_eq!(options.to_str(), Ok("lowerdir=b:a,upperdir=/pod/upper,workdir=/pod/work,index=off,volatile"));
}

#[test]
fn a_root_that_overlay_cannot_take_is_refused() {
    let spec = Ingredients::new().spec().unwrap();
    let with = |change: fn(&mut Overlay)| {
        let mut root = root();
        change(&mut root);
        planned(&spec, &root).unwrap_err().to_string()
    };
    assert_eq!(with(|root| root.lower.clear()), "the image has no layers");
    assert!(with(|root| root.lower[0] = "a:b".to_owned()).contains("a:b"));
    assert!(with(|root| root.upper = "/a,b".into()).contains("/a,b"));
    assert_eq!(with(|root| root.work = "work".into()), "work directory work is not absolute");
    let many = with(|root| root.lower = vec!["0123456789".to_owned(); 400]);
    assert_eq!(many, "400 layers need 4465 bytes of mount options, the kernel takes 4095");
}

#[test]
fn without_new_privileges_the_filter_comes_last() {
    let mut spec = spec_of(&Ingredients::new());
    let process = spec.process_mut().as_mut().unwrap();
    process.set_no_new_privileges(Some(true));
    let plan = planned(&spec, &root()).unwrap();
    let filter = place(&plan, "install the seccomp filter");
    assert!(place(&plan, "forbid new privileges") < filter);
    assert_eq!(filter, plan.steps.len() - 2);
}

#[test]
fn a_name_is_looked_for_in_the_containers_path() {
    let candidates = |command: &str, path: &str| {
        let mut ingredients = Ingredients::new();
        ingredients.container().command = vec![command.to_owned()];
        ingredients.image.env = vec![format!("PATH={path}")];
        let plan = plan_of(&ingredients);
        let Some(Step::Execute { candidates, .. }) = plan.steps.last() else { panic!("no execute") };
        candidates.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(candidates("run", "/a:/b/::/"), ["/a/run", "/b/run", "/run"]);
    assert_eq!(candidates("./run", "/a"), ["./run"]);
    assert!(candidates("", "/a").is_empty());
}

#[test]
fn the_devices_of_a_spec_replace_the_defaults_of_their_name() {
    let mut ingredients = Ingredients::new();
    ingredients.container().security.privileged = true;
    let plan = plan_of(&ingredients);
    let nulls = plan.steps.iter().filter(|step| step.to_string() == "make device null").count();
    assert_eq!(nulls, 1);
}

#[test]
fn a_mount_in_place_of_the_root_and_a_zero_byte_are_refused() {
    let refused = |change: fn(&mut Ingredients)| {
        let mut ingredients = Ingredients::new();
        change(&mut ingredients);
        planned(&ingredients.spec().unwrap(), &root()).unwrap_err()
    };
    let bind = |destination: &str| vec![Bind::new("/volume", destination)];
    let mut ingredients = Ingredients::new();
    ingredients.binds = bind("/");
    let error = planned(&ingredients.spec().unwrap(), &root()).unwrap_err();
    assert!(matches!(error, PlanError::MountOnRoot));
    let error = refused(|ingredients| ingredients.container().command = vec!["a\0b".to_owned()]);
    assert_eq!(error.to_string(), r"command `/bin/a\u{0}b` holds a zero byte");
}

/// 4294967295 means "no change" to the kernel: the process would have stayed root.
#[test]
fn an_id_past_the_largest_makes_no_plan() {
    type Set = fn(&mut User, u32);
    for id in [1 << 31, u32::MAX - 1, u32::MAX] {
        let set: [(&str, Set); 3] = [
            ("process.user.uid", |user, id| _ = user.set_uid(id)),
            ("process.user.gid", |user, id| _ = user.set_gid(id)),
            ("process.user.additionalGids", |user, id| _ = user.set_additional_gids(Some(vec![0, id]))),
        ];
        for (field, set) in set {
            let mut spec = spec_of(&Ingredients::new());
            let mut process = spec.process().clone().unwrap();
            set(process.user_mut(), id);
            let target = Target::new(null(), &spec).unwrap();
            let setting =
                ExecSetting { stdio: Stdio::Inherit, preserve_fds: 0, keyring: None, adopt_orphans: false };
            let exec = exec_plan(&process, &target, setting).unwrap_err().to_string();
            spec.set_process(Some(process));
            let first = planned(&spec, &root()).unwrap_err().to_string();
            assert_eq!(
                (exec, first),
                (format!("{field} is out of range"), format!("{field} is out of range"))
            );
        }
    }
}

#[test]
fn two_limits_of_one_kind_make_no_plan() {
    let mut spec = spec_of(&Ingredients::new());
    let limit =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitCore).soft(0u64).hard(0u64).build().unwrap();
    spec.process_mut().as_mut().unwrap().set_rlimits(Some(vec![limit, limit]));
    assert_eq!(
        planned(&spec, &root()).unwrap_err().to_string(),
        "process.rlimits has two limits of RLIMIT_CORE"
    );
}

#[test]
fn a_device_may_lie_anywhere_in_the_container() {
    let mut spec = spec_of(&Ingredients::new());
    let device = |path: &str| {
        LinuxDeviceBuilder::default().path(path).typ(LinuxDeviceType::C).major(1).minor(3).build().unwrap()
    };
    spec.linux_mut().as_mut().unwrap().set_devices(Some(vec![device("/x/y/null")]));
    let plan = planned(&spec, &root()).unwrap();
    let opened = place(&plan, "open /x/y in the container");
    assert!(matches!(&plan.steps[opened + 1], Step::MakeNode { path, .. } if path.as_c_str() == c"null"));
    assert!(place(&plan, "mount mqueue") < opened, "a mount would hide it");
    spec.linux_mut().as_mut().unwrap().set_devices(Some(vec![device("/x/../../null")]));
    assert!(planned(&spec, &root()).unwrap_err().to_string().contains("not a plain path"));
}

#[test]
fn plans_share_what_is_compiled() {
    let spec = Ingredients::new().spec().unwrap();
    assert!(spec.linux().as_ref().unwrap().seccomp().is_none(), "nothing is copied");
    let filter_of = |_| {
        let stdio = Stdio::Streams { stdin: None, stdout: null(), stderr: null() };
        let mut setting = Setting::new(Root::Overlay(root()), Namespaces::default(), stdio);
        setting.seccomp = Some(seccomp::default_program(0));
        let plan = plan(&spec, setting).unwrap();
        assert_eq!(plan.seccomp(), Some(seccomp::default_program(0).digest()));
        let Step::InstallSeccomp(filter) = &plan.steps[place(&plan, "install the seccomp filter")] else {
            panic!()
        };
        Arc::clone(filter)
    };
    let [first, second] = [1, 2].map(filter_of);
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn a_failed_step_becomes_a_sentence() {
    let plan = plan_of(&Ingredients::new());
    let sentence = |step: &str, errno| plan.explain(place(&plan, step) as u32, errno as i32).to_string();
    assert_eq!(sentence("mount proc", Errno::EPERM), "mount proc on /proc: EPERM");
    assert_eq!(
        sentence("pivot root", Errno::EINVAL),
        "pivot root: EINVAL (is the host's root an initramfs? it cannot be pivoted: switch to a disk or a tmpfs first)"
    );
    assert_eq!(
        sentence("mount tmpfs on /dev", Errno::ELOOP),
        "mount tmpfs on /dev: ELOOP (the image has a symbolic link there)"
    );
    let missing = sentence("execute", Errno::ENOENT);
    // podman and others look for the kernel's words.
    assert!(missing.starts_with("execute /entry: ENOENT (no such file or directory"), "{missing}");
    assert_eq!(plan.explain(100_000, 1), crate::container::StartError::UnknownStep(100_000));
}

#[test]
fn an_image_volume_is_opened_before_the_root_and_bound_below_it() {
    let mut ingredients = Ingredients::new();
    ingredients.binds =
        vec![Bind { access: Access::ReadOnly, ..Bind::new("/var/lib/podkeep/layers", "/data") }];
    let volume = ImageVolume { destination: "/data".into(), lower: vec!["c".to_owned(), "d".to_owned()] };
    let root = Overlay { volumes: vec![volume], ..root() };
    let plan = planned(&spec_of(&ingredients), &root).unwrap();
    let open = place(&plan, "open the image volume lowerdir=d:c:/pod/root");
    let bind = place(&plan, "bind /var/lib/podkeep/layers to /data");
    assert!(place(&plan, "make all mounts private") < open, "the host sees nothing of it:\n{plan}");
    assert!(open < place(&plan, "mount overlay on /pod/root") && open < bind, "{plan}");
    assert!(bind < place(&plan, "pivot root"), "{plan}");
    let opened = plan.steps.iter().filter(|step| step.to_string().starts_with("open /var/lib"));
    assert_eq!(opened.count(), 0, "not what the `Spec` names as its source:\n{plan}");
}

#[test]
fn an_image_volume_is_mapped_with_the_layers_of_the_root() {
    let mut ingredients = Ingredients::new();
    ingredients.binds = vec![Bind { access: Access::ReadOnly, ..Bind::new("/layers", "/data") }];
    let volume = ImageVolume { destination: "/data".into(), lower: vec!["c".to_owned()] };
    let root = Overlay { volumes: vec![volume], ..root() };
    let namespaces = Namespaces { user: Some(null()), ..Namespaces::default() };
    let stdio = Stdio::Streams { stdin: None, stdout: null(), stderr: null() };
    let setting = Setting::new(Root::Overlay(root), namespaces, stdio);
    let plan = plan(&spec_of(&ingredients), setting).unwrap();
    let open = place(&plan, "open the image volume lowerdir=c:/pod/root");
    assert!(place(&plan, "map the owners of") < open, "{plan}");
    assert!(open < place(&plan, "mount overlay on /pod/root"), "{plan}");
    assert!(open < place(&plan, "enter /pod/root"), "it leaves the working directory elsewhere:\n{plan}");
}

#[test]
fn a_sub_path_is_opened_below_its_volume_and_what_it_lacks_is_a_sentence() {
    let mut ingredients = Ingredients::new();
    ingredients.binds = vec![Bind::new("/volume/a/b/c", "/data"), Bind::new("/volume", "/all")];
    let part = |path: &str| SubPath {
        destination: "/data".into(),
        volume: "/volume".into(),
        path: path.to_owned(),
        owner: None,
    };
    let with = |root: Overlay| {
        let namespaces = Namespaces { net: Some(null()), ipc: Some(null()), ..Namespaces::default() };
        let stdio = Stdio::Streams { stdin: None, stdout: null(), stderr: null() };
        let setting = Setting::new(Root::Overlay(root), namespaces, stdio);
        plan(&spec_of(&ingredients), Setting { sub_paths: vec![part("a/b/c")], ..setting }).unwrap()
    };
    let made = with(root());
    let open = place(&made, "open a/b/c in the volume /volume");
    let Step::OpenSource { below: Some(below), .. } = &made.steps[open] else { panic!("{made}") };
    assert_eq!(below.prefixes, [c"a", c"a/b", c"a/b/c"].map(ToOwned::to_owned));
    assert!(
        place(&made, "open /volume") > open && place(&made, "bind /volume/a/b/c to /data") > open,
        "{made}"
    );
    for (errno, hint) in [
        (Errno::EXDEV, "a symbolic link there is absolute or leads out of the volume"),
        (Errno::ENOENT, "there is no such file or folder in the volume"),
    ] {
        let error = made.explain(open as u32, errno as i32);
        assert!(matches!(error, StartError::Step { about: About::SubPath, .. }));
        let sentence = error.to_string();
        assert!(
            sentence.starts_with(&format!("open a/b/c in the volume /volume: {errno:?} ({hint}")),
            "{sentence}"
        );
    }
    let volumes = vec![ImageVolume { destination: "/data".into(), lower: vec!["c".to_owned()] }];
    place(&with(Overlay { volumes, ..root() }), "open a/b/c in the image volume lowerdir=c:/pod/root");
}

#[test]
fn a_volume_that_sees_the_hosts_mounts_makes_the_others_slaves_not_private() {
    let with = |propagation, user: Option<OwnedFd>| {
        let mut ingredients = Ingredients::new();
        ingredients.binds = vec![Bind { propagation, ..Bind::new("/volume", "/data") }];
        let namespaces = Namespaces { user, ..Namespaces::default() };
        let stdio = Stdio::Streams { stdin: None, stdout: null(), stderr: null() };
        plan(&spec_of(&ingredients), Setting::new(Root::Overlay(root()), namespaces, stdio)).unwrap()
    };
    let plan = with(MountPropagation::HostToContainer, None);
    assert!(place(&plan, "make all mounts slave") < place(&plan, "open /volume"), "{plan}");
    let plan = with(MountPropagation::HostToContainer, Some(null()));
    assert!(place(&plan, "make all mounts slave") < place(&plan, "open /volume"), "{plan}");
    assert!(!plan.to_string().contains("make all mounts private"), "{plan}");
    // Before they are cut off: it stays the host's peer.
    let plan = with(MountPropagation::Bidirectional, None);
    assert!(place(&plan, "open /volume") < place(&plan, "make all mounts private"), "{plan}");
}
