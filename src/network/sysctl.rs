//! Settings of the kernel's network, of the network namespace that the calling thread is in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where they lie.
const NET: &str = "/proc/sys/net";

/// One could not be set.
#[derive(Debug, thiserror::Error)]
#[error("set {path} to {value}: {cause}")]
pub struct Error {
    path: PathBuf,
    value: &'static str,
    cause: io::Error,
}

/// Where a setting lies, `ipv4/ip_forward` say.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(NET).join(name)
}

/// What it is; nothing if the kernel has none of that name.
pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Says what it was, if that was something else. What is as it should be need not be writable.
///
/// # Errors
/// When it cannot be written: podkeep runs in a container of somebody else's, say.
pub(super) fn set(path: &Path, value: &'static str) -> Result<Option<String>, Error> {
    let was = read(path);
    if was == value {
        return Ok(None);
    }
    fs::write(path, value).map_err(|cause| Error { path: path.to_owned(), value, cause })?;
    Ok(Some(was))
}
