//! The folders of a node under test, and what a user does with them.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::mount::{UnmountFlags, unmount};

use super::{NODE_NAME, census, wait_until};

/// A disk: what podkeep keeps has to survive a reboot, and tmpfs of 6.1 has no user attributes.
const ON_DISK: &str = "/var/tmp";
/// The cgroup under which podkeep puts everything.
const CGROUP_ROOT: &str = "/sys/fs/cgroup/podkeep";

/// How a node is started.
#[derive(Debug)]
pub struct Options {
    /// Sample images that lie in its image folder: names as in `rootfs-fixtures/`.
    pub images: Vec<&'static str>,
    /// Lines of the KubeletConfiguration, beside `podLogsDir`.
    pub config: &'static str,
    /// Folders that are found again after a reboot; others have names of chance and are removed in the end.
    pub at: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options { images: vec!["busybox"], config: "", at: None }
    }
}

/// A node's folders.
pub struct Site {
    base: PathBuf,
    /// Removes the folders.
    _temporary: Option<tempfile::TempDir>,
}

impl Site {
    pub fn new(options: Options) -> Site {
        assert_eq!(
            std::env::var("PODKEEP_GUEST").as_deref(),
            Ok("1"),
            "not in the guest: use `scripts/vm test`"
        );
        fs::create_dir_all(ON_DISK).unwrap();
        let temporary = options
            .at
            .is_none()
            .then(|| tempfile::Builder::new().prefix("node-").tempdir_in(ON_DISK).unwrap());
        let base = options.at.unwrap_or_else(|| temporary.as_ref().expect("made just now").path().to_owned());
        let site = Site { base, _temporary: temporary };
        for dir in [site.manifests(), site.images(), site.aside()] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).unwrap();
        }
        site.configure(options.config);
        options.images.iter().for_each(|name| site.add_image(name));
        site
    }

    /// Writes the configuration file.
    pub fn configure(&self, lines: &str) {
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\npodLogsDir: {}\n\
             cniConfDir: {}\n{lines}",
            self.logs().display(),
            self.cni().display()
        );
        fs::write(self.base.join("config.yaml"), text).unwrap();
    }

    /// The folder of all of it.
    pub fn base(&self) -> &Path {
        &self.base
    }

    pub fn manifests(&self) -> PathBuf {
        self.base.join("manifests")
    }

    pub fn images(&self) -> PathBuf {
        self.base.join("images")
    }

    /// `cniConfDir`: not the machine's, where podman has left a network.
    pub fn cni(&self) -> PathBuf {
        self.base.join("net.d")
    }

    /// `--root-dir`
    pub fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    /// `--run-dir`
    pub fn run(&self) -> PathBuf {
        self.base.join("run")
    }

    pub fn logs(&self) -> PathBuf {
        self.base.join("logs")
    }

    /// On the same file system as all others, so that what is written there can be renamed into them.
    fn aside(&self) -> PathBuf {
        self.base.join("aside")
    }

    /// `--hosts-dir`
    fn hosts(&self) -> PathBuf {
        self.base.join("certs.d")
    }

    /// Lets the node trust a registry whose certificate is of this authority.
    pub fn trust(&self, registry: &str, authority: &Path) {
        let folder = self.hosts().join(registry);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), format!("ca = \"{}\"\n", authority.display())).unwrap();
    }

    /// What `podkeep run` wrote to its stderr, over all its lives.
    pub fn node_log(&self) -> PathBuf {
        self.base.join("node.log")
    }

    pub fn node_log_text(&self) -> String {
        fs::read_to_string(self.node_log()).unwrap_or_default()
    }

    /// The arguments after `podkeep run`.
    pub fn run_args(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_str().expect("named by us").to_owned();
        let pairs = [
            ("--pod-manifest-path", path(self.manifests())),
            ("--image-dir", path(self.images())),
            ("--config", path(self.base.join("config.yaml"))),
            ("--hosts-dir", path(self.hosts())),
            ("--hostname-override", NODE_NAME.to_owned()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// The command line, for this node.
    pub fn podkeep(&self) -> Command {
        let mut command = Command::new(std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it"));
        command.arg("--root-dir").arg(self.root()).arg("--run-dir").arg(self.run());
        command
    }

    /// What `podkeep ARGS` prints; panics unless it succeeds.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.try_ask(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podkeep {args:?}: {}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn try_ask(&self, args: &[&str]) -> Output {
        self.podkeep().args(args).output().unwrap()
    }

    /// Puts a manifest in place in one step, as editors and deployment tools do.
    pub fn manifest(&self, name: &str, text: &str) {
        let aside = self.aside().join(name);
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, self.manifests().join(name)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// Drops a sample image into the image folder.
    pub fn add_image(&self, name: &str) {
        let source = sample_image(name);
        let target = source.file_name().expect("a file");
        let aside = self.aside().join(target);
        copy(&source, &aside);
        fs::rename(&aside, self.images().join(target)).unwrap();
    }

    /// What podkeep must not leave in its folders when no Pod is there: images, logs, locks and empty folders may stay.
    pub fn traces(&self) -> Vec<String> {
        let (root, run) = (self.root(), self.run());
        // `spare`: folders made ahead are there as long as the node runs, sooner or later.
        let kept = [
            root.join("images"),
            root.join("spare"),
            root.join("events.jsonl"),
            root.join("lock"),
            run.join("lock"),
            run.join("events.jsonl"),
        ];
        let may_be_empty = [
            root.join("pods"),
            root.join("manifests"),
            root.join("trash"),
            run.join("pods"),
            // The tmpfs itself stays until podkeep ends.
            run.join("files"),
        ];
        let mut found = Vec::new();
        for dir in [root, run] {
            walk(&dir, &kept, &mut found);
        }
        found.retain(|path| !may_be_empty.contains(path));
        found.iter().map(|path| format!("path {}", path.display())).collect()
    }

    /// Ends the containers of a node that was killed, and removes its cgroups and mounts.
    pub fn end_what_is_left(&self) {
        let root = Path::new(CGROUP_ROOT);
        if root.exists() {
            let _ = fs::write(root.join("cgroup.kill"), "1");
            wait_until("the cgroups of a killed node are empty", || {
                census::cgroups_below(root).iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
                (!root.exists()).then_some(())
            });
        }
        self.unmount_all();
    }

    /// Nothing may be deleted through a mount.
    fn unmount_all(&self) {
        for mount in census::mount_points().iter().rev().filter(|point| point.starts_with(&self.base)) {
            unmount(mount, UnmountFlags::DETACH).unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.unmount_all();
    }
}

/// A sample image: an archive, or the layout where there is none.
pub fn sample_image(name: &str) -> PathBuf {
    let images = PathBuf::from(std::env::var_os("PODKEEP_IMAGES").expect("scripts/vm sets it"));
    let archive = images.join(format!("{name}.tar"));
    if archive.exists() { archive } else { images.join(name) }
}

/// Copies a file, or a folder of files and folders.
pub fn copy(source: &Path, target: &Path) {
    if source.is_file() {
        fs::copy(source, target).unwrap();
        return;
    }
    fs::create_dir(target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &target.join(entry.file_name()));
    }
}

/// Everything below a folder, but for `kept`.
fn walk(dir: &Path, kept: &[PathBuf], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if kept.contains(&path) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, kept, found);
        }
        found.push(path);
    }
}
