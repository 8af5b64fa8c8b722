//! The folder a layer is unpacked into: every entry is made by name below a folder's fd, and nothing outside can be reached.
//!
//! The kernel resolves parents with `RESOLVE_BENEATH`, so a symlink that an earlier entry made may lead around inside the layer, but an absolute one or
//! one with too many `..` is refused. The last name is never followed. Nobody else writes here: the folder lies in the store's closed `tmp`.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::Crc;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entry::{Attributes, Entry, EntryPath, Kind};
use super::error::EntryError;
use super::pax::timespec;
use super::written_ahead::WrittenAhead;
use crate::sys::remove_tree::remove_tree;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const CHUNK: usize = 1 << 17;

/// A layer that is being unpacked.
pub(super) struct Tree {
    root: OwnedFd,
    /// The folder of the entry before, which most entries share.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    made: Made,
    chunk: Vec<u8>,
}

/// What the tree itself does not say of a layer that was unpacked, by inode: names may be replaced, and take more memory.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// CRC-32 of each file's content.
    pub(super) checksums: HashMap<u64, u32>,
    /// Set at the end, since every entry made in a folder changes its time.
    pub(super) folder_times: HashMap<u64, (i64, i64)>,
    /// Folders that the layer writes into and does not list: their attributes are for the layers below to say.
    pub(super) unlisted: HashSet<u64>,
    /// Whether anything but a folder has an extended attribute.
    pub(super) has_attributes: bool,
}

/// What was in an entry's place.
enum Before {
    Nothing,
    Folder,
    /// Something that hid what lower layers have there, and is gone now.
    Hiding,
}

impl Tree {
    /// `root` is an empty folder.
    pub(super) fn new(root: OwnedFd) -> Result<Tree, EntryError> {
        let mut made = Made::default();
        made.unlisted.insert(inode(&root)?);
        Ok(Tree { root, parent: None, made, chunk: vec![0; CHUNK] })
    }

    /// Makes one entry. `content` is read for files only.
    pub(super) fn add(&mut self, entry: Entry, content: &mut impl Read, size: u64) -> Result<(), EntryError> {
        let Entry { path, kind, attributes } = entry;
        let Some(name) = path.name.clone() else { return self.add_root(&kind, &attributes) };
        if kind == Kind::Nothing {
            return Ok(());
        }
        let parent = &*self.open_parent(&path.parent)?;
        if kind != Kind::Folder && !attributes.extended.is_empty() {
            self.made.has_attributes = true;
        }
        match kind {
            Kind::Folder => self.add_folder(parent, &name, &attributes),
            Kind::File => self.add_file(parent, &name, &attributes, content, size),
            Kind::Symlink(target) => self.add_symlink(parent, &name, &target, &attributes),
            Kind::Hardlink(target) => self.add_hardlink(parent, &name, &target),
            Kind::Device { block, major, minor } => {
                let file_type = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                self.add_node(parent, &name, file_type, rustix::fs::makedev(major, minor), &attributes)
            }
            Kind::Fifo => self.add_node(parent, &name, FileType::Fifo, 0, &attributes),
            Kind::Whiteout => add_whiteout(parent, &name),
            Kind::Opaque => set_opaque(parent),
            Kind::Nothing => Ok(()),
        }
    }

    /// The layer's folder, and what it does not say itself.
    pub(super) fn finish(self) -> (OwnedFd, Made) {
        (self.root, self.made)
    }

    fn add_root(&mut self, kind: &Kind, attributes: &Attributes) -> Result<(), EntryError> {
        match kind {
            Kind::Folder => {
                let stat = rustix::fs::fstat(&self.root).map_err(EntryError::io("examine"))?;
                self.made.list(stat.st_ino, attributes);
                set_attributes(&self.root, &stat, attributes)
            }
            Kind::Nothing => Ok(()),
            _ => Err(EntryError::LeavesRoot),
        }
    }

    fn add_folder(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), EntryError> {
        let folder = match self.clear(parent, name, Kind::Folder)? {
            Before::Folder => {
                rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(EntryError::io("open"))?
            }
            Before::Nothing => make_folder(parent, name)?,
            Before::Hiding => make_opaque_folder(parent, name)?,
        };
        let stat = rustix::fs::fstat(&folder).map_err(EntryError::io("examine"))?;
        self.made.list(stat.st_ino, attributes);
        set_attributes(&folder, &stat, attributes)
    }

    fn add_file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
        content: &mut impl Read,
        size: u64,
    ) -> Result<(), EntryError> {
        let file = match create_file(parent, name, attributes) {
            Err(Errno::EXIST) => {
                self.clear(parent, name, Kind::File)?;
                create_file(parent, name, attributes)
            }
            other => other,
        };
        let mut file = WrittenAhead::new(file.map_err(EntryError::io("create"))?.into());
        let (read, checksum) = copy(content, &mut file, &mut self.chunk)?;
        if read != size {
            return Err(EntryError::Truncated { read, size });
        }
        let file = OwnedFd::from(file.into_inner());
        let stat = rustix::fs::fstat(&file).map_err(EntryError::io("examine"))?;
        self.made.checksums.insert(stat.st_ino, checksum);
        set_attributes(&file, &stat, attributes)?;
        set_times(&file, attributes.modified)
    }

    fn add_symlink(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), EntryError> {
        self.clear(parent, name, Kind::File)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)
            .map_err(EntryError::io("make the symlink"))?;
        chown(parent, name, attributes)?;
        set_extended_by_name(parent, name, attributes)?;
        set_times_by_name(parent, name, attributes)
    }

    fn add_node(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        file_type: FileType,
        device: u64,
        attributes: &Attributes,
    ) -> Result<(), EntryError> {
        self.clear(parent, name, Kind::File)?;
        rustix::fs::mknodat(parent, name, file_type, Mode::empty(), device)
            .map_err(EntryError::io("make the device or FIFO (devices need root)"))?;
        chown(parent, name, attributes)?;
        // The node was made just now and nobody else writes here: it is no symlink.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
            .map_err(EntryError::io("set the mode"))?;
        set_extended_by_name(parent, name, attributes)?;
        set_times_by_name(parent, name, attributes)
    }

    fn add_hardlink(&mut self, parent: &OwnedFd, name: &OsStr, target: &EntryPath) -> Result<(), EntryError> {
        let shown = || target.whole().to_string_lossy().into_owned();
        let missing = || EntryError::LinkTargetMissing { target: shown() };
        let target_name = target.name.as_deref().ok_or_else(missing)?;
        let target_parent = match beneath(&self.root, &target.parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            Err(Errno::XDEV | Errno::LOOP) => return Err(EntryError::LinkLeavesRoot { target: shown() }),
            other => other.map_err(EntryError::io("open the hardlink's target"))?,
        };
        let stat =
            stat(&target_parent, target_name)?.filter(|stat| !is_whiteout(stat)).ok_or_else(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(EntryError::LinkToFolder { target: shown() });
        }
        let is_same = |there: rustix::fs::Stat| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino);
        if self::stat(parent, name)?.is_some_and(is_same) {
            return Ok(());
        }
        self.clear(parent, name, Kind::File)?;
        // No AT_SYMLINK_FOLLOW: a link to a symlink is a second name of the symlink.
        match rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(missing()),
            other => other.map_err(EntryError::io("make the hardlink")),
        }
    }

    /// The folder that an entry is made in. What the layer does not list is made, as root's and with mode 0755.
    fn open_parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>, EntryError> {
        if let Some((_, folder)) = self.parent.as_ref().filter(|(known, _)| known == path) {
            return Ok(Rc::clone(folder));
        }
        let folder = Rc::new(match beneath(&self.root, path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path)?,
            Err(Errno::XDEV | Errno::LOOP) => return Err(EntryError::ParentLeavesRoot),
            other => other.map_err(EntryError::io("open the parent"))?,
        });
        self.parent = Some((path.to_owned(), Rc::clone(&folder)));
        Ok(folder)
    }

    fn make_parents(&mut self, path: &Path) -> Result<OwnedFd, EntryError> {
        let mut done = PathBuf::new();
        let mut folder = beneath(&self.root, &done).map_err(EntryError::io("open the root"))?;
        for name in path {
            done.push(name);
            folder = match beneath(&self.root, &done) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let made = make_parent(&folder, name)?;
                    self.made.leave_unlisted(inode(&made)?);
                    made
                }
                Err(Errno::XDEV | Errno::LOOP) => return Err(EntryError::ParentLeavesRoot),
                other => other.map_err(EntryError::io("open the parent"))?,
            };
        }
        Ok(folder)
    }

    /// Makes room for an entry; a folder may stay where a folder comes.
    fn clear(&mut self, parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<Before, EntryError> {
        let Some(stat) = stat(parent, name)? else { return Ok(Before::Nothing) };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder && kind == Kind::Folder {
            return Ok(Before::Folder);
        }
        // A path that led over it leads elsewhere now.
        self.parent = None;
        remove_tree(parent.as_fd(), name).map_err(EntryError::io("replace"))?;
        Ok(Before::Hiding)
    }
}

impl Made {
    fn list(&mut self, folder: u64, attributes: &Attributes) {
        self.unlisted.remove(&folder);
        self.folder_times.insert(folder, attributes.modified);
    }

    /// The inode may have been another folder's.
    fn leave_unlisted(&mut self, folder: u64) {
        self.folder_times.remove(&folder);
        self.unlisted.insert(folder);
    }
}

/// Opens a folder of the layer.
pub(super) fn beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Something was renamed or mounted on the host meanwhile, so the kernel cannot vouch for `..`: ask again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

fn inode(file: &OwnedFd) -> Result<u64, EntryError> {
    rustix::fs::fstat(file).map(|stat| stat.st_ino).map_err(EntryError::io("examine"))
}

/// With the mode that it is to have, as far as the umask lets it.
fn create_file(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(attributes.mode & 0o777))
}

fn make_parent(folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, EntryError> {
    match stat(folder, name)? {
        None => make_folder(folder, name),
        Some(stat) if is_whiteout(&stat) => {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())
                .map_err(EntryError::io("replace the whiteout"))?;
            make_opaque_folder(folder, name)
        }
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            Err(EntryError::ParentLeavesRoot)
        }
        Some(_) => Err(EntryError::ParentNotFolder),
    }
}

fn make_folder(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, EntryError> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(EntryError::io("make the folder"))?;
    let folder =
        rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(EntryError::io("open the folder"))?;
    // The process's umask has no say.
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(EntryError::io("set the mode"))?;
    Ok(folder)
}

fn make_opaque_folder(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, EntryError> {
    let folder = make_folder(parent, name)?;
    set_opaque(&folder)?;
    Ok(folder)
}

fn set_opaque(folder: &OwnedFd) -> Result<(), EntryError> {
    rustix::fs::fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(
        EntryError::io(
            "mark the folder as opaque (this needs root and a file system with trusted attributes)",
        ),
    )
}

/// A layer's own entry wins over its whiteout, which is meant for lower layers; a folder stays and hides theirs.
fn add_whiteout(parent: &OwnedFd, name: &OsStr) -> Result<(), EntryError> {
    match stat(parent, name)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let folder =
                rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(EntryError::io("open"))?;
            set_opaque(&folder)
        }
        Some(_) => Ok(()),
        None => rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(EntryError::io("make the whiteout (this needs root)")),
    }
}

fn stat(parent: &OwnedFd, name: &OsStr) -> Result<Option<rustix::fs::Stat>, EntryError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).map_err(EntryError::io("examine")),
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Chunks of zeros become holes. Returns how many bytes there were, and their CRC-32.
fn copy(
    content: &mut impl Read,
    file: &mut WrittenAhead,
    chunk: &mut [u8],
) -> Result<(u64, u32), EntryError> {
    let (mut total, mut checksum, mut ends_in_hole) = (0, Crc::new(), false);
    loop {
        let read = match content.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(EntryError::Content)?,
        };
        if read == 0 {
            break;
        }
        total += read as u64;
        checksum.update(&chunk[..read]);
        ends_in_hole = chunk[..read].iter().all(|byte| *byte == 0);
        if ends_in_hole {
            file.seek(SeekFrom::Start(total)).map_err(EntryError::io("write"))?;
        } else {
            file.write_all(&chunk[..read]).map_err(EntryError::io("write"))?;
        }
    }
    if ends_in_hole {
        file.set_len(total).map_err(EntryError::io("write"))?;
    }
    Ok((total, checksum.sum()))
}

/// Owner before mode, since chown clears set-user-ID; attributes last, since it clears capabilities too. What is right already,
/// as it is for most files, takes no call.
fn set_attributes(
    file: &OwnedFd,
    stat: &rustix::fs::Stat,
    attributes: &Attributes,
) -> Result<(), EntryError> {
    let is_owned = (stat.st_uid, stat.st_gid) == (attributes.uid, attributes.gid);
    if !is_owned {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))
            .map_err(EntryError::io("set the owner (this needs root)"))?;
    }
    if !is_owned || stat.st_mode & 0o7777 != attributes.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))
            .map_err(EntryError::io("set the mode"))?;
    }
    for (name, value) in &attributes.extended {
        rustix::fs::fsetxattr(file, &**name, value, XattrFlags::empty())
            .map_err(EntryError::io("set an extended attribute"))?;
    }
    Ok(())
}

fn chown(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), EntryError> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryError::io("set the owner (this needs root)"))
}

/// For what cannot be opened: there is no `setxattrat` before Linux 6.13, so the parent is reached through procfs.
fn set_extended_by_name(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), EntryError> {
    if attributes.extended.is_empty() {
        return Ok(());
    }
    let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_raw_fd()));
    path.push(name);
    for (attribute, value) in &attributes.extended {
        rustix::fs::lsetxattr(Path::new(&path), &**attribute, value, XattrFlags::empty())
            .map_err(EntryError::io("set an extended attribute"))?;
    }
    Ok(())
}

fn set_times(file: &OwnedFd, modified: (i64, i64)) -> Result<(), EntryError> {
    rustix::fs::futimens(file, &times(modified)).map_err(EntryError::io("set the time"))
}

fn set_times_by_name(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), EntryError> {
    rustix::fs::utimensat(parent, name, &times(attributes.modified), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryError::io("set the time"))
}

pub(super) fn times(modified: (i64, i64)) -> Timestamps {
    Timestamps { last_access: timespec(modified), last_modification: timespec(modified) }
}
