//! The command line: arguments, one file per command, everything a person reads on a terminal.
#![forbid(unsafe_code)]

mod args;
mod attend;
mod completions;
mod describe;
mod events;
mod exec;
mod images;
mod inspect;
mod inspect_plan;
mod journal;
mod json;
mod known_pods;
mod lint;
mod load;
pub mod logs;
mod oci;
mod pods;
mod progress;
mod prune;
mod ps;
mod pull;
mod relay;
mod run;
mod seal;
mod table;
mod terminal;
mod yaml;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Args, Command};

/// What a command ended with: 0 done, 1 failed or found something wrong, 2 wrong arguments (clap's).
const FAILED: u8 = 1;

/// Parses the arguments, runs the command and turns its result into an exit code.
pub fn main() -> ExitCode {
    if oci::is_meant_by(std::env::args_os().next().as_deref()) {
        return oci::args::Called::try_parse()
            .map_or_else(|error| oci::misunderstood(&error), |called| oci::main(called.oci));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if std::env::args_os().nth(1).is_some_and(|word| word == "oci") => {
            return oci::misunderstood(&error);
        }
        Err(error) => error.exit(),
    };
    match dispatch(args) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if stderr is closed too.
            let _ = writeln!(io::stderr(), "podkeep: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Run(options) => run::run(&options, &args.node),
        Command::Ps(options) => ps::ps(&options, &args.node),
        Command::Pods(options) => pods::pods(&options, &args.node),
        Command::Describe(options) => describe::describe(&options, &args.node),
        Command::Inspect(options) => inspect::inspect(&options, &args.node),
        Command::Logs(options) => known_pods::logs(&options, &args.node),
        Command::Exec(options) => exec::exec(&options, &args.node),
        Command::Pull(options) => pull::pull_images(&options, &args.node),
        Command::Events(options) => events::events(&options, &args.node),
        Command::Load(options) => load::load(&options, &args.node),
        Command::Save(options) => load::save(&options, &args.node),
        Command::Rmi(options) => prune::rmi(&options, &args.node),
        Command::Prune(options) => prune::prune(&options, &args.node),
        Command::Images(options) => images::images(&options, &args.node),
        Command::Lint(options) => lint::lint(&options),
        Command::Seal(options) => seal::seal(&options, &args.node),
        Command::Oci(options) => Ok(oci::main(*options)),
        Command::Completions(options) => completions::completions(&options),
    }
}

/// Whoever read our output has seen enough: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
