//! `podkeep events`: what happened to Pods.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::args::{EventsArgs, ListOutput, NodeArgs};
use super::{json, known_pods, table};
use crate::api::client;
use crate::api::events::Path;
use crate::api::json::harmless;
use crate::events::{self, Kind, Record};
use crate::node::{Folders, offline};

const HEADER: [&str; 5] = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
/// Where no table can be laid out, because more is to come: as wide as what stands there mostly.
const WIDTHS: [usize; 4] = [19, 7, 22, 24];

pub fn events(options: &EventsArgs, node: &NodeArgs) -> Result<ExitCode> {
    let wanted = Wanted::new(options, node);
    if options.watch {
        watch(options.output, node, &wanted)?;
    } else {
        let records = known(node)?.into_iter().filter(|record| wanted.has(record)).collect::<Vec<_>>();
        match options.output {
            ListOutput::Table => print_table(&records)?,
            ListOutput::Json => print_list(&records)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which Pods' events are asked for.
struct Wanted {
    namespace: Option<String>,
    pod: Option<String>,
    node_name: String,
}

impl Wanted {
    fn new(options: &EventsArgs, node: &NodeArgs) -> Wanted {
        let typed = options.pod.as_deref().map(|pod| known_pods::typed(pod, node));
        Wanted {
            namespace: typed.map(|(namespace, _)| namespace.to_owned()).or_else(|| node.namespace.clone()),
            pod: typed.map(|(_, name)| name.to_owned()),
            node_name: offline::node_name(&node.root_dir).unwrap_or_default(),
        }
    }

    /// A Pod that is gone has its events still: names are compared, nothing is looked up.
    fn has(&self, record: &Record) -> bool {
        let is_it = |name: &String| {
            record.pod == *name || record.pod.strip_suffix(&format!("-{}", self.node_name)) == Some(name)
        };
        self.namespace.as_ref().is_none_or(|namespace| record.namespace == *namespace)
            && self.pod.as_ref().is_none_or(is_it)
    }
}

/// From the node, or from its files where it is down, and says so.
fn known(node: &NodeArgs) -> Result<Vec<Record>> {
    known_or(node, |socket| known_pods::say_down(node, socket))
}

/// The same for those who have said so.
pub fn known_quietly(node: &NodeArgs) -> Result<Vec<Record>> {
    known_or(node, |_| Ok(()))
}

fn known_or(node: &NodeArgs, down: impl FnOnce(&std::path::Path) -> Result<()>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let asked = known_pods::patiently(node, |socket| {
        client::events(socket, Path::default(), |record| {
            records.push(record);
            Ok(())
        })
    });
    match asked {
        Ok(()) => Ok(records),
        Err(client::Error::Down(socket)) => {
            down(&socket)?;
            let files = [Folders::events_in(&node.root_dir), Folders::fresh_events_in(&node.run_dir)];
            let [on_disk, fresh] = files.map(|file| events::read(&file));
            Ok(events::Recorder::new(on_disk?, fresh?).after(0, std::time::Duration::ZERO))
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints each change until the node is stopped; a worker that is replaced meanwhile goes unnoticed.
fn watch(output: ListOutput, node: &NodeArgs, wanted: &Wanted) -> Result<()> {
    let mut out = io::stdout().lock();
    if output == ListOutput::Table {
        print_line(&mut out, HEADER)?;
    }
    let mut after = 0;
    loop {
        let watched = known_pods::patiently(node, |socket| {
            client::events(socket, Path { after, watch: true }, |record| {
                after = record.sequence;
                if wanted.has(&record) {
                    match output {
                        ListOutput::Table => {
                            print_line(&mut out, cells(&record, wall).each_ref().map(|c| c))?
                        }
                        ListOutput::Json => {
                            out.write_all(&harmless(format!("{}\n", view(&record)).as_bytes()))?
                        }
                    }
                }
                out.flush()
            })
        });
        match watched {
            // It broke off because the worker ended; the next one goes on after it.
            Ok(()) | Err(client::Error::Io { .. }) if offline::keeper_lives(&node.run_dir) => {}
            Ok(()) => return Ok(()),
            Err(error) => return Err(error).context("watch events"),
        }
    }
}

fn print_table(records: &[Record]) -> Result<()> {
    let now = Timestamp::now();
    let rows: Vec<[String; 5]> =
        records.iter().map(|record| cells(record, |record| seen(record, now))).collect();
    Ok(table::print(HEADER, &rows, io::stdout().lock())?)
}

fn print_list(records: &[Record]) -> Result<()> {
    let items: Vec<_> = records.iter().map(view).collect();
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "EventList", "items": items });
    json::print(&list)
}

fn print_line(out: &mut impl Write, cells: [impl AsRef<str>; 5]) -> io::Result<()> {
    let [first @ .., message] = &cells;
    for (cell, width) in first.iter().zip(WIDTHS) {
        write!(out, "{:width$}   ", cell.as_ref())?;
    }
    writeln!(out, "{}", table::harmless(message.as_ref()))
}

pub fn cells(record: &Record, when: impl Fn(&Record) -> String) -> [String; 5] {
    let kind = match record.r#type {
        Kind::Normal => "Normal",
        Kind::Warning => "Warning",
    };
    let pod = match record.namespace.as_str() {
        "default" => format!("pod/{}", record.pod),
        namespace => format!("pod/{namespace}/{}", record.pod),
    };
    [when(record), kind.to_owned(), record.reason.clone(), pod, record.message.clone()]
}

/// As kubectl has it: `12s`, `2m (x5 over 3h)`.
pub fn seen(record: &Record, now: Timestamp) -> String {
    let age = |at| table::since(at, now);
    match record.count {
        1 => age(record.last_timestamp),
        count => format!("{} (x{count} over {})", age(record.last_timestamp), age(record.first_timestamp)),
    }
}

fn wall(record: &Record) -> String {
    format!("{:.0}", record.last_timestamp)
}

/// A `v1.Event`.
fn view(record: &Record) -> serde_json::Value {
    let mut involved = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "namespace": record.namespace, "name": record.pod, "uid": record.uid,
    });
    if let Some(container) = &record.container {
        involved["fieldPath"] = format!("spec.containers{{{container}}}").into();
    }
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", record.pod, record.sequence),
            "namespace": record.namespace,
            "resourceVersion": record.sequence.to_string(),
        },
        "involvedObject": involved,
        "type": record.r#type,
        "reason": record.reason,
        "message": record.message,
        "count": record.count,
        "firstTimestamp": record.first_timestamp,
        "lastTimestamp": record.last_timestamp,
        "source": { "component": "podkeep" },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn without_a_node_what_only_the_run_folder_has_is_told_too() {
        let dir = tempfile::tempdir().unwrap();
        let node =
            NodeArgs { root_dir: dir.path().join("root"), run_dir: dir.path().join("run"), namespace: None };
        let record = |sequence: u64, reason: &str| {
            let record = serde_json::json!({
                "sequence": sequence, "namespace": "default", "pod": "web", "uid": "1", "type": "Normal",
                "reason": reason, "message": "", "count": sequence, "firstTimestamp": "2026-01-02T03:04:05Z",
                "lastTimestamp": "2026-01-02T03:04:05Z",
            });
            format!("{record}\n")
        };
        let written = [
            (&node.root_dir, [record(1, "Pulled"), record(2, "Started")]),
            (&node.run_dir, [record(3, "Started"), record(4, "Killing")]),
        ];
        for (folder, lines) in written {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("events.jsonl"), lines.concat()).unwrap();
        }
        let told = known(&node).unwrap().into_iter().map(|record| (record.reason, record.count));
        let expected = [("Pulled", 1), ("Started", 3), ("Killing", 4)];
        assert!(told.eq(expected.map(|(reason, count)| (reason.to_owned(), count))));
    }
}
