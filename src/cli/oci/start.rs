//! `podkeep oci start`: the process of a created container becomes its program.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, pidfd_send_signal};

use super::args::{Global, OneArgs};
use super::hooks;
use super::state::{Record, Status};
use super::store::{Entry, Store};
use crate::container::Target;
use oci_spec::runtime::Spec;

pub fn start(global: &Global, args: &OneArgs) -> Result<ExitCode> {
    let entry = Store::new(&global.root).expect(&args.id)?;
    let lock = entry.lock()?;
    let record = entry.expect_record()?;
    match Status::of(&entry, &record) {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Creating => bail!("cannot start a container that is still being created"),
        Status::Running => bail!("cannot start an already running container"),
        Status::Paused => bail!("cannot start a paused container"),
    }
    let spec = entry.spec()?;
    if hooks::has_start_container(&spec) {
        run_start_container(&entry, &record, &spec)?;
    }
    entry.give_start()?;
    // The hooks may ask for anything.
    drop(lock);
    hooks::poststart(global, &entry, &record, &spec);
    Ok(ExitCode::SUCCESS)
}

/// A failure ends the container: it stays as a stopped one.
fn run_start_container(entry: &Entry, record: &Record, spec: &Spec) -> Result<()> {
    let pidfd = record.process.open()?.context("cannot start a container that has stopped")?;
    let target = Target::new(pidfd.try_clone().context("duplicate a descriptor")?, spec)?;
    hooks::start_container(entry, record, spec, &target).inspect_err(|_| {
        // It may be gone already.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    })
}
