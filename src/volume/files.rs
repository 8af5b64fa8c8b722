//! Files that podkeep itself writes into a volume, as the kubelet's AtomicWriter does (`V/util/atomic_writer.go`): who reads
//! them sees all of the old ones or all of the new ones, never some of each.
//!
//! They lie in a folder of their own in the volume, to which `..data` leads; the names in the volume are links through it.
//! To change them another folder is filled, and another `..data` renamed over the old one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File as OpenFile;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Owner;
use crate::manifest::file_path;
use crate::sys::remove_tree::remove_tree;

/// What leads to the folder that counts.
const DATA: &str = "..data";
/// The same before it does.
const NEXT_DATA: &str = "..data_tmp";
/// Of folders, with the kubelet.
const FOLDER_MODE: u32 = 0o755;

/// By path in the volume: relative, without `..`, and no path is another one's folder.
pub type Files<'a> = BTreeMap<&'a str, File<'a>>;

/// What one file shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// 0 to 0777.
    pub mode: u32,
    pub bytes: Cow<'a, [u8]>,
}

/// Makes `files` what is in the volume, and nothing else; writes nothing where that is so already. What an earlier call that
/// did not come to its end has left goes too.
///
/// # Errors
/// The kernel's. What the volume showed before it still shows then, but for a name or two.
pub fn write(volume: BorrowedFd<'_>, files: &Files<'_>, owner: Owner) -> io::Result<()> {
    if let Some(path) = files.keys().find(|path| file_path(path).is_err()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is no path of a file")));
    }
    let folder = match folder_that_counts(volume)? {
        Some(old) if old.holds(files, owner)? => old.name,
        old => publish(volume, old.as_ref(), files, owner)?,
    };
    let mut top = "";
    for path in files.keys() {
        // Those of one folder follow one another.
        if top_of(path) != top {
            top = top_of(path);
            link(volume, &format!("{DATA}/{top}"), top, owner)?;
        }
    }
    sweep(volume, &folder, files)
}

/// A folder of files: `..GENERATION.COUNT`. That it has as many files as were written is known from its name, as nobody but
/// podkeep writes to the volume.
struct Folder {
    name: String,
    generation: u64,
    count: usize,
    fd: OwnedFd,
}

fn folder_that_counts(volume: BorrowedFd<'_>) -> rustix::io::Result<Option<Folder>> {
    let name = match rustix::fs::readlinkat(volume, DATA, Vec::new()) {
        Ok(name) => name,
        Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let numbers = name.to_str().ok().and_then(|name| {
        let (generation, count) = name.strip_prefix("..")?.split_once('.')?;
        Some((name, generation.parse().ok()?, count.parse().ok()?))
    });
    let Some((name, generation, count)) = numbers else { return Ok(None) };
    match open_folder(volume, name) {
        Ok(fd) => Ok(Some(Folder { name: name.to_owned(), generation, count, fd })),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Folder {
    /// Whether these files are in it, with these modes and owners, and no others.
    fn holds(&self, files: &Files<'_>, owner: Owner) -> io::Result<bool> {
        if self.count != files.len() {
            return Ok(false);
        }
        for (path, file) in files {
            if !self.holds_one(path, file, owner)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds_one(&self, path: &str, file: &File<'_>, owner: Owner) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let stat = rustix::fs::fstat(&fd)?;
        let found = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        Ok(found == (owner.file_mode(file.mode), owner.user, owner.group()) && says(fd, &file.bytes)?)
    }
}

/// Whether a file's content is `bytes`.
fn says(fd: OwnedFd, mut bytes: &[u8]) -> io::Result<bool> {
    let (mut file, mut buffer) = (OpenFile::from(fd), [0; 4096]);
    loop {
        let count = file.read(&mut buffer)?;
        match bytes.strip_prefix(&buffer[..count]) {
            Some([]) if count == 0 => return Ok(true),
            Some(rest) if count > 0 => bytes = rest,
            _ => return Ok(false),
        }
    }
}

/// Fills a new folder and lets it count; its name. What of it was made goes again if that fails.
fn publish(
    volume: BorrowedFd<'_>,
    old: Option<&Folder>,
    files: &Files<'_>,
    owner: Owner,
) -> io::Result<String> {
    let mut generation = old.map_or(0, |old| old.generation) + 1;
    let name = loop {
        let name = format!("..{generation}.{}", files.len());
        match rustix::fs::mkdirat(volume, &*name, Mode::RWXU) {
            Ok(()) => break name,
            // One that was never finished.
            Err(Errno::EXIST) => generation += 1,
            Err(errno) => return Err(errno.into()),
        }
    };
    let published = fill(volume, &name, files, owner).and_then(|()| {
        remove(volume, OsStr::new(NEXT_DATA))?;
        link(volume, &name, NEXT_DATA, owner)?;
        Ok(rustix::fs::renameat(volume, NEXT_DATA, volume, DATA)?)
    });
    if published.is_err() {
        // The error before it says more than one of this would.
        let _ = remove(volume, OsStr::new(&name));
    }
    published.map(|()| name)
}

fn fill(volume: BorrowedFd<'_>, name: &str, files: &Files<'_>, owner: Owner) -> io::Result<()> {
    let folder = open_folder(volume, name)?;
    for (path, file) in files {
        write_file(folder.try_clone()?, path, file, owner)?;
    }
    Ok(owner.give(folder.as_fd(), owner.folder_mode(FOLDER_MODE))?)
}

/// Writes one file and makes the folders that it lies in.
fn write_file(mut folder: OwnedFd, path: &str, file: &File<'_>, owner: Owner) -> io::Result<()> {
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut made = OpenFile::from(rustix::fs::openat(&folder, part, flags, Mode::RUSR | Mode::WUSR)?);
            made.write_all(&file.bytes)?;
            owner.give(made.as_fd(), owner.file_mode(file.mode))?;
            break;
        }
        let is_new = match rustix::fs::mkdirat(&folder, part, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        folder = open_folder(folder.as_fd(), part)?;
        if is_new {
            owner.give(folder.as_fd(), owner.folder_mode(FOLDER_MODE))?;
        }
    }
    Ok(())
}

fn open_folder(at: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Makes a link unless something of its name is there.
fn link(volume: BorrowedFd<'_>, target: &str, name: &str, owner: Owner) -> rustix::io::Result<()> {
    match rustix::fs::symlinkat(target, volume, name) {
        Ok(()) => owner.give_link(volume, name),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The name in the volume that leads to a file.
fn top_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Removes everything but the files' names, `..data` and the folder that it leads to.
fn sweep(volume: BorrowedFd<'_>, folder: &str, files: &Files<'_>) -> io::Result<()> {
    let is_kept = |name: &[u8]| {
        let kept = [".", "..", DATA, folder].iter().any(|kept| kept.as_bytes() == name);
        kept || str::from_utf8(name).is_ok_and(|name| leads_to_a_file(name, files))
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(volume)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !is_kept(name) {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.iter().try_for_each(|name| remove(volume, name))
}

fn leads_to_a_file(name: &str, files: &Files<'_>) -> bool {
    files.contains_key(name) || is_folder(name, files)
}

/// Whether files lie below this path.
pub(super) fn is_folder(path: &str, files: &Files<'_>) -> bool {
    let inside = format!("{path}/");
    files.range(&*inside..).next().is_some_and(|(path, _)| path.starts_with(&inside))
}

fn remove(volume: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(remove_tree(volume, name)?)
}

/// Makes the folder of a volume, which lies in that of its Pod.
pub(super) fn make_folder(path: &Path, mode: u32, owner: Owner) -> io::Result<OwnedFd> {
    std::fs::create_dir_all(path)?;
    let folder = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    owner.give(folder.as_fd(), owner.folder_mode(mode))?;
    Ok(folder)
}

#[cfg(test)]
mod tests;
