//! `podkeep load` and `podkeep save`: images from archives and into them, with or without a running node.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::args::{LoadArgs, NodeArgs, SaveArgs};
use super::images::open;
use super::progress::Shown;
use crate::image::{Imported, Progress, Reference, Store, Tell};

/// Imports files and prints the references and IDs of their images; a running node notices by itself.
pub fn load(options: &LoadArgs, node: &NodeArgs) -> Result<ExitCode> {
    let store = open(node)?;
    for file in &options.files {
        let shown = Shown::new(options.quiet, file.display().to_string(), "unpack");
        let tell = |progress: Progress<'_>| shown.show(&progress);
        let images = match file.as_os_str() == "-" {
            true => from_stdin(&store, &tell)?,
            false => store.import_and_tell(file, &tell)?,
        };
        for imported in images {
            println!("{} {}", imported.reference, imported.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn from_stdin(store: &Store, tell: &Tell<'_>) -> Result<Vec<Imported>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        bail!("an image archive is expected on standard input, and that is a terminal");
    }
    let stream = File::from(stdin.as_fd().try_clone_to_owned().context("open standard input")?);
    Ok(store.import_stream(stream, tell)?)
}

/// Writes an OCI archive, which has its name only when it is whole.
pub fn save(options: &SaveArgs, node: &NodeArgs) -> Result<ExitCode> {
    let store = open(node)?;
    let references =
        options.images.iter().map(|image| image.parse()).collect::<Result<Vec<Reference>, _>>()?;
    match &options.output {
        Some(path) => save_to(&store, &references, path)?,
        None if io::stdout().is_terminal() => bail!("an archive is not for a terminal: name a file with -o"),
        None => store.save(&references, BufWriter::with_capacity(1 << 17, io::stdout().lock()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn save_to(store: &Store, references: &[Reference], path: &Path) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(".part");
    let aside = path.with_file_name(name);
    let file = File::create(&aside).with_context(|| format!("create {}", aside.display()))?;
    let saved = store.save(references, BufWriter::with_capacity(1 << 17, &file)).map_err(anyhow::Error::from);
    let named = saved.and_then(|()| {
        file.sync_all().with_context(|| format!("sync {}", aside.display()))?;
        fs::rename(&aside, path).with_context(|| format!("rename to {}", path.display()))
    });
    if named.is_err() {
        // The error is what is to be told.
        let _ = fs::remove_file(&aside);
    }
    named
}
