//! A message as somebody has sent it, read as a question.

use super::zones::Key;
use crate::dns::{HEADER, MAX_LABEL, MAX_UDP, PIECE, code, flag, kind, number, read_record};

/// The longest name as bytes of a message.
const MAX_NAME: usize = 255;

/// One question, in the message in which it came.
#[derive(Debug)]
pub struct Query<'a> {
    pub message: &'a [u8],
    /// Where its labels begin.
    labels: Vec<u16>,
    /// Where the first byte after it stands.
    pub end: usize,
    pub kind: u16,
    pub class: u16,
    pub extension: Option<Extension>,
}

/// What its sender says of extensions (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it takes over UDP. Bytes.
    pub size: usize,
    /// Where in the message that stands.
    pub size_at: usize,
    pub version: u8,
    /// Of its flags the first byte, with the only one that has a meaning: send what DNSSEC needs.
    pub flags: u8,
}

/// Why a message is no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// To answer it could go on for ever: it may be an answer itself.
    NotAnswered,
    /// With one of [`code`].
    Answered(u8),
}

impl<'a> Query<'a> {
    pub fn read(message: &'a [u8]) -> Result<Query<'a>, Fault> {
        const MALFORMED: Fault = Fault::Answered(code::FORMAT_ERROR);
        if message.len() < HEADER || message[2] & flag::IS_ANSWER != 0 {
            return Err(Fault::NotAnswered);
        }
        if message[2] & flag::OPERATION != 0 {
            return Err(Fault::Answered(code::NOT_IMPLEMENTED));
        }
        // One question, and neither answers nor authorities.
        if message[4..10] != [0, 1, 0, 0, 0, 0] {
            return Err(MALFORMED);
        }
        let (labels, after) = labels(message).ok_or(MALFORMED)?;
        let end = after + 4;
        let rest = message.get(end..).ok_or(MALFORMED)?;
        let extension = extension(message, rest).ok_or(MALFORMED)?;
        let (kind, class) = (number(message, after), number(message, after + 2));
        Ok(Query { message, labels, end, kind, class, extension })
    }

    /// Its name, type and class.
    pub fn question(&self) -> &'a [u8] {
        &self.message[HEADER..self.end]
    }

    pub fn key(&self) -> Key {
        let mut key = Key::default();
        for at in self.labels.iter().rev() {
            let (length, label) = self.message[usize::from(*at)..].split_first().unwrap_or((&0, &[]));
            key.push(&label[..usize::from(*length)]);
        }
        key
    }

    /// Where the last `count` labels of its name begin.
    pub fn last_labels(&self, count: usize) -> u16 {
        let place = self.labels.len().saturating_sub(count);
        self.labels.get(place).copied().unwrap_or(HEADER as u16)
    }

    /// How long an answer over UDP may be. Bytes.
    pub fn udp_limit(&self) -> usize {
        self.extension.map_or(MAX_UDP, |extension| extension.size.clamp(MAX_UDP, PIECE))
    }
}

/// Where the question's labels begin, and where what follows them does. A pointer has nowhere to point to yet.
fn labels(message: &[u8]) -> Option<(Vec<u16>, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            return (at + 1 - HEADER <= MAX_NAME).then_some((labels, at + 1));
        }
        if length > MAX_LABEL {
            return None;
        }
        labels.push(u16::try_from(at).ok()?);
        at += 1 + length;
    }
}

/// What the records behind the question say; none if the message is not well formed.
fn extension(message: &[u8], mut records: &[u8]) -> Option<Option<Extension>> {
    let mut found = None;
    for _ in 0..number(message, 10) {
        let (record, rest) = read_record(records)?;
        if record.kind == kind::OPT {
            // Of the root, and once.
            if records[0] != 0 || found.is_some() {
                return None;
            }
            found = Some(Extension {
                size: record.class.into(),
                size_at: message.len() - records.len() + 3,
                version: record.ttl[1],
                flags: record.ttl[2],
            });
        }
        records = rest;
    }
    records.is_empty().then_some(found)
}
