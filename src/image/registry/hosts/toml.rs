//! TOML as a tree in the order of the file, with the line of everything.
//!
//! The crate `toml_parser` knows the grammar; here is what its keys and headers mean together (TOML 1.0, "Table" and
//! "Array of Tables"). The crate `toml` does both, through serde, for ten times the code.

use std::fmt;
use std::iter::Peekable;
use std::vec::IntoIter;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ParseError, Source};

/// Arrays and tables within each other.
const MAX_DEPTH: u32 = 80;

/// A file that is not TOML, or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Fault {
    line: usize,
    reason: String,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    List(Vec<Item>),
    Table(Table),
    /// Of `[[…]]`.
    Tables(Vec<Table>),
    /// A number or a time: what it is. Its value means nothing here, and is not looked at closely.
    Other(&'static str),
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<(String, Item)>,
    made_by: Maker,
}

/// How a table came to be, which decides who may add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// `[it]`.
    Header,
    /// `[it.below]`, so that `[it]` may follow.
    HeaderBelow,
    /// `it.key = …`.
    Dots,
    /// `{…}`, complete as it is.
    Braces,
}

struct Key {
    name: String,
    line: usize,
}

impl Fault {
    pub(super) fn at(line: usize, reason: impl Into<String>) -> Fault {
        Fault { line, reason: reason.into() }
    }
}

impl Item {
    pub(super) fn is_no(&self, expected: &str) -> Fault {
        Fault::at(self.line, format!("invalid type: {}, expected {expected}", self.value))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Text(_) => "string",
            Value::Bool(_) => "boolean",
            Value::List(_) | Value::Tables(_) => "array",
            Value::Table(_) => "table",
            Value::Other(what) => what,
        })
    }
}

/// # Errors
/// The first thing that is no TOML.
pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    let source = Source::new(text);
    let (mut events, mut error) = (Vec::new(), None::<ParseError>);
    let mut receiver = ValidateWhitespace::new(&mut events, source);
    let tokens = source.lex().into_vec();
    parse_document(&tokens, &mut RecursionGuard::new(&mut receiver, MAX_DEPTH), &mut error);
    events.retain(|event| {
        !matches!(event.kind(), EventKind::Whitespace | EventKind::Comment | EventKind::Newline)
    });
    let reader = Reader { source, events: events.into_iter().peekable(), end: text.len() };
    match error {
        Some(error) => Err(reader.fault_of(&error)),
        None => reader.document(),
    }
}

/// Goes through the events of a text whose grammar is right.
struct Reader<'a> {
    source: Source<'a>,
    events: Peekable<IntoIter<Event>>,
    end: usize,
}

impl Reader<'_> {
    fn document(mut self) -> Result<Table, Fault> {
        let mut root = Table::new(Maker::Header);
        let mut header = Vec::new();
        while let Some(event) = self.events.peek() {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    let is_array = event.kind() == EventKind::ArrayTableOpen;
                    self.events.next();
                    header = self.keys()?;
                    self.events.next();
                    root.open(&header, is_array)?;
                }
                _ => self.pair(root.below(&header, Maker::HeaderBelow)?)?,
            }
        }
        Ok(root)
    }

    /// `a.b = value`.
    fn pair(&mut self, table: &mut Table) -> Result<(), Fault> {
        let keys = self.keys()?;
        self.events.next();
        let value = self.value()?;
        let Some((last, before)) = keys.split_last() else { return Err(self.odd()) };
        table.below(before, Maker::Dots)?.add(last, value)
    }

    /// `a."b".c`.
    fn keys(&mut self) -> Result<Vec<Key>, Fault> {
        let mut keys = Vec::new();
        loop {
            let event = self.events.next().ok_or_else(|| self.odd())?;
            let raw = self.source.get(event).ok_or_else(|| self.odd())?;
            let (mut name, mut error) = (String::new(), None::<ParseError>);
            raw.decode_key(&mut name, &mut error);
            if let Some(error) = error {
                return Err(self.fault_of(&error));
            }
            keys.push(Key { name, line: self.line(event.span().start()) });
            if self.events.next_if(|event| event.kind() == EventKind::KeySep).is_none() {
                return Ok(keys);
            }
        }
    }

    fn value(&mut self) -> Result<Value, Fault> {
        let event = self.events.next().ok_or_else(|| self.odd())?;
        match event.kind() {
            EventKind::ArrayOpen => {
                let mut items = Vec::new();
                while !self.closes(EventKind::ArrayClose) {
                    let line = self.events.peek().map_or(self.end, |event| event.span().start());
                    items.push(Item { line: self.line(line), value: self.value()? });
                }
                Ok(Value::List(items))
            }
            EventKind::InlineTableOpen => {
                let mut table = Table::new(Maker::Dots);
                while !self.closes(EventKind::InlineTableClose) {
                    self.pair(&mut table)?;
                }
                table.complete();
                Ok(Value::Table(table))
            }
            _ => self.scalar(&event),
        }
    }

    fn scalar(&self, event: &Event) -> Result<Value, Fault> {
        let raw = self.source.get(event).ok_or_else(|| self.odd())?;
        let (mut text, mut error) = (String::new(), None::<ParseError>);
        let kind = raw.decode_scalar(&mut text, &mut error);
        match (error, kind) {
            (Some(error), _) => Err(self.fault_of(&error)),
            (None, ScalarKind::String) => Ok(Value::Text(text)),
            (None, ScalarKind::Boolean(value)) => Ok(Value::Bool(value)),
            (None, other) => Ok(Value::Other(other.description())),
        }
    }

    /// Passes over commas, and over the end if it is there.
    fn closes(&mut self, end: EventKind) -> bool {
        while self.events.next_if(|event| event.kind() == EventKind::ValueSep).is_some() {}
        self.events.peek().is_none() || self.events.next_if(|event| event.kind() == end).is_some()
    }

    fn line(&self, at: usize) -> usize {
        1 + self.source.input().get(..at).unwrap_or_default().matches('\n').count()
    }

    fn fault_of(&self, error: &ParseError) -> Fault {
        let at = error.unexpected().or(error.context()).map_or(self.end, |span| span.start());
        Fault::at(self.line(at), error.description())
    }

    /// The parser says it is TOML, and it does not come as such.
    fn odd(&self) -> Fault {
        Fault::at(self.line(self.end), "it ends too early")
    }
}

impl Table {
    fn new(made_by: Maker) -> Table {
        Table { entries: Vec::new(), made_by }
    }

    fn get(&mut self, key: &Key) -> Option<usize> {
        self.entries.iter().position(|(name, _)| *name == key.name)
    }

    fn add(&mut self, key: &Key, value: Value) -> Result<(), Fault> {
        if self.get(key).is_some() {
            return Err(key.is_taken());
        }
        self.entries.push((key.name.clone(), Item { line: key.line, value }));
        Ok(())
    }

    /// The table that the keys lead to. What is missing is made, on behalf of `maker`.
    fn below(&mut self, keys: &[Key], maker: Maker) -> Result<&mut Table, Fault> {
        let mut table = self;
        for key in keys {
            let at = match table.get(key) {
                Some(at) => at,
                None => {
                    table.add(key, Value::Table(Table::new(maker)))?;
                    table.entries.len() - 1
                }
            };
            table = match &mut table.entries[at].1.value {
                Value::Table(below) if below.lets_through(maker) => below,
                Value::Tables(tables) if maker == Maker::HeaderBelow => {
                    tables.last_mut().ok_or_else(|| key.is_taken())?
                }
                _ => return Err(key.is_taken()),
            };
        }
        Ok(table)
    }

    /// `[keys]` or `[[keys]]`.
    fn open(&mut self, keys: &[Key], is_array: bool) -> Result<(), Fault> {
        let Some((last, before)) = keys.split_last() else { return Ok(()) };
        let table = self.below(before, Maker::HeaderBelow)?;
        let new = Table::new(Maker::Header);
        let Some(at) = table.get(last) else {
            let value = if is_array { Value::Tables(vec![new]) } else { Value::Table(new) };
            return table.add(last, value);
        };
        match &mut table.entries[at].1.value {
            Value::Tables(tables) if is_array => tables.push(new),
            Value::Table(known) if !is_array && known.made_by == Maker::HeaderBelow => {
                known.made_by = Maker::Header;
            }
            _ => return Err(last.is_taken()),
        }
        Ok(())
    }

    /// Headers lead through whatever is not complete, dots only through what dots have made.
    fn lets_through(&self, maker: Maker) -> bool {
        match maker {
            Maker::Dots => self.made_by == Maker::Dots,
            _ => self.made_by != Maker::Braces,
        }
    }

    fn complete(&mut self) {
        self.made_by = Maker::Braces;
        for (_, item) in &mut self.entries {
            if let Value::Table(below) = &mut item.value {
                below.complete();
            }
        }
    }
}

impl Key {
    fn is_taken(&self) -> Fault {
        Fault::at(self.line, format!("duplicate key {:?}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line.
    fn shown(table: &Table) -> String {
        let value = |value: &Value| match value {
            Value::Text(text) => format!("{text:?}"),
            Value::Bool(value) => value.to_string(),
            Value::List(items) => {
                format!("{:?}", items.iter().map(|i| i.value.to_string()).collect::<Vec<_>>())
            }
            Value::Table(table) => format!("{{{}}}", shown(table)),
            Value::Tables(tables) => format!("{:?}", tables.iter().map(shown).collect::<Vec<_>>()),
            Value::Other(what) => (*what).to_owned(),
        };
        let pairs =
            table.entries.iter().map(|(key, item)| format!("{key}@{}={}", item.line, value(&item.value)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn assert_is(text: &str, expected: &str) {
        assert_eq!(shown(&parse(text).unwrap()), expected, "{text}");
    }

    #[test]
    fn every_kind_of_value_is_read() {
        assert_is("\u{feff}# c\r\na = 'x\\n' # c\nb = \"x\\u00e4\\n\"\n", r#"a@2="x\\n" b@3="xä\n""#);
        assert_is("a = '''\nx\ny'''\nb = \"\"\"x \\\n   y\"\"\"\n", r#"a@1="x\ny" b@4="x y""#);
        assert_is("a=true\nb=false\nc=1_0\nd=1.5e3\ne=1979-05-27T07:32:00Z\nf=0xff\n\"\"=inf", {
            "a@1=true b@2=false c@3=integer d@4=float e@5=date-time f@6=hexadecimal @7=float"
        });
        assert_is("a=[1,\n[ 'x', ], # c\n{},\n]\n", r#"a@1=["integer", "array", "table"]"#);
        assert_is("a = {b = 1, c.d = 'x', 'e f' = []}", r#"a@1={b@1=integer c@1={d@1="x"} e f@1=[]}"#);
        assert_is("", "");
    }

    #[test]
    fn keys_and_headers_make_tables_together() {
        assert_is("a.b.c = 1\na.b.d = 2\n", "a@1={b@1={c@1=integer d@2=integer}}");
        assert_is("[a.b]\nc = 1\n[a]\nd = 2\n", "a@1={b@1={c@2=integer} d@4=integer}");
        assert_is("[[a]]\nb = 1\n[a.c]\n[[a]]\nb = 2\n", r#"a@1=["b@2=integer c@3={}", "b@5=integer"]"#);
        assert_is("[a]\nb.c = 1\n[a.b.d]\n", "a@1={b@2={c@2=integer d@3={}}}");
        assert_is("[ \"a.b\" . c ]\n", "a.b@1={c@1={}}");
    }

    #[test]
    fn what_says_a_thing_twice_is_refused_with_its_line() {
        for (text, line) in [
            ("a = 1\na = 2", 2),
            ("[a]\n[b]\n[a]", 3),
            ("a = 1\n[a]", 2),
            ("a = {}\n[a.b]", 2),
            ("a = {b = {}}\na.b.c = 1", 2),
            ("a = {b = 1, b = 2}", 1),
            ("a = []\n[[a]]", 2),
            ("[[a]]\n[a]", 2),
            ("[a]\n[[a]]", 2),
            ("[a]\nb.c = 1\n[a.b]", 3),
            ("[a.b.c]\nd = 1\n[a]\nb.c.e = 2", 4),
            ("a.b = 1\na.b.c = 2", 2),
            ("a = 1\n'a' = 2", 2),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.line, line, "{text:?}: {fault}");
            assert!(fault.reason.starts_with("duplicate key"), "{text:?}: {fault}");
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        for (text, line) in [
            ("a", 1),
            ("\na =", 2),
            ("\n\na = 'x", 3),
            ("a = \"\\x\"", 1),
            ("[a", 1),
            ("a = [1", 1),
            ("a = 1 b = 2", 1),
            ("= 1", 1),
            ("\na = 01", 2),
            ("a = 1\n\u{0}", 2),
            ("a = yes", 1),
            ("[]", 1),
        ] {
            let parsed = parse(text).map(|table| shown(&table));
            assert_eq!(parsed.as_ref().map_err(|fault| fault.line), Err(line), "{text:?}: {parsed:?}");
        }
        assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
    }
}
