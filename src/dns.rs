//! DNS messages as bytes (RFC 1035): what who asks and who answers have in common.
//!
//! No pointer of a compressed name is ever followed. It is stepped over, so no message leads round in a circle.
#![forbid(unsafe_code)]

/// Number, flags and the four counts.
pub const HEADER: usize = 12;
/// The longest message over UDP to somebody who does not say that he takes more. Bytes.
pub const MAX_UDP: usize = 512;
/// What surely fits into one packet, on every way: longer ones go over TCP (DNS flag day 2020). Bytes.
pub const PIECE: usize = 1232;
/// The port of DNS.
pub const PORT: u16 = 53;
/// The longest name as text, and the longest label of one. Bytes.
const MAX_NAME: usize = 253;
pub const MAX_LABEL: usize = 63;
/// Class "Internet".
pub const INTERNET: u16 = 1;
/// The two bits that make a length a pointer to a name elsewhere in the message.
pub const POINTER: u8 = 0xc0;

/// Types of records and questions.
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    /// What extensions are spoken (RFC 6891).
    pub const OPT: u16 = 41;
    /// A whole zone, or what has changed of it.
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Flags of the third byte. Between the first two stands what is asked for; 0 is a question.
pub mod flag {
    pub const IS_ANSWER: u8 = 0x80;
    pub const OPERATION: u8 = 0x78;
    pub const AUTHORITATIVE: u8 = 0x04;
    pub const IS_TRUNCATED: u8 = 0x02;
    /// Of a question: please ask others for us.
    pub const RECURSION_DESIRED: u8 = 0x01;
}

/// Flags of the fourth byte, beside the answer's code.
pub mod low_flag {
    pub const RECURSION_AVAILABLE: u8 = 0x80;
    /// Of a question: do not validate for us.
    pub const CHECKING_DISABLED: u8 = 0x10;
    pub const CODE: u8 = 0x0f;
}

/// Answers' codes.
pub mod code {
    pub const NO_ERROR: u8 = 0;
    pub const FORMAT_ERROR: u8 = 1;
    pub const SERVER_FAILURE: u8 = 2;
    pub const NO_SUCH_NAME: u8 = 3;
    pub const NOT_IMPLEMENTED: u8 = 4;
    pub const REFUSED: u8 = 5;
    /// Of extensions; its upper bits stand in the [`OPT`](super::kind::OPT) record.
    pub const BAD_VERSION: u8 = 16;
}

/// Two bytes of a message; 0 where it has none.
pub fn number(message: &[u8], at: usize) -> u16 {
    message.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// A number that cannot be guessed by somebody who wants to answer in a server's place.
pub fn random_id() -> Option<[u8; 2]> {
    let mut bytes = [0; 2];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    filled.is_ok().then_some(bytes)
}

/// Appends a host's name, without a dot at its end. False, with nothing appended, if it cannot be one.
#[must_use]
pub fn put_name(bytes: &mut Vec<u8>, name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return false;
    }
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    true
}

/// Whether a message answers the question that was asked under this number. `question`: its name, type and class.
pub fn is_answer(message: &[u8], id: [u8; 2], question: &[u8]) -> bool {
    let echoed = message.get(HEADER..HEADER + question.len());
    echoed.is_some_and(|echoed| echoed.eq_ignore_ascii_case(question))
        && message[..2] == id
        && message[2] & flag::IS_ANSWER != 0
        && number(message, 4) == 1
}

/// A record, but for its name.
pub struct Record<'a> {
    pub kind: u16,
    /// For [`kind::OPT`]: how much its sender takes over UDP.
    pub class: u16,
    /// Seconds; for [`kind::OPT`]: upper bits of the code, version, flags.
    pub ttl: [u8; 4],
    pub data: &'a [u8],
}

/// The record at the start of `bytes`, and what comes after it.
pub fn read_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, rest) = after_name(bytes)?.split_at_checked(10)?;
    let (data, rest) = rest.split_at_checked(number(head, 8).into())?;
    let ttl = [head[4], head[5], head[6], head[7]];
    Some((Record { kind: number(head, 0), class: number(head, 2), ttl, data }, rest))
}

/// What comes after the name at the start of `bytes`.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match *length {
            0 => return Some(rest),
            pointer if pointer & POINTER == POINTER => return rest.get(1..),
            length => bytes = rest.get(length.into()..)?,
        }
    }
}
