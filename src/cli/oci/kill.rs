//! `podkeep oci kill`.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use super::args::{Global, KillArgs};
use super::state::Record;
use super::store::Store;
use crate::cgroup::{self, Group};
use crate::sys;

/// By which containerd and podman know that there is nobody to kill.
const NOT_RUNNING: &str = "container not running";

pub fn kill(global: &Global, args: &KillArgs) -> Result<ExitCode> {
    let signal =
        sys::signal::parse(&args.signal).with_context(|| format!("unknown signal {:?}", args.signal))?;
    let entry = Store::new(&global.root).expect(&args.id)?;
    let record = entry.expect_record()?;
    if args.all {
        to_all(&record, signal)?;
    } else if signal == Signal::KILL && !has_own_pids(&entry.spec()?) {
        // With its first process gone, nobody else would end the others.
        if !record.process.lives() {
            bail!(NOT_RUNNING);
        }
        to_all(&record, signal)?;
    } else {
        let pidfd = record.process.open()?.context(NOT_RUNNING)?;
        match pidfd_send_signal(&pidfd, signal) {
            Err(Errno::SRCH) => bail!(NOT_RUNNING),
            sent => sent.map_err(io::Error::from).context("signal the container's first process")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn has_own_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none())
}

/// SIGKILL reaches those that are being forked too; any other signal those that are there now.
fn to_all(record: &Record, signal: Signal) -> Result<()> {
    let Some(group) = cgroup::open_existing(&record.cgroup)? else { return Ok(()) };
    if signal == Signal::KILL { Ok(group.kill()?) } else { to_each(&group, signal) }
}

fn to_each(group: &Group, signal: Signal) -> Result<()> {
    for pid in group.processes()? {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                return Err(io::Error::from(errno)).with_context(|| format!("signal the process {pid:?}"));
            }
        }
    }
    Ok(())
}
