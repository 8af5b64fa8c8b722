//! Looks a file up through an image's layers without mounting them, as overlayfs would.
//!
//! `/etc/passwd` is needed before a container's root exists, and the content is the image's: every name is opened by itself, below a folder's fd,
//! and symlinks are followed here and not by the kernel.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Error;

/// The kernel's own bound on one look-up.
const MAX_SYMLINKS: usize = 40;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One folder of the merged view: the layers' folders that it is made of, the top one first.
type Merged = Rc<Vec<OwnedFd>>;

/// What a name in a merged folder is.
enum Found {
    Nothing,
    Folder(Merged),
    Symlink(PathBuf),
    File(File),
}

pub(super) fn read_file(
    layers_dir: &Path,
    layers: &[String],
    path: &Path,
    limit: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let root = open_layers(layers_dir, layers)?;
    let Some(file) = resolve(root, path).map_err(Error::io("look up in the image", path))? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut content).map_err(Error::io("read from the image", path))?;
    if content.len() > limit {
        return Err(Error::FileTooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(content))
}

fn open_layers(layers_dir: &Path, layers: &[String]) -> Result<Merged, Error> {
    let mut fds = Vec::new();
    for layer in layers.iter().rev() {
        let path = layers_dir.join(layer);
        fds.push(
            rustix::fs::openat(CWD, &path, FOLDER, Mode::empty()).map_err(Error::io("open layer", &path))?,
        );
    }
    Ok(Rc::new(fds))
}

fn resolve(root: Merged, path: &Path) -> io::Result<Option<File>> {
    let mut pending = names(path);
    let mut parents = vec![root];
    let mut symlinks = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            // The root is its own parent.
            parents.truncate(parents.len().saturating_sub(1).max(1));
            continue;
        }
        let Some(folder) = parents.last() else { return Ok(None) };
        match find(folder, &name)? {
            Found::Nothing => return Ok(None),
            Found::Folder(merged) => parents.push(merged),
            Found::File(file) => return Ok(pending.is_empty().then_some(file)),
            Found::Symlink(target) => {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.is_absolute() {
                    parents.truncate(1);
                }
                for name in names(&target).into_iter().rev() {
                    pending.push_front(name);
                }
            }
        }
    }
    Ok(None)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// The top layer that has the name decides; below a folder, only folders are merged, down to a whiteout or an opaque one.
fn find(folder: &Merged, name: &OsStr) -> io::Result<Found> {
    let mut merged = Vec::new();
    for layer in folder.iter() {
        let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = rustix::fs::openat(layer, name, FOLDER, Mode::empty())?;
                let opaque = is_opaque(&fd);
                merged.push(fd);
                if opaque {
                    break;
                }
            }
            _ if !merged.is_empty() => break,
            FileType::Symlink => return read_symlink(layer, name),
            FileType::RegularFile => return open_file(layer, name),
            // A whiteout, or what cannot be read as a file.
            _ => return Ok(Found::Nothing),
        }
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Folder(Rc::new(merged)) })
}

fn read_symlink(folder: &OwnedFd, name: &OsStr) -> io::Result<Found> {
    let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
    Ok(Found::Symlink(PathBuf::from(OsString::from_vec(target.into_bytes()))))
}

fn open_file(folder: &OwnedFd, name: &OsStr) -> io::Result<Found> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(Found::File(File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?)))
}

/// Whether the layer hides everything below it.
pub(super) fn is_opaque_layer(layer: &Path) -> bool {
    rustix::fs::openat(CWD, layer, FOLDER, Mode::empty()).is_ok_and(|root| is_opaque(&root))
}

pub(super) fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(folder, "trusted.overlay.opaque", &mut value), Ok(1)) && value == *b"y"
}
