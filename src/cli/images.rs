//! `podkeep images`: the store on disk, with or without a running node, and who needs what of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::ExitCode;

use anyhow::Result;

use super::args::{ImagesArgs, ListOutput, NodeArgs};
use super::{FAILED, json, known_pods, table};
use crate::image::{Damage, Digest, ImageSummary, Keep, Reference, Store};
use crate::node::{Folders, offline};
use crate::order;

pub fn images(options: &ImagesArgs, node: &NodeArgs) -> Result<ExitCode> {
    let store = open(node)?;
    if options.verify {
        return verify(&store, options.output);
    }
    let (images, needed) = (store.list()?, Needed::by(node)?);
    match options.output {
        ListOutput::Table => print_table(&images, &needed)?,
        ListOutput::Json => print_json(&images, &needed)?,
    }
    for damage in images.iter().filter_map(|image| image.damage.as_ref()) {
        eprintln!("podkeep: {damage}: `podkeep images --verify` mends what it can");
    }
    Ok(ExitCode::SUCCESS)
}

pub fn open(node: &NodeArgs) -> Result<Store> {
    Ok(Store::open(&Folders::images_in(&node.root_dir))?)
}

/// Reads everything, and fails if something is still wrong afterwards.
fn verify(store: &Store, output: ListOutput) -> Result<ExitCode> {
    let damages = store.verify()?;
    let wrong = damages.iter().filter(|damage| !damage.mended).count();
    match output {
        ListOutput::Table => print_damages(&damages, wrong),
        ListOutput::Json => print_damages_as_json(&damages)?,
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print_damages_as_json(damages: &[Damage]) -> Result<()> {
    let shown = |damage: &Damage| serde_json::json!({"what": damage.what, "why": damage.why, "mended": damage.mended});
    let damages: Vec<_> = damages.iter().map(shown).collect();
    json::print(&serde_json::json!({ "damages": damages }))
}

fn print_damages(damages: &[Damage], wrong: usize) {
    for damage in damages {
        let outcome = if damage.mended { "mended" } else { "NOT mended: bring the image again" };
        println!("{}: {}: {outcome}", damage.what, damage.why);
    }
    match damages.len() {
        0 => println!("every image is whole"),
        found => println!("{found} found, {} mended", found - wrong),
    }
}

/// What Pods need, by the node's word or by what it wrote last.
pub struct Needed {
    /// Pods by the image they run from.
    by_image: BTreeMap<Digest, BTreeSet<String>>,
    /// A Pod, or a manifest that was in order once, by what it asks for.
    pub by_reference: BTreeMap<Reference, String>,
}

impl Needed {
    pub fn by(node: &NodeArgs) -> Result<Needed> {
        let mut needed = Needed { by_image: BTreeMap::new(), by_reference: BTreeMap::new() };
        for (file, image) in offline::named_images(&node.root_dir) {
            needed.add_reference(&image, format!("the manifest {}", file.display()));
        }
        for pod in known_pods::known_quietly(node)?.items {
            let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
            for container in pod.status.all_containers() {
                needed.add_reference(&container.image, format!("Pod {name}"));
            }
            for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
                if let Some(reference) = volume["image"]["reference"].as_str() {
                    needed.add_reference(reference, format!("Pod {name}"));
                }
            }
            for id in pod.podkeep.images.into_iter().filter_map(|id| id.parse().ok()) {
                needed.by_image.entry(id).or_default().insert(name.clone());
            }
        }
        Ok(needed)
    }

    fn add_reference(&mut self, image: &str, by: String) {
        if let Ok(reference) = image.parse() {
            self.by_reference.insert(reference, by);
        }
    }

    pub fn keep(&self) -> Keep {
        Keep {
            images: order::set(self.by_image.keys().cloned()),
            references: order::set(self.by_reference.keys().cloned()),
        }
    }

    fn users(&self, id: &Digest) -> Vec<&str> {
        self.by_image.get(id).into_iter().flatten().map(String::as_str).collect()
    }
}

fn print_table(images: &[ImageSummary], needed: &Needed) -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<[String; 6]> = images
        .iter()
        .flat_map(|image| image.references.iter().map(move |reference| (image, reference)))
        .map(|(image, reference)| {
            let age = image.created.map(|at| now.saturating_sub(at.as_second()).max(0).unsigned_abs());
            let users = needed.users(&image.id);
            [
                reference.to_string(),
                short(&image.id.to_string()),
                size(image.size),
                size(image.shared),
                age.map_or_else(|| "-".to_owned(), |age| format!("{} ago", table::age(age))),
                if users.is_empty() { "-".to_owned() } else { users.join(",") },
            ]
        })
        .collect();
    let header = ["IMAGE", "ID", "SIZE", "SHARED", "CREATED", "USED BY"];
    Ok(table::print(header, &rows, io::stdout().lock())?)
}

fn print_json(images: &[ImageSummary], needed: &Needed) -> Result<()> {
    let images: Vec<_> = images
        .iter()
        .map(|image| {
            serde_json::json!({
                "id": image.id.to_string(),
                "repoTags": image.references.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "created": image.created,
                "size": image.size,
                "sharedSize": image.shared,
                "layers": image.layers,
                "damage": image.damage,
                "usedBy": needed.users(&image.id),
            })
        })
        .collect();
    json::print(&serde_json::json!({ "images": images }))
}

/// The first 12 digits of an ID, as docker shows it.
pub fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// An image by its names or, if it has none any more, by its ID.
pub fn shown_name(references: &[Reference], id: &Digest) -> String {
    match references {
        [] => short(&id.to_string()),
        references => references.iter().map(Reference::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Bytes as docker shows them: `4.3MB`.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}
