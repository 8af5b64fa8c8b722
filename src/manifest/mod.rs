//! Text of a manifest → checked Pods, or every place where it is wrong.
//!
//! Nothing here does I/O: bytes in, [`Manifest`] or [`Diagnostic`]s out.
#![forbid(unsafe_code)]

pub mod pod;

use std::path::PathBuf;

pub use pod::{Container, Pod, PodId, Uid};

/// What a manifest file holds once everything in it has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// In the order of the documents; never empty names twice.
    pub pods: Vec<Pod>,
    /// What is accepted but worth saying (a dropped token volume, for instance).
    pub warnings: Vec<Diagnostic>,
}

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing wrong, or worth saying, about one place of a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: PathBuf,
    /// Starts at 1.
    pub line: usize,
    /// Starts at 1, counted in characters.
    pub column: usize,
    /// The field's path where there is one, such as `spec.containers[0].image`.
    pub field: Option<String>,
    pub message: String,
}
pub fn decode(_file: &std::path::Path, _bytes: &[u8], _node_name: &str) -> Result<Manifest, Vec<Diagnostic>> {
    Err(Vec::new())
}
pub fn from_source(_source: &serde_json::Value, _node_name: &str) -> Result<Pod, Vec<Diagnostic>> {
    Err(Vec::new())
}
impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl Pod {
    pub fn qos_class(&self) -> pod::QosClass {
        pod::QosClass::BestEffort
    }
}
