//! The command line: arguments, one file per command, everything a person reads on a terminal.
#![forbid(unsafe_code)]

pub mod logs;

use std::process::ExitCode;

/// Parses the arguments, runs the command and turns its result into an exit code.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
