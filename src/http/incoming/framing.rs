//! Where a body ends (RFC 9112, sections 6 and 7).

use super::{MAX_HEAD, Malformed};

/// Longer lines between chunks are refused; as with Go's standard library.
const MAX_LINE: usize = 4096;

/// What is still to come of a body.
#[derive(Debug)]
pub(super) enum Framing {
    Length(u64),
    UntilClose,
    Chunks {
        next: Next,
        /// Bytes around the chunks beyond what honest ones need.
        overhead: usize,
    },
}

/// What comes next in a body of chunks.
#[derive(Debug)]
pub(super) enum Next {
    Size,
    Data(u64),
    EndOfData,
    Trailer,
    Nothing,
}

impl Framing {
    pub(super) const NONE: Framing = Framing::Length(0);

    pub(super) fn chunks() -> Framing {
        Framing::Chunks { next: Next::Size, overhead: 0 }
    }

    /// How many of the next bytes are the body's own.
    pub(super) fn plain(&self) -> u64 {
        match self {
            Framing::Length(left) | Framing::Chunks { next: Next::Data(left), .. } => *left,
            Framing::UntilClose => u64::MAX,
            Framing::Chunks { .. } => 0,
        }
    }

    /// So many of those were taken.
    pub(super) fn took(&mut self, count: usize) {
        match self {
            Framing::Length(left) => *left -= count as u64,
            Framing::Chunks { next: next @ Next::Data(_), .. } => {
                let Next::Data(left) = next else { return };
                *left -= count as u64;
                if *left == 0 {
                    *next = Next::EndOfData;
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Framing::Length(0) | Framing::Chunks { next: Next::Nothing, .. })
    }

    /// The connection has ended; returns whether the body may end so.
    pub(super) fn end(&mut self) -> bool {
        if let Framing::UntilClose = self {
            *self = Framing::NONE;
        }
        self.is_over()
    }

    /// Takes a line that stands between chunks, and returns its length; 0 if it is not whole.
    pub(super) fn take_line(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let Framing::Chunks { next, overhead } = self else { return Ok(0) };
        let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
            return if bytes.len() < MAX_LINE { Ok(0) } else { Err(Malformed::Chunks) };
        };
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed::Chunks)?;
        // What a chunk's size and end need; and the more it brings, the more may stand around it.
        let mut due = 8;
        *next = match next {
            Next::Size => match size(line)? {
                0 => Next::Trailer,
                size => {
                    due += usize::try_from(size / 2).unwrap_or(usize::MAX / 2);
                    Next::Data(size)
                }
            },
            Next::EndOfData if line.is_empty() => Next::Size,
            Next::Trailer if line.is_empty() => Next::Nothing,
            Next::Trailer => Next::Trailer,
            _ => return Err(Malformed::Chunks),
        };
        *overhead = (*overhead + end + 1).saturating_sub(due);
        if *overhead > MAX_HEAD { Err(Malformed::Overhead) } else { Ok(end + 1) }
    }
}

/// Hexadecimal digits, then spaces or an extension, which means nothing to us.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    if !matches!(rest.trim_ascii_start(), [] | [b';', ..]) {
        return Err(Malformed::Chunks);
    }
    let number = std::str::from_utf8(number).map_err(|_| Malformed::Chunks)?;
    // None are an error, and so are more than fit.
    u64::from_str_radix(number, 16).map_err(|_| Malformed::Chunks)
}
