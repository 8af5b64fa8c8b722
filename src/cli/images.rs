//! `podkeep load` and `podkeep images`: the store on disk, with or without a running node.

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use super::args::{ImagesArgs, ListOutput, LoadArgs, NodeArgs};
use super::table;
use crate::image::{ImageSummary, Store};
use crate::node::Folders;

/// Imports files; a running node notices by itself.
pub fn load(options: &LoadArgs, node: &NodeArgs) -> Result<ExitCode> {
    let store = open(node)?;
    for file in &options.files {
        for imported in store.import(file)? {
            println!("{} {}", imported.reference, imported.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn images(options: &ImagesArgs, node: &NodeArgs) -> Result<ExitCode> {
    let images = open(node)?.list()?;
    match options.output {
        ListOutput::Table => print_table(&images)?,
        ListOutput::Json => print_json(&images)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn open(node: &NodeArgs) -> Result<Store> {
    Ok(Store::open(&Folders::images_in(&node.root_dir))?)
}

fn print_table(images: &[ImageSummary]) -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<[String; 4]> = images
        .iter()
        .flat_map(|image| image.references.iter().map(move |reference| (image, reference)))
        .map(|(image, reference)| {
            let age = image.created.map(|at| now.saturating_sub(at.as_second()).max(0).unsigned_abs());
            [
                reference.to_string(),
                short(&image.id.to_string()),
                size(image.size),
                age.map_or_else(|| "-".to_owned(), |age| format!("{} ago", table::age(age))),
            ]
        })
        .collect();
    Ok(table::print(["IMAGE", "ID", "SIZE", "CREATED"], &rows, io::stdout().lock())?)
}

fn print_json(images: &[ImageSummary]) -> Result<()> {
    let images: Vec<_> = images
        .iter()
        .map(|image| {
            serde_json::json!({
                "id": image.id.to_string(),
                "repoTags": image.references.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "created": image.created,
                "size": image.size,
                "layers": image.layers,
            })
        })
        .collect();
    serde_json::to_writer_pretty(io::stdout().lock(), &serde_json::json!({ "images": images }))?;
    println!();
    Ok(())
}

/// The first 12 digits of an ID, as docker shows it.
pub fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// Bytes as docker shows them: `4.26MB`.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}
