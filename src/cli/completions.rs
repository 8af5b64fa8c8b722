//! `podkeep completions`: a script for a shell.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use super::args::{Args, CompletionsArgs};

pub fn completions(options: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Args::command(), "podkeep", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}
