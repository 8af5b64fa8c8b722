//! What the kernel answers. It comes from the kernel alone and is read as if it did not: nothing here can panic.

use rustix::io::Errno;

use super::message::HEADER;

/// linux/netlink.h.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message from the kernel.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    Data {
        kind: u16,
        payload: &'a [u8],
        /// The list changed while it was being read (`NLM_F_DUMP_INTR`).
        is_torn: bool,
    },
    /// Of a list, or of what was asked: it is done.
    End {
        /// As of what was listed: where that is nothing, this alone tells.
        is_torn: bool,
    },
    Refused {
        sequence: u32,
        errno: Errno,
        sentence: Option<String>,
    },
}

/// The messages of one datagram.
pub(super) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let (message, rest) = (bytes.get(..length)?, bytes.get(length.next_multiple_of(4)..));
        bytes = rest.unwrap_or_default();
        read_one(message)
    })
}

fn read_one(message: &[u8]) -> Option<Answer<'_>> {
    let (kind, flags, sequence) = (u16_at(message, 4)?, u16_at(message, 6)?, u32_at(message, 8)?);
    let payload = message.get(HEADER..)?;
    let is_torn = flags & libc::NLM_F_DUMP_INTR as u16 != 0;
    match libc::c_int::from(kind) {
        // What ends a list may have an error of its own.
        libc::NLMSG_DONE | libc::NLMSG_ERROR => match u32_at(payload, 0).map_or(0, |code| code as i32) {
            0.. => Some(Answer::End { is_torn }),
            code => {
                let errno = Errno::from_raw_os_error(-code);
                Some(Answer::Refused { sequence, errno, sentence: sentence(kind, flags, payload) })
            }
        },
        _ => Some(Answer::Data { kind, payload, is_torn }),
    }
}

/// `NLMSGERR_ATTR_MSG`, after the code and the header of what was asked.
fn sentence(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
    if flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
        return None;
    }
    let asked = if libc::c_int::from(kind) == libc::NLMSG_ERROR { HEADER } else { 0 };
    let words = text(find(payload.get(4 + asked..)?, NLMSGERR_ATTR_MSG)?);
    Some(words.trim_end_matches('.').to_owned())
}

/// Attributes, one after the other: their kinds without the flags, and their values.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

/// Those of a message, after its family's header, or of an attribute that holds others.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let (length, kind) = (usize::from(u16_at(self.0, 0)?), u16_at(self.0, 2)?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & libc::NLA_TYPE_MASK as u16, value))
    }
}

/// The value of the first attribute of a kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A name that the kernel has sent, without the zero that ends it; nothing where it is no UTF-8.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes)).unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_anywhere_is_no_answer_and_no_panic() {
        let whole: Vec<u8> = [
            &40_u32.to_ne_bytes()[..],
            &16_u16.to_ne_bytes(),
            &[0; 10],
            &[0; 16],
            &8_u16.to_ne_bytes(),
            &3_u16.to_ne_bytes(),
            b"lo\0\0",
        ]
        .concat();
        let [Answer::Data { kind: 16, payload, is_torn: false }] = &*answers(&whole).collect::<Vec<_>>()
        else {
            panic!("one message");
        };
        assert_eq!(find(&payload[16..], 3), Some(&b"lo\0\0"[..]));
        for end in 0..whole.len() {
            assert_eq!(answers(&whole[..end]).count(), 0, "{end}");
            let cut = &whole[..end][32.min(end)..];
            assert_eq!(attributes(cut).count(), 0, "{end}");
        }
        // A length of nothing would be read for ever.
        assert_eq!(answers(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
