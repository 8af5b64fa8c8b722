//! What a Pod is told of itself in files: its names, labels and annotations, and what its containers may use.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Allocatable, AmountRef, Pod};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownwardValue {
    Name,
    Namespace,
    Uid,
    Labels,
    Annotations,
    /// Empty where the Pod has no such label.
    Label(String),
    Annotation(String),
    Amount(AmountRef),
}

impl DownwardValue {
    pub fn of(&self, pod: &Pod, node: &dyn Fn() -> Allocatable) -> String {
        match self {
            DownwardValue::Name => pod.id.name.clone(),
            DownwardValue::Namespace => pod.id.namespace.clone(),
            DownwardValue::Uid => pod.uid.to_string(),
            DownwardValue::Labels => lines(&pod.labels),
            DownwardValue::Annotations => lines(&pod.annotations),
            DownwardValue::Label(key) => pod.labels.get(key).cloned().unwrap_or_default(),
            DownwardValue::Annotation(key) => pod.annotations.get(key).cloned().unwrap_or_default(),
            DownwardValue::Amount(amount) => amount.of(pod, node).to_string(),
        }
    }
}

/// `key="value"`, a line for each (`pkg/fieldpath/fieldpath.go:FormatMap`).
fn lines(map: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in map {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(key);
        text.push('=');
        quote(value, &mut text);
    }
    text
}

/// As Go's `%q` has it.
fn quote(value: &str, into: &mut String) {
    into.push('"');
    for c in value.chars() {
        let letter = match c {
            '"' | '\\' => Some(c),
            '\u{7}' => Some('a'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{b}' => Some('v'),
            _ => None,
        };
        // Writing to a string cannot fail.
        let _ = match (letter, u32::from(c)) {
            (Some(letter), _) => write!(into, "\\{letter}"),
            (None, code @ (0..=0x1f | 0x7f)) => write!(into, "\\x{code:02x}"),
            (None, 0x20..=0x7e) => write!(into, "{c}"),
            (None, _) if is_printable(c) => write!(into, "{c}"),
            (None, code @ ..=0xffff) => write!(into, "\\u{code:04x}"),
            (None, code) => write!(into, "\\U{code:08x}"),
        };
    }
    into.push('"');
}

/// Whether Rust's `Debug`, which goes by the same classes of Unicode as Go's, shows a letter as it is. What combines with the
/// letter before it is escaped by both only where there is none.
fn is_printable(c: char) -> bool {
    let mut buffer = [0; 8];
    buffer[0] = b'a';
    let len = 1 + c.encode_utf8(&mut buffer[1..]).len();
    str::from_utf8(&buffer[..len]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::pod::{Container, PodId, Uid};

    fn pod() -> Pod {
        let id = PodId { namespace: "n".into(), name: "web-edge".into() };
        Pod::plain(id, Uid::parse(&"a".repeat(32)).unwrap(), vec![Container::plain("c", "i")])
    }

    #[test]
    fn labels_are_lines_as_go_quotes_them() {
        let mut pod = pod();
        for (key, value) in [
            ("b", "two\nlines\t\"quoted\" \\ '"),
            ("a", "é ü 漢 \u{1f600} e\u{301}"),
            ("c", "\u{1}\u{7}\u{8}\u{b}\u{c}\r\u{7f}\u{85}\u{a0}\u{200b}\u{e0001}"),
        ] {
            pod.annotations.insert(key.to_owned(), value.to_owned());
        }
        let expected = "a=\"é ü 漢 \u{1f600} e\u{301}\"\n\
            b=\"two\\nlines\\t\\\"quoted\\\" \\\\ '\"\n\
            c=\"\\x01\\a\\b\\v\\f\\r\\x7f\\u0085\\u00a0\\u200b\\U000e0001\"";
        assert_eq!(DownwardValue::Annotations.of(&pod, &Allocatable::default), expected);
        assert_eq!(DownwardValue::Labels.of(&pod, &Allocatable::default), "");
        assert_eq!(DownwardValue::Annotation("none".into()).of(&pod, &Allocatable::default), "");
    }
}
