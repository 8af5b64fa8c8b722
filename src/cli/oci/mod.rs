//! `podkeep oci`: an OCI runtime's command line over the node's own code, for other programs and their tests.
//!
//! Programs that want one executable (podman's `--runtime`) call podkeep by the name `podkeep-oci`.

pub mod args;
mod control;
mod features;
mod id;
mod listing;
mod making;
mod process;
mod removal;
mod running;
mod state;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser};
use serde_json::json;

use args::{Command, Global, LogFormat, OciArgs};

/// The name that podkeep is an OCI runtime by.
const NAME: &str = "podkeep-oci";

/// What runc ends with when a command could not be done, and when that was `exec`.
const FAILED: u8 = 1;
const EXEC_FAILED: u8 = 255;

/// The arguments, if this program was called as an OCI runtime.
pub fn called_by_name() -> Option<OciArgs> {
    let name = std::env::args_os().next()?;
    (Path::new(&name).file_name()? == NAME).then(OciArgs::parse)
}

/// Does what was asked; errors are said here, in the format that was asked for.
pub fn main(args: &OciArgs) -> ExitCode {
    let Some(command) = &args.command else { return without_command(args) };
    let done = check(&args.global).and_then(|()| dispatch(&args.global.root, command));
    done.unwrap_or_else(|error| {
        let message = format!("{error:#}");
        // Nobody is left to be told if stderr is closed too.
        let _ = writeln!(io::stderr(), "podkeep oci: {message}");
        if let Err(error) = log(&args.global, &message) {
            let _ = writeln!(io::stderr(), "podkeep oci: write the log: {error}");
        }
        ExitCode::from(if matches!(command, Command::Exec(_)) { EXEC_FAILED } else { FAILED })
    })
}

fn without_command(args: &OciArgs) -> ExitCode {
    let said = if args.global.version {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(io::stdout(), "podkeep-oci version {version}\nspec: {}", state::OCI_VERSION)
    } else {
        write!(io::stderr(), "{}", OciArgs::command().render_help())
    };
    // 2 as for other wrong arguments.
    if said.is_ok() && args.global.version { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn check(global: &Global) -> Result<()> {
    if global.systemd_cgroup {
        bail!(
            "--systemd-cgroup is not supported: podkeep makes its cgroups itself (podman: --cgroup-manager=cgroupfs)"
        );
    }
    match global.rootless.as_deref() {
        None | Some("auto" | "false") => Ok(()),
        Some(_) => bail!("--rootless is not supported: podkeep needs root"),
    }
}

fn dispatch(root: &Path, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => return running::run(root, args),
        Command::Exec(args) => return process::exec(root, args),
        Command::Create(args) => making::create(root, args)?,
        Command::Start { id } => running::start_made(root, id)?,
        Command::State { id } => listing::state(root, id)?,
        Command::Kill(args) => control::kill(root, args)?,
        Command::Delete(args) => removal::delete(root, args)?,
        Command::List(args) => listing::list(root, args)?,
        Command::Ps(args) => listing::ps(root, args)?,
        Command::Pause { id } => control::pause(root, id, true)?,
        Command::Resume { id } => control::pause(root, id, false)?,
        Command::Update(args) => control::update(root, args)?,
        Command::Events(args) => listing::events(root, args)?,
        Command::Features => listing::print(&features::features().to_string())?,
        Command::Spec(args) if args.rootless => bail!("--rootless is not supported: podkeep needs root"),
        Command::Spec(args) => listing::write_spec(&args.bundle)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// In runc's form, which podman reads.
fn log(global: &Global, message: &str) -> io::Result<()> {
    let Some(path) = &global.log else { return Ok(()) };
    let time = jiff::Timestamp::now().to_string();
    let line = match global.log_format {
        LogFormat::Json => json!({"level": "error", "msg": message, "time": time}).to_string(),
        LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}"),
    };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "{line}")
}
