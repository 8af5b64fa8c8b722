//! Questions for addresses, and their answers, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dns::{
    HEADER, INTERNET, code, flag, is_answer, kind, low_flag, number, put_name, random_id, read_record,
};

/// Which kind of address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A = kind::A as isize,
    Aaaa = kind::AAAA as isize,
}

/// One question.
pub(super) struct Query {
    kind: Kind,
    bytes: Vec<u8>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None where the name exists and has no address of this kind.
    Addresses(Vec<IpAddr>),
    NoSuchName,
    /// With the code that RFC 1035 gives the reason (2: the server has failed).
    Refused(u8),
}

/// A message that answers the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Answer(Answer),
    /// The rest has to be asked for over TCP.
    Truncated,
}

impl Query {
    /// `None` where `name` cannot be a host's.
    pub(super) fn new(name: &str, kind: Kind) -> Option<Query> {
        let mut bytes = random_id()?.to_vec();
        bytes.extend([flag::RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        if !put_name(&mut bytes, name) {
            return None;
        }
        bytes.extend((kind as u16).to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        Some(Query { kind, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `None` for whatever does not answer this question: it is not for us.
    pub(super) fn read(&self, message: &[u8]) -> Option<Read> {
        let question = &self.bytes[HEADER..];
        if !is_answer(message, [self.bytes[0], self.bytes[1]], question) {
            return None;
        }
        if message[2] & flag::IS_TRUNCATED != 0 {
            return Some(Read::Truncated);
        }
        Some(Read::Answer(match message[3] & low_flag::CODE {
            code::NO_ERROR => {
                Answer::Addresses(self.addresses(&message[HEADER + question.len()..], number(message, 6))?)
            }
            code::NO_SUCH_NAME => Answer::NoSuchName,
            code => Answer::Refused(code),
        }))
    }

    /// Every address of the kind that was asked for, whoever's: the server has followed the aliases, and they stand here too.
    fn addresses(&self, mut records: &[u8], count: u16) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for _ in 0..count {
            let (record, rest) = read_record(records)?;
            if (record.kind, record.class) == (self.kind as u16, INTERNET) {
                addresses.push(match self.kind {
                    Kind::A => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(record.data).ok()?)),
                    Kind::Aaaa => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(record.data).ok()?)),
                });
            }
            records = rest;
        }
        Some(addresses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::POINTER;

    /// An answer to the query: an alias first, then the address.
    fn answer(query: &Query, flags: [u8; 2], data: &[u8]) -> Vec<u8> {
        let mut message = query.bytes[..2].to_vec();
        message.extend([flags[0] | flag::IS_ANSWER, flags[1], 0, 1, 0, 2, 0, 0, 0, 0]);
        message.extend(&query.bytes[HEADER..]);
        message.extend([POINTER, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'b', 0]);
        message.extend([1, b'b', 0, 0, query.kind as u8, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
        message.extend(data);
        message
    }

    #[test]
    fn an_answer_is_read_behind_its_alias() {
        let query = Query::new("a.example", Kind::A).unwrap();
        let read = |message: &[u8]| query.read(message);
        let message = answer(&query, [0, 0], &[10, 0, 0, 1]);
        assert_eq!(read(&message), Some(Read::Answer(Answer::Addresses(vec![[10, 0, 0, 1].into()]))));
        assert_eq!(read(&answer(&query, [0, 3], &[])), Some(Read::Answer(Answer::NoSuchName)));
        assert_eq!(read(&answer(&query, [0, 2], &[])), Some(Read::Answer(Answer::Refused(2))));
        assert_eq!(read(&answer(&query, [flag::IS_TRUNCATED, 0], &[])), Some(Read::Truncated));
    }

    #[test]
    fn what_does_not_answer_the_question_is_not_read() {
        let query = Query::new("a.example", Kind::Aaaa).unwrap();
        let good = answer(&query, [0, 0], &[1; 16]);
        assert!(query.read(&good).is_some());
        let other_number = [&[good[0] ^ 1], &good[1..]].concat();
        let other_name = [&good[..13], b"b", &good[14..]].concat();
        let cut = &good[..good.len() - 1];
        for message in [&other_number, &other_name, cut, &query.bytes, &answer(&query, [0, 0], &[1; 4])] {
            assert_eq!(query.read(message), None);
        }
    }

    #[test]
    fn names_that_no_host_can_have_are_not_asked_for() {
        for name in ["", ".", "a..b", "a b", "ä", &"a".repeat(64), &"a.".repeat(127)] {
            assert!(Query::new(name, Kind::A).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..80, byte: u8) {
            let query = Query::new("a.example", Kind::A).unwrap();
            let mut message = answer(&query, [0, 0], &[10, 0, 0, 1]);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.extend(tail);
            let _ = query.read(&message);
        }
    }
}
