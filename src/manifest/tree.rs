//! A decoded document as a tree in which every value knows where it stands in the text.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Where something stands in the text; line and column start at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub const START: Place = Place { line: 1, column: 1 };
}

/// A value and its place: a scalar's own, for a list or map that of what it begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub place: Place,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map. Keys are unique, see [`super::text`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// The value of `key` if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries_mut()?.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    pub fn entries(&self) -> &[Entry] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }

    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if let Data::Map(entries) = &mut self.data { Some(entries) } else { None }
    }

    pub fn items(&self) -> &[Node] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    pub fn items_mut(&mut self) -> Option<&mut Vec<Node>> {
        if let Data::List(items) = &mut self.data { Some(items) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    /// Null, or a list or map without anything in it.
    pub fn is_empty(&self) -> bool {
        match &self.data {
            Data::Null => true,
            Data::List(items) => items.is_empty(),
            Data::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// A scalar as a person would write it; `None` for lists and maps.
    pub fn scalar(&self) -> Option<String> {
        match &self.data {
            Data::Null => Some("null".to_owned()),
            Data::Bool(value) => Some(value.to_string()),
            Data::Number(value) => Some(value.to_string()),
            Data::Text(value) => Some(value.clone()),
            Data::List(_) | Data::Map(_) => None,
        }
    }

    /// The node at `path`, if it is there.
    pub fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(index) => node.items().get(*index),
        })
    }

    pub fn at_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.get_mut(key),
            Step::Index(index) => node.items_mut()?.get_mut(*index),
        })
    }

    /// The place of the value at `path`, or of the nearest thing around it where it is missing.
    ///
    /// A list or map is placed at its key: the place of its first element would say less.
    pub fn place_of(&self, path: &Path) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in &path.0 {
            let next = match step {
                Step::Key(key) => node.entry(key).map(|entry| (entry.place, &entry.value)),
                Step::Index(index) => node.items().get(*index).map(|item| (item.place, item)),
            };
            let Some((key_place, value)) = next else { break };
            let compound = matches!(value.data, Data::List(_) | Data::Map(_));
            place = if compound { key_place } else { value.place };
            node = value;
        }
        place
    }

    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(value) => Value::Number(value.clone()),
            Data::Text(value) => Value::String(value.clone()),
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    map.insert(entry.key.clone(), entry.value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// A tree without places: everything stands at the start.
    pub fn from_json(value: &Value) -> Node {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(value) => Data::Number(value.clone()),
            Value::String(value) => Data::Text(value.clone()),
            Value::Array(items) => Data::List(items.iter().map(Node::from_json).collect()),
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        place: Place::START,
                        value: Node::from_json(value),
                    })
                    .collect(),
            ),
        };
        Node { place: Place::START, data }
    }
}

/// A field's path, such as `spec.containers[0].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// From dotted keys: `Path::of("spec.volumes")`. No key may hold a dot.
    pub fn of(dotted: &str) -> Path {
        Path(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        self.with(Step::Index(index))
    }

    #[must_use]
    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                // As Kubernetes writes a label's key: a dot in it would read as another field.
                Step::Key(key) if key.contains(['.', '/']) => write!(f, "[{key}]")?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubernetes_writes_it() {
        let path = Path::of("spec.containers").index(1).key("resources").key("example.com/gpu");
        assert_eq!(path.to_string(), "spec.containers[1].resources[example.com/gpu]");
    }

    #[test]
    fn a_missing_field_is_placed_at_what_should_have_held_it() {
        let place = |line| Place { line, column: 1 };
        let inner = Node { place: place(3), data: Data::Map(Vec::new()) };
        let entry = Entry { key: "spec".to_owned(), place: place(2), value: inner };
        let root = Node { place: place(1), data: Data::Map(vec![entry]) };
        assert_eq!(root.place_of(&Path::of("spec.containers")), place(2));
        assert_eq!(root.place_of(&Path::of("metadata")), place(1));
    }
}
