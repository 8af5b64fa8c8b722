//! SIGUSR2: the keeper executes its binary again, in place: same PID, same children, same file descriptors.
//!
//! What it remembers travels in a file without a name, whose descriptor's number stands in the environment. The locks
//! stay locked, since their descriptors stay open.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::Options;
use super::exits::Exits;
use super::protocol::Exit;
use crate::order;
use crate::sys::sealed;
use crate::sys::wait::Ended;

const VARIABLE: &str = "PODKEEP_KEEPER_STATE";

/// What the earlier self handed over.
#[derive(Debug, Default)]
pub struct Before {
    pub held: BTreeMap<String, OwnedFd>,
    pub exits: Exits,
    pub locks: Vec<OwnedFd>,
    pub open_files: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    held: Vec<(String, RawFd)>,
    /// Sequence number, PID, start time, killed by a signal, code or signal.
    exits: Vec<(u64, u32, u64, bool, u8)>,
    last_seq: u64,
    locks: Vec<RawFd>,
    open_files: Option<u64>,
}

/// What an earlier self of this process left, if there was one.
pub fn inherited() -> io::Result<Option<Before>> {
    let Some(number) = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<RawFd>().ok()) else {
        return Ok(None);
    };
    // Opened again by its number rather than taken over: the number comes from outside.
    let mut file = File::open(format!("/proc/self/fd/{number}"))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    drop(file);
    let saved: Saved = serde_json::from_str(&text)?;
    let open_files = saved.open_files;
    let held: Vec<RawFd> = saved.held.iter().map(|(_, fd)| *fd).collect();
    let all = [&held[..], &saved.locks, &[number]].concat();
    let mut fds = crate::sys::inherited::take(&all)?;
    for fd in &fds {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    fds.truncate(held.len() + saved.locks.len());
    let locks = fds.split_off(held.len());
    let held = order::map(saved.held.into_iter().map(|(key, _)| key).zip(fds));
    let exit = |(seq, pid, start_time, killed, number): (u64, u32, u64, bool, u8)| {
        let how = if killed { Ended::Signal(number) } else { Ended::Code(number) };
        Exit { seq, pid, start_time, how }
    };
    let exits: VecDeque<Exit> = saved.exits.into_iter().map(exit).collect();
    Ok(Some(Before { held, exits: Exits::restore(exits, saved.last_seq), locks, open_files }))
}

/// Whether this process is a keeper that executed itself again: its locks are its own then.
pub fn is_renewed() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Executes the binary again with the same arguments. Comes back only if that is not possible, with everything as it was.
pub fn renew(options: &Options, held: &BTreeMap<String, OwnedFd>, exits: &Exits) -> io::Error {
    let (exe, locks) = (&options.exe, &options.locks);
    let result = save(held, exits, options).and_then(|state| execute(exe, held, locks, &state));
    for fd in held.values() {
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    for lock in locks {
        let _ = fcntl_setfd(lock, FdFlags::CLOEXEC);
    }
    match result {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn save(held: &BTreeMap<String, OwnedFd>, exits: &Exits, options: &Options) -> io::Result<File> {
    let mut saved = Saved {
        held: held.iter().map(|(key, fd)| (key.clone(), fd.as_raw_fd())).collect(),
        exits: Vec::new(),
        last_seq: exits.last_seq(),
        locks: options.locks.iter().map(AsRawFd::as_raw_fd).collect(),
        open_files: options.open_files,
    };
    exits.for_each_unacknowledged(|exit| {
        let (killed, number) = match exit.how {
            Ended::Code(code) => (false, code),
            Ended::Signal(signal) => (true, signal),
        };
        saved.exits.push((exit.seq, exit.pid, exit.start_time, killed, number));
    });
    let mut file = File::from(memfd_create("podkeep-keeper-state", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&saved)?)?;
    file.rewind()?;
    Ok(file)
}

fn execute(
    exe: &Path,
    held: &BTreeMap<String, OwnedFd>,
    locks: &[OwnedFd],
    state: &File,
) -> io::Result<std::convert::Infallible> {
    let open_over_exec = held.values().map(AsFd::as_fd).chain(locks.iter().map(AsFd::as_fd));
    for fd in open_over_exec.chain([state.as_fd()]) {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let number = state.as_raw_fd().to_string();
    let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    // Sealed at once, so that there is nothing left that could fail in the new program.
    sealed::execute(exe, others.chain([(VARIABLE.into(), number.into())]))
}
