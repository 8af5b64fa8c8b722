//! One message to the kernel: a header, that of the family it goes to, and attributes, each on a boundary of four bytes.

const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// A message that is being written. It gets its number and its length when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    kind: u16,
    flags: u16,
    /// The family's own header, and the attributes.
    payload: Vec<u8>,
}

impl Message {
    /// Asks for something to be done or told, once. `family` is the header of the family that this kind belongs to.
    pub fn new(kind: u16, family: &[u8]) -> Message {
        Message { kind, flags: NLM_F_REQUEST | NLM_F_ACK, payload: padded(family) }
    }

    /// Asks for all that there is.
    pub fn list(kind: u16, family: &[u8]) -> Message {
        Message { kind, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: padded(family) }
    }

    /// With these flags too (`NLM_F_CREATE` and the like).
    #[must_use]
    pub fn flags(mut self, flags: libc::c_int) -> Message {
        self.flags |= flags as u16;
        self
    }

    /// Not answered unless it is refused.
    #[must_use]
    pub fn unanswered(mut self) -> Message {
        self.flags &= !NLM_F_ACK;
        self
    }

    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = (4 + value.len()) as u16;
        self.payload.extend(length.to_ne_bytes());
        self.payload.extend(kind.to_ne_bytes());
        self.payload.extend(value);
        pad(&mut self.payload);
        self
    }

    /// Bytes that are no attribute: a header inside of one.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Message {
        self.payload.extend(bytes);
        pad(&mut self.payload);
        self
    }

    /// In the byte order of this machine, as rtnetlink has it.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as nftables has it.
    #[must_use]
    pub fn big_endian(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// With the zero that ends it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Message {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// An attribute that holds the attributes which `fill` writes (`NLA_F_NESTED`).
    #[must_use]
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.payload.len();
        self.payload.extend([0; 2]);
        self.payload.extend((kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        let mut filled = fill(self);
        let length = (filled.payload.len() - start) as u16;
        filled.payload[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// What kind of message it is, and in the high byte of netfilter's ones for which part of it.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// The family's header and the attributes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Appends it as it goes over the socket.
    pub(super) fn write(&self, sequence: u32, to: &mut Vec<u8>) {
        let length = (HEADER + self.payload.len()) as u32;
        to.extend(length.to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend(self.flags.to_ne_bytes());
        to.extend(sequence.to_ne_bytes());
        // The kernel knows who sends.
        to.extend(0_u32.to_ne_bytes());
        to.extend(&self.payload);
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    pad(&mut padded);
    padded
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nests_know_their_length() {
        let message = Message::new(7, &[1])
            .text(2, "ab")
            .nested(3, |inner| inner.attribute(4, &[5]).nested(5, |deeper| deeper.big_endian(6, 1)));
        let mut bytes = Vec::new();
        message.write(9, &mut bytes);
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!((bytes.len(), number(0)), (16 + 4 + 8 + 4 + 8 + 4 + 8, 52));
        assert_eq!((number(4), number(6), number(8)), (7, 5, 9));
        assert_eq!(
            bytes[16..28],
            [&[1, 0, 0, 0], &7_u16.to_ne_bytes()[..], &2_u16.to_ne_bytes(), b"ab\0\0"].concat()
        );
        assert_eq!((number(28), number(30)), (24, 0x8003));
        assert_eq!((number(32), number(34), bytes[36]), (5, 4, 5));
        assert_eq!((number(40), number(42)), (12, 0x8005));
        assert_eq!(bytes[44..], [&8_u16.to_ne_bytes()[..], &6_u16.to_ne_bytes(), &[0, 0, 0, 1]].concat());
    }
}
