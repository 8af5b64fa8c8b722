//! `podkeep lint`: what is wrong with manifests, as compilers say it.

use std::fs;
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::{LintArgs, LintOutput};
use crate::manifest::{self, Diagnostic, Manifest, Severity};
use crate::node;
use crate::order;
use crate::source;

/// Any valid name will do: it only makes Pods' names longer.
const NODE_NAME: &str = "node";

pub fn lint(options: &LintArgs) -> Result<ExitCode> {
    let mut all = Vec::new();
    let mut out = io::stdout().lock();
    let read = |file: PathBuf| {
        Ok(Read { bytes: read(&file)?, file, manifest: Manifest::default(), found: Vec::new() })
    };
    let mut files = files(&options.paths)?.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    for Read { file, bytes, manifest, found } in &mut files {
        match node::decode(file, bytes, NODE_NAME) {
            Ok(mut decoded) => {
                *found = mem::take(&mut decoded.warnings);
                *manifest = decoded;
            }
            Err(diagnostics) => *found = diagnostics,
        }
    }
    let objects: Vec<_> = files.iter().flat_map(|read| &read.manifest.objects).collect();
    for Read { file, bytes, manifest, found } in &files {
        let lacking = manifest::lacking(file, &manifest.references, &objects);
        let text = String::from_utf8_lossy(bytes);
        let text = if holds_secret(&text) { "" } else { &*text };
        for diagnostic in found.iter().chain(&lacking) {
            if options.output == LintOutput::Text {
                print(diagnostic, text, &mut out)?;
            }
            all.push(diagnostic.clone());
        }
    }
    if options.output == LintOutput::Json {
        serde_json::to_writer_pretty(&mut out, &all)?;
        writeln!(out)?;
    }
    let wrong = all.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A file, and what it holds or what is said of it.
struct Read {
    file: PathBuf,
    bytes: Vec<u8>,
    manifest: Manifest,
    found: Vec<Diagnostic>,
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Files as they are named, and of folders what the node would read.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.is_file() && is_manifest(file))
            .collect();
        order::sort(&mut found);
        files.extend(found);
    }
    Ok(files)
}

fn is_manifest(file: &Path) -> bool {
    file.file_name().is_some_and(source::is_manifest)
}

/// Lines of a Secret belong on no terminal and in no log of a build.
fn holds_secret(text: &str) -> bool {
    let after_kind = |rest: &str| rest.trim_start_matches(['"', '\'', ':', ' ']).starts_with("Secret");
    text.split("kind").skip(1).any(after_kind)
}

/// The diagnostic, the line it is about, and a caret below the place.
fn print(diagnostic: &Diagnostic, text: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{diagnostic}")?;
    let Some(line) = text.lines().nth(diagnostic.line.saturating_sub(1)) else { return Ok(()) };
    // Tabs are kept, so that the caret stands where the terminal puts the character.
    let before = line.chars().take(diagnostic.column.saturating_sub(1));
    let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    writeln!(out, "    {line}\n    {indent}^")
}

#[cfg(test)]
mod tests {
    use super::holds_secret;

    #[test]
    fn a_secret_is_seen_in_yaml_and_json_and_a_pod_that_names_one_is_none() {
        for text in ["kind: Secret\n", "{\"kind\": \"Secret\"}", "\"kind\":\"SecretList\"", "kind: 'Secret'"]
        {
            assert!(holds_secret(text), "{text}");
        }
        assert!(!holds_secret("kind: Pod\nspec:\n  imagePullSecrets: [{name: a}]\n"));
    }
}
