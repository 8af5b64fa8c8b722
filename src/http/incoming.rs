//! An answer as it comes in (RFC 9112): bytes in; status, headers and body out.
//!
//! Does no I/O: whoever has a socket drives it, blocking or not. What the other side sends costs memory and work only within limits,
//! and where two readings of it are possible it is refused.

mod framing;
mod head;
#[cfg(test)]
mod tests;

use framing::Framing;
pub use head::Head;

/// Bytes of an answer's head with the 1xx before it, and of what stands around the chunks of a body.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 128;
/// How many bytes are read at once where they have to be looked at.
const ROOM: usize = 16 << 10;

/// An answer of which not everything has come yet.
#[derive(Debug)]
pub struct Incoming {
    /// What has come and was not taken stands from `start` to `end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    expects_body: bool,
    /// Bytes of heads so far.
    head_length: usize,
    /// A line has ended since the head was last looked for.
    has_line: bool,
    framing: Framing,
    stays_open: bool,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0}")]
    Head(httparse::Error),
    #[error("its head is longer than {MAX_HEAD} bytes")]
    LongHead,
    #[error("it changes to another protocol")]
    OtherProtocol,
    #[error("its length is {0:?}")]
    Length(String),
    #[error("it has two lengths")]
    TwoLengths,
    #[error("it is sent as {0:?}, which nobody asked for")]
    Coding(String),
    #[error("its chunks are broken")]
    Chunks,
    #[error("more stands around its chunks than in them")]
    Overhead,
}

impl Incoming {
    /// `expects_body`: what was sent is neither HEAD nor CONNECT, the answers of which have none whatever their headers say.
    pub fn new(expects_body: bool) -> Incoming {
        Incoming {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            expects_body,
            head_length: 0,
            has_line: false,
            framing: Framing::NONE,
            stays_open: false,
        }
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // Only a head, or a line between chunks, is left lying until more comes, and both have limits.
        if self.end == self.bytes.len() {
            self.bytes.resize(self.end + ROOM, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of the room were written.
    pub fn filled(&mut self, count: usize) {
        let new = &self.bytes[self.end..self.end + count];
        self.has_line |= new.contains(&b'\n');
        self.end += count;
    }

    /// Takes bytes that were read elsewhere: few, and no room is made for more of them.
    pub fn take(&mut self, new: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.bytes.extend_from_slice(new);
        self.end = self.bytes.len() - new.len();
        self.filled(new.len());
    }

    /// The head, once all of it has come; given out once. Answers before the real one (1xx) are passed over.
    pub fn head(&mut self) -> Result<Option<Head>, Malformed> {
        // A head ends with a line: looked at for each byte of a slow server it would be looked at too often.
        while std::mem::take(&mut self.has_line) {
            let Some((head, length)) = Head::parse(self.unread())? else { break };
            self.start += length;
            self.head_length += length;
            if self.head_length > MAX_HEAD {
                return Err(Malformed::LongHead);
            }
            if head.status >= 200 {
                self.stays_open = head.stays_open;
                self.framing = if self.expects_body { head.framing()? } else { Framing::NONE };
                return Ok(Some(head));
            }
            if head.status == 101 {
                return Err(Malformed::OtherProtocol);
            }
            self.has_line = self.unread().contains(&b'\n');
        }
        if self.head_length + self.unread().len() > MAX_HEAD { Err(Malformed::LongHead) } else { Ok(None) }
    }

    /// Moves some of the body that has come into `out`, and returns how many bytes. None: more must come first, or it is over.
    pub fn body(&mut self, out: &mut [u8]) -> Result<usize, Malformed> {
        while !self.framing.is_over() {
            let unread = &self.bytes[self.start..self.end];
            let plain = self.framing.plain();
            if plain > 0 {
                let count = clamp(plain, unread.len().min(out.len()));
                out[..count].copy_from_slice(&unread[..count]);
                self.start += count;
                self.framing.took(count);
                return Ok(count);
            }
            match self.framing.take_line(unread)? {
                0 => break,
                length => self.start += length,
            }
        }
        Ok(0)
    }

    /// How many of the bytes that come next are of the body as they are, so that they may be read to where they shall lie
    /// ([`Incoming::passed`] is told of them). None while there are bytes that came before.
    pub fn plain(&self) -> u64 {
        if self.is_empty() { self.framing.plain() } else { 0 }
    }

    /// So many bytes of the body did not go through here.
    pub fn passed(&mut self, count: usize) {
        self.framing.took(count);
    }

    /// All of the body was taken. (Before the head has come, this says nothing.)
    pub fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// Whether the answer may end with the connection, which it has just done.
    pub fn ends_with_connection(&mut self) -> bool {
        self.framing.end()
    }

    /// The connection is good for another request: this answer is over, nothing came after it, and the other side keeps it open.
    pub fn leaves_connection(&self) -> bool {
        self.is_over() && self.stays_open && self.is_empty()
    }

    /// Nothing is left of what has come.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

fn clamp(many: u64, limit: usize) -> usize {
    usize::try_from(many).map_or(limit, |many| many.min(limit))
}
