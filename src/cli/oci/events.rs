//! `podkeep oci events --stats`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;

use super::args::{EventsArgs, Global};
use super::group;
use super::state::Status;
use super::store::Store;
use crate::cgroup::Stats;

/// One line of runc's `events`.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    data: Stats,
}

pub fn events(global: &Global, args: &EventsArgs) -> Result<ExitCode> {
    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    if Status::of(&entry, &record) == Status::Stopped {
        bail!("container with id {} is not running", entry.id);
    }
    let event = Event { kind: "stats", id: entry.id.as_str(), data: group::expect(&record)?.stats()? };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &event)?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}
