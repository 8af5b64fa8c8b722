//! `podkeep oci exec`: one more process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};

use super::args::{ExecArgs, Global};
use super::log::{Level, say};
use super::state::{Record, Status};
use super::store::Store;
use super::{bundle, capabilities, console, descriptors, group, process};
use crate::cli::attend;
use crate::cli::terminal::Signals;
use crate::container::{Beside, ExecSetting, Parent, Target, exec_plan};

pub fn exec(global: &Global, args: &ExecArgs) -> Result<ExitCode> {
    if args.cgroup.is_some() {
        bail!("--cgroup is not supported: the process is born in the container's own cgroup");
    }
    let handed_on = descriptors::handed_on(args.preserve_fds)?;
    super::keep_to_ourselves()?;
    let signals = if args.detach { None } else { Some(Signals::keep_back().context("keep signals back")?) };

    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    check(Status::of(&entry, &record), args.ignore_paused)?;
    let pidfd = record.process.open()?.context("cannot exec in a stopped container")?;
    let spec = entry.spec()?;
    let (mut process, unknown) = process::process(args, &spec)?;
    for warning in capabilities::warnings(&unknown, Some(&process)) {
        say(global, Level::Warning, &format!("exec in {}: {warning}", entry.id));
    }
    if bundle::needs_home(&process) {
        bundle::add_home(&mut process, root_of(&record)?.as_fd());
    }
    let terminal = process.terminal().unwrap_or(false);
    let (stdio, socket) = console::streams(terminal, args.console_socket.as_deref(), args.detach)?;
    let mut process = Some(process);
    let preserve_fds = handed_on.tell(&mut process);
    let process: Process = process.context("exec needs a process")?;
    let target = Target::new(pidfd, &spec)?;
    let keyring = record.keyring.clone();
    let setting = ExecSetting { stdio, preserve_fds, keyring, adopt_orphans: false };
    let plan = exec_plan(&process, &target, setting)?;
    if global.debug {
        say(global, Level::Debug, &format!("the steps of a process in {}:\n{plan}", entry.id));
    }
    let beside =
        Beside::new(&group::expect(&record)?, record.process.pid).context("duplicate a descriptor")?;
    let spawned = beside.spawn(&plan, Parent::Caller)?;
    spawned.report.next(&plan)?;
    descriptors::write_pid(args.pid_file.as_deref(), spawned.pid)?;
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    let relay = socket.map(console::Socket::relay).transpose()?.unwrap_or_default();
    let ended = attend::child(spawned.pidfd.as_fd(), &signals, relay);
    Ok(ExitCode::from(attend::exit_code(ended.context("wait for the process's end")?)))
}

fn check(status: Status, ignore_paused: bool) -> Result<()> {
    match status {
        Status::Running | Status::Created => Ok(()),
        Status::Paused if ignore_paused => Ok(()),
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("cannot exec in a container that is still being created"),
    }
}

/// The root that the first process sees.
fn root_of(record: &Record) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", record.process.pid);
    let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    root.with_context(|| format!("open {path}"))
}
