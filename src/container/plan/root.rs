//! The root file system: an overlay of the image's layers, or a directory that somebody else has made.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{PlanError, duplicate, mounts, text};
use crate::container::namespaces::Namespaces;
use crate::sys::step::{Below, Mapping, MountOption, Slot, Step};

/// Where the container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    Overlay(Overlay),
    /// Absolute; whatever is mounted below it comes along.
    Directory(PathBuf),
}

/// An overlay, mounted by the child in its own mount namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The directory below which the layers lie.
    pub layers_dir: PathBuf,
    /// Bottom first; short names relative to `layers_dir`, so that 120 of them fit into one page.
    pub lower: Vec<String>,
    /// On one file system with `work`, which must be empty. In a user namespace, both belong to its root.
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory of the host.
    pub mount_at: PathBuf,
    /// Further images, shown read-only where the `Spec` binds something.
    pub volumes: Vec<ImageVolume>,
}

/// An image that is mounted as a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVolume {
    /// That of a bind mount of the `Spec`.
    pub destination: PathBuf,
    /// As in [`Overlay::lower`].
    pub lower: Vec<String>,
}

impl Root {
    pub(super) fn volumes(&self) -> &[ImageVolume] {
        match self {
            Root::Overlay(overlay) => &overlay.volumes,
            Root::Directory(_) => &[],
        }
    }
}

/// An image volume on its way to the slot where its mount expects it.
pub(super) struct OpenedImage {
    pub slot: Slot,
    pub lower: Vec<String>,
    pub below: Option<Below>,
}

pub(super) struct RootSteps {
    /// Taken as the host's root, before a user namespace is joined.
    pub outside: Vec<Step>,
    pub inside: Vec<Step>,
}

/// Most bytes of mount options: one page, its last byte zero (4 KiB pages, the smallest that there are).
pub(super) const MAX_OPTIONS: usize = 4095;

pub(super) fn steps(
    root: &Root,
    spec: &Spec,
    namespaces: &Namespaces,
    slot: Slot,
    images: Vec<OpenedImage>,
) -> Result<RootSteps, PlanError> {
    match (root, &namespaces.user) {
        (Root::Directory(path), None) => {
            let at = text::absolute("the root", path)?;
            Ok(RootSteps { outside: Vec::new(), inside: attached(at, true, slot).into() })
        }
        (Root::Directory(path), Some(_)) => {
            let outside = vec![Step::EnterHostDirectory { path: text::absolute("the root", path)? }];
            Ok(RootSteps { outside, inside: attached(HERE.to_owned(), true, slot).into() })
        }
        (Root::Overlay(overlay), None) => {
            let at = text::absolute("the root's mount point", &overlay.mount_at)?;
            let mut inside = opened(overlay, spec, images)?;
            inside.extend([mounted(overlay, spec)?, Step::OpenRoot { at }]);
            Ok(RootSteps { outside: Vec::new(), inside })
        }
        // The layers belong to root: only the host's may show them as another's and mount an overlay of that. What a new
        // user namespace inherits is locked and cannot be pivoted to, so the root is a copy of that mount.
        (Root::Overlay(overlay), Some(user)) => {
            let at = text::absolute("the root's mount point", &overlay.mount_at)?;
            let user_namespace = duplicate(LinuxNamespaceType::User, user)?;
            let layers_dir = text::absolute("the layers' directory", &overlay.layers_dir)?;
            let map = Mapping { user_namespace, recursive: false };
            let mut outside = vec![Step::MapLayers { layers_dir, map }];
            outside.extend(opened(overlay, spec, images)?);
            outside.extend([mounted(overlay, spec)?, Step::EnterHostDirectory { path: at }]);
            Ok(RootSteps { outside, inside: attached(HERE.to_owned(), false, slot).into() })
        }
    }
}

/// The working directory, which a new mount namespace takes along: root of a user namespace may not pass through the
/// host's folders to it.
const HERE: &CStr = c".";

/// A copy of what is mounted there, over itself.
fn attached(at: CString, recursive: bool, slot: Slot) -> [Step; 2] {
    let open = Step::OpenSource { source: at.clone(), below: None, recursive, slot, map: None };
    [open, Step::AttachRoot { slot, at }]
}

fn mounted(overlay: &Overlay, spec: &Spec) -> Result<Step, PlanError> {
    Ok(Step::MountRoot {
        layers_dir: text::absolute("the layers' directory", &overlay.layers_dir)?,
        options: labelled(options(overlay)?, spec)?,
        at: text::absolute("the root's mount point", &overlay.mount_at)?,
    })
}

/// Opens the layers of each image. An overlay that nobody writes to wants at least two of them: below all lies the empty directory.
fn opened(overlay: &Overlay, spec: &Spec, images: Vec<OpenedImage>) -> Result<Vec<Step>, PlanError> {
    let empty = plain_path("mount point", &overlay.mount_at)?;
    let open = |OpenedImage { slot, lower, below }| {
        let options = format!("lowerdir={}:{empty}", joined(&lower)?);
        verify_length(&options, lower.len())?;
        Ok(Step::OpenImage {
            layers_dir: text::absolute("the layers' directory", &overlay.layers_dir)?,
            options: labelled(options, spec)?,
            at: text::absolute("the root's mount point", &overlay.mount_at)?,
            below,
            slot,
        })
    };
    images.into_iter().map(open).collect()
}

fn labelled(mut options: String, spec: &Spec) -> Result<CString, PlanError> {
    if let Some(MountOption::Value(_, label)) = mounts::label(spec, "overlay")? {
        options.push_str(&format!(",context=\"{}\"", label.to_string_lossy()));
    }
    text::c_string("overlay options", &options)
}

/// The top layer first, as overlayfs has it.
fn joined(lower: &[String]) -> Result<String, PlanError> {
    if lower.is_empty() {
        return Err(PlanError::NoLayers);
    }
    let layers: Vec<&str> = lower.iter().rev().map(|layer| plain(layer)).collect::<Result<_, _>>()?;
    Ok(layers.join(":"))
}

fn verify_length(options: &str, layers: usize) -> Result<(), PlanError> {
    if options.len() > MAX_OPTIONS {
        return Err(PlanError::TooManyLayers { layers, bytes: options.len() });
    }
    Ok(())
}

/// `index=off`: with an index, an upper directory once used cannot be used over other layers. `volatile` (kernel 5.10): the
/// writable layer never outlives its run, let alone a power cut, so neither its unmounting, which the end of the
/// container's first process waits for, nor an `fsync` inside needs the disk.
fn options(overlay: &Overlay) -> Result<String, PlanError> {
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,volatile",
        joined(&overlay.lower)?,
        plain_path("upper directory", &overlay.upper)?,
        plain_path("work directory", &overlay.work)?,
    );
    verify_length(&options, overlay.lower.len())?;
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

/// What is hidden or made read-only once everything is in its place, the root last of all.
pub(super) fn restrictions(spec: &Spec) -> Result<Vec<Step>, PlanError> {
    let process = spec.process().as_ref().ok_or(PlanError::Missing("process"))?;
    let mut steps = vec![Step::EnsureDirectory { path: text::absolute("working directory", process.cwd())? }];
    let linux = spec.linux().as_ref();
    for path in linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten() {
        steps.push(Step::MakeReadOnly { path: text::absolute("read-only path", path.as_ref())? });
    }
    for path in linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten() {
        let options = mounts::label(spec, "tmpfs")?.into_iter().collect();
        steps.push(Step::Mask { path: text::absolute("masked path", path.as_ref())?, options });
    }
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        steps.push(Step::MakeRootReadOnly);
    }
    Ok(steps)
}
