//! What was found wrong so far in one file.

use std::path::{Path as FilePath, PathBuf};

use super::tree::{Path, Place};
use super::{Diagnostic, Severity};
use crate::order;

/// Collects [`Diagnostic`]s of one file; hands them out sorted by place.
#[derive(Debug)]
pub(crate) struct Findings {
    file: PathBuf,
    list: Vec<Diagnostic>,
}

impl Findings {
    /// More than these help nobody, and a file of 10 MiB can hold millions.
    const MOST: usize = 1000;

    pub fn new(file: &FilePath) -> Findings {
        Findings { file: file.to_owned(), list: Vec::new() }
    }

    /// An empty collection for the same file.
    pub fn like(other: &Findings) -> Findings {
        Findings::new(&other.file)
    }

    pub fn append(&mut self, other: Findings) {
        self.list.extend(other.list);
    }

    pub fn error(&mut self, place: Place, field: Option<&Path>, message: impl Into<String>) {
        self.push(Severity::Error, place, field, message.into());
    }

    pub fn warn(&mut self, place: Place, field: Option<&Path>, message: impl Into<String>) {
        self.push(Severity::Warning, place, field, message.into());
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        order::sort_by_key(&mut self.list, |diagnostic| (diagnostic.line, diagnostic.column));
        self.list
    }

    fn push(&mut self, severity: Severity, place: Place, field: Option<&Path>, message: String) {
        // An error is never dropped for warnings: it decides what becomes of the file.
        if self.list.len() >= Findings::MOST && (severity == Severity::Warning || self.has_errors()) {
            return;
        }
        let field = field.filter(|path| !path.0.is_empty()).map(Path::to_string);
        let Place { line, column } = place;
        self.list.push(Diagnostic { severity, file: self.file.clone(), line, column, field, message });
    }
}
