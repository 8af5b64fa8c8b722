//! Paths of an image, which its author chose: opened and made inside a root, by descriptor, with every link
//! resolved as if the root were `/`.
//!
//! Nothing here allocates, so that a child may use it between clone and exec.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2, readlinkat_raw};
use rustix::io::Errno;

/// Which links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// All, inside the root.
    Follow,
    /// Followed, as long as they lead below the root by themselves: `EXDEV` if one leads out of it or is absolute.
    Stay,
    /// `ELOOP` if there is one anywhere in the path.
    Refuse,
}

/// What is made where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// The most links that are followed to make a path, as in the kernel.
const MAX_LINKS: usize = 40;
/// Longest path, its zero byte included.
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// Opens a path below `root`.
///
/// # Errors
/// The kernel's.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = match links {
        Links::Follow => ResolveFlags::IN_ROOT,
        Links::Stay => ResolveFlags::BENEATH,
        Links::Refuse => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    };
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed on the host meanwhile, so the kernel cannot vouch for `..`: ask again.
            Err(Errno::AGAIN) => continue,
            result => return result,
        }
    }
}

/// Opens (`O_PATH`) a path below `root`, making what is missing: parents 0755, a file 0644. A dangling link
/// is followed, and what it names is made: images have `/etc/resolv.conf` lead into a `/run` that is empty yet.
///
/// # Errors
/// The kernel's; `ELOOP` after 40 dangling links.
pub fn ensure(root: BorrowedFd<'_>, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
    match open(root, path, OFlags::PATH, links) {
        Err(Errno::NOENT) => make(root, path, kind, links),
        result => result,
    }
}

fn make(root: BorrowedFd<'_>, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
    let mut walk = PathBuffer::new(path.to_bytes())?;
    let mut made = 0;
    let mut followed = 0;
    while let Some((start, stop)) = walk.component_after(made) {
        match open(root, walk.prefix(stop)?.as_c_str(), OFlags::PATH, links) {
            Ok(_) => {
                made = stop;
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let parent = open(root, walk.prefix(made)?.as_c_str(), OFlags::PATH | OFlags::DIRECTORY, links)?;
        let name = walk.part(start, stop)?;
        let last = walk.component_after(stop).is_none();
        match create(parent.as_fd(), name.as_c_str(), if last { kind } else { Kind::Directory }) {
            Ok(()) => made = stop,
            // There is something that leads nowhere: a dangling link.
            Err(Errno::EXIST) if links == Links::Follow && followed < MAX_LINKS => {
                followed += 1;
                walk = walk.with_link(parent.as_fd(), name.as_c_str(), made, stop)?;
                made = 0;
            }
            Err(Errno::EXIST) => return Err(Errno::LOOP),
            Err(errno) => return Err(errno),
        }
    }
    open(root, walk.prefix(walk.length)?.as_c_str(), OFlags::PATH, links)
}

fn create(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<(), Errno> {
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    }
}

/// A path on the stack.
struct PathBuffer {
    bytes: [u8; PATH_MAX],
    /// Without the zero byte; always less than [`PATH_MAX`], and all bytes from here on are zero.
    length: usize,
}

impl PathBuffer {
    fn new(path: &[u8]) -> Result<PathBuffer, Errno> {
        let mut buffer = PathBuffer { bytes: [0; PATH_MAX], length: 0 };
        buffer.append(path)?;
        Ok(buffer)
    }

    fn append(&mut self, more: &[u8]) -> Result<(), Errno> {
        let end = self.length + more.len();
        if end >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.length..end].copy_from_slice(more);
        self.length = end;
        Ok(())
    }

    /// Where the first component at or after `from` begins and ends.
    fn component_after(&self, from: usize) -> Option<(usize, usize)> {
        let rest = &self.bytes[from..self.length];
        let start = from + rest.iter().position(|&b| b != b'/')?;
        let stop = self.bytes[start..self.length].iter().position(|&b| b == b'/');
        Some((start, stop.map_or(self.length, |length| start + length)))
    }

    /// The path up to `stop`; the root itself if that is nothing.
    fn prefix(&self, stop: usize) -> Result<PathBuffer, Errno> {
        if stop == 0 { PathBuffer::new(b"/") } else { PathBuffer::new(&self.bytes[..stop]) }
    }

    fn part(&self, start: usize, stop: usize) -> Result<PathBuffer, Errno> {
        PathBuffer::new(&self.bytes[start..stop])
    }

    fn as_c_str(&self) -> &CStr {
        // There is always a zero byte (see `length`), so the fallback is never taken.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// This path with the component between `parent_end` and `stop`, a link called `name`, replaced by what it says.
    fn with_link(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        parent_end: usize,
        stop: usize,
    ) -> Result<PathBuffer, Errno> {
        let mut space = [MaybeUninit::<u8>::uninit(); PATH_MAX];
        let (link, _) = readlinkat_raw(parent, name, &mut space)?;
        let link: &[u8] = link;
        let mut path = PathBuffer { bytes: [0; PATH_MAX], length: 0 };
        if link.first() != Some(&b'/') {
            path.append(&self.bytes[..parent_end])?;
            path.append(b"/")?;
        }
        path.append(link)?;
        path.append(&self.bytes[stop..self.length])?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn ensure_in(root: &Path, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
        let root = fs::File::open(root).unwrap();
        ensure(root.as_fd(), path, kind, links)
    }

    #[test]
    fn parents_and_files_are_made() {
        let root = tempfile::tempdir().unwrap();
        ensure_in(root.path(), c"/a//b/c/", Kind::Directory, Links::Refuse).unwrap();
        ensure_in(root.path(), c"/a/d/file", Kind::File, Links::Follow).unwrap();
        assert!(root.path().join("a/b/c").is_dir());
        assert!(root.path().join("a/d/file").is_file());
    }

    #[test]
    fn links_stay_inside_the_root() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("absolute")).unwrap();
        symlink("../../../../../up", root.path().join("relative")).unwrap();
        ensure_in(root.path(), c"/absolute/x", Kind::Directory, Links::Follow).unwrap();
        ensure_in(root.path(), c"/relative/y", Kind::File, Links::Follow).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(root.path().join(outside.path().strip_prefix("/").unwrap()).join("x").is_dir());
        assert!(root.path().join("up/y").is_file());
    }

    #[test]
    fn a_dangling_link_is_followed_and_its_target_made() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("../run/systemd/stub.conf", root.path().join("etc/resolv.conf")).unwrap();
        ensure_in(root.path(), c"/etc/resolv.conf", Kind::File, Links::Follow).unwrap();
        assert!(root.path().join("run/systemd/stub.conf").is_file());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let error = ensure_in(root.path(), c"/a/x", Kind::File, Links::Follow).unwrap_err();
        assert_eq!(error, Errno::LOOP);
    }

    #[test]
    fn links_can_be_refused() {
        let root = tempfile::tempdir().unwrap();
        symlink("/", root.path().join("dev")).unwrap();
        symlink("nowhere", root.path().join("proc")).unwrap();
        for path in [c"/dev", c"/dev/x", c"/proc"] {
            let error = ensure_in(root.path(), path, Kind::Directory, Links::Refuse).unwrap_err();
            assert_eq!(error, Errno::LOOP, "{path:?}");
        }
    }

    #[test]
    fn a_path_too_long_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let long = std::ffi::CString::new("a/".repeat(3000)).unwrap();
        let error = ensure_in(root.path(), &long, Kind::Directory, Links::Follow).unwrap_err();
        assert_eq!(error, Errno::NAMETOOLONG);
    }
}
