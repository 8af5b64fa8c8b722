//! `podkeep oci ps`: the processes of a container, by their PIDs on the host.

use std::io::{self, Write};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::args::{Format, Global, PsArgs};
use super::store::Store;
use crate::cgroup;
use crate::order;

pub fn ps(global: &Global, args: &PsArgs) -> Result<ExitCode> {
    let record = Store::new(&global.root).expect(&args.id)?.expect_record()?;
    let mut pids = match cgroup::open_existing(&record.cgroup)? {
        Some(group) => group.processes()?,
        None => Vec::new(),
    };
    order::sort(&mut pids);
    let mut out = io::stdout().lock();
    match args.format {
        Format::Json => {
            serde_json::to_writer(&mut out, &pids)?;
            writeln!(out)?;
        }
        Format::Table => write!(out, "{}", of_these(&run_ps(&args.options)?, &pids)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_ps(options: &[String]) -> Result<String> {
    let options = if options.is_empty() { &["-ef".to_owned()][..] } else { options };
    let output = Command::new("ps").args(options).output().context("run ps(1)")?;
    if !output.status.success() {
        bail!("ps(1) ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header and those lines whose column `PID` names one of them.
fn of_these(listing: &str, pids: &[u32]) -> Result<String> {
    let mut lines = listing.lines();
    let header = lines.next().context("ps(1) has printed nothing")?;
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps(1) has printed no column PID: use options that show it")?;
    let is_one = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let chosen = [header].into_iter().chain(lines.filter(is_one));
    Ok(chosen.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column() {
        let listing =
            "UID   PID PPID CMD\nroot   12    1 a 13\nroot   13   12 b 12\nroot    1    0 init 12\n";
        assert_eq!(of_these(listing, &[13]).unwrap(), "UID   PID PPID CMD\nroot   13   12 b 12\n");
        assert!(of_these("CMD\nx\n", &[1]).is_err());
        assert!(of_these("", &[1]).is_err());
    }
}
