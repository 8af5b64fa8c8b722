//! Answers, as bytes.

use super::query::Query;
use crate::dns::{HEADER, INTERNET, PIECE, POINTER, code, flag, kind, low_flag};

/// The extension's record without options. Bytes.
const EXTENSION: usize = 11;

/// How long others may keep what we say: CoreDNS' default in a cluster. Seconds.
pub const TTL: u32 = 5;

/// An answer that is being written: records are added for as long as they fit.
pub struct Reply<'a> {
    query: &'a Query<'a>,
    bytes: Vec<u8>,
    limit: usize,
    code: u8,
}

/// In which part of an answer a record stands: where the message counts it.
#[derive(Clone, Copy)]
pub enum Section {
    Answer = 7,
    Authority = 9,
}

impl<'a> Reply<'a> {
    /// `limit`: how long it may become. Bytes.
    pub fn new(query: &'a Query<'a>, limit: usize, code: u8) -> Reply<'a> {
        let mut bytes = header(query.message, code);
        // As it was asked, small letters and capitals: who asks may have chosen them to know the answer by.
        bytes.extend_from_slice(query.question());
        bytes[5] = 1;
        let extension = query.extension.map_or(0, |_| EXTENSION);
        Reply { query, bytes, limit: limit.saturating_sub(extension), code }
    }

    /// It is ours to say.
    pub fn set_authoritative(&mut self) {
        self.bytes[2] |= flag::AUTHORITATIVE;
    }

    /// False if it has no room any more: then the answer says that it is truncated.
    ///
    /// `name_at`: where in the question its name stands.
    pub fn put(&mut self, section: Section, name_at: u16, kind: u16, data: &[u8]) -> bool {
        if self.bytes.len() + 12 + data.len() > self.limit {
            self.bytes[2] |= flag::IS_TRUNCATED;
            return false;
        }
        let pointer = u16::from(POINTER) << 8 | name_at;
        for number in [pointer, kind, INTERNET] {
            self.bytes.extend_from_slice(&number.to_be_bytes());
        }
        self.bytes.extend_from_slice(&TTL.to_be_bytes());
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
        // Its high byte stands before it. 65,535 bytes hold no more than 5,461 records.
        let count = section as usize;
        let (low, carry) = self.bytes[count].overflowing_add(1);
        self.bytes[count] = low;
        self.bytes[count - 1] += u8::from(carry);
        true
    }

    pub fn finish(mut self) -> Vec<u8> {
        if let Some(extension) = self.query.extension {
            let [size_high, size_low] = (PIECE as u16).to_be_bytes();
            let [_, kind] = kind::OPT.to_be_bytes();
            let dnssec_ok = extension.flags & 0x80;
            let upper_code = self.code >> 4;
            self.bytes
                .extend_from_slice(&[0, 0, kind, size_high, size_low, upper_code, 0, dnssec_ok, 0, 0, 0]);
            self.bytes[11] = 1;
        }
        self.bytes
    }
}

/// The answer that says nothing but this code.
pub fn refusal(query: &Query<'_>, code: u8) -> Vec<u8> {
    Reply::new(query, usize::MAX, code).finish()
}

/// The same to a message that could not be read as a question; at least a header long.
pub fn refusal_of_unread(message: &[u8], code: u8) -> Vec<u8> {
    header(message, code)
}

/// What says only that the answer is to be asked for over TCP. `answer`: one to this query.
pub fn truncated(query: &Query<'_>, answer: &[u8]) -> Vec<u8> {
    let mut reply =
        Reply::new(query, usize::MAX, answer.get(3).map_or(code::NO_ERROR, |low| low & low_flag::CODE));
    reply.bytes[2] |= flag::IS_TRUNCATED;
    reply.finish()
}

fn header(message: &[u8], code: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&message[..2]);
    bytes.push(flag::IS_ANSWER | message[2] & (flag::OPERATION | flag::RECURSION_DESIRED));
    bytes.push(
        low_flag::RECURSION_AVAILABLE | message[3] & low_flag::CHECKING_DISABLED | code & low_flag::CODE,
    );
    bytes.resize(HEADER, 0);
    bytes
}
