//! What a folder looks like in an image where a layer writes into it and does not list it.
//!
//! A layer with `tmp/x` and no `tmp` says nothing about `/tmp`, so that the layers below decide: 1777, say. Overlayfs knows no such folder, it takes
//! attributes from the uppermost layer that has one. containerd copies them from below while it unpacks, so that what a layer
//! holds depends on the image. Here layers are shared between images: an image of such layers gets one more on top, with these
//! folders and nothing else.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::listing;
use super::lookup::is_opaque;
use super::tree::Made;
use super::{Digest, Error};
use crate::order;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Under which diff ID the store keeps the uppermost layer of an image that needs one.
pub(super) fn key(image: &Digest) -> Digest {
    Digest::of(format!("folders of {image}").as_bytes())
}

/// One of an image's layers.
pub(super) struct Layer {
    root: OwnedFd,
    /// What it writes into and does not list; the root is `.`.
    unlisted: BTreeSet<PathBuf>,
}

impl Layer {
    pub(super) fn open(tree: &Path, listing: &Path) -> Result<Layer, Error> {
        let open = |path: &Path, flags: OFlags| {
            let flags = flags.bits() as i32;
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Error::io("open", path))
        };
        let lines = open(listing, OFlags::empty())?;
        let unlisted = listing::unlisted(&lines).map_err(Error::io("read", listing))?;
        Ok(Layer { root: open(tree, FOLDER)?.into(), unlisted: unlisted.into_iter().collect() })
    }
}

/// Fills the empty folder `root` with what folders of the image must look like; `layers` from the bottom up.
pub(super) fn build(layers: &[Layer], root: &OwnedFd, listing: &File) -> io::Result<()> {
    let unlisted = order::set(layers.iter().flat_map(|layer| &layer.unlisted));
    let mut folders = BTreeSet::new();
    for path in unlisted {
        let seen = see(layers, path)?;
        if seen.top_is_unlisted && seen.listed.is_some() {
            folders.extend(path.ancestors().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
        }
    }
    folders.remove(Path::new("."));
    let mut made = Made::default();
    // Parents come before what is in them.
    for path in folders {
        make(layers, root, &path, &mut made)?;
    }
    let seen = see(layers, Path::new("."))?;
    if let Some(model) = seen.listed.or(seen.top) {
        copy(&model, root, &mut made)?;
    }
    listing::write(root, &made, listing).map(drop).map_err(|(_, error)| error)
}

fn make(layers: &[Layer], root: &OwnedFd, path: &Path, made: &mut Made) -> io::Result<()> {
    let seen = see(layers, path)?;
    let Some(model) = seen.listed.or(seen.top) else { return Ok(()) };
    // Nothing but folders is here: no link can lead anywhere.
    rustix::fs::mkdirat(root, path, Mode::RWXU)?;
    let folder = rustix::fs::openat(root, path, FOLDER, Mode::empty())?;
    copy(&model, &folder, made)
}

/// What the layers say of a folder, as overlayfs would merge it.
#[derive(Default)]
struct Seen {
    /// The uppermost layer's.
    top: Option<OwnedFd>,
    top_is_unlisted: bool,
    /// The uppermost one that lists it.
    listed: Option<OwnedFd>,
}

fn see(layers: &[Layer], path: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for layer in layers.iter().rev() {
        let (found, goes_on) = look(&layer.root, path)?;
        if let Some(folder) = found {
            let is_unlisted = layer.unlisted.contains(path);
            if seen.top.is_none() {
                seen.top_is_unlisted = is_unlisted;
                seen.top = Some(folder.try_clone()?);
            }
            if !is_unlisted {
                seen.listed = Some(folder);
                break;
            }
        }
        if !goes_on {
            break;
        }
    }
    Ok(seen)
}

/// The folder in one layer, and whether what is below the layer shows through.
fn look(root: &OwnedFd, path: &Path) -> io::Result<(Option<OwnedFd>, bool)> {
    let mut folder = root.try_clone()?;
    let mut goes_on = !is_opaque(&folder);
    for name in path.iter().filter(|name| *name != ".") {
        let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok((None, goes_on)),
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok((None, false));
        }
        folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
        goes_on &= !is_opaque(&folder);
    }
    Ok((Some(folder), goes_on))
}

fn copy(model: &OwnedFd, folder: &OwnedFd, made: &mut Made) -> io::Result<()> {
    let stat: Stat = rustix::fs::fstat(model)?;
    rustix::fs::fchown(folder, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(folder, Mode::from_raw_mode(stat.st_mode))?;
    for (name, value) in listing::attributes_of(model)? {
        // What it hides is hidden in its own layer.
        if !name.starts_with(b"trusted.overlay.") {
            rustix::fs::fsetxattr(folder, &*name, &value, XattrFlags::empty())?;
        }
    }
    let time = (stat.st_mtime, stat.st_mtime_nsec as i64);
    made.folder_times.insert(rustix::fs::fstat(folder)?.st_ino, time);
    Ok(())
}
