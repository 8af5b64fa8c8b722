//! `podkeep oci list` and `podkeep oci state`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::args::{Format, Global, ListArgs, OneArgs};
use super::state::{Record, State, Status};
use super::store::{Entry, Store};
use crate::cli::{json, table};

pub fn state(global: &Global, args: &OneArgs) -> Result<ExitCode> {
    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    let state = State::new(&entry.id, &record, Status::of(&entry, &record));
    json::print(&state)?;
    Ok(ExitCode::SUCCESS)
}

pub fn list(global: &Global, args: &ListArgs) -> Result<ExitCode> {
    let mut known: Vec<(Entry, Record)> = Vec::new();
    for entry in Store::new(&global.root).all()? {
        // One that is removed meanwhile is no longer there to be listed.
        if let Some(record) = entry.record()? {
            known.push((entry, record));
        }
    }
    let states: Vec<State<'_>> = known
        .iter()
        .map(|(entry, record)| State::new(&entry.id, record, Status::of(entry, record)))
        .collect();
    let mut out = io::stdout().lock();
    match args.format {
        _ if args.quiet => states.iter().try_for_each(|state| writeln!(out, "{}", state.id))?,
        Format::Json => json::print_text(&serde_json::to_vec(&states)?)?,
        Format::Table => {
            let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            let rows: Vec<[String; 6]> = states.iter().map(row).collect();
            table::print(header, &rows, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(state: &State<'_>) -> [String; 6] {
    [
        state.id.to_owned(),
        state.pid.to_string(),
        state.status.name().to_owned(),
        state.bundle.display().to_string(),
        state.created.to_string(),
        state.owner.to_owned(),
    ]
}
