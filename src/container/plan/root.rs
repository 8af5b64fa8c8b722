//! The root file system: an overlay of the image's layers, pivoted to.

use std::path::{Path, PathBuf};

use super::{PlanError, text};
use crate::sys::step::Step;

/// Where the container's root file system comes from: an overlay, mounted by the child in its own mount
/// namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The directory below which the layers lie.
    pub layers_dir: PathBuf,
    /// Bottom first; short names relative to `layers_dir`, so that 120 of them fit into one page.
    pub lower: Vec<String>,
    /// On one file system with `work`, which must be empty.
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory of the host.
    pub mount_at: PathBuf,
}

/// Most bytes of mount options: one page, its last byte zero (4 KiB pages, the smallest that there are).
pub(super) const MAX_OPTIONS: usize = 4095;

pub(super) fn steps(root: &Root) -> Result<[Step; 2], PlanError> {
    let at = text::absolute("the root's mount point", &root.mount_at)?;
    let layers_dir = text::absolute("the layers' directory", &root.layers_dir)?;
    let options = text::c_string("overlay options", &options(root)?)?;
    Ok([Step::MountRoot { layers_dir, options, at: at.clone() }, Step::PivotRoot { at }])
}

/// `index=off`: with an index, an upper directory once used cannot be used over other layers.
fn options(root: &Root) -> Result<String, PlanError> {
    if root.lower.is_empty() {
        return Err(PlanError::NoLayers);
    }
    let layers: Vec<&str> = root.lower.iter().rev().map(|layer| plain(layer)).collect::<Result<_, _>>()?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off",
        layers.join(":"),
        plain_path("upper directory", &root.upper)?,
        plain_path("work directory", &root.work)?,
    );
    if options.len() > MAX_OPTIONS {
        return Err(PlanError::TooManyLayers { layers: layers.len(), bytes: options.len() });
    }
    Ok(options)
}

fn plain_path<'p>(what: &'static str, path: &'p Path) -> Result<&'p str, PlanError> {
    text::absolute(what, path)?;
    plain(path.to_str().ok_or_else(|| PlanError::OverlayPath(path.display().to_string()))?)
}

/// The options' own separators: kernels differ in which of them can be escaped where.
fn plain(name: &str) -> Result<&str, PlanError> {
    if name.is_empty() || name.contains([',', ':', '\\']) {
        Err(PlanError::OverlayPath(name.to_owned()))
    } else {
        Ok(name)
    }
}
