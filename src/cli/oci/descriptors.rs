//! Descriptors that go from the caller to the container, and the PID that goes back.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Process;

/// How many descriptors from 3 on are the container's.
#[derive(Debug)]
pub struct HandedOn {
    preserved: u32,
    /// Those of socket activation (`sd_listen_fds(3)`), which come first.
    listening: u32,
}

/// Looks at what is there before we open anything: a number that is free now would become a file of ours, and that would
/// be handed on.
///
/// # Errors
/// When one is missing.
pub fn handed_on(preserve_fds: u32) -> Result<HandedOn> {
    let handed_on = HandedOn { preserved: preserve_fds, listening: listening() };
    for number in (3..).take(handed_on.sum() as usize) {
        if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            bail!("descriptor {number} shall be handed on to the container, but is not open");
        }
    }
    Ok(handed_on)
}

fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

impl HandedOn {
    fn sum(&self) -> u32 {
        self.preserved.saturating_add(self.listening)
    }

    /// Says in the environment which ones listen, where that is asked for. How many there are in all.
    pub fn tell(&self, process: &mut Option<Process>) -> u32 {
        if let (1.., Some(process)) = (self.listening, process) {
            let mut env = process.env().clone().unwrap_or_default();
            env.push(format!("LISTEN_FDS={}", self.listening));
            env.extend(std::env::var("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")));
            env.push("LISTEN_PID=1".to_owned());
            process.set_env(Some(env));
        }
        self.sum()
    }
}

/// Whole or absent: who waits for the file reads it as soon as it is there.
///
/// # Errors
/// When it cannot be written.
pub fn write_pid(file: Option<&Path>, pid: u32) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let name = file.file_name().with_context(|| format!("{} is no name of a file", file.display()))?;
    let aside = file.with_file_name(format!(".{}.{pid}", name.to_string_lossy()));
    fs::write(&aside, pid.to_string()).with_context(|| format!("write {}", aside.display()))?;
    fs::rename(&aside, file).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_descriptor_is_not_handed_on() {
        assert!(handed_on(1_000_000).unwrap_err().to_string().contains("is not open"));
        assert_eq!(handed_on(0).unwrap().sum(), 0);
    }

    #[test]
    fn the_pid_is_the_only_thing_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        write_pid(Some(&file), 42).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "42");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_pid(None, 42).unwrap();
    }
}
