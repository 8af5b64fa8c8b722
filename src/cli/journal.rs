//! What the node says of itself: one line each on stderr, for a terminal or a service manager's journal.

use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Journal {
    /// The keeper's service manager stamps lines itself.
    with_time: bool,
}

/// Sends what is logged to stderr from now on.
pub fn start() {
    let with_time = std::env::var_os("JOURNAL_STREAM").is_none();
    // Set once: a second journal would be a second `main`.
    if log::set_boxed_logger(Box::new(Journal { with_time })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        let line = match self.with_time {
            true => format!("{:.3} {level}{}\n", jiff::Timestamp::now(), record.args()),
            false => format!("{level}{}\n", record.args()),
        };
        // A closed stderr ends no Pod.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
