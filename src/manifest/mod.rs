//! Text of a manifest → checked Pods and the ConfigMaps and Secrets they use, or every place where it is wrong.
//!
//! Nothing here does I/O: bytes in, [`Manifest`] or [`Diagnostic`]s out.
#![forbid(unsafe_code)]

mod check;
mod check_annotations;
mod check_container;
mod check_downward;
mod check_env;
mod check_env_file;
mod check_files;
mod check_lifecycle;
mod check_mount;
mod check_names;
mod check_object;
mod check_profiles;
mod check_resources;
mod check_restart;
mod check_security;
mod check_volume;
mod decode;
mod defaults;
pub(crate) mod duration;
pub(crate) mod findings;
mod names;
pub mod object;
pub mod pod;
pub(crate) mod quantity;
mod references;
mod scalar;
mod sealing;
mod served;
mod source_text;
pub(crate) mod sysctl;
pub(crate) mod text;
pub(crate) mod tree;
pub(crate) mod typed;
mod uid;
mod unsupported;

use std::fmt;
use std::path::PathBuf;

pub use decode::{decode, from_source};
pub(crate) use names::{dns_subdomain, file_path, host_name_length, nearest};
pub use object::{Object, ObjectId, ObjectKind};
pub use pod::{Container, Pod, PodId, Uid};
pub use references::{Reference, lacking};
pub use sealing::sealed;
pub use sysctl::forbidden_sysctls;

/// The largest manifest that is read, as with the kubelet.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// What a manifest file holds once everything in it has been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// In the order of the documents; no name twice.
    pub pods: Vec<Pod>,
    /// ConfigMaps and Secrets, in the order of the documents; no name of a kind twice.
    pub objects: Vec<Object>,
    /// The keys of such that the Pods' variables name, wherever those stand.
    pub references: Vec<Reference>,
    /// How many documents there are: none where there is nothing but comments.
    pub documents: usize,
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

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One line, as compilers write it: `file:line:column: error: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, file, line, column, message, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}: {message}", file.display())
    }
}
