//! JSON that may be shown on a terminal.

/// What a container or an image has written commands no terminal (CVE-2021-25743): JSON must escape the control characters
/// below U+0020 only, and those from U+007F to U+009F command one as well. They stand in nothing but strings.
pub fn harmless(json: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(json.len());
    let mut rest = json;
    while let [byte, after @ ..] = rest {
        rest = after;
        let control = match (byte, after) {
            (0x7f, _) => byte,
            (0xc2, [second @ 0x80..0xa0, after @ ..]) => {
                rest = after;
                second
            }
            _ => {
                shown.push(*byte);
                continue;
            }
        };
        shown.extend_from_slice(format!("\\u{control:04x}").as_bytes());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_is_escaped_and_means_the_same() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        let shown = String::from_utf8(harmless(&serde_json::to_vec(&all).unwrap())).unwrap();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.contains('é'), "what is harmless stays as it is");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), all);
    }
}
