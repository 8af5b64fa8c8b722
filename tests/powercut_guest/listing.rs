//! What a folder holds, to the last byte: for comparing a layer on the disk with what it was made as.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// By path below the folder: kind, mode and content in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing(BTreeMap<String, String>);

impl Listing {
    pub fn of(folder: &Path) -> Listing {
        let mut listing = Listing::default();
        listing.walk(folder, "");
        listing
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let meta = entry.metadata().unwrap();
            let (kind, mode) = (meta.file_type(), meta.mode() & 0o7777);
            if kind.is_dir() {
                self.folder(&name, mode);
                self.walk(&entry.path(), &format!("{name}/"));
            } else if kind.is_file() {
                self.file(&name, mode, &fs::read(entry.path()).unwrap());
            } else if kind.is_symlink() {
                self.link(&name, &fs::read_link(entry.path()).unwrap().to_string_lossy());
            } else {
                let device = if kind.is_fifo() { 0 } else { meta.rdev() };
                self.0.insert(name, format!("special {mode:o} {device}"));
            }
        }
    }

    pub fn folder(&mut self, name: &str, mode: u32) {
        self.0.insert(name.to_owned(), format!("folder {mode:o}"));
    }

    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.0.insert(name.to_owned(), format!("file {mode:o} {} {}", content.len(), digest(content)));
    }

    pub fn link(&mut self, name: &str, target: &str) {
        self.0.insert(name.to_owned(), format!("link {target}"));
    }

    /// Where `found` is another, one line each.
    pub fn differences(&self, found: &Listing) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, expected) in &self.0 {
            match found.0.get(name) {
                Some(is) if is == expected => {}
                Some(is) => differences.push(format!("{name}: {is}, where {expected} was")),
                None => differences.push(format!("{name} is missing: {expected}")),
            }
        }
        let new = found.0.iter().filter(|(name, _)| !self.0.contains_key(*name));
        differences.extend(new.map(|(name, is)| format!("{name} was not there before: {is}")));
        differences
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
