use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::*;
use crate::container::environment::{NodeFacts, Purpose, Sources, environment};
use crate::container::lsm::Lsm;
use crate::container::recipe::{Bind, IdRange, ImageConfig};
use crate::container::user::ResolvedUser;
use crate::manifest::pod::{Access, Container, EnvVar, MountPropagation, Pod, PodId, Security, Uid};

/// Everything that a recipe borrows.
pub(in crate::container) struct Ingredients {
    pub pod: Pod,
    pub image: ImageConfig,
    pub user: ResolvedUser,
    pub binds: Vec<Bind>,
    pub ids: Option<IdRange>,
    pub shm: Option<PathBuf>,
    pub lsm: Lsm,
    pub resources: LinuxResources,
    pub oom_score_adj: Option<i32>,
}

impl Ingredients {
    pub fn new() -> Ingredients {
        let pod = Pod {
            hostname: Some("web".to_owned()),
            node_name: "edge7".to_owned(),
            ..Pod::plain(
                PodId { namespace: "default".to_owned(), name: "web-edge7".to_owned() },
                Uid::parse(&"0".repeat(32)).unwrap(),
                vec![Container::plain("nginx", "nginx")],
            )
        };
        let image = ImageConfig {
            env: vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["serve".to_owned()],
            working_dir: None,
        };
        let user = ResolvedUser { uid: 0, gid: 0, additional_gids: vec![0], home: "/root".to_owned() };
        Ingredients {
            pod,
            image,
            user,
            binds: Vec::new(),
            ids: None,
            shm: None,
            lsm: Lsm::default(),
            resources: LinuxResources::default(),
            oom_score_adj: None,
        }
    }

    pub fn container(&mut self) -> &mut Container {
        &mut self.pod.containers[0]
    }

    pub fn spec(&self) -> Result<Spec, Error> {
        let container = &self.pod.containers[0];
        let sources =
            Sources { pod: &self.pod, objects: &|_| None, node: &NodeFacts::default, file: &|_| Ok(None) };
        spec(&Recipe {
            pod: &self.pod,
            container,
            environment: &environment(container, sources, Purpose::Start).unwrap(),
            image: &self.image,
            user: &self.user,
            hostname: self.pod.hostname.as_deref().unwrap_or("edge7"),
            binds: self.binds.clone(),
            open_files: None,
            cgroup: PathBuf::from("/podkeep/burstable/web/nginx"),
            resources: self.resources.clone(),
            oom_score_adj: self.oom_score_adj,
            ids: self.ids,
            shm: self.shm.clone(),
            lsm: self.lsm,
        })
    }

    fn arguments(&self) -> Vec<String> {
        self.spec().unwrap().process().clone().unwrap().args().clone().unwrap()
    }

    fn environment(&self) -> Vec<String> {
        self.spec().unwrap().process().clone().unwrap().env().clone().unwrap()
    }

    fn linux(&self) -> Linux {
        self.spec().unwrap().linux().clone().unwrap()
    }

    fn mounts(&self) -> Vec<String> {
        let spec = self.spec().unwrap();
        let line = |mount: &oci_spec::runtime::Mount| {
            let options = mount.options().clone().unwrap_or_default().join(",");
            format!("{} {} {options}", mount.destination().display(), mount.typ().as_deref().unwrap_or("-"))
        };
        spec.mounts().iter().flatten().map(line).collect()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn command_and_args_follow_kubernetes_rules() {
    let cases = [
        ("", "", "/entry serve"),
        ("", "a b", "/entry a b"),
        ("cmd x", "", "cmd x"),
        ("cmd x", "a b", "cmd x a b"),
    ];
    for (command, args, wanted) in cases {
        let mut ingredients = Ingredients::new();
        ingredients.container().command = words(command);
        ingredients.container().args = words(args);
        assert_eq!(ingredients.arguments(), words(wanted), "command `{command}`, args `{args}`");
    }
}

#[test]
fn nothing_to_run_is_an_error() {
    let mut ingredients = Ingredients::new();
    ingredients.image = ImageConfig::default();
    assert!(matches!(ingredients.spec(), Err(Error::NothingToRun)));
}

#[test]
fn variables_are_expanded_in_what_the_manifest_says_only() {
    let mut ingredients = Ingredients::new();
    ingredients.image.entrypoint = words("/entry-$(A)");
    ingredients.container().args = words("$(A) $(LANG) $$(A)");
    ingredients.container().env = vec![EnvVar::text("A", "1")];
    assert_eq!(ingredients.arguments(), words("/entry-$(A) 1 $(LANG) $(A)"));
}

#[test]
fn the_manifests_variables_count_more_than_the_images() {
    let mut ingredients = Ingredients::new();
    ingredients.container().env = vec![EnvVar::text("A", "1"), EnvVar::text("LANG", "en")];
    let expected = ["PATH=/bin", "LANG=en", "HOSTNAME=web", "A=1", "HOME=/root"];
    assert_eq!(ingredients.environment(), expected);
}

#[test]
fn path_and_home_are_set_where_nobody_does() {
    let mut ingredients = Ingredients::new();
    ingredients.image.env = Vec::new();
    let path = format!("PATH={DEFAULT_PATH}");
    assert_eq!(ingredients.environment(), [path.as_str(), "HOSTNAME=web", "HOME=/root"]);

    ingredients.image.env = words("HOME=/image HOSTNAME=image FLAG");
    ingredients.container().env = vec![EnvVar::text("HOSTNAME", "mine")];
    assert_eq!(ingredients.environment(), [path.as_str(), "HOME=/image", "HOSTNAME=mine", "FLAG="]);
}

#[test]
fn the_working_directory_is_the_manifests_else_the_images_else_the_root() {
    let cases = [
        (None, None, "/"),
        (None, Some(""), "/"),
        (None, Some("app"), "/app"),
        (None, Some("/app"), "/app"),
        (Some("/mine"), Some("/app"), "/mine"),
        (Some(""), Some("/app"), "/app"),
    ];
    for (manifest, image, wanted) in cases {
        let mut ingredients = Ingredients::new();
        ingredients.container().working_dir = manifest.map(str::to_owned);
        ingredients.image.working_dir = image.map(str::to_owned);
        let spec = ingredients.spec().unwrap();
        let cwd = spec.process().as_ref().unwrap().cwd().clone();
        assert_eq!(cwd, PathBuf::from(wanted), "{manifest:?} {image:?}");
    }
}

fn bind(destination: &str, read_only: bool) -> Bind {
    Bind {
        access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
        ..Bind::new("/volume", destination)
    }
}

#[test]
fn binds_come_after_what_they_lie_in() {
    let mut ingredients = Ingredients::new();
    ingredients.binds = vec![bind("/a/b/c/d", true), bind("/a", false), bind("/dev/shm", false)];
    assert_eq!(
        ingredients.mounts(),
        [
            "/proc proc nosuid,noexec,nodev",
            "/dev tmpfs nosuid,strictatime,mode=755,size=65536k",
            "/sys sysfs nosuid,noexec,nodev,ro",
            "/a bind rbind,rprivate",
            "/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            "/dev/mqueue mqueue nosuid,noexec,nodev",
            "/dev/shm bind rbind,rprivate",
            "/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,ro",
            "/a/b/c/d bind rbind,rprivate,ro",
        ]
    );
}

#[test]
fn a_bind_says_what_may_be_done_and_seen_through_it() {
    let options = |access, propagation| {
        let mut ingredients = Ingredients::new();
        ingredients.binds = vec![Bind { access, propagation, ..bind("/a", false) }];
        ingredients
            .mounts()
            .into_iter()
            .find_map(|line| Some(line.strip_prefix("/a bind ")?.to_owned()))
            .unwrap()
    };
    use MountPropagation::{Bidirectional, HostToContainer, None};
    assert_eq!(options(Access::ReadWrite, Bidirectional), "rbind,rshared");
    assert_eq!(options(Access::ReadOnly, HostToContainer), "rbind,rslave,ro");
    assert_eq!(options(Access::RecursiveReadOnly, None), "rbind,rprivate,rro");
}

/// The container's cgroup would be mounted over the host's tree, on the host.
#[test]
fn nothing_is_mounted_in_a_volume_that_the_host_sees() {
    let mut ingredients = Ingredients::new();
    let propagation = MountPropagation::Bidirectional;
    ingredients.binds = vec![Bind { propagation, ..bind("/sys", false) }, bind("/deep/er", false)];
    assert_eq!(ingredients.mounts().last().unwrap(), "/sys bind rbind,rshared");
}

#[test]
fn the_hosts_dev_replaces_ours_with_all_in_it() {
    let mut ingredients = Ingredients::new();
    ingredients.binds = vec![bind("/dev", false)];
    let mounts = ingredients.mounts();
    let below: Vec<&String> = mounts.iter().filter(|mount| mount.starts_with("/dev")).collect();
    assert_eq!(below, ["/dev bind rbind,rprivate"]);
}

#[test]
fn a_privileged_container_is_not_restrained() {
    let mut ingredients = Ingredients::new();
    let plain = ingredients.linux();
    assert!(plain.masked_paths().as_ref().unwrap().contains(&"/proc/kcore".to_owned()));
    assert_eq!(plain.readonly_paths().as_ref().unwrap().len(), 5);
    assert_eq!(plain.devices(), &None);

    ingredients.container().security.privileged = true;
    let privileged = ingredients.linux();
    assert_eq!((privileged.masked_paths(), privileged.readonly_paths()), (&None, &None));
    assert!(!privileged.devices().as_ref().unwrap().is_empty());
    let mounts = ingredients.mounts();
    assert!(mounts.contains(&"/sys sysfs nosuid,noexec,nodev,rw".to_owned()), "{mounts:?}");
}

#[test]
fn a_pod_on_the_hosts_network_has_the_hosts_name() {
    let mut ingredients = Ingredients::new();
    ingredients.pod.host_network = true;
    ingredients.pod.hostname = None;
    assert!(ingredients.environment().contains(&"HOSTNAME=edge7".to_owned()));
}

mod security;
