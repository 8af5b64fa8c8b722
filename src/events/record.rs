//! One thing that happened, however often.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of a message, as in Kubernetes (`v1.Event.message`).
const LONGEST_MESSAGE: usize = 1024;

/// `type` of a `v1.Event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Normal,
    Warning,
}

/// Something that has just happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub kind: Kind,
    /// In the kubelet's words: `Started`, `BackOff`.
    pub reason: &'static str,
    pub message: String,
    pub container: Option<String>,
}

impl Note {
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Note {
        Note { kind, reason, message: message.into(), container: None }
    }

    pub fn of_container(self, name: &str) -> Note {
        Note { container: Some(name.to_owned()), ..self }
    }
}

/// Something that has happened `count` times to one Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Grows with each change of any record, over restarts of podkeep too.
    pub sequence: u64,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    pub r#type: Kind,
    pub reason: String,
    pub message: String,
    pub count: u32,
    pub first_timestamp: Timestamp,
    pub last_timestamp: Timestamp,
}

/// What makes two of them one that happened twice.
type Identity<'a> = (&'a str, Kind, &'a str, Option<&'a str>, &'a str);

impl Record {
    /// Whether this is one more of the same.
    pub fn is_of(&self, uid: &str, note: &Note) -> bool {
        let container = note.container.as_deref();
        self.identity() == (uid, note.kind, note.reason, container, shortened(&note.message))
    }

    /// Whether both are states of one record.
    pub fn is_same(&self, other: &Record) -> bool {
        self.identity() == other.identity()
    }

    fn identity(&self) -> Identity<'_> {
        (&self.uid, self.r#type, &self.reason, self.container.as_deref(), &self.message)
    }
}

/// Records as the file and the socket have them: a line of JSON for each.
pub fn lines<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut text = String::new();
    for record in records {
        // Strings and numbers always become JSON.
        text.push_str(&serde_json::to_string(record).unwrap_or_default());
        text.push('\n');
    }
    text
}

/// As much of a message as a record keeps.
pub fn shortened(message: &str) -> &str {
    let mut end = message.len().min(LONGEST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
