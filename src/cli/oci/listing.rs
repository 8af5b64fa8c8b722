//! `state`, `list`, `ps`, `events`: what is there.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::args::{EventsArgs, Format, ListArgs, PsArgs};
use super::id::ContainerId;
use super::state::{Container, Folder, Status, ids};

/// The only user that podkeep runs as.
const OWNER: &str = "root";

pub(super) fn state(root: &Path, id: &ContainerId) -> Result<()> {
    let folder = Folder::new(root, id);
    let container = folder.load()?;
    let status = folder.status(&container)?;
    print(&serde_json::to_string_pretty(&container.state(status))?)
}

pub(super) fn list(root: &Path, args: &ListArgs) -> Result<()> {
    let mut found: Vec<(Container, Status)> = Vec::new();
    for id in ids(root)? {
        let folder = Folder::new(root, &id);
        // Gone meanwhile, or on its way.
        let Ok(container) = folder.load() else { continue };
        let status = folder.status(&container)?;
        found.push((container, status));
    }
    if args.quiet {
        return found.iter().try_for_each(|(container, _)| print(&container.id));
    }
    if args.format == Format::Json {
        return print(&Value::Array(found.iter().map(row).collect()).to_string());
    }
    let mut text = format!("{:<24} {:>8} {:<8} {:<32} CREATED", "ID", "PID", "STATUS", "BUNDLE");
    for (container, status) in &found {
        let pid = if *status == Status::Stopped { 0 } else { container.pid };
        let bundle = container.bundle.display();
        let _ = write!(
            text,
            "\n{:<24} {pid:>8} {:<8} {bundle:<32} {}",
            container.id,
            status.as_str(),
            container.created
        );
    }
    print(&text)
}

fn row((container, status): &(Container, Status)) -> Value {
    json!({
        "ociVersion": super::state::OCI_VERSION,
        "id": container.id,
        "pid": if *status == Status::Stopped { 0 } else { container.pid },
        "status": status.as_str(),
        "bundle": container.bundle,
        "rootfs": container.rootfs,
        "created": container.created,
        "annotations": container.annotations,
        "owner": OWNER,
    })
}

pub(super) fn ps(root: &Path, args: &PsArgs) -> Result<()> {
    let container = Folder::new(root, &args.id).load()?;
    let mut pids = container.group()?.map_or(Ok(Vec::new()), |group| group.processes())?;
    pids.sort_unstable();
    if args.format == Format::Json {
        return print(&json!(pids).to_string());
    }
    let mut text = format!("{:>8} {:>8} COMMAND", "PID", "UID");
    for pid in pids {
        // Ended since it was listed.
        let Some((uid, command)) = process(pid) else { continue };
        let _ = write!(text, "\n{pid:>8} {uid:>8} {command}");
    }
    print(&text)
}

fn process(pid: u32) -> Option<(u32, String)> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let command = process.cmdline().ok().filter(|words| !words.is_empty());
    let command = command.map_or_else(
        || process.stat().ok().map(|stat| format!("[{}]", stat.comm)),
        |words| Some(words.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()),
    );
    Some((process.uid().ok()?, command?))
}

pub(super) fn events(root: &Path, args: &EventsArgs) -> Result<()> {
    let container = Folder::new(root, &args.id).load()?;
    let interval = parse_interval(&args.interval)?;
    loop {
        let Some(process) = container.process() else {
            if args.stats {
                bail!("container not running");
            }
            return Ok(());
        };
        let group = container.group()?.context("the container's cgroup is gone")?;
        let stats = group.stats()?;
        print(&json!({"type": "stats", "id": container.id, "data": stats}).to_string())?;
        if args.stats {
            return Ok(());
        }
        let left =
            Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: i64::from(interval.subsec_nanos()) };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)).context("wait for the next moment")?;
    }
}

/// `5s` or `5`, at least one second.
fn parse_interval(text: &str) -> Result<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| *seconds > 0);
    Ok(Duration::from_secs(seconds.with_context(|| format!("`{text}` is no interval: 5s, for instance"))?))
}

pub(super) fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("write to standard output")
}

/// `spec`: a config.json to begin with.
pub(super) fn write_spec(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let mut spec = oci_spec::runtime::Spec::default();
    spec.set_version(super::state::OCI_VERSION.to_owned());
    let text = serde_json::to_vec_pretty(&spec)?;
    let mut options = fs::OpenOptions::new();
    let created = options.write(true).create_new(true).open(&path);
    created.and_then(|mut file| file.write_all(&text)).with_context(|| format!("write {}", path.display()))
}
