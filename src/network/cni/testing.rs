//! Plugins of tests: scripts in a folder.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Plugins;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn plugins(&self) -> Plugins {
        Plugins { dirs: vec!["/no/such/folder".into(), self.path().to_owned()] }
    }

    /// Another process writes it: a child of another test, which had it open for writing for a moment, would make it busy.
    pub fn plugin(&self, name: &str, script: &str) {
        let mut writer = Command::new("sh")
            .args(["-c", r#"cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#])
            .arg(self.path().join(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
        assert!(writer.wait().unwrap().success());
    }
}
