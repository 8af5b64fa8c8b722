//! `Spec` → the steps that the child takes between clone and exec.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::namespaces::Namespaces;
use super::spawn::StartError;

/// Where the container's root file system comes from: an overlay, mounted by the child in its own mount
/// namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The directory below which the layers lie.
    pub layers_dir: PathBuf,
    /// Bottom first; short names relative to `layers_dir`, so that 120 of them fit into one page.
    pub lower: Vec<String>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory of the host.
    pub mount_at: PathBuf,
}

/// Where output goes; input is `/dev/null`.
#[derive(Debug)]
pub struct Stdio {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// The steps of the child, ready to be taken.
#[derive(Debug)]
pub struct Plan {}

/// Why a `Spec` cannot be turned into a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the spec has no {0}")]
    Missing(&'static str),
}

/// Turns the description into steps. `seccomp` is the program of the container's profile, if it has one.
///
/// The plan keeps duplicates of the namespaces' descriptors and takes over those of `stdio`.
///
/// # Errors
/// When the spec lacks something, or holds what cannot be done.
pub fn plan(
    _spec: &Spec,
    _root: &Root,
    _namespaces: &Namespaces,
    _stdio: Stdio,
    _seccomp: Option<Vec<libc::sock_filter>>,
) -> Result<Plan, PlanError> {
    Err(PlanError::Missing("process"))
}

impl Plan {
    /// What the child's report says: empty means that exec happened.
    ///
    /// # Errors
    /// The step that failed, as a sentence.
    pub fn explain(&self, _report: &[u8]) -> Result<(), StartError> {
        Ok(())
    }
}
