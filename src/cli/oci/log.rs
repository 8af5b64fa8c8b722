//! What goes wrong, for the one who called: on standard error, and in the file of `--log` as runc writes it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::args::{Global, LogFormat};

/// How bad it is, in the words of runc's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Says it. The file is opened only now: nothing is written on the way of a container that starts.
pub fn say(global: &Global, level: Level, message: &str) {
    // Nobody is left to be told if these fail too.
    let _ = in_file(global, level, message);
    if level == Level::Error || global.log.is_none() {
        let _ = writeln!(io::stderr(), "podkeep oci: {message}");
    }
}

fn in_file(global: &Global, level: Level, message: &str) -> io::Result<()> {
    let Some(path) = &global.log else { return Ok(()) };
    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
    let time = jiff::Timestamp::now();
    let time = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&time);
    file.write_all(line(global.log_format, level, message, &time).as_bytes())
}

/// In one write, so that lines of several runtimes do not mix. Those who read the file tell lines apart by their JSON.
fn line(format: LogFormat, level: Level, message: &str, time: &str) -> String {
    let quoted = serde_json::Value::from(message);
    let level = level.name();
    match format {
        LogFormat::Json => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_runc() {
        let time = "2026-01-02T03:04:05Z";
        let json = line(LogFormat::Json, Level::Error, "a \"b\"\nc", time);
        let expected = r#"{"level":"error","msg":"a \"b\"\nc","time":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(json, format!("{expected}\n"));
        let text = line(LogFormat::Text, Level::Warning, "x", time);
        assert_eq!(text, "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"x\"\n");
    }
}
