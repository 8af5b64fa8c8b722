//! A bundle: a directory with a config.json, which describes the container.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Mount, Process, Spec};
use rustix::fs::{Mode, OFlags};

use super::capabilities;
use crate::container::user;
use crate::sys::inroot::{self, Links};

/// What `create` reads before anything is made.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute, without links.
    pub dir: PathBuf,
    pub rootfs: PathBuf,
    /// Its process has a home directory in its environment.
    pub spec: Spec,
    /// config.json, without the capabilities that nobody knows.
    pub text: Vec<u8>,
    /// Those.
    pub unknown_capabilities: Vec<String>,
}

impl Bundle {
    /// # Errors
    /// When there is none, or none that can be understood.
    pub fn open(dir: &Path) -> Result<Bundle> {
        let dir = fs::canonicalize(dir).with_context(|| format!("find the bundle {}", dir.display()))?;
        let (mut spec, text, unknown_capabilities) = parse(&dir.join("config.json"))?;
        if !spec.version().starts_with("1.") {
            bail!(
                "config.json is of version {:?} of the specification; 1.0 to 1.2 are known",
                spec.version()
            );
        }
        spec.mounts_mut().iter_mut().flatten().for_each(|mount| resolve(mount, &dir));
        let root = spec.root().as_ref().context("config.json has no root")?;
        let path = dir.join(root.path());
        let rootfs = fs::canonicalize(&path).with_context(|| format!("find the root {}", path.display()))?;
        let process = spec.process_mut().as_mut().context("config.json has no process")?;
        if needs_home(process) {
            let root =
                rustix::fs::open(&rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let root = root.with_context(|| format!("open the root {}", rootfs.display()))?;
            add_home(process, root.as_fd());
        }
        Ok(Bundle { dir, rootfs, spec, text, unknown_capabilities })
    }
}

pub fn parse(path: &Path) -> Result<(Spec, Vec<u8>, Vec<String>)> {
    let doing = || format!("read {}", path.display());
    let text = fs::read(path).with_context(doing)?;
    match serde_json::from_slice(&text) {
        Ok(spec) => Ok((spec, text, Vec::new())),
        Err(error) => {
            let known = capabilities::only_known(&text, "/process");
            let (text, unknown) = known.ok_or(error).with_context(doing)?;
            Ok((serde_json::from_slice(&text).with_context(doing)?, text, unknown))
        }
    }
}

/// A relative source of a bind mount begins at the bundle, a relative destination at the container's root (config.md, "Mounts").
fn resolve(mount: &mut Mount, bundle: &Path) {
    let is_bind = |option: &String| option == "bind" || option == "rbind";
    let binds = mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(is_bind);
    if let (true, Some(source)) = (binds, mount.source()) {
        let source = bundle.join(source);
        mount.set_source(Some(source));
    }
    let destination = Path::new("/").join(mount.destination());
    mount.set_destination(destination);
}

pub fn needs_home(process: &Process) -> bool {
    !process.env().iter().flatten().any(|variable| variable.starts_with("HOME="))
}

/// As runc, which containerd relies on: the home directory that the container's own /etc/passwd has for the user. Whoever made
/// that file may have put anything there, so it is only a text, and a file that cannot be read is as good as none.
pub fn add_home(process: &mut Process, root: BorrowedFd<'_>) {
    /// Longer ones are not for machines to read at every start.
    const LONGEST: u64 = 1 << 20;
    let passwd = inroot::open(root, c"/etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK, Links::Follow).ok();
    let text = passwd.and_then(|file| {
        let file = fs::File::from(file);
        let mut text = Vec::new();
        let is_file = file.metadata().ok()?.is_file();
        is_file.then(|| file.take(LONGEST).read_to_end(&mut text).ok())??;
        Some(text)
    });
    let resolved = user::resolve("", Some(process.user().uid()), None, text.as_deref(), None);
    let home = resolved.map_or_else(|_| "/".to_owned(), |user| user.home);
    let mut env = process.env().clone().unwrap_or_default();
    env.push(format!("HOME={home}"));
    process.set_env(Some(env));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: &str) -> (tempfile::TempDir, Result<Bundle>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
        fs::write(dir.path().join("rootfs/etc/passwd"), "me:x:5:5::/home/me:/bin/sh\n").unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        let bundle = Bundle::open(dir.path());
        (dir, bundle)
    }

    fn config(version: &str, root: &str, process: &str) -> String {
        format!(r#"{{"ociVersion":"{version}","root":{{"path":"{root}"}},"process":{process}}}"#)
    }

    #[test]
    fn a_bundle_has_absolute_paths_and_a_home() {
        let process = r#"{"user":{"uid":5,"gid":5},"cwd":"/","args":["x"],"env":["A=B"]}"#;
        let (dir, bundle) = bundle(&config("1.0.2-dev", "rootfs", process));
        let bundle = bundle.unwrap();
        assert_eq!(bundle.rootfs, fs::canonicalize(dir.path()).unwrap().join("rootfs"));
        let env = bundle.spec.process().as_ref().unwrap().env().clone().unwrap();
        assert_eq!(env, ["A=B", "HOME=/home/me"]);
    }

    #[test]
    fn relative_paths_of_mounts_begin_where_the_specification_says() {
        let (dir, spec) = bundle(
            r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["x"]},
                "mounts":[{"destination":"a","type":"bind","source":"data"},{"destination":"/b","options":["rbind"],"source":"/c"},
                          {"destination":"d","type":"tmpfs","source":"tmpfs"}]}"#,
        );
        let spec = spec.unwrap().spec;
        let paths = spec
            .mounts()
            .iter()
            .flatten()
            .map(|mount| (mount.destination().clone(), mount.source().clone().unwrap()));
        let data = fs::canonicalize(dir.path()).unwrap().join("data");
        let expected: [(PathBuf, PathBuf); 3] =
            [("/a".into(), data), ("/b".into(), "/c".into()), ("/d".into(), "tmpfs".into())];
        assert_eq!(paths.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_home_that_was_given_stays() {
        let process = r#"{"user":{"uid":5,"gid":5},"cwd":"/","args":["x"],"env":["HOME=/x"]}"#;
        let bundle = bundle(&config("1.2.0", "rootfs", process)).1.unwrap();
        assert_eq!(bundle.spec.process().as_ref().unwrap().env().clone().unwrap(), ["HOME=/x"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let process = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["x"]}"#;
        for (text, message) in [
            (config("0.6.0", "rootfs", process), "version \"0.6.0\""),
            (config("1.2.0", "nowhere", process), "find the root"),
            ("{".to_owned(), "read /"),
            (r#"{"ociVersion":"1.2.0"}"#.to_owned(), "no root"),
        ] {
            let error = format!("{:#}", bundle(&text).1.unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
