//! `run`: a container from its making to its end.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Hooks, Spec};

use super::args::{Making, RunArgs};
use super::making::{self, Bundle, Made, Start, make, prepare_self};
use super::removal;
use super::state::Status;
use crate::cli::terminal::{self, Attached, Signals};
use crate::container::{Progress, Stdio, run_hooks};

pub(super) fn run(root: &Path, args: &RunArgs) -> Result<ExitCode> {
    prepare_self()?;
    let bundle = Bundle::read(&args.making.bundle)?;
    // Those that must run inside before the program does.
    let waits = !making::hooks(&bundle.spec, Hooks::start_container).is_empty();
    if args.detach {
        let stdio = making::stdio(&bundle.spec, args.making.console_socket.as_deref())?;
        let made = make(root, &args.id, bundle, &args.making, Start { waits, stdio })?;
        return start(&made, &args.making, waits).map(|()| ExitCode::SUCCESS);
    }
    // Before the process is there: no signal may come unseen.
    let signals = Signals::block().context("block signals")?;
    let (stdio, attached) = streams(&bundle.spec, &args.making)?;
    let made = make(root, &args.id, bundle, &args.making, Start { waits, stdio })?;
    start(&made, &args.making, waits)?;
    let ended = terminal::attend(&made.spawned.pidfd, &signals, attached);
    let status = making::wait_for(&made.spawned.pidfd).context("wait for the container's end")?;
    if !args.keep {
        removal::remove(&made.folder, &made.container, Some(&made.spec))?;
    }
    ended.context("attend the container")?;
    Ok(terminal::exit_code(status))
}

/// A terminal that nobody else asked for is relayed to ours.
fn streams(spec: &Spec, making: &Making) -> Result<(Stdio, Option<Attached>)> {
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    if terminal && making.console_socket.is_none() {
        let (attached, console) = Attached::pair().context("make a socket for the terminal")?;
        return Ok((Stdio::Terminal { console }, Some(attached)));
    }
    Ok((making::stdio(spec, making.console_socket.as_deref())?, None))
}

fn start(made: &Made, making: &Making, waits: bool) -> Result<()> {
    made.finish(making, if waits { Progress::Ready } else { Progress::Executed })?;
    if waits {
        let state = serde_json::to_vec(&made.container.state(Status::Created))?;
        let inside = made.target()?;
        run_hooks(making::hooks(&made.spec, Hooks::start_container), &state, Some(&inside))?;
        made.folder.give_start()?;
    }
    after_start(&made.container, &made.spec)
}

/// `start`.
pub(super) fn start_made(root: &Path, id: &super::id::ContainerId) -> Result<()> {
    prepare_self()?;
    let folder = super::state::Folder::new(root, id);
    let container = folder.load()?;
    match folder.status(&container)? {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        status => bail!("cannot start a container that is {}", status.as_str()),
    }
    let spec = folder.spec()?;
    let hooks = making::hooks(&spec, Hooks::start_container);
    if !hooks.is_empty() {
        let state = serde_json::to_vec(&container.state(Status::Created))?;
        let pidfd = container.process().context("the container's process is gone")?;
        let inside = crate::container::Target::new(pidfd, &spec)?;
        run_hooks(hooks, &state, Some(&inside))?;
    }
    folder.give_start()?;
    after_start(&container, &spec)
}

/// Poststart hooks: their failures are only said, as runc and the specification have it.
fn after_start(container: &super::state::Container, spec: &Spec) -> Result<()> {
    let hooks = making::hooks(spec, Hooks::poststart);
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(&container.state(Status::Running))?;
    if let Err(error) = run_hooks(hooks, &state, None) {
        eprintln!("podkeep oci: poststart: {error}");
    }
    Ok(())
}
