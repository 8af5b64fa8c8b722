//! `podkeep pull`: an image from its registry into the store, with or without a running node.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Result;

use super::args::{NodeArgs, PullArgs};
use super::images;
use super::progress::{Bars, Lines};
use crate::http::Cancel;
use crate::image::{Credentials, Hosts, Progress, PullOptions, Reference, pull};

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
        let shown = Mutex::new(Shown::new(options.quiet, reference));
        let progress = |progress: Progress| {
            // Whoever panicked while drawing has hurt nothing but the picture.
            shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).show(&progress);
        };
        let image = pull(
            &store,
            reference,
            &PullOptions {
                hosts: Hosts::new(&options.hosts_dir),
                credentials: credentials.clone(),
                progress: &progress,
                cancel: Cancel::default(),
            },
        )?;
        println!("{} {}", image.reference, image.id);
    }
    Ok(ExitCode::SUCCESS)
}

/// How progress is shown on standard error.
enum Shown {
    Nothing,
    Lines(Lines<io::Stderr>),
    Bars(Bars<io::Stderr>),
}

impl Shown {
    fn new(quiet: bool, reference: &Reference) -> Shown {
        let out = io::stderr();
        match (quiet, out.is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bars(Bars::new(out)),
            (false, false) => Shown::Lines(Lines::new(out, reference)),
        }
    }

    /// That nobody reads it must not end the pull.
    fn show(&mut self, progress: &Progress) {
        let _ = match self {
            Shown::Nothing => Ok(()),
            Shown::Lines(lines) => lines.show(progress),
            Shown::Bars(bars) => bars.show(progress),
        };
    }
}
