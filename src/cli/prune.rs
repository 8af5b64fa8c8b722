//! `podkeep rmi` and `podkeep prune`: images that nobody needs.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::args::{NodeArgs, PruneArgs, RmiArgs};
use super::images::{Needed, open, shown_name, size};
use crate::image::{Error, Policy, Reference};

/// Removes references, and images with their last one.
pub fn rmi(options: &RmiArgs, node: &NodeArgs) -> Result<ExitCode> {
    let store = open(node)?;
    let needed = Needed::by(node)?;
    for image in &options.images {
        let reference: Reference = image.parse()?;
        let removed = store.remove(&reference, &needed.keep());
        if let Err(Error::Named { reference, named }) = &removed {
            let by = needed.by_reference.get(named).map_or("", String::as_str);
            bail!("image {reference} is needed by {by}: remove that manifest first");
        }
        match removed? {
            Some(removed) => println!("removed {reference}, {} freed", size(removed.bytes)),
            None => bail!("there is no image {reference}: `podkeep images` lists those that are"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes every image that no Pod needs, no manifest names and the image folder does not have.
pub fn prune(options: &PruneArgs, node: &NodeArgs) -> Result<ExitCode> {
    let needed = Needed::by(node)?;
    let cleaned = open(node)?.clean(&Policy::all_unused(), &needed.keep(), options.dry_run)?;
    let (verb, total) = if options.dry_run { ("would remove", "would free") } else { ("removed", "freed") };
    for image in &cleaned.images {
        println!("{verb} {} ({})", shown_name(&image.references, &image.id), size(image.bytes));
    }
    println!("{total} {}", size(cleaned.bytes));
    Ok(ExitCode::SUCCESS)
}
