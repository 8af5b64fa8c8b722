//! `GET /v1/events`: what happened to the Pods, a line of JSON for each record, oldest first.
//!
//! `?after=N` leaves out what had not changed after that sequence. With `?watch` the connection stays open, and each change
//! is a line more.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use super::{EVENTS, json};
use crate::events::{Recorder, lines};

/// How long an asker that has hung up may go unnoticed.
const LOOK_AFTER: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub after: u64,
    pub watch: bool,
}

impl Path {
    pub fn parse(path: &str) -> Option<Path> {
        let rest = path.strip_prefix(EVENTS)?;
        let mut parsed = Path::default();
        let Some(query) = rest.strip_prefix('?') else { return rest.is_empty().then_some(parsed) };
        for word in query.split('&') {
            match word.split_once('=') {
                Some(("after", number)) => parsed.after = number.parse().ok()?,
                None if word == "watch" => parsed.watch = true,
                _ => return None,
            }
        }
        Some(parsed)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{EVENTS}?after={}{}", self.after, if self.watch { "&watch" } else { "" })
    }
}

/// Answers until there is no more to say, or the asker has hung up.
pub(super) fn answer(mut stream: UnixStream, path: Path, recorder: &Recorder) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let mut after = path.after;
    let mut patience = Duration::ZERO;
    loop {
        let records = recorder.after(after, patience);
        stream.write_all(&json::harmless(lines(&records).as_bytes()))?;
        after = records.last().map_or(after, |record| record.sequence);
        if !path.watch || has_hung_up(&stream) {
            return Ok(());
        }
        patience = LOOK_AFTER;
    }
}

fn has_hung_up(stream: &UnixStream) -> bool {
    let mut byte = [0; 1];
    matches!(recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((0, _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_was_written() {
        for path in [Path::default(), Path { after: 17, watch: true }] {
            assert_eq!(Path::parse(&path.to_string()), Some(path));
        }
        assert_eq!(Path::parse("/v1/events"), Some(Path::default()));
        for wrong in ["/v1/events/", "/v1/events?after=x", "/v1/events?before=1", "/v1/eventsmore"] {
            assert_eq!(Path::parse(wrong), None, "{wrong}");
        }
    }
}
