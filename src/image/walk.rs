//! Walks over what a layer's folder holds, always in the same order: parents before what is in them, names in the order of their bytes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Stat};

use super::tree::beneath;

/// One entry.
pub(super) struct Found<'a> {
    /// `None` for the root.
    pub(super) parent: Option<&'a OwnedFd>,
    /// Itself, if it is one.
    pub(super) folder: Option<&'a OwnedFd>,
    pub(super) path: &'a Path,
    pub(super) stat: Stat,
}

/// Visits every entry, the root first as `.`. One folder is open at a time, however deep they lie.
///
/// # Errors
/// With the path it stopped at.
pub(super) fn walk(
    root: &OwnedFd,
    mut visit: impl FnMut(Found<'_>) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| (path, error)
    };
    let top = Path::new(".");
    let stat = rustix::fs::fstat(root).map_err(|errno| (top.to_owned(), errno.into()))?;
    visit(Found { parent: None, folder: Some(root), path: top, stat }).map_err(at(top))?;
    let mut levels = vec![(PathBuf::new(), names_of(root).map_err(at(top))?.into_iter())];
    let mut folder = beneath(root, Path::new("")).map_err(|errno| (top.to_owned(), errno.into()))?;
    while let Some((path, names)) = levels.last_mut() {
        let Some(name) = names.next() else {
            levels.pop();
            let Some((above, _)) = levels.last() else { break };
            folder = beneath(root, above).map_err(|errno| (above.clone(), errno.into()))?;
            continue;
        };
        let path = path.join(&name);
        let stat = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| (path.clone(), errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            visit(Found { parent: Some(&folder), folder: None, path: &path, stat }).map_err(at(&path))?;
            continue;
        }
        let below = beneath(root, &path).map_err(|errno| (path.clone(), errno.into()))?;
        visit(Found { parent: Some(&folder), folder: Some(&below), path: &path, stat }).map_err(at(&path))?;
        let names = names_of(&below).map_err(at(&path))?;
        if !names.is_empty() {
            folder = below;
            levels.push((path, names.into_iter()));
        }
    }
    Ok(())
}

fn names_of(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
