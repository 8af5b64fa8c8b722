//! `podkeep run`: the keeper, and the worker that it starts from the same binary.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::fs::FlockOperation;
use rustix::process::DumpableBehavior;

use super::args::{Args, Command, NodeArgs, RunArgs};
use super::journal;
use crate::config::Config;
use crate::keeper;
use crate::node::{self, Folders};
use crate::sys::sealed;

const DEFAULT_CONFIG: &str = "/etc/podkeep/config.yaml";
const DEFAULT_MANIFESTS: &str = "/etc/podkeep/manifests";

/// The keeper, or the worker if it was the keeper who started this process, with the same arguments.
pub fn run(options: &RunArgs, node: &NodeArgs) -> Result<ExitCode> {
    // A container that sees the host's processes must not look into a child of ours between clone and exec, nor
    // reach this program's file through it (CVE-2019-5736).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("close this process to others")?;
    let name = std::env::args_os().next();
    match name.is_some_and(|name| name == keeper::WORKER_NAME) {
        true => worker(options, node),
        false => keeper(node),
    }
}

/// The parent of everything.
fn keeper(node: &NodeArgs) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("podkeep run must be started by root: it makes namespaces, mounts and cgroups");
    }
    sealed::ensure()?;
    let locks = match keeper::is_renewed() {
        true => Vec::new(),
        false => lock(node)?,
    };
    let exe = sealed::on_disk().context("find this program's own file")?;
    let worker_args = std::env::args_os().skip(1).collect();
    Ok(keeper::run(keeper::Options {
        worker_args,
        locks: locks.into_iter().map(Into::into).collect(),
        exe,
        open_files: None,
    })?)
}

/// One podkeep for one set of folders.
fn lock(node: &NodeArgs) -> Result<Vec<File>> {
    let mut locks = Vec::new();
    for dir in [&node.root_dir, &node.run_dir] {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.with_context(|| format!("make {}", dir.display()))?;
        let path = Folders::lock_in(dir);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.with_context(|| format!("open {}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => locks.push(file),
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "another podkeep works on {}: stop it, or give this one its own --root-dir and --run-dir, and its own \
                 cgroupRoot and podLogsDir in its --config",
                dir.display()
            ),
            Err(errno) => {
                return Err(io::Error::from(errno)).with_context(|| format!("lock {}", path.display()));
            }
        }
    }
    Ok(locks)
}

/// The worker: everything but holding on.
fn worker(options: &RunArgs, node: &NodeArgs) -> Result<ExitCode> {
    journal::start();
    // It was executed as /proc/self/exe, which is what `ps` and `top` would show.
    rustix::thread::set_name(c"podkeep-worker").context("name this process")?;
    let config = load_config_or_last_good(options, node)?;
    let folders = Folders {
        root: absolute(&node.root_dir)?,
        run: absolute(&node.run_dir)?,
        logs: absolute(&config.pod_logs_dir)?,
    };
    let manifests = options.pod_manifest_path.clone().or_else(|| config.static_pod_path.clone());
    let manifests = absolute(&manifests.unwrap_or_else(|| DEFAULT_MANIFESTS.into()))?;
    let manifest_url =
        options.manifest_url.as_deref().map(str::parse).transpose().context("--manifest-url")?;
    let options = node::Options {
        folders,
        manifests,
        manifest_url: manifest_url.or_else(|| config.static_pod_url.clone()),
        image_dir: options.image_dir.as_deref().map(absolute).transpose()?,
        hosts_dir: absolute(&options.hosts_dir)?,
        node_name: node_name(options)?,
        config,
        open_files: keeper::containers_open_files(),
        check_config: check_again,
    };
    node::work(options, |folders, handle| crate::api::server::serve(&folders.socket(), handle))
}

/// A worker that takes over must not fail because of what somebody has done to the configuration meanwhile.
fn load_config_or_last_good(options: &RunArgs, node: &NodeArgs) -> Result<Config> {
    let last_good = Folders::good_config_in(&node.run_dir);
    let error = match load_config(options) {
        Ok(config) => {
            let source = config_path(options).map(fs::read).transpose().ok().flatten().unwrap_or_default();
            // Without the copy, a broken configuration would be fatal to the next worker, as it is to the first.
            if let Err(error) = keep(&last_good, &source) {
                log::warn!("keep the last good configuration in {}: {error}", last_good.display());
            }
            return Ok(config);
        }
        Err(error) => error,
    };
    match fs::read(&last_good) {
        Ok(bytes) if bytes.is_empty() => {
            log::error!("{error:#}; going on without a configuration, as before");
            Ok(Config::default())
        }
        Ok(bytes) => {
            log::error!("{error:#}; going on with the last good configuration");
            decode_config(&last_good, &bytes)
        }
        Err(_) => Err(error),
    }
}

/// For root's eyes only: it may hold tokens.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // An earlier podkeep may have made it for everybody's.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)
}

/// Whether the configuration, as it is now, could be started with.
fn check_again() -> Result<()> {
    match Args::try_parse()?.command {
        Command::Run(options) => load_config(&options).map(drop),
        _ => Ok(()),
    }
}

/// The configuration file that counts, if there is one.
fn config_path(options: &RunArgs) -> Option<&Path> {
    let default = Path::new(DEFAULT_CONFIG);
    options.config.as_deref().or_else(|| default.exists().then_some(default))
}

fn load_config(options: &RunArgs) -> Result<Config> {
    let Some(path) = config_path(options) else { return Ok(Config::default()) };
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    decode_config(path, &bytes)
}

/// The file's word; says what of it has no effect.
fn decode_config(path: &Path, bytes: &[u8]) -> Result<Config> {
    let decoded = Config::decode(path, bytes).map_err(|diagnostics| {
        let words: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", words.join("\n"))
    })?;
    for field in &decoded.no_effect {
        log::warn!("{}: {field} has no effect yet", path.display());
    }
    Ok(decoded.config)
}

/// What is appended to every Pod's name: lower case, as the kubelet does it.
fn node_name(options: &RunArgs) -> Result<String> {
    let name = match &options.hostname_override {
        Some(name) => name.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    let fits = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.is_empty() || name.len() > 63 || !name.split('.').all(fits) {
        bail!("`{name}` cannot be a node's name: give another one with --hostname-override");
    }
    Ok(name)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("make {} absolute", path.display()))
}
