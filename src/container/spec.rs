//! Pod's container and image configuration → OCI runtime `Spec`.

use oci_spec::runtime::Spec;

use super::recipe::Recipe;

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither the manifest nor the image says what to run")]
    NothingToRun,
    #[error("`{0}` is no capability")]
    UnknownCapability(String),
    #[error("list the devices of the host: {0}")]
    Devices(#[source] std::io::Error),
}

/// Describes the container as an OCI runtime `Spec`.
///
/// # Errors
/// When there is nothing to run, or a capability has no such name.
pub fn spec(_recipe: &Recipe<'_>) -> Result<Spec, Error> {
    Err(Error::NothingToRun)
}
