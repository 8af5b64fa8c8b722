//! What a layer's folder holds, one line for each entry: written when the layer is unpacked, compared when it is verified.
//!
//! `[+]TYPE MODE UID GID SIZE SECONDS.NANOSECONDS CHECKSUM ATTRIBUTES PATH`, parents before what is in them, names in the order of their bytes. A `+`
//! marks a folder that the layer writes into and does not list. SIZE is a device's number instead; CHECKSUM is the CRC-32 of the content, or
//! of a symlink's target; ATTRIBUTES that of the extended attributes. The last line says how many there were, and their CRC-32.
//! A checksum finds damage, not malice: who can write to the store can write a listing.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use flate2::Crc;
use rustix::fs::{FileType, Mode, OFlags, Stat, getxattr, lgetxattr, listxattr, llistxattr};
use rustix::io::Errno;

use super::pax::ExtendedAttribute;
use super::tree::{Made, times};
use super::walk::{Found, walk};

/// How many entries a layer has that others must see to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Whether a folder, other than the root, is written into and not listed, or the root is listed with attributes of its own: the layers below
    /// and above do not agree by themselves then.
    pub(super) inherits: bool,
}

/// Gives folders their times and writes the listing of a layer that was just unpacked.
///
/// # Errors
/// With the path it stopped at.
pub(super) fn write(root: &OwnedFd, made: &Made, listing: &File) -> Result<Summary, (PathBuf, io::Error)> {
    let mut writer = Sealing { inner: BufWriter::with_capacity(1 << 16, listing), crc: Crc::new(), lines: 0 };
    let mut summary = Summary::default();
    let mut line = Vec::new();
    walk(root, |found| {
        let mut found = found;
        let unlisted = found.folder.is_some() && made.unlisted.contains(&found.stat.st_ino);
        if let Some(folder) = found.folder {
            let time = made.folder_times.get(&found.stat.st_ino).copied().unwrap_or_default();
            rustix::fs::futimens(folder, &times(time))?;
            (found.stat.st_mtime, found.stat.st_mtime_nsec) = (time.0, time.1 as _);
        }
        summary.inherits |= match found.parent {
            Some(_) => unlisted,
            None => !unlisted && !is_plain_root(&found.stat),
        };
        let checksum = match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::RegularFile => made.checksums.get(&found.stat.st_ino).copied(),
            _ => None,
        };
        line.clear();
        line.extend(unlisted.then_some(b'+'));
        write_line(&mut line, &found, checksum, made.has_attributes)?;
        writer.add(&line)
    })?;
    writer.finish().map_err(|error| (PathBuf::new(), error))?;
    Ok(summary)
}

fn is_plain_root(stat: &Stat) -> bool {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o755, 0, 0)
}

/// Counts lines and sums them up for the last one.
struct Sealing<W: Write> {
    inner: W,
    crc: Crc,
    lines: u64,
}

impl<W: Write> Sealing<W> {
    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        self.crc.update(line);
        self.lines += 1;
        self.inner.write_all(line)
    }

    fn finish(mut self) -> io::Result<()> {
        writeln!(self.inner, "end {} {:08x}", self.lines, self.crc.sum())?;
        self.inner.flush()
    }
}

/// `checksum` is what is known of a file's content; `all_attributes`: whether others than folders can have extended ones.
fn write_line(
    line: &mut Vec<u8>,
    found: &Found<'_>,
    checksum: Option<u32>,
    all_attributes: bool,
) -> io::Result<()> {
    let stat = &found.stat;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    write!(line, "{} {:o} {} {} ", letter(file_type), stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)?;
    match file_type {
        FileType::Directory => write!(line, "0")?,
        FileType::CharacterDevice | FileType::BlockDevice => write!(line, "{:x}", stat.st_rdev)?,
        _ => write!(line, "{}", stat.st_size)?,
    }
    write!(line, " {}.{} ", stat.st_mtime, stat.st_mtime_nsec)?;
    let checksum = match (file_type, found.parent, found.path.file_name()) {
        (FileType::Symlink, Some(parent), Some(name)) => {
            Some(crc(rustix::fs::readlinkat(parent, name, Vec::new())?.as_bytes()))
        }
        _ => checksum,
    };
    write_checksum(line, checksum)?;
    let attributes = match (found.folder, found.parent, found.path.file_name()) {
        (Some(folder), _, _) => attributes_of(folder)?,
        (None, Some(parent), Some(name)) if all_attributes => {
            attributes(&by_descriptor(parent).join(name), false)?
        }
        _ => Vec::new(),
    };
    write_checksum(line, checksum_of(&attributes))?;
    escape(line, found.path.as_os_str().as_bytes());
    line.push(b'\n');
    Ok(())
}

/// For calls that take no descriptor of what cannot be opened.
fn by_descriptor(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn letter(file_type: FileType) -> char {
    match file_type {
        FileType::RegularFile => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::Unknown => '?',
    }
}

fn write_checksum(line: &mut Vec<u8>, checksum: Option<u32>) -> io::Result<()> {
    match checksum {
        Some(checksum) => write!(line, "{checksum:08x} "),
        None => write!(line, "- "),
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// What the machine sets and not the layer.
fn is_foreign(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != b"security.capability"
}

/// A folder's extended attributes, sorted by name.
pub(super) fn attributes_of(folder: &OwnedFd) -> io::Result<Vec<ExtendedAttribute>> {
    attributes(&by_descriptor(folder), true)
}

fn attributes(path: &Path, follow: bool) -> io::Result<Vec<ExtendedAttribute>> {
    let list = |names: &mut [u8]| if follow { listxattr(path, names) } else { llistxattr(path, names) };
    let get = |name: &[u8], value: &mut [u8]| {
        if follow { getxattr(path, name, value) } else { lgetxattr(path, name, value) }
    };
    let names = match grown(list) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    // Each ends with a zero byte.
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !is_foreign(name));
    let mut attributes = names
        .map(|name| Ok((name.to_owned(), grown(|value: &mut [u8]| get(name, value))?)))
        .collect::<io::Result<Vec<_>>>()?;
    attributes.sort_unstable();
    Ok(attributes)
}

/// `None` where there are none.
fn checksum_of(attributes: &[ExtendedAttribute]) -> Option<u32> {
    let mut crc = Crc::new();
    for (name, value) in attributes {
        crc.update(name);
        crc.update(&(value.len() as u64).to_le_bytes());
        crc.update(value);
    }
    (!attributes.is_empty()).then(|| crc.sum())
}

/// What `read` gives, in a buffer that is made larger if it does not fit: the kernel's own limit is 64 KiB.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(1 << 16, 0);
            read(&mut buffer)?
        }
        other => other?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

fn escape(line: &mut Vec<u8>, path: &[u8]) {
    for byte in path {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            byte => line.push(*byte),
        }
    }
}

fn unescape(path: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match (byte, byte == &b'\\') {
            (_, true) => plain.push(if bytes.next() == Some(&b'n') { b'\n' } else { b'\\' }),
            (byte, false) => plain.push(*byte),
        }
    }
    OsString::from_vec(plain).into()
}

/// The lines of a listing, which ends with an error where it is damaged.
struct Lines<R> {
    reader: R,
    crc: Crc,
    count: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Lines<R> {
        Lines { reader, crc: Crc::new(), count: 0 }
    }

    /// With its line feed.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // No path is longer than 4096 bytes, which escaping may double.
        (&mut self.reader).take(1 << 14).read_until(b'\n', &mut line)?;
        if line.starts_with(b"end ") {
            let expected = format!("end {} {:08x}\n", self.count, self.crc.sum());
            return if line == expected.as_bytes() { Ok(None) } else { Err(damaged()) };
        }
        if !line.ends_with(b"\n") {
            return Err(damaged());
        }
        self.crc.update(&line);
        self.count += 1;
        Ok(Some(line))
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the listing is damaged")
}

/// The paths of folders that the layer writes into and does not list.
pub(super) fn unlisted(listing: &File) -> io::Result<Vec<PathBuf>> {
    let mut lines = Lines::new(BufReader::new(listing));
    let mut paths = Vec::new();
    while let Some(line) = lines.next()? {
        if line.starts_with(b"+") {
            paths.push(unescape(path_in(&line)));
        }
    }
    Ok(paths)
}

/// What is wrong with one entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: PathBuf,
    /// `is missing`, `has another content`, ….
    pub(super) what: &'static str,
}

/// Compares a layer's folder with its listing, reading every file.
///
/// # Errors
/// With the path that could not be read, or an empty one for the listing itself.
pub(super) fn compare(root: &OwnedFd, listing: &File) -> Result<Vec<Difference>, (PathBuf, io::Error)> {
    let mut lines = Lines::new(BufReader::new(listing));
    let of_listing = |error| (PathBuf::new(), error);
    let mut differences = Vec::new();
    let mut expected = lines.next().map_err(of_listing)?;
    let mut chunk = vec![0; 1 << 17];
    let mut line = Vec::new();
    let mut broken = None;
    walk(root, |found| {
        line.clear();
        let checksum = content_checksum(&found, &mut chunk)?;
        write_line(&mut line, &found, checksum, true)?;
        loop {
            let order =
                expected.as_deref().map_or(Ordering::Greater, |expected| compare_paths(expected, &line));
            match order {
                Ordering::Less => {
                    differences.push(difference(expected.as_deref().unwrap_or_default(), "is missing"))
                }
                Ordering::Greater => {
                    differences.push(difference(&line, "does not belong to the layer"));
                    return Ok(());
                }
                Ordering::Equal => differences.extend(
                    expected
                        .as_deref()
                        .and_then(|expected| changed(expected, &line))
                        .map(|what| difference(&line, what)),
                ),
            }
            match lines.next() {
                Ok(next) => expected = next,
                Err(error) => {
                    broken = Some(());
                    return Err(error);
                }
            }
            if order == Ordering::Equal {
                return Ok(());
            }
        }
    })
    .map_err(|(path, error)| if broken.is_some() { (PathBuf::new(), error) } else { (path, error) })?;
    while let Some(line) = expected {
        differences.push(difference(&line, "is missing"));
        expected = lines.next().map_err(of_listing)?;
    }
    Ok(differences)
}

fn content_checksum(found: &Found<'_>, chunk: &mut [u8]) -> io::Result<Option<u32>> {
    let (Some(parent), Some(name)) = (found.parent, found.path.file_name()) else { return Ok(None) };
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    let mut crc = Crc::new();
    loop {
        match file.read(chunk) {
            Ok(0) => return Ok(Some(crc.sum())),
            Ok(read) => crc.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.strip_prefix(b"+").unwrap_or(line);
    line.strip_suffix(b"\n").unwrap_or(line).splitn(9, |byte| *byte == b' ')
}

fn path_in(line: &[u8]) -> &[u8] {
    fields(line).nth(8).unwrap_or_default()
}

fn difference(line: &[u8], what: &'static str) -> Difference {
    Difference { path: unescape(path_in(line)), what }
}

fn changed(expected: &[u8], actual: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 8] = [
        "is of another type",
        "has another mode",
        "has another owner",
        "has another group",
        "has another size",
        "has another time",
        "has another content",
        "has other extended attributes",
    ];
    let differs = fields(expected).zip(fields(actual)).position(|(expected, actual)| expected != actual)?;
    NAMES.get(differs).copied()
}

/// By their components, as the walk goes; the root comes first.
fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (path_in(a), path_in(b));
    if a == b {
        return Ordering::Equal;
    }
    match (a == b".", b == b".") {
        (false, false) => unescape(a).components().cmp(unescape(b).components()),
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder, and the listing of it as it is.
    fn listed(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, OwnedFd, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let root = OwnedFd::from(File::open(&tree).unwrap());
        let mut made = Made::default();
        let mut chunk = vec![0; 4096];
        walk(&root, |found| {
            if let Some(sum) = content_checksum(&found, &mut chunk)? {
                made.checksums.insert(found.stat.st_ino, sum);
            }
            if found.path.ends_with("unlisted\n\\") {
                made.unlisted.insert(found.stat.st_ino);
            }
            Ok(())
        })
        .unwrap();
        let listing = dir.path().join("listing");
        write(&root, &made, &File::create(&listing).unwrap()).unwrap();
        (dir, root, listing)
    }

    fn some_files(tree: &Path) {
        fs::create_dir_all(tree.join("a/unlisted\n\\")).unwrap();
        for file in ["a/file", "a-b", "a.c", "z", "a/unlisted\n\\/x"] {
            fs::write(tree.join(file), file).unwrap();
        }
        symlink("a/file", tree.join("link")).unwrap();
    }

    fn differences(root: &OwnedFd, listing: &Path) -> Vec<String> {
        let found = compare(root, &File::open(listing).unwrap()).unwrap();
        found.iter().map(|one| format!("{} {}", one.path.display(), one.what)).collect()
    }

    #[test]
    fn a_tree_is_as_it_was_listed_and_unlisted_folders_are_known() {
        let (_dir, root, listing) = listed(some_files);
        assert_eq!(differences(&root, &listing), [""; 0]);
        let unlisted = unlisted(&File::open(&listing).unwrap()).unwrap();
        assert_eq!(unlisted, [Path::new("a/unlisted\n\\")]);
    }

    #[test]
    fn every_change_is_found_and_named() {
        type Change = fn(&Path);
        let cases: [(Change, &[&str]); 7] = [
            (|tree| fs::write(tree.join("z"), "Z").unwrap(), &["z has another time"]),
            (|tree| fs::remove_file(tree.join("a-b")).unwrap(), &["a-b is missing"]),
            (
                |tree| fs::remove_dir_all(tree.join("a")).unwrap(),
                &[
                    "a is missing",
                    "a/file is missing",
                    "a/unlisted\n\\ is missing",
                    "a/unlisted\n\\/x is missing",
                ],
            ),
            (|tree| fs::write(tree.join("a/b"), "").unwrap(), &["a/b does not belong to the layer"]),
            (
                |tree| fs::set_permissions(tree.join("z"), fs::Permissions::from_mode(0o600)).unwrap(),
                &["z has another mode"],
            ),
            (
                |tree| {
                    fs::remove_file(tree.join("link")).unwrap();
                    fs::write(tree.join("link"), "").unwrap();
                },
                &["link is of another type"],
            ),
            (|tree| fs::remove_file(tree.join("z")).unwrap(), &["z is missing"]),
        ];
        for (change, expected) in cases {
            let (dir, root, listing) = listed(some_files);
            change(&dir.path().join("tree"));
            let found = differences(&root, &listing);
            let found: Vec<&String> =
                found.iter().filter(|one| !one.starts_with(". ") && !one.starts_with("a has")).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn content_that_changed_under_an_unchanged_time_is_found() {
        let (dir, root, listing) = listed(some_files);
        let path = dir.path().join("tree/z");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "Z").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(differences(&root, &listing), ["z has another content"]);
    }

    #[test]
    fn a_listing_that_was_changed_or_cut_off_is_no_listing() {
        let (_dir, root, listing) = listed(some_files);
        let whole = fs::read_to_string(&listing).unwrap();
        for bad in [whole.replace("a-b", "a-c"), whole[..whole.len() - 2].to_owned(), String::new()] {
            fs::write(&listing, bad).unwrap();
            let (path, error) = compare(&root, &File::open(&listing).unwrap()).unwrap_err();
            assert_eq!((path, error.kind()), (PathBuf::new(), io::ErrorKind::InvalidData));
        }
    }
}
