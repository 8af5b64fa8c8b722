//! `podkeep oci pause` and `podkeep oci resume`.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::args::{Global, OneArgs};
use super::group;
use super::state::{Record, Status};
use super::store::Store;

pub fn pause(global: &Global, args: &OneArgs) -> Result<ExitCode> {
    match look(global, args)? {
        (record, Status::Running | Status::Created) => {
            group::expect(&record)?.freeze(true)?;
            Ok(ExitCode::SUCCESS)
        }
        (_, status) => bail!("container not running: {}", status.name()),
    }
}

pub fn resume(global: &Global, args: &OneArgs) -> Result<ExitCode> {
    match look(global, args)? {
        (record, Status::Paused) => {
            group::expect(&record)?.freeze(false)?;
            Ok(ExitCode::SUCCESS)
        }
        (_, status) => bail!("container not paused: {}", status.name()),
    }
}

fn look(global: &Global, args: &OneArgs) -> Result<(Record, Status)> {
    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    let status = Status::of(&entry, &record);
    Ok((record, status))
}
