//! `podkeep oci`: an OCI runtime's command line over the node's own code, for podman, containerd and their like.
//!
//! One call, one container, no process that stays: what is known from one call to the next lies in files (`store.rs`), and
//! how a container is, is seen anew each time (`state.rs`).

pub mod args;
mod bundle;
mod capabilities;
mod console;
mod create;
mod delete;
mod descriptors;
mod events;
mod exec;
mod features;
mod group;
mod hooks;
mod id;
mod kill;
mod launch;
mod list;
mod log;
mod pause;
mod process;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod store;
mod update;
mod user;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::process::DumpableBehavior;

use crate::container::{SpawnError, StartError};
use crate::sys::sealed;
use args::{Command, OciArgs};
use log::{Level, say};

/// As runc: whatever goes wrong.
const FAILED: u8 = 1;
/// As runc: what goes wrong in `exec` must not look like a command that has exited with 1.
const EXEC_FAILED: u8 = 255;

/// Whether the program was called by a name that means `podkeep oci`: engines know one path and no arguments of ours.
pub fn is_meant_by(name: Option<&OsStr>) -> bool {
    name.and_then(|name| Path::new(name).file_name()).is_some_and(|name| name == "podkeep-oci")
}

/// Says what cannot be understood, or the help that was asked for. Engines know runc's code for it, which is that of any failure.
pub fn misunderstood(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told if this fails.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Runs the command. What goes wrong is said here: engines look for it in the log.
pub fn main(args: OciArgs) -> ExitCode {
    let OciArgs { global, command } = args;
    let failed = if matches!(command, Command::Exec(_)) { EXEC_FAILED } else { FAILED };
    dispatch(&global, command).unwrap_or_else(|error| {
        say(&global, Level::Error, &sentence(&error));
        ExitCode::from(failed)
    })
}

fn dispatch(global: &args::Global, command: Command) -> Result<ExitCode> {
    if global.systemd_cgroup {
        bail!(
            "--systemd-cgroup is not supported: cgroups are made by hand (podman: --cgroup-manager=cgroupfs)"
        );
    }
    match command {
        Command::Create(args) => create::create(global, args),
        Command::Start(args) => start::start(global, &args),
        Command::State(args) => list::state(global, &args),
        Command::Kill(args) => kill::kill(global, &args),
        Command::Delete(args) => delete::delete(global, &args),
        Command::Run(args) => run::run(global, args),
        Command::Exec(args) => exec::exec(global, &args),
        Command::List(args) => list::list(global, &args),
        Command::Ps(args) => ps::ps(global, &args),
        Command::Pause(args) => pause::pause(global, &args),
        Command::Resume(args) => pause::resume(global, &args),
        Command::Update(args) => update::update(global, &args),
        Command::Events(args) => events::events(global, &args),
        Command::Features => features::features(),
        Command::Spec(args) => spec::spec(&args),
    }
}

/// The chain of causes. Engines find out from the words of strerror(3) whether a command was not found (127) or could not be
/// executed (126).
fn sentence(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let start = error.chain().find_map(|cause| {
        let of_spawn = cause.downcast_ref::<SpawnError>().and_then(|error| match error {
            SpawnError::Start(start) => Some(start),
            _ => None,
        });
        cause.downcast_ref::<StartError>().or(of_spawn)
    });
    match start {
        Some(StartError::Step { errno, .. }) => format!("{text}: {}", errno.desc()),
        _ => text,
    }
}

/// For the commands that start a process of a container, before they open anything: nobody may look into a child of ours
/// between clone and exec, nor reach this program's file through it (CVE-2019-5736).
fn keep_to_ourselves() -> Result<()> {
    sealed::ensure()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("close this process to others")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::About;

    #[test]
    fn the_name_decides() {
        for name in ["podkeep-oci", "/usr/bin/podkeep-oci"] {
            assert!(is_meant_by(Some(OsStr::new(name))), "{name}");
        }
        for name in ["podkeep", "/podkeep-oci/podkeep", "podkeep-worker", ""] {
            assert!(!is_meant_by(Some(OsStr::new(name))), "{name}");
        }
    }

    #[test]
    fn podman_finds_the_words_it_looks_for() {
        let step = StartError::Step {
            step: "execute x".to_owned(),
            errno: nix::errno::Errno::ENOENT,
            hint: None,
            about: About::Program,
        };
        let error = anyhow::Error::from(SpawnError::Start(step)).context("start");
        assert_eq!(sentence(&error), "start: execute x: ENOENT: No such file or directory");
    }
}
