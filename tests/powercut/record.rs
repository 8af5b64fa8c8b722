//! How the cuts of a run came out, in a file with a line for each: an interrupted run is resumed from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

pub struct Record {
    file: File,
    pub good: Vec<u64>,
    pub bad: Vec<u64>,
}

impl Record {
    /// Begins anew.
    pub fn create(path: &Path) -> io::Result<Record> {
        Ok(Record { file: File::create(path)?, good: Vec::new(), bad: Vec::new() })
    }

    /// Goes on where an earlier run was interrupted, if there was one.
    pub fn resume(path: &Path) -> io::Result<Record> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let numbers = |outcome: &str| {
            let lines = text.lines().filter_map(|line| line.strip_suffix(outcome));
            lines.filter_map(|number| number.parse().ok()).collect()
        };
        let (good, bad) = (numbers(GOOD), numbers(BAD));
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Record { file, good, bad })
    }

    /// The last cut of which it is known how it came out.
    pub fn last(&self) -> u64 {
        self.good.iter().chain(&self.bad).copied().max().unwrap_or(0)
    }

    pub fn good(&mut self, cut: u64) -> io::Result<()> {
        self.good.push(cut);
        writeln!(self.file, "{cut}{GOOD}")
    }

    pub fn bad(&mut self, cut: u64) -> io::Result<()> {
        self.bad.push(cut);
        writeln!(self.file, "{cut}{BAD}")
    }
}

const GOOD: &str = " good";
const BAD: &str = " bad";
