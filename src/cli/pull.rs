//! `podkeep pull`: an image from its registry into the store, with or without a running node.

use std::process::ExitCode;

use anyhow::Result;

use super::args::{NodeArgs, PullArgs};
use super::images;
use super::progress::Shown;
use crate::http::Cancel;
use crate::image::{Credentials, Hosts, PullOptions, Reference, pull};

/// Pulls each image and prints its reference and ID; a running node notices by itself.
pub fn pull_images(options: &PullArgs, node: &NodeArgs) -> Result<ExitCode> {
    let references =
        options.references.iter().map(|text| text.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let store = images::open(node)?;
    let credentials = match &options.docker_config {
        Some(file) => Credentials::read(file)?,
        None => Credentials::of_machine(&node.root_dir)?,
    };
    for reference in &references {
        let shown = Shown::new(options.quiet, reference.to_string(), "fetch");
        let image = pull(
            &store,
            reference,
            &PullOptions {
                hosts: Hosts::new(&options.hosts_dir),
                credentials: credentials.clone(),
                with_spares: options.spare_copies,
                progress: &|progress| shown.show(&progress),
                cancel: Cancel::default(),
            },
        )?;
        println!("{} {}", image.reference, image.id);
    }
    Ok(ExitCode::SUCCESS)
}
