//! `podkeep oci delete`: nothing of the container is left afterwards.

use std::process::ExitCode;

use anyhow::{Result, bail};
use oci_spec::runtime::Spec;

use super::args::{DeleteArgs, Global};
use super::state::{Record, Status};
use super::store::{Entry, Store};
use super::{group, hooks};
use crate::cgroup;

pub fn delete(global: &Global, args: &DeleteArgs) -> Result<ExitCode> {
    let store = Store::new(&global.root);
    let entry = match store.find(&args.id) {
        None if args.force => return Ok(ExitCode::SUCCESS),
        _ => store.expect(&args.id)?,
    };
    let _lock = entry.lock()?;
    let Some(record) = entry.record()? else {
        // Somebody has ended `create` before there was a process, or it is just at work.
        if !args.force {
            bail!("cannot delete container {} that is still being created (use --force)", entry.id);
        }
        entry.remove()?;
        return Ok(ExitCode::SUCCESS);
    };
    match Status::of(&entry, &record) {
        Status::Stopped | Status::Created => {}
        _ if args.force => {}
        status => bail!("cannot delete container {} that is not stopped: {}", entry.id, status.name()),
    }
    let spec = entry.spec()?;
    remove(global, &entry, &record, &spec)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends whatever is left of it, and frees its name.
///
/// # Errors
/// When a process cannot be ended or something cannot be removed.
pub fn remove(global: &Global, entry: &Entry, record: &Record, spec: &Spec) -> Result<()> {
    if let Some(group) = cgroup::open_existing(&record.cgroup)? {
        group::end(&group)?;
    }
    entry.remove()?;
    hooks::poststop(global, entry, record, spec);
    Ok(())
}
