//! The Huffman code of HPACK (RFC 7541, appendix B), from lengths alone: it is canonical, so that codes of one length follow
//! each other in the order of their symbols.

/// End of string: its code may stand, cut short, only as padding.
const EOS: usize = 256;
const LONGEST: usize = 30;

/// Bits of each symbol's code; the last one is EOS's.
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// How many codes there are of each length.
const COUNTS: [u32; LONGEST + 1] = {
    let mut counts = [0; LONGEST + 1];
    let mut symbol = 0;
    while symbol < LENGTHS.len() {
        counts[LENGTHS[symbol] as usize] += 1;
        symbol += 1;
    }
    counts
};

/// The text behind these bytes, or `None` if they are no code.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let mut reading = Reading::default();
    for byte in bytes {
        for bit in (0..8).rev() {
            match reading.take(u32::from(byte >> bit & 1)) {
                None => {}
                Some(symbol) => text.push(u8::try_from(symbol).ok()?),
            }
        }
    }
    reading.is_padding().then_some(text)
}

/// A code of which the first bits are known.
#[derive(Default)]
struct Reading {
    length: usize,
    code: u32,
    /// The lowest code of this length.
    first: u32,
}

impl Reading {
    /// Its next bit; the symbol, if that was its last one.
    fn take(&mut self, bit: u32) -> Option<usize> {
        self.length += 1;
        self.code = self.code << 1 | bit;
        self.first = (self.first + COUNTS[self.length - 1]) << 1;
        let place = self.code.checked_sub(self.first)?;
        if place >= COUNTS[self.length] {
            return None;
        }
        let length = self.length;
        *self = Self::default();
        (0..LENGTHS.len()).filter(|symbol| usize::from(LENGTHS[*symbol]) == length).nth(place as usize)
    }

    /// Fewer than eight ones, as EOS begins.
    fn is_padding(&self) -> bool {
        self.length < 8 && self.code + 1 == 1 << self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541, C.4.1, C.4.3, C.6.1 and C.6.3.
        let examples: [(&[u8], &str); 5] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[0x9b, 0xd9, 0xab], "gzip"),
        ];
        for (bytes, text) in examples {
            assert_eq!(decode(bytes).as_deref(), Some(text.as_bytes()), "{text}");
        }
        assert_eq!(decode(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        // A whole byte of padding, padding with a zero in it, and EOS itself.
        for bytes in [&[0x64, 0x02, 0xff][..], &[0x18][..], &[0xff, 0xff, 0xff, 0xff][..]] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
    }
}
