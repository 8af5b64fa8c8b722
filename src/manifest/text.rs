//! YAML or JSON text → one tree per document. The only module that knows serde_yaml.
//!
//! serde_yaml tells no places but those of errors. So every scalar and every key is visited by a visitor that keeps
//! the value and then fails on purpose: the error carries the place, and the stream, which has already passed the
//! scalar, goes on. One pass over the text gives the whole tree with all its places.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::findings::Findings;
use super::scalar;
use super::source_text::SourceText;
use super::tree::{Data, Entry, Node, Place};

/// Values in one file with its aliases followed: far above any real file, and reached by alias bombs at once.
const MAX_NODES: usize = 1_000_000;

/// What libyaml does per token grows with the flow brackets that are open: 10 MiB of `[` would keep it busy for hours.
const MAX_OPEN_BRACKETS: usize = 1_000;

/// The documents of `bytes`; what is wrong goes to `findings`. Documents without content are left out.
pub(crate) fn documents(bytes: &[u8], findings: &mut Findings) -> Vec<Node> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let place = place_of_offset(bytes, error.valid_up_to());
            findings.error(place, None, "the file is not UTF-8 text");
            return Vec::new();
        }
    };
    if let Some(offset) = too_many_brackets(text) {
        let place = place_of_offset(text.as_bytes(), offset);
        findings.error(place, None, format!("more than {MAX_OPEN_BRACKETS} brackets are open here"));
        return Vec::new();
    }
    let source = SourceText::new(text);
    let nodes_left = Cell::new(MAX_NODES);
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(source.yaml()) {
        let mut duplicates = Vec::new();
        let reader = Reader { source: &source, nodes_left: &nodes_left, duplicates: &mut duplicates };
        match reader.deserialize(document) {
            Ok(Node { data: Data::Null, .. }) => {}
            Ok(node) => documents.push(node),
            Err(error) => {
                let (mut message, place) = split_place(&error.to_string());
                let may_be_of_tab = message.contains("tab") || message.contains("cannot start any token");
                if may_be_of_tab && begins_with_tab(text, place.line) {
                    "this line begins with a tab, and YAML is indented with spaces".clone_into(&mut message);
                }
                findings.error(place, None, message);
                return documents;
            }
        }
        for (place, key) in duplicates {
            findings.error(place, None, format!("the key `{key}` stands here a second time"));
        }
    }
    documents
}

fn place_of_offset(bytes: &[u8], offset: usize) -> Place {
    let before = String::from_utf8_lossy(&bytes[..offset]);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    Place { line, column: before[line_start..].chars().count() + 1 }
}

fn begins_with_tab(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1));
    line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
}

/// The offset of the bracket that is one too many. Brackets in quoted text count too: no manifest comes near.
fn too_many_brackets(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN_BRACKETS {
            return Some(offset);
        }
    }
    None
}

const LINE: &str = " at line ";

/// Splits serde_yaml's `message at line 3 column 5, while … at line 1 column 1`: the first place is where it went wrong.
fn split_place(error: &str) -> (String, Place) {
    let found = error.find(LINE).and_then(|at| Some((at, parse_place(&error[at..])?)));
    match found {
        Some((at, place)) => (error[..at].to_owned(), place),
        None => (error.to_owned(), Place::START),
    }
}

/// The place of a scalar that failed on purpose: the last one, for the message holds keys of the file as well.
fn last_place(error: &str) -> Place {
    error.rfind(LINE).and_then(|at| parse_place(&error[at..])).unwrap_or(Place::START)
}

fn parse_place(text: &str) -> Option<Place> {
    let (line, column) = text.strip_prefix(LINE)?.split_once(" column ")?;
    let column = column.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// Reads one value.
struct Reader<'a> {
    source: &'a SourceText<'a>,
    nodes_left: &'a Cell<usize>,
    duplicates: &'a mut Vec<(Place, String)>,
}

impl Reader<'_> {
    fn again(&mut self) -> Reader<'_> {
        Reader { source: self.source, nodes_left: self.nodes_left, duplicates: self.duplicates }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.nodes_left.get().checked_sub(1);
        self.nodes_left.set(left.ok_or_else(|| {
            D::Error::custom(format!(
                "more than {MAX_NODES} values, aliases followed: too many for a manifest"
            ))
        })?);
        let source = self.source;
        let mut scalar = None;
        match deserializer.deserialize_any(Keep { reader: self, scalar: &mut scalar }) {
            Ok(node) => Ok(node),
            Err(error) => {
                let Some(data) = scalar else { return Err(error) };
                let place = last_place(&error.to_string());
                let data = match data {
                    Data::Text(text) if source.is_plain(place) => scalar::plain(text),
                    other => other,
                };
                Ok(Node { place, data })
            }
        }
    }
}

/// Keeps a scalar and fails with its place, or reads a whole list or map.
struct Keep<'a, 's> {
    reader: Reader<'a>,
    scalar: &'s mut Option<Data>,
}

impl Keep<'_, '_> {
    fn keep<E: de::Error>(self, data: Data) -> Result<Node, E> {
        *self.scalar = Some(data);
        Err(E::custom("the place of a scalar"))
    }
}

impl<'de> Visitor<'de> for Keep<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.keep(Data::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.keep(Data::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        self.keep(Data::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        self.keep(Data::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        self.keep(Data::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        self.keep(Data::Number(number))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        Err(E::custom("a number of more than 64 bits"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        Err(E::custom("a number of more than 64 bits"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.keep(Data::Text(value.to_owned()))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        let (tag, _) = access.variant::<String>()?;
        Err(A::Error::custom(format!("the YAML tag `!{tag}` means nothing in a manifest")))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.reader.again())? {
            items.push(item);
        }
        let place = items.first().map_or(Place::START, |item| item.place);
        Ok(Node { place, data: Data::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Entries::default();
        while let Some(key) = map.next_key_seed(self.reader.again())? {
            let place = key.place;
            let name = key_name(&key)
                .ok_or_else(|| A::Error::custom(format_args!("a key must be text at {}", at(place))))?;
            let mut value: Node = map.next_value_seed(self.reader.again())?;
            if value.is_empty() && !matches!(value.data, Data::Null) {
                value.place = place;
            }
            entries.add(Entry { key: name, place, value }, self.reader.duplicates);
        }
        entries
            .finish()
            .map_err(|(place, message)| A::Error::custom(format_args!("{message} at {}", at(place))))
    }
}

/// As serde_yaml ends its messages, for [`split_place`].
fn at(place: Place) -> String {
    format!("line {} column {}", place.line, place.column)
}

/// Numbers and booleans as keys become text, as in Kubernetes' way from YAML to JSON.
fn key_name(key: &Node) -> Option<String> {
    if key.data == Data::Null { None } else { key.scalar() }
}

/// A map in the making: refuses a second key of one name, applies `<<` at the end.
#[derive(Default)]
struct Entries {
    names: std::collections::HashSet<String>,
    list: Vec<Entry>,
    merged: Vec<Entry>,
}

impl Entries {
    fn add(&mut self, entry: Entry, duplicates: &mut Vec<(Place, String)>) {
        if entry.key == "<<" {
            self.merged.push(entry);
        } else if self.names.insert(entry.key.clone()) {
            self.list.push(entry);
        } else {
            duplicates.push((entry.place, entry.key));
        }
    }

    /// What the map itself says wins over what it merges, and an earlier merged map over a later one.
    fn finish(mut self) -> Result<Node, (Place, &'static str)> {
        let place = self.list.first().or(self.merged.first()).map_or(Place::START, |entry| entry.place);
        for merged in std::mem::take(&mut self.merged) {
            let maps = match merged.value.data {
                Data::List(items) => items,
                _ => vec![merged.value],
            };
            for map in maps {
                let Data::Map(entries) = map.data else {
                    return Err((merged.place, "`<<` merges maps only"));
                };
                let new = entries.into_iter().filter(|entry| self.names.insert(entry.key.clone()));
                self.list.extend(new);
            }
        }
        Ok(Node { place, data: Data::Map(self.list) })
    }
}
