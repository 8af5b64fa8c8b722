//! Plain scalars as Kubernetes reads them, where its YAML 1.1 differs from serde_yaml's 1.2.

use super::tree::Data;

/// What an unquoted `text` means that serde_yaml took for a string.
pub(crate) fn plain(text: String) -> Data {
    match text.as_str() {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Data::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Data::Bool(false),
        _ => integer(&text).map_or(Data::Text(text), |value| Data::Number(value.into())),
    }
}

/// `0644` is octal, `1_000` a thousand.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    // from_str_radix would take a second sign.
    let value = i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_octals_of_yaml_1_1() {
        let number = |n: i64| Data::Number(n.into());
        let text = |t: &str| Data::Text(t.to_owned());
        let cases = [
            ("yes", Data::Bool(true)),
            ("Off", Data::Bool(false)),
            ("yEs", text("yEs")),
            ("0644", number(0o644)),
            ("-0644", number(-0o644)),
            ("1_000", number(1000)),
            ("0x1_F", number(31)),
            ("0899", text("0899")),
            ("0+7", text("0+7")),
            ("_1", text("_1")),
            ("1.2.3", text("1.2.3")),
            ("12ab", text("12ab")),
        ];
        for (written, meant) in cases {
            assert_eq!(plain(written.to_owned()), meant, "{written}");
        }
    }
}
