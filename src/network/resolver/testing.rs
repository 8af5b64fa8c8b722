//! Questions to ask and answers to look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dns::{HEADER, INTERNET, kind, number, put_name, read_record};

/// A question that wishes for recursion, under number 0x1234.
pub fn ask(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    if name == "." {
        message.push(0);
    } else {
        assert!(put_name(&mut message, name), "{name}");
    }
    message.extend(kind.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message
}

/// The same with extensions.
pub fn ask_extended(name: &str, kind: u16, size: u16, version: u8) -> Vec<u8> {
    let mut message = ask(name, kind);
    message[11] = 1;
    message.extend([0, 0, 41]);
    message.extend(size.to_be_bytes());
    message.extend([0, version, 0x80, 0, 0, 0]);
    message
}

/// An answer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// With the upper bits, if there are extensions.
    pub code: u16,
    /// The third byte.
    pub flags: u8,
    /// `TTL TYPE DATA` each; whoever's name it is was looked at.
    pub answers: Vec<String>,
    /// Name and type of the only record there may be.
    pub authority: Option<(String, u16)>,
    pub has_extension: bool,
}

/// Looks at an answer to a question; every record of the first section must be of the name asked for.
#[track_caller]
pub fn look(question: &[u8], answer: &[u8]) -> Seen {
    assert_eq!(answer[..2], question[..2], "number");
    assert_eq!(number(answer, 4), 1, "questions");
    let (asked, after) = name_at(question, HEADER);
    let end = after + 4;
    assert_eq!(answer[HEADER..end], question[HEADER..end], "the question, letter by letter");
    let mut seen = Seen {
        code: u16::from(answer[3] & 15),
        flags: answer[2],
        answers: Vec::new(),
        authority: None,
        has_extension: false,
    };
    let mut at = end;
    let counts = [6, 8, 10].map(|at| number(answer, at));
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let (name, _) = name_at(answer, at);
            let (record, rest) = read_record(&answer[at..]).unwrap();
            match section {
                0 => {
                    assert_eq!(name, asked);
                    let ttl = u32::from_be_bytes(record.ttl);
                    seen.answers.push(format!("{ttl} {}", shown(answer, record.kind, record.data, rest)));
                }
                1 => seen.authority = Some((name, record.kind)),
                _ => {
                    assert_eq!((name.as_str(), record.kind), (".", kind::OPT));
                    seen.code |= u16::from(record.ttl[0]) << 4;
                    seen.has_extension = true;
                }
            }
            at = answer.len() - rest.len();
        }
    }
    assert_eq!(at, answer.len(), "nothing behind the records");
    seen
}

fn shown(message: &[u8], kind: u16, data: &[u8], rest: &[u8]) -> String {
    let begin = message.len() - rest.len() - data.len();
    match kind {
        kind::A => format!("A {}", IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()))),
        kind::AAAA => format!("AAAA {}", IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()))),
        kind::PTR => format!("PTR {}", name_at(message, begin).0),
        kind::NS => format!("NS {}", name_at(message, begin).0),
        kind::SOA => format!("SOA {}", name_at(message, begin).0),
        other => format!("TYPE{other}"),
    }
}

/// The name there, with its pointers followed, and where what comes after it stands.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let (mut labels, mut after) = (Vec::new(), None);
    loop {
        let length = usize::from(message[at]);
        if length == 0 {
            let name = if labels.is_empty() { ".".to_owned() } else { labels.join(".") };
            return (name, after.unwrap_or(at + 1));
        }
        if length >= 0xc0 {
            after.get_or_insert(at + 2);
            let target = usize::from(number(message, at) & 0x3fff);
            assert!(target < at, "a pointer leads back");
            at = target;
        } else {
            labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).into_owned());
            at += 1 + length;
        }
    }
}
