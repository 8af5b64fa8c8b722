//! What stands in a `hosts.toml`, with the line of whatever should not stand there.

use super::toml::{self, Fault, Item, Value};

/// `hosts.toml`.
#[derive(Default)]
pub(super) struct File {
    pub(super) server: Option<String>,
    /// In the file's order: it is the order in which they are asked.
    pub(super) hosts: Vec<(String, Settings)>,
    /// What stands at the top is for the server.
    pub(super) own: Settings,
}

/// What is said of one server, under `[host."…"]` or at the top.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) capabilities: Option<Vec<Capability>>,
    pub(super) ca: Vec<String>,
    /// Certificate and key.
    pub(super) client: Option<(String, String)>,
    pub(super) skip_verify: bool,
    pub(super) headers: Vec<(String, String)>,
    pub(super) override_path: bool,
    pub(super) dial_timeout: Option<String>,
}

/// What a server may be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    Pull,
    Resolve,
    /// Pushing, referrers, and what containerd may think of: not used here.
    Other,
}

impl File {
    pub(super) fn parse(text: &str) -> Result<File, Fault> {
        let mut file = File::default();
        for (key, item) in toml::parse(text)?.entries {
            match key.as_str() {
                "server" => file.server = Some(string(item)?),
                "host" => {
                    for (url, item) in table(item)? {
                        let mut settings = Settings::default();
                        for (key, item) in table(item)? {
                            settings.set(&key, item)?;
                        }
                        file.hosts.push((url, settings));
                    }
                }
                _ => file.own.set(&key, item)?,
            }
        }
        Ok(file)
    }
}

impl Settings {
    fn set(&mut self, key: &str, item: Item) -> Result<(), Fault> {
        match key {
            "capabilities" => self.capabilities = Some(capabilities(item)?),
            "ca" => self.ca = one_or_more(item)?,
            "client" => self.client = client(item)?,
            "skip_verify" => self.skip_verify = boolean(&item)?,
            "header" => {
                for (name, item) in table(item)? {
                    self.headers.extend(one_or_more(item)?.into_iter().map(|value| (name.clone(), value)));
                }
            }
            "override_path" => self.override_path = boolean(&item)?,
            "dial_timeout" => self.dial_timeout = Some(string(item)?),
            _ => {
                return Err(Fault::at(item.line, format!("unknown field `{key}`, expected one of {FIELDS}")));
            }
        }
        Ok(())
    }
}

const FIELDS: &str =
    "capabilities, ca, client, skip_verify, header, override_path, dial_timeout; server, host at the top";

fn string(item: Item) -> Result<String, Fault> {
    match item.value {
        Value::Text(text) => Ok(text),
        _ => Err(item.is_no("a string")),
    }
}

fn boolean(item: &Item) -> Result<bool, Fault> {
    match item.value {
        Value::Bool(value) => Ok(value),
        _ => Err(item.is_no("true or false")),
    }
}

fn table(item: Item) -> Result<Vec<(String, Item)>, Fault> {
    match item.value {
        Value::Table(table) => Ok(table.entries),
        _ => Err(item.is_no("a table")),
    }
}

fn one_or_more(item: Item) -> Result<Vec<String>, Fault> {
    match item.value {
        Value::Text(text) => Ok(vec![text]),
        Value::List(items) => items.into_iter().map(string).collect(),
        _ => Err(item.is_no("a string or several")),
    }
}

fn capabilities(item: Item) -> Result<Vec<Capability>, Fault> {
    match item.value {
        Value::List(items) => items.into_iter().map(capability).collect(),
        _ => Err(item.is_no("a list of strings")),
    }
}

fn capability(item: Item) -> Result<Capability, Fault> {
    Ok(match string(item)?.as_str() {
        "pull" => Capability::Pull,
        "resolve" => Capability::Resolve,
        _ => Capability::Other,
    })
}

/// A file that holds both, a list of such files, or pairs of a certificate and its key. Of several the first: TLS shows one.
fn client(item: Item) -> Result<Option<(String, String)>, Fault> {
    let line = item.line;
    let pair = |item: Item| {
        let names = one_or_more(item)?;
        match <[String; 2]>::try_from(names) {
            Ok([certificate, key]) => Ok((certificate, key)),
            Err(names) if names.len() == 1 => Ok((names[0].clone(), names[0].clone())),
            Err(_) => Err(Fault::at(line, "a certificate and its key are two")),
        }
    };
    match item.value {
        Value::List(items) => {
            let pairs = items.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
            Ok(pairs.into_iter().next())
        }
        _ => pair(item).map(Some),
    }
}
