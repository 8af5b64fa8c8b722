//! Reads a block of HTTP/2 header fields (HPACK, RFC 7541) from a peer that was told to keep no dynamic table.

use super::huffman;

/// Places of `:status` in the static table, and its values there.
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const FIRST_STATUS: usize = 8;
const LAST_STATIC: usize = 61;

/// What a gRPC answer says in its fields; everything else is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `:status`.
    pub http_status: Option<String>,
    /// `grpc-status`, a number.
    pub grpc_status: Option<String>,
    /// `grpc-message`, percent-encoded.
    pub grpc_message: Option<String>,
}

impl Fields {
    /// Adds what a whole block says, or `None` if it is none that this peer may send.
    pub fn read(&mut self, block: &[u8]) -> Option<()> {
        let mut rest = block;
        while let Some(first) = rest.first() {
            match first {
                0x80.. => self.take_indexed(number(&mut rest, 7)?)?,
                0x40.. => self.take_literal(&mut rest, 6)?,
                // A new size of the dynamic table: only none at all was allowed.
                0x20.. => (number(&mut rest, 5)? == 0).then_some(())?,
                _ => self.take_literal(&mut rest, 4)?,
            }
        }
        Some(())
    }

    fn take_indexed(&mut self, index: usize) -> Option<()> {
        if let Some(status) = index.checked_sub(FIRST_STATUS).and_then(|place| STATUSES.get(place)) {
            self.http_status = Some((*status).to_owned());
        }
        (1..=LAST_STATIC).contains(&index).then_some(())
    }

    fn take_literal(&mut self, rest: &mut &[u8], prefix: u32) -> Option<()> {
        let name = match number(rest, prefix)? {
            0 => string(rest)?,
            index if index < FIRST_STATUS + STATUSES.len() && index >= FIRST_STATUS => b":status".to_vec(),
            index if index <= LAST_STATIC => Vec::new(),
            _ => return None,
        };
        let value = string(rest)?;
        let place = match name.as_slice() {
            b":status" => &mut self.http_status,
            b"grpc-status" => &mut self.grpc_status,
            b"grpc-message" => &mut self.grpc_message,
            _ => return Some(()),
        };
        *place = Some(String::from_utf8_lossy(&value).into_owned());
        Some(())
    }
}

/// An integer whose first bits are the last `prefix` ones of the next byte (RFC 7541, 5.1).
fn number(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    let highest = (1_usize << prefix) - 1;
    let mut number = usize::from(*first) & highest;
    if number < highest {
        return Some(number);
    }
    // Four more bytes are more than any block has.
    for shift in [0, 7, 14, 21] {
        let (next, tail) = rest.split_first()?;
        *rest = tail;
        number += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let coded = rest.first()? & 0x80 != 0;
    let length = number(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    if coded { huffman::decode(text) } else { Some(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
        fields.read(block).map(|()| fields)
    }

    #[test]
    fn fields_are_found_in_every_form() {
        let mut block = vec![0x20, 0x88];
        // content-type, by its name in the table; then two with names of their own, with and without a place in a table.
        block.extend(b"\x0f\x10\x10application/grpc\x40\x0bgrpc-status\x0212\x00\x0cgrpc-message\x05no%20");
        let fields = read(&block).unwrap();
        assert_eq!(fields.http_status.as_deref(), Some("200"));
        assert_eq!(fields.grpc_status.as_deref(), Some("12"));
        assert_eq!(fields.grpc_message.as_deref(), Some("no%20"));
        // :status with a value that the table lacks, coded.
        assert_eq!(read(&[0x48, 0x82, 0x64, 0x02]).unwrap().http_status.as_deref(), Some("302"));
    }

    #[test]
    fn a_block_that_breaks_the_rules_is_refused() {
        let cases: [(&[u8], &str); 7] = [
            (&[0x80], "index 0"),
            (&[0xbe], "the first of the dynamic table"),
            (&[0x3f, 0x01], "a dynamic table"),
            (&[0x00, 0x05, b'a'], "a name that is cut off"),
            (&[0x00, 0x01, b'a', 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f], "a value of gigabytes"),
            (&[0x00, 0x01, b'a', 0x81, 0x00], "a value that is no code"),
            (&[0xff], "a number that is cut off"),
        ];
        for (block, what) in cases {
            assert_eq!(read(block), None, "{what}");
        }
    }
}
