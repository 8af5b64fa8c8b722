//! `exec`: another process in a container.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capabilities, Capability, Process, Spec, User};

use super::args::ExecArgs;
use super::making::{connect, prepare_self, wait_for, write_pid};
use super::state::{Container, Folder, Status};
use crate::cli::terminal::{self, Attached, Signals};
use crate::container::{self, ExecSetting, Parent, Progress, Stdio, Target};

pub(super) fn exec(root: &Path, args: &ExecArgs) -> Result<ExitCode> {
    prepare_self()?;
    let folder = Folder::new(root, &args.id);
    let container = folder.load()?;
    match folder.status(&container)? {
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Paused if !args.ignore_paused => bail!("cannot exec in a paused container"),
        _ => {}
    }
    let spec = folder.spec()?;
    let process = process(args, &spec)?;
    run(args, &container, &spec, &process)
}

fn run(args: &ExecArgs, container: &Container, spec: &Spec, process: &Process) -> Result<ExitCode> {
    let signals = (!args.detach).then(Signals::block).transpose().context("block signals")?;
    let (stdio, attached) = streams(args, process)?;
    let pidfd = container.process().context("the container's process is gone")?;
    let target = Target::new(pidfd, spec)?;
    let group = container.group()?.context("the container's cgroup is gone")?;
    let setting = ExecSetting { stdio, preserve_fds: args.preserve_fds };
    let plan = container::exec_plan(process, &target, setting)?;
    let spawned = container::spawn(&plan, Some(group.dir()), Parent::Caller, None)?;
    match spawned.report.next(&plan) {
        Ok(Progress::Executed) => {}
        result => {
            wait_for(&spawned.pidfd).context("wait for the process that failed")?;
            result?;
            bail!("the process waits for something that nobody gives it");
        }
    }
    if let Some(path) = &args.pid_file {
        write_pid(path, spawned.pid)?;
    }
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    // Its copies of the streams would keep them open.
    drop(plan);
    let ended = terminal::attend(&spawned.pidfd, &signals, attached);
    let status = wait_for(&spawned.pidfd).context("wait for the process's end")?;
    ended.context("attend the process")?;
    Ok(terminal::exit_code(status))
}

fn streams(args: &ExecArgs, process: &Process) -> Result<(Stdio, Option<Attached>)> {
    match (process.terminal().unwrap_or(false), &args.console_socket) {
        (false, None) => Ok((Stdio::Inherit, None)),
        (false, Some(_)) => bail!("there is a console socket, but the process has no terminal"),
        (true, Some(path)) => Ok((Stdio::Terminal { console: connect(path)? }, None)),
        (true, None) if args.detach => {
            bail!("the process has a terminal: say by --console-socket where it is sent to")
        }
        (true, None) => {
            let (attached, console) = Attached::pair().context("make a socket for the terminal")?;
            Ok((Stdio::Terminal { console }, Some(attached)))
        }
    }
}

/// The process of `--process`, or the container's own with what the flags change.
fn process(args: &ExecArgs, spec: &Spec) -> Result<Process> {
    if let Some(path) = &args.process {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        return serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()));
    }
    if args.command.is_empty() {
        bail!("what shall be run? give a command or --process");
    }
    let mut process = spec.process().clone().context("the container's spec has no process")?;
    process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty)).set_console_size(None);
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(args.env.iter().cloned());
    process.set_env(Some(environment));
    if let Some(user) = &args.user {
        process.set_user(parse_user(user)?);
    }
    if !args.additional_gids.is_empty() {
        let mut user = process.user().clone();
        user.set_additional_gids(Some(args.additional_gids.clone()));
        process.set_user(user);
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    add_capabilities(&mut process, &args.cap)?;
    Ok(process)
}

/// Plain decimal numbers up to [`i32::MAX`]: what was parsed leniently beyond became root elsewhere (CVE-2026-30892,
/// CVE-2024-40635).
fn parse_user(text: &str) -> Result<User> {
    let id = |part: &str| -> Result<u32> {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let id = part.parse().ok().filter(|id| plain && *id <= i32::MAX as u32);
        id.with_context(|| format!("`{text}` is no user: UID or UID:GID, each from 0 to {}", i32::MAX))
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let mut user = User::default();
    user.set_uid(id(uid)?).set_gid(id(gid)?);
    Ok(user)
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let plain = name.trim_start_matches("CAP_");
        let capability =
            Capability::from_str(plain).ok().with_context(|| format!("`{name}` is no capability"))?;
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) =
            (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_one_or_two_plain_numbers() {
        let ids = |text: &str| parse_user(text).map(|user| (user.uid(), user.gid())).ok();
        assert_eq!(ids("0"), Some((0, 0)));
        assert_eq!(ids("1000:2147483647"), Some((1000, 2_147_483_647)));
        for wrong in ["", ":", "1:", ":1", "+1", "-1", "root", "2147483648", "4294967296", "1:2:3", " 1"] {
            assert_eq!(ids(wrong), None, "{wrong:?}");
        }
    }
}
