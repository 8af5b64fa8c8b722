//! Where images come from: a layout folder or an archive, both as members with names.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Digest;
use super::Error;
use super::compression::{self, decompress};
use super::limits::{LIMITS, MAX_JSON, MAX_MEMBER_LINKS, MAX_MEMBER_NAMES, MAX_MEMBERS};
use super::tap::Tap;

/// A layout or an archive that is open for reading.
pub(super) enum Source {
    Layout(File),
    Archive(Archive),
}

/// One file of a source.
pub(super) struct Member {
    pub(super) reader: Box<dyn Read + Send>,
    /// In bytes.
    pub(super) size: u64,
}

/// A tar file whose members are read where they lie.
pub(super) struct Archive {
    file: Arc<File>,
    members: HashMap<String, Slot>,
}

enum Slot {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Source {
    /// A compressed archive is decompressed into an unlinked file in `spool` first, since its members are not in the order of need.
    pub(super) fn open(path: &Path, spool: &Path) -> Result<Source, Error> {
        // Without O_NONBLOCK a FIFO would be waited for.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Error::io("open", path))?;
        let kind = file.metadata().map_err(Error::io("examine", path))?.file_type();
        if kind.is_dir() {
            return Ok(Source::Layout(file));
        }
        if !kind.is_file() {
            return Err(not_an_image(path, "it is neither a folder nor a regular file"));
        }
        let file = match compression::name_of_file(&file).map_err(Error::io("read", path))? {
            Some(_) => {
                let size = file.metadata().map_err(Error::io("examine", path))?.len();
                spooled(file, path, &spool.join("archive"), LIMITS.bytes_of(size))?
            }
            None => file,
        };
        Source::archive(file, path)
    }

    /// An archive that can be read once, from its beginning; `path` is what errors call it.
    pub(super) fn of_stream(stream: impl Read, path: &Path, spool: &Path) -> Result<Source, Error> {
        Source::archive(spooled(stream, path, &spool.join("archive"), LIMITS.bytes)?, path)
    }

    fn archive(file: File, path: &Path) -> Result<Source, Error> {
        Archive::index(file).map(Source::Archive).map_err(|error| not_an_image(path, &error.to_string()))
    }

    /// `None` where the source has no member of that name.
    pub(super) fn member(&self, name: &str) -> Result<Option<Member>, Error> {
        match self {
            Source::Layout(folder) => layout_member(folder, name),
            Source::Archive(archive) => archive.member(name),
        }
    }

    /// A small member as a whole; not checked against a digest.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(member) = self.member(name)? else { return Ok(None) };
        if member.size > MAX_JSON {
            return Err(Error::TooLarge { what: name.to_owned(), size: member.size, limit: MAX_JSON });
        }
        let mut bytes = Vec::new();
        let read = member.reader.take(MAX_JSON).read_to_end(&mut bytes);
        read.map_err(|source| Error::Read { what: name.to_owned(), source })?;
        Ok(Some(bytes))
    }

    /// A small blob as a whole, its digest and size checked.
    pub(super) fn blob_document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        let name = blob_name(digest);
        let bytes = self.document(&name)?.ok_or_else(|| Error::MissingMember { member: name.clone() })?;
        let actual = bytes.len() as u64;
        if actual != size {
            return Err(Error::WrongSize { what: name, expected: size, actual });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::WrongDigest { what: name, expected: digest.clone(), actual });
        }
        Ok(bytes)
    }
}

/// Where a layout keeps the blob with this digest.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn not_an_image(path: &Path, reason: &str) -> Error {
    Error::NotAnImage { path: path.to_owned(), reason: reason.to_owned() }
}

/// What a layout's links lead to outside of it is not part of it.
fn layout_member(folder: &File, name: &str) -> Result<Option<Member>, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => File::from(other.map_err(Error::io("open", Path::new(name)))?),
    };
    let meta = file.metadata().map_err(Error::io("examine", Path::new(name)))?;
    if !meta.is_file() {
        return Err(Error::MissingMember { member: name.to_owned() });
    }
    Ok(Some(Member { size: meta.len(), reader: Box::new(file) }))
}

/// Decompressed, if need be, to no more than `limit` bytes.
fn spooled(stream: impl Read, path: &Path, spool: &Path, limit: u64) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let spooled = options.create_new(true).read(true).write(true).mode(0o600).open(spool);
    let mut spooled = spooled.map_err(Error::io("create", spool))?;
    fs::remove_file(spool).map_err(Error::io("unlink", spool))?;
    let mut plain = decompress(BufReader::with_capacity(1 << 17, stream), None)
        .map_err(Error::io("decompress", path))?
        .take(limit + 1);
    let mut writer = BufWriter::with_capacity(1 << 17, &mut spooled);
    let size = io::copy(&mut plain, &mut writer).map_err(Error::io("decompress", path))?;
    writer.flush().map_err(Error::io("write", spool))?;
    drop(writer);
    if size > limit {
        return Err(Error::TooLarge { what: "the decompressed archive".into(), size, limit });
    }
    Ok(spooled)
}

impl Archive {
    fn index(mut file: File) -> io::Result<Archive> {
        file.seek(SeekFrom::Start(0))?;
        let length = file.metadata()?.len();
        let file = Arc::new(file);
        let tap = Tap::new(LIMITS.bytes, LIMITS.header_bytes);
        let (mut members, mut names) = (HashMap::new(), 0);
        let mut archive = tar::Archive::new(tap.read(SeekableTo { file: file.clone(), position: 0 }));
        let mut entries = archive.entries_with_seek()?;
        loop {
            tap.begin_header();
            let Some(entry) = entries.next().transpose()? else { break };
            let Ok(name) = String::from_utf8(entry.path_bytes().into_owned()) else { continue };
            let Some(slot) = slot(&entry, &name, length)? else { continue };
            names += name.len() + if let Slot::Link(target) = &slot { target.len() } else { 0 };
            if members.len() >= MAX_MEMBERS || names > MAX_MEMBER_NAMES {
                return Err(io::Error::other("it has too many members"));
            }
            members.insert(normalised(&name), slot);
        }
        Ok(Archive { file, members })
    }

    fn member(&self, name: &str) -> Result<Option<Member>, Error> {
        let mut name = normalised(name);
        for _ in 0..=MAX_MEMBER_LINKS {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Slot::Link(target)) => name = target.clone(),
                Some(&Slot::File { offset, size }) => {
                    let slice = Slice { file: self.file.clone(), offset, left: size };
                    return Ok(Some(Member { reader: Box::new(slice), size }));
                }
            }
        }
        Err(Error::LinkedMember { member: name, limit: MAX_MEMBER_LINKS })
    }
}

/// What the archive's index keeps of an entry: files and links to them.
fn slot<R: Read>(entry: &tar::Entry<'_, R>, name: &str, length: u64) -> io::Result<Option<Slot>> {
    let kind = entry.header().entry_type();
    if kind.is_file() || kind.is_contiguous() {
        let (offset, size) = (entry.raw_file_position(), entry.size());
        return match offset.checked_add(size) {
            Some(end) if end <= length => Ok(Some(Slot::File { offset, size })),
            _ => Err(io::Error::other(format!("member {name:?} is cut off"))),
        };
    }
    let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
    match target {
        // A symlink is relative to its own folder, a hardlink to the archive's root.
        Some(target) if kind.is_symlink() => {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            Ok(Some(Slot::Link(normalised(&format!("{folder}/{target}")))))
        }
        Some(target) if kind.is_hard_link() => Ok(Some(Slot::Link(normalised(&target)))),
        _ => Ok(None),
    }
}

/// Names are keys here and never paths on disk: `..` cannot lead anywhere.
fn normalised(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The whole file with a position of its own.
struct SeekableTo {
    file: Arc<File>,
    position: u64,
}

impl Read for SeekableTo {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SeekableTo {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A part of a file, read without moving the file's position.
struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
