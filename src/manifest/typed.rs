//! A tree → a Kubernetes type, with every unknown field and every value of a wrong type.
//!
//! The Kubernetes types hand serde the names of their fields (`deserialize_struct`), so the deserializer itself sees
//! which keys are unknown and what they might have been. serde stops at the first wrong type: that value is then cut
//! out and the tree is decoded again until nothing is wrong.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::findings::Findings;
use super::names::nearest;
use super::tree::{Data, Entry, Node, Path, Place, Step};

/// Beyond this many wrong types the rest is not looked for: each costs one more decoding.
const MAX_CUTS: usize = 50;

/// Decodes `node` as `T`; `None` if a type is wrong. Numbers where a quantity stands become text in `node`, as in
/// Kubernetes (`cpu: 1` is `cpu: "1"`), so that both give the same document.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(node: &mut Node, findings: &mut Findings) -> Option<T> {
    let mut cuts: Vec<Path> = Vec::new();
    let (value, notes) = loop {
        let notes = RefCell::default();
        let state = State { cuts: &cuts, notes: &notes };
        let error = match T::deserialize(Value { node, trail: &Trail::Root, state }) {
            Ok(value) => break (Some(value).filter(|_| cuts.is_empty()), notes.into_inner()),
            Err(error) => error,
        };
        let (path, place) = error.at.unwrap_or((Path::default(), node.place));
        findings.error(place, Some(&path), with_path(&path, &error.message));
        if path.0.is_empty() || cuts.contains(&path) || cuts.len() == MAX_CUTS {
            break (None, notes.into_inner());
        }
        cuts.push(path);
    };
    for unknown in notes.unknown {
        findings.error(unknown.place, Some(&unknown.path), unknown.message());
    }
    for path in notes.quantities {
        if let Some(quantity) = node.at_mut(&path)
            && let Some(text) = quantity.scalar()
        {
            quantity.data = Data::Text(text);
        }
    }
    value
}

fn with_path(path: &Path, message: &str) -> String {
    if path.0.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

/// What decoding saw beside the value.
#[derive(Default)]
struct Notes {
    unknown: Vec<Unknown>,
    quantities: Vec<Path>,
}

struct Unknown {
    place: Place,
    path: Path,
    nearest: Option<&'static str>,
}

impl Unknown {
    fn message(&self) -> String {
        match self.nearest {
            Some(name) => format!("unknown field: {}; did you mean `{name}`?", self.path),
            None => format!("unknown field: {}", self.path),
        }
    }
}

#[derive(Clone, Copy)]
struct State<'a> {
    cuts: &'a [Path],
    notes: &'a RefCell<Notes>,
}

/// The way from the root to a value, on the stack; made into a [`Path`] only when it is needed.
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn path(&self) -> Path {
        let mut steps = Vec::new();
        let mut trail = self;
        loop {
            trail = match trail {
                Trail::Root => break,
                Trail::Key(parent, key) => {
                    steps.push(Step::Key((*key).to_owned()));
                    parent
                }
                Trail::Index(parent, index) => {
                    steps.push(Step::Index(*index));
                    parent
                }
            };
        }
        steps.reverse();
        Path(steps)
    }
}

/// A type that does not fit. `at` is filled in by the innermost value it passes.
#[derive(Debug)]
struct Misfit {
    message: String,
    at: Option<(Path, Place)>,
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Misfit { message: message.to_string(), at: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let wanted = readable(expected);
        let wants_text = wanted.contains("string");
        let needs_no_quotes = |text: &str| match wanted.as_str() {
            "a boolean" => ["true", "false"].contains(&text),
            _ => wanted.starts_with("an integer") && text.parse::<i64>().is_ok(),
        };
        let hint = match found {
            Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_)
                if wants_text =>
            {
                " (quote it to make it a string)"
            }
            Unexpected::Str(text) if needs_no_quotes(text) => " (write it without quotes)",
            _ => "",
        };
        let found = match found {
            Unexpected::Unit | Unexpected::Option => "null".to_owned(),
            Unexpected::Map => "a map".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => format!("the {other}"),
        };
        Misfit { message: format!("expected {wanted}, found {found}{hint}"), at: None }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Misfit { message: format!("expected {}, found the {found}", readable(expected)), at: None }
    }
}

/// serde's names of Rust types in words.
fn readable(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "i32" | "u32" => "an integer of 32 bits".to_owned(),
        "i64" | "u64" => "an integer".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

/// One value of the tree, to be deserialized.
#[derive(Clone, Copy)]
struct Value<'a> {
    node: &'a Node,
    trail: &'a Trail<'a>,
    state: State<'a>,
}

impl Value<'_> {
    fn placed<T>(&self, result: Result<T, Misfit>) -> Result<T, Misfit> {
        result.map_err(|misfit| match misfit.at {
            Some(_) => misfit,
            None => Misfit { at: Some((self.trail.path(), self.node.place)), ..misfit },
        })
    }
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let result = match &self.node.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Number(value) => match (value.as_u64(), value.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(value.as_f64().unwrap_or_default()),
            },
            Data::Text(value) => visitor.visit_str(value),
            Data::List(items) => visitor.visit_seq(Items { list: self, next: items.iter().enumerate() }),
            Data::Map(entries) => visitor.visit_map(Fields::new(self, entries, None)),
        };
        self.placed(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node.data {
            Data::Null => self.placed(visitor.visit_none()),
            _ => self.placed(visitor.visit_some(self)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let Data::Number(number) = &self.node.data else {
            return self.placed(visitor.visit_newtype_struct(self));
        };
        if name != "Quantity" {
            return self.placed(visitor.visit_newtype_struct(self));
        }
        self.state.notes.borrow_mut().quantities.push(self.trail.path());
        self.placed(visitor.visit_newtype_struct(number.to_string().into_deserializer()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.node.data {
            Data::Map(entries) => self.placed(visitor.visit_map(Fields::new(self, entries, Some(fields)))),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        struct AMap;
        impl de::Expected for AMap {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
        }
        let found = match &self.node.data {
            Data::Map(_) => return self.deserialize_any(visitor),
            Data::Null => Unexpected::Unit,
            Data::Bool(value) => Unexpected::Bool(*value),
            Data::Number(value) => Unexpected::Float(value.as_f64().unwrap_or_default()),
            Data::Text(value) => Unexpected::Str(value),
            Data::List(_) => Unexpected::Seq,
        };
        self.placed(Err(de::Error::invalid_type(found, &AMap)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct enum identifier ignored_any
    }
}

struct Items<'a> {
    list: Value<'a>,
    next: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Value { trail, state, .. } = self.list;
        for (index, node) in self.next.by_ref() {
            let trail = Trail::Index(trail, index);
            if state.cuts.is_empty() || !state.cuts.contains(&trail.path()) {
                return seed.deserialize(Value { node, trail: &trail, state }).map(Some);
            }
        }
        Ok(None)
    }
}

struct Fields<'a> {
    map: Value<'a>,
    known: Option<&'static [&'static str]>,
    next: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> Fields<'a> {
    fn new(map: Value<'a>, entries: &'a [Entry], known: Option<&'static [&'static str]>) -> Fields<'a> {
        Fields { map, known, next: entries.iter(), current: None }
    }

    /// Notes `entry` if the type does not know it.
    fn is_known(&self, entry: &Entry) -> bool {
        let Some(known) = self.known.filter(|known| !known.contains(&entry.key.as_str())) else {
            return true;
        };
        self.map.state.notes.borrow_mut().unknown.push(Unknown {
            place: entry.place,
            path: self.map.trail.path().key(&entry.key),
            nearest: nearest(&entry.key, known),
        });
        false
    }

    fn is_cut(&self, entry: &Entry) -> bool {
        let Value { trail, state, .. } = self.map;
        !state.cuts.is_empty() && state.cuts.contains(&Trail::Key(trail, &entry.key).path())
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        while let Some(entry) = self.next.next() {
            if self.is_known(entry) && !self.is_cut(entry) {
                self.current = Some(entry);
                return seed.deserialize(entry.key.as_str().into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Value { trail, state, .. } = self.map;
        let entry = self.current.take().ok_or_else(|| de::Error::custom("a value without its key"))?;
        let trail = Trail::Key(trail, &entry.key);
        seed.deserialize(Value { node: &entry.value, trail: &trail, state })
    }
}
