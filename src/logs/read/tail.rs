//! The last lines of a run: where they begin, and what they say, found from the end of its files.

use std::ops::ControlFlow;
use std::path::Path;

use super::super::{Error, Stream, cri};
use super::files::{BLOCK, Files, Listed, Open, listing};

/// How far to look for the beginning of a line whose parts lie between lines of the other stream. Bytes.
const MAX_DETOUR: u64 = 256 * 1024;

/// The position from which the last `wanted` lines can be read, and how many lines to skip from there.
pub(super) fn start(dir: &Path, restart: u32, wanted: usize) -> Result<(Files, usize), Error> {
    loop {
        let files = listing(dir, restart)?.into_iter().filter(|file| file.restart == restart).collect();
        if let Some(start) = search(dir, restart, files, wanted)? {
            return Ok(start);
        }
    }
}

/// The end of what a run has written to both outputs, as it came: at most so many lines, and of those so many bytes.
///
/// # Errors
/// [`Error::Path`] if its files cannot be listed, opened or read.
pub fn last_output(dir: &Path, restart: u32, lines: usize, bytes: usize) -> Result<Vec<u8>, Error> {
    let (mut backwards, mut ends) = (Vec::new(), 0);
    for listed in listing(dir, restart)?.iter().rev().filter(|file| file.restart == restart) {
        let Some(file) = Open::listed(listed)? else { continue };
        let flow = records_backwards(&file, |record| {
            ends += usize::from(record.whole);
            if ends > lines || backwards.len() >= bytes {
                return ControlFlow::Break(());
            }
            backwards.extend(record.whole.then_some(b'\n'));
            backwards.extend(record.content.iter().rev());
            ControlFlow::Continue(())
        })?;
        if flow.is_break() {
            break;
        }
    }
    backwards.truncate(bytes);
    backwards.reverse();
    Ok(backwards)
}

/// `None` if files were rotated meanwhile.
fn search(
    dir: &Path,
    restart: u32,
    mut files: Vec<Listed>,
    wanted: usize,
) -> Result<Option<(Files, usize)>, Error> {
    let mut count = Count::new(wanted);
    let mut found: Option<(Open, u64, usize)> = None;
    while let Some(listed) = files.pop() {
        let Some(file) = Open::listed(&listed)? else { return Ok(None) };
        let mut offset = None;
        let flow = records_backwards(&file, |record| {
            let flow = count.add(record);
            offset = count.start.take().or(offset.take());
            flow
        })?;
        if let Some((offset, skip)) = offset {
            found = Some((file, offset, skip));
        }
        if flow.is_break() {
            break;
        }
    }
    Ok(Some(match found {
        Some((file, offset, skip)) => (Files::at(dir, file, offset), skip),
        None => (Files::new(dir, restart), 0),
    }))
}

/// A record and its place in its file.
struct Placed<'a> {
    start: u64,
    end: u64,
    stream: Stream,
    whole: bool,
    content: &'a [u8],
}

/// Counts lines from the last one backwards.
struct Count {
    wanted: usize,
    /// Ends of lines seen, wanted or not.
    lines: usize,
    /// Set whenever a better place to start was found: the offset, and the lines to skip from there.
    start: Option<(u64, usize)>,
    /// Bytes looked at since `wanted` lines were found.
    detour: u64,
    stdout: Progress,
    stderr: Progress,
}

/// How far the look backwards got in a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No line of it is wanted so far.
    Unseen,
    /// Its earliest wanted line may have parts further back.
    Open,
    /// A line was met that is not wanted.
    Settled,
}

impl Count {
    fn new(wanted: usize) -> Count {
        let (stdout, stderr) = (Progress::Unseen, Progress::Unseen);
        Count { wanted, lines: 0, start: None, detour: 0, stdout, stderr }
    }

    fn add(&mut self, record: Placed<'_>) -> ControlFlow<()> {
        let had_enough = self.lines > self.wanted;
        let progress = match record.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let ends_line = record.whole || (*progress == Progress::Unseen && !had_enough);
        if ends_line {
            self.lines += 1;
        }
        if self.lines <= self.wanted {
            *progress = Progress::Open;
            return ControlFlow::Continue(());
        }
        if ends_line {
            if !had_enough {
                self.start = Some((record.end, 0));
            }
            *progress = Progress::Settled;
        } else if *progress == Progress::Open {
            self.start = Some((record.start, self.lines - self.wanted));
        }
        self.detour += record.end - record.start;
        let searching = [self.stdout, self.stderr].contains(&Progress::Open) && self.detour < MAX_DETOUR;
        if searching { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Calls `each` for every record of a file, the last one first.
fn records_backwards(
    file: &Open,
    mut each: impl FnMut(Placed<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    // The beginning of what was read last, whose own beginning lies before it.
    let mut rest: Vec<u8> = Vec::new();
    let mut start = file.length;
    while start > 0 {
        let from = start.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(start - from).unwrap_or(BLOCK)];
        let count = file.read_at(&mut block, from)?;
        // Shorter if somebody cut the file meanwhile.
        block.truncate(count);
        block.append(&mut rest);
        let first_whole = if from == 0 { 0 } else { newline(&block).map_or(block.len(), |at| at + 1) };
        let mut end = block.len();
        while end > first_whole {
            let begin = block[first_whole..end - 1].iter().rposition(|&b| b == b'\n');
            let begin = begin.map_or(first_whole, |at| first_whole + at + 1);
            if let Some(record) = block[begin..end].strip_suffix(b"\n").and_then(cri::parse) {
                let (start, end) = (from + begin as u64, from + end as u64);
                let cri::Record { stream, whole, content, .. } = record;
                if each(Placed { start, end, stream, whole, content }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            end = begin;
        }
        block.truncate(first_whole);
        rest = block;
        start = from;
    }
    Ok(ControlFlow::Continue(()))
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == b'\n')
}
