//! `podkeep oci run`: create and start in one, and, unless it is detached, see it to its end.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::{Global, RunArgs};
use super::bundle::Bundle;
use super::launch::{Launched, When, launch};
use super::{console, delete, descriptors, hooks};
use crate::cli::attend;
use crate::cli::terminal::Signals;

pub fn run(global: &Global, args: RunArgs) -> Result<ExitCode> {
    let RunArgs { mut create, detach, keep } = args;
    let handed_on = descriptors::handed_on(create.preserve_fds)?;
    super::keep_to_ourselves()?;
    // Before the process is there, so that none is lost; its own are set free between clone and exec.
    let signals = if detach { None } else { Some(Signals::keep_back().context("keep signals back")?) };
    let mut bundle = Bundle::open(&create.bundle)?;
    create.preserve_fds = handed_on.tell(bundle.spec.process_mut());
    let terminal = console::wanted(bundle.spec.process());
    let (stdio, socket) = console::streams(terminal, create.console_socket.as_deref(), detach)?;
    let launched = launch(global, &create, bundle, stdio, &When::Now)?;
    hooks::poststart(global, &launched.entry, &launched.record, &launched.spec);
    let attended = descriptors::write_pid(create.pid_file.as_deref(), launched.spawned.pid)
        .and_then(|()| attend(&launched, signals.as_ref(), socket));
    if !(keep || detach && attended.is_ok()) {
        delete::remove(global, &launched.entry, &launched.record, &launched.spec)?;
    }
    attended
}

fn attend(
    launched: &Launched,
    signals: Option<&Signals>,
    socket: Option<console::Socket>,
) -> Result<ExitCode> {
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    let relay = socket.map(console::Socket::relay).transpose()?.unwrap_or_default();
    let ended = attend::child(launched.spawned.pidfd.as_fd(), signals, relay);
    Ok(ExitCode::from(attend::exit_code(ended.context("wait for the container's end")?)))
}
