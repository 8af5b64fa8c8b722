//! What a Pod is told of itself in files: its names, labels and annotations, and what its containers may use.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Amounts, Container, Pod};

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

/// A request or a limit of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmountRef {
    /// The name of one of the Pod's containers.
    pub container: String,
    pub is_limit: bool,
    pub resource: ResourceName,
    /// In the resource's own unit: thousandths of a core, bytes. Not 0.
    pub divisor: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceName {
    Cpu,
    Memory,
    /// Of pages of this size.
    HugePages(String),
}

/// What a node lets Pods have: what one may use that has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
}

impl DownwardValue {
    pub fn of(&self, pod: &Pod, node: Allocatable) -> String {
        match self {
            DownwardValue::Name => pod.id.name.clone(),
            DownwardValue::Namespace => pod.id.namespace.clone(),
            DownwardValue::Uid => pod.uid.to_string(),
            DownwardValue::Labels => lines(&pod.labels),
            DownwardValue::Annotations => lines(&pod.annotations),
            DownwardValue::Label(key) => pod.labels.get(key).cloned().unwrap_or_default(),
            DownwardValue::Annotation(key) => pod.annotations.get(key).cloned().unwrap_or_default(),
            DownwardValue::Amount(field) => field.of(pod, node).to_string(),
        }
    }
}

impl AmountRef {
    /// Rounded up to whole divisors. A limit that is not set is the Pod's, and the node's where the Pod has none; a request
    /// that is not set is nothing.
    fn of(&self, pod: &Pod, node: Allocatable) -> u64 {
        let named = pod.containers.iter().find(|container| container.name == self.container);
        let own = named.and_then(|container| self.set_in(self.amounts(container)));
        let amount = match self.is_limit {
            false => own.unwrap_or(0),
            true => own
                .or_else(|| self.set_in(&pod.resources.as_ref()?.limits))
                .or_else(|| self.set_in(&node.amounts()))
                .unwrap_or(0),
        };
        amount.div_ceil(self.divisor)
    }

    fn amounts<'a>(&self, container: &'a Container) -> &'a Amounts {
        let resources = &container.resources;
        if self.is_limit { &resources.limits } else { &resources.requests }
    }

    fn set_in(&self, amounts: &Amounts) -> Option<u64> {
        match &self.resource {
            ResourceName::Cpu => amounts.cpu_milli,
            ResourceName::Memory => amounts.memory,
            ResourceName::HugePages(size) => amounts.hugepages.get(size).copied(),
        }
    }
}

impl Allocatable {
    fn amounts(self) -> Amounts {
        Amounts { cpu_milli: Some(self.cpu_milli), memory: Some(self.memory), ..Amounts::default() }
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
    use crate::manifest::pod::{PodId, Resources, Uid};

    const NODE: Allocatable = Allocatable { cpu_milli: 4000, memory: 1 << 33 };

    fn pod() -> Pod {
        let limits = Amounts { cpu_milli: Some(1500), memory: Some(3 << 20), ..Amounts::default() };
        let requests = Amounts { cpu_milli: Some(250), memory: None, ..Amounts::default() };
        let mut container = Container::plain("c", "i");
        container.resources = Resources { requests, limits };
        let id = PodId { namespace: "n".into(), name: "web-edge".into() };
        Pod::plain(id, Uid::parse(&"a".repeat(32)).unwrap(), vec![container, Container::plain("d", "i")])
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
        assert_eq!(DownwardValue::Annotations.of(&pod, NODE), expected);
        assert_eq!(DownwardValue::Labels.of(&pod, NODE), "");
        assert_eq!(DownwardValue::Annotation("none".into()).of(&pod, NODE), "");
    }

    #[test]
    fn amounts_are_rounded_up_to_whole_divisors() {
        let amount = |container: &str, resource, is_limit, divisor| {
            let field = AmountRef { container: container.to_owned(), is_limit, resource, divisor };
            DownwardValue::Amount(field).of(&pod(), NODE)
        };
        assert_eq!(amount("c", ResourceName::Cpu, true, 1000), "2");
        assert_eq!(amount("c", ResourceName::Cpu, true, 1), "1500");
        assert_eq!(amount("c", ResourceName::Cpu, false, 1000), "1");
        assert_eq!(amount("c", ResourceName::Memory, true, 1), (3 << 20).to_string());
        assert_eq!(amount("c", ResourceName::Memory, true, 2 << 20), "2");
        assert_eq!(amount("c", ResourceName::Memory, false, 1), "0");
        assert_eq!(amount("d", ResourceName::Cpu, true, 1000), "4", "the node's");
        assert_eq!(amount("d", ResourceName::Memory, true, 1 << 30), "8");
        assert_eq!(amount("d", ResourceName::HugePages("2Mi".into()), true, 1), "0");
        let mut limited = pod();
        let limits = Amounts { cpu_milli: Some(2500), ..Amounts::default() };
        limited.resources = Some(Resources { limits, ..Resources::default() });
        let field =
            AmountRef { container: "d".into(), is_limit: true, resource: ResourceName::Cpu, divisor: 1000 };
        assert_eq!(DownwardValue::Amount(field).of(&limited, NODE), "3", "the Pod's");
    }
}
