//! Bech32 (BIP-173), as age writes its keys: without the limit on the length.

/// Five bits each.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Letters at the end that hold the checksum.
const CHECKSUM: usize = 6;

/// In small letters. `prefix` is in small letters, too.
pub fn encode(prefix: &str, data: &[u8]) -> String {
    let (mut values, bits, rest) = regrouped(data, 8, 5);
    if bits > 0 {
        values.push((rest << (5 - bits)) as u8);
    }
    with_checksum(prefix, values)
}

fn with_checksum(prefix: &str, mut values: Vec<u8>) -> String {
    let end = values.len();
    values.extend([0; CHECKSUM]);
    let sum = checksum(prefix, &values) ^ 1;
    for (place, value) in values[end..].iter_mut().rev().enumerate() {
        *value = (sum >> (5 * place) & 31) as u8;
    }
    let letters = values.iter().map(|value| char::from(LETTERS[usize::from(*value)]));
    prefix.chars().chain(['1']).chain(letters).collect()
}

/// The prefix, in small letters, and the data; `None` if a letter is wrong.
pub fn decode(text: &str) -> Option<(String, Vec<u8>)> {
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    let (prefix, letters) = lower.rsplit_once('1')?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let value = |letter| LETTERS.iter().position(|known| *known == letter).map(|value| value as u8);
    let values: Vec<u8> = letters.bytes().map(value).collect::<Option<_>>()?;
    if values.len() < CHECKSUM || checksum(prefix, &values) != 1 {
        return None;
    }
    let (data, bits, rest) = regrouped(&values[..values.len() - CHECKSUM], 5, 8);
    // What fills the last letter up is less than one, and zero.
    (bits < 5 && rest == 0).then(|| (prefix.to_owned(), data))
}

/// `values` of `from` bits as such of `to` bits; how many bits are left over, and which.
fn regrouped(values: &[u8], from: u32, to: u32) -> (Vec<u8>, u32, u32) {
    let (mut bits, mut rest) = (0, 0u32);
    let mut all = Vec::new();
    for value in values {
        rest = rest << from | u32::from(*value);
        bits += from;
        while bits >= to {
            bits -= to;
            all.push((rest >> bits) as u8);
            rest &= (1 << bits) - 1;
        }
    }
    (all, bits, rest)
}

/// 1 if `values` end with the checksum of all before.
fn checksum(prefix: &str, values: &[u8]) -> u32 {
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(values.iter().copied());
    all.fold(1, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let generators = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        generators.iter().enumerate().fold(next, |sum, (bit, generator)| match top >> bit & 1 {
            1 => sum ^ generator,
            _ => sum,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of BIP-173.
    #[test]
    fn what_is_valid_is_read_and_written_again() {
        for text in [
            "A12UEL5L",
            "a12uel5l",
            "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
            "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
            "?1ezyfcl",
        ] {
            let (prefix, data) = decode(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(encode(&prefix, &data), text.to_lowercase());
        }
    }

    /// Those of BIP-173, but for the one that is too long.
    #[test]
    fn what_is_not_valid_is_refused() {
        for text in [
            "\u{20}1nwldj5",
            "\u{7f}1axkwrx",
            "\u{80}1eym55h",
            "pzry9x0s0muk",
            "1pzry9x0s0muk",
            "x1b4n0q5v",
            "li1dgmt3",
            "de1lg7wt\u{ff}",
            "A1G7SGD8",
            "10a06t8",
            "1qzzfhee",
            "A12uEL5L",
            "a12uel5m",
            "",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        // Valid letters and checksum, and bits over that are not zero, or a letter too many.
        for values in [&[0u8, 1] as &[u8], &[0], &[0, 0, 0]] {
            let text = with_checksum("a", values.to_vec());
            assert_eq!(decode(&text), None, "{text}");
        }
    }
}
