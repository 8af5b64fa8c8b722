//! `podkeep seal`: Secrets with their values encrypted for a node. Needs no node that runs, nor to be on one.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::process::DumpableBehavior;

use super::args::{NodeArgs, SealArgs};
use super::{FAILED, yaml};
use crate::manifest;
use crate::node::{self, Folders};
use crate::seal::{self, Keys, Recipient};

/// Any valid name will do: it only makes Pods' names longer.
const NODE_NAME: &str = "node";

/// Prints the manifest with its Secrets sealed, or who the node is.
pub fn seal(options: &SealArgs, node: &NodeArgs) -> Result<ExitCode> {
    // Values and keys go through its memory.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("close this process to others")?;
    if options.public_key {
        writeln!(io::stdout(), "{}", own_keys(node)?.recipient())?;
        return Ok(ExitCode::SUCCESS);
    }
    let manifest = read(&options.file)?;
    if let Err(diagnostics) = node::decode(&options.file, &manifest, NODE_NAME) {
        for diagnostic in diagnostics {
            writeln!(io::stderr(), "{diagnostic}")?;
        }
        return Ok(ExitCode::from(FAILED));
    }
    let recipients = recipients(&options.recipients, node)?;
    let encrypt = |plain: &[u8]| seal::encrypt(plain, &recipients).map(|file| seal::armored(&file));
    let (documents, sealed) = manifest::sealed(&manifest, &encrypt).context("encrypt")?;
    if sealed == 0 {
        bail!("{} has no Secret that is not sealed already", options.file.display());
    }
    let documents: Vec<String> = documents.iter().map(yaml::of).collect();
    io::stdout().lock().write_all(documents.join("---\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return fs::read(file).with_context(|| format!("read {}", file.display()));
    }
    if io::stdin().is_terminal() {
        bail!("a manifest is expected on standard input, and that is a terminal: name a file");
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
    Ok(bytes)
}

/// Those that are named, or this node.
fn recipients(named: &[String], node: &NodeArgs) -> Result<Vec<Recipient>> {
    if named.is_empty() {
        let keys = own_keys(node).context("without a recipient (-r age1…) this node's own key is needed")?;
        return Ok(vec![keys.recipient()]);
    }
    Ok(named.iter().map(|text| Recipient::parse(text)).collect::<Result<_, _>>()?)
}

/// This node's, made if there is none.
fn own_keys(node: &NodeArgs) -> Result<Keys> {
    let path = Folders::seal_key_in(&node.root_dir);
    let (keys, made) = seal::read_or_make(&path)?;
    if made {
        let path = path.display();
        writeln!(
            io::stderr(),
            "podkeep: made {path}: keep a copy, nothing else opens what is sealed for this node"
        )?;
    }
    if let Some(exposed) = &keys.exposed {
        writeln!(io::stderr(), "podkeep: {exposed}")?;
    }
    Ok(keys)
}
