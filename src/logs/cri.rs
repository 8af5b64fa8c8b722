//! The CRI log format: `<RFC3339Nano> <stdout|stderr> <F|P> <content>\n` per line (F) or part of a line (P).
//!
//! Pure: bytes in, bytes out. Content is never looked into: NUL and invalid UTF-8 pass through.

use super::Stream;

/// A longer line is cut into parts of this size, as containerd does (`max_container_log_line_size`). Bytes.
pub(super) const MAX_PIECE: usize = 16 * 1024;

/// What happens to bytes after the last newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// They stay in the pipe until the line is whole, as far as they make no part of [`MAX_PIECE`].
    Keep,
    /// They are taken as a part of a line.
    Take,
}

/// How many of the bytes at the head of a pipe can be written now.
pub(super) fn ready(pending: &[u8], tail: Tail) -> usize {
    let lines = pending.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    match tail {
        Tail::Take => pending.len(),
        // One byte more must have been seen: a line of exactly MAX_PIECE is whole when its newline comes.
        Tail::Keep => lines + (pending.len() - lines).saturating_sub(1) / MAX_PIECE * MAX_PIECE,
    }
}

/// What [`format`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Formatted {
    /// Bytes of the input that the output stands for.
    pub taken: usize,
    /// Ends of lines among them; at least 1 if anything was taken, so that a lost part is not counted as nothing.
    pub lines: u64,
}

/// Appends records for `bytes` to `out`, all of one moment: as many as keep `out` within `limit` bytes, at least one.
pub(super) fn format(bytes: &[u8], time: &str, stream: Stream, limit: usize, out: &mut Vec<u8>) -> Formatted {
    let mut rest = bytes;
    let mut ends = 0;
    while let Some(piece) = Piece::first_of(rest) {
        let length = time.len() + " stdout F \n".len() + piece.content.len();
        if out.len() + length > limit && rest.len() < bytes.len() {
            break;
        }
        record(time, stream, piece.whole, piece.content, out);
        ends += u64::from(piece.whole);
        rest = &rest[piece.consumed..];
    }
    let taken = bytes.len() - rest.len();
    Formatted { taken, lines: if taken > 0 { ends.max(1) } else { 0 } }
}

/// Appends one record.
pub(super) fn record(time: &str, stream: Stream, whole: bool, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(if whole { b" F " } else { b" P " });
    out.extend_from_slice(content);
    out.push(b'\n');
}

/// What becomes one record.
struct Piece<'a> {
    content: &'a [u8],
    /// The content ends its line.
    whole: bool,
    /// With the newline.
    consumed: usize,
}

impl Piece<'_> {
    fn first_of(bytes: &[u8]) -> Option<Piece<'_>> {
        let head = &bytes[..bytes.len().min(MAX_PIECE + 1)];
        match head.iter().position(|&b| b == b'\n') {
            Some(newline) => Some(Piece { content: &head[..newline], whole: true, consumed: newline + 1 }),
            None if head.is_empty() => None,
            None => {
                let content = &head[..head.len().min(MAX_PIECE)];
                Some(Piece { content, whole: false, consumed: content.len() })
            }
        }
    }
}

/// A record read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub time: &'a str,
    pub stream: Stream,
    /// The content ends its line.
    pub whole: bool,
    pub content: &'a [u8],
}

/// Reads a record without its newline; `None` if it is none.
pub(super) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |&b| b == b' ');
    let time = std::str::from_utf8(fields.next()?).ok().filter(|time| !time.is_empty())?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // More tags may follow the first after a colon; none is defined yet.
    let whole = match fields.next()?.split(|&b| b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record { time, stream, whole, content: fields.next()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.000000006+00:00";

    fn formatted(bytes: &[u8]) -> Vec<(bool, Vec<u8>)> {
        let mut out = Vec::new();
        let done = format(bytes, TIME, Stream::Stdout, usize::MAX, &mut out);
        assert_eq!(done.taken, bytes.len());
        let lines = out.strip_suffix(b"\n").map(|out| out.split(|&b| b == b'\n'));
        lines
            .into_iter()
            .flatten()
            .map(|line| {
                let record = parse(line).expect("a record");
                assert_eq!((record.time, record.stream), (TIME, Stream::Stdout));
                (record.whole, record.content.to_vec())
            })
            .collect()
    }

    #[test]
    fn a_record_looks_as_the_format_says() {
        let mut out = Vec::new();
        format(b"a b\0\xff\n", TIME, Stream::Stderr, usize::MAX, &mut out);
        assert_eq!(out, [TIME.as_bytes(), b" stderr F a b\0\xff\n"].concat());
    }

    #[test]
    fn lines_are_cut_at_16_kib() {
        let line = |n| [vec![b'x'; n], vec![b'\n']].concat();
        let sizes =
            |bytes: &[u8]| formatted(bytes).into_iter().map(|(f, c)| (f, c.len())).collect::<Vec<_>>();
        assert_eq!(sizes(&line(MAX_PIECE)), [(true, MAX_PIECE)]);
        assert_eq!(sizes(&line(MAX_PIECE + 1)), [(false, MAX_PIECE), (true, 1)]);
        assert_eq!(sizes(&line(2 * MAX_PIECE)), [(false, MAX_PIECE), (true, MAX_PIECE)]);
        assert_eq!(sizes(b"\n\n"), [(true, 0), (true, 0)]);
        assert_eq!(sizes(b"a\nb"), [(true, 1), (false, 1)]);
    }

    #[test]
    fn an_unfinished_line_waits_until_it_is_longer_than_a_piece() {
        assert_eq!(ready(b"a\nb", Tail::Keep), 2);
        assert_eq!(ready(b"a\nb", Tail::Take), 3);
        assert_eq!(ready(&[b'x'; MAX_PIECE], Tail::Keep), 0);
        assert_eq!(ready(&[b'x'; MAX_PIECE + 1], Tail::Keep), MAX_PIECE);
        assert_eq!(ready(&[b'x'; 4 * MAX_PIECE], Tail::Keep), 3 * MAX_PIECE);
    }

    #[test]
    fn a_limit_stops_before_the_record_that_would_pass_it_but_takes_one() {
        let one = TIME.len() + " stdout F a\n".len();
        for (limit, taken) in [(0, 2), (one, 2), (2 * one - 1, 2), (2 * one, 4)] {
            let mut out = Vec::new();
            assert_eq!(format(b"a\nb\nc\n", TIME, Stream::Stdout, limit, &mut out).taken, taken, "{limit}");
        }
    }

    proptest! {
        #[test]
        fn parts_joined_are_the_input(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..4)) {
            let bytes = lines.concat();
            let mut joined = Vec::new();
            for (whole, content) in formatted(&bytes) {
                prop_assert!(content.len() <= MAX_PIECE);
                joined.extend_from_slice(&content);
                if whole {
                    joined.push(b'\n');
                }
            }
            prop_assert_eq!(joined, bytes);
        }

        #[test]
        fn parsing_never_panics(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }
    }
}
