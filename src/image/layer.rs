//! One layer: blob → decompressed tar → folder, read once, every digest checked in the same pass.
//!
//! A thread of its own reads, hashes, keeps and decompresses the blob while this one hashes and unpacks what comes out of it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;

use super::artifact::Form;
use super::compression::decompress;
use super::digest::{Digest, HashingReader};
use super::entry::{Entry, Kind};
use super::error::{EntryError, LayerError};
use super::frames::Fetch;
use super::limits::Limits;
use super::listing;
use super::pax::Extended;
use super::read_ahead::{self, ReadAhead};
use super::sparse::SparseRecords;
use super::tap::Tap;
use super::tree::Tree;
use super::written_ahead::WrittenAhead;

/// What a layer's bytes must turn out to be.
pub(super) struct Expected<'a> {
    /// Digest and size of the blob, where they are known.
    pub(super) blob: Option<&'a (Digest, u64)>,
    /// Digest of the decompressed tar.
    pub(super) diff_id: &'a Digest,
    pub(super) form: &'a Form,
}

/// What a layer's bytes turned out to be.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Bytes of its files.
    pub(super) size: u64,
    /// Digest and size of the blob.
    pub(super) blob: (Digest, u64),
    /// Whether the layer and those around it do not agree by themselves on a folder's attributes.
    pub(super) inherits: bool,
}

/// Where a layer goes.
pub(super) struct Target<'a> {
    /// An empty folder.
    pub(super) root: OwnedFd,
    /// An empty file for the listing of what the folder holds.
    pub(super) listing: &'a File,
}

/// A file that keeps a blob as it comes.
pub(super) struct Keep {
    file: WrittenAhead,
    /// Bytes of the blob that it has already; it is written at its end.
    from: u64,
    /// The same file for reading, where the blob comes from far away.
    reader: Option<File>,
}

impl Keep {
    /// A new file for a blob that is at hand.
    pub(super) fn new(file: File) -> Keep {
        Keep { file: WrittenAhead::new(file), from: 0, reader: None }
    }

    /// A file with the first `from` bytes of a blob that comes from far away.
    pub(super) fn of_download(file: File, from: u64, reader: File) -> Keep {
        Keep { file: WrittenAhead::new(file), from, reader: Some(reader) }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let known = usize::try_from(self.from).map_or(bytes.len(), |from| from.min(bytes.len()));
        self.from -= known as u64;
        bytes = &bytes[known..];
        self.file.write_all(bytes)
    }
}

/// Unpacks `blob`, and writes it to `keep` as it comes.
///
/// On an error the target and the file hold a part of the layer, which nobody may use.
pub(super) fn unpack(
    blob: &mut (dyn Read + Send),
    keep: Option<Keep>,
    expected: &Expected<'_>,
    target: Target<'_>,
    limits: &Limits,
) -> Result<Unpacked, LayerError> {
    let (sender, plain) = read_ahead::channel();
    let (tell, is_blob_wanted) = mpsc::channel();
    let (read, unpacked) = thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let blob = RefCell::new(Blob::new(blob, keep, expected.blob.map(|(_, size)| *size)));
            let wanted = read_plain(&blob, expected, |plain| sender.send_all(plain));
            if wanted || is_blob_wanted.recv().unwrap_or_default() {
                blob.into_inner().finish().map(Some)
            } else {
                Ok(None)
            }
        });
        let diff_id = Some(expected.diff_id).filter(|_| *expected.form == Form::Tar);
        let most = expected.blob.map_or(limits.bytes, |(_, size)| limits.bytes_of(*size));
        let unpacked = unpack_plain(plain, diff_id, target, limits, most);
        // Whether it is the blob that was promised is for its digest to say, and for that the rest has to come.
        let is_doubtful =
            unpacked.as_ref().is_err_and(LayerError::is_in_the_bytes) && expected.blob.is_some();
        let _ = tell.send(is_doubtful);
        (reading.join(), unpacked)
    });
    let read = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let blob = verify_blob(expected, read, unpacked.as_ref().err())?;
    let (size, inherits) = unpacked?;
    Ok(Unpacked { size, blob, inherits })
}

/// Writes `blob` to `keep` as it comes, and checks it as [`unpack`] does, but makes no files of it. Returns its digest and size.
pub(super) fn keep_blob(
    blob: &mut (dyn Read + Send),
    keep: Option<Keep>,
    expected: &Expected<'_>,
    limits: &Limits,
) -> Result<(Digest, u64), LayerError> {
    let blob = RefCell::new(Blob::new(blob, keep, expected.blob.map(|(_, size)| *size)));
    let most = expected.blob.map_or(limits.bytes, |(_, size)| limits.bytes_of(*size));
    let plain = read_plain(&blob, expected, |plain| HashingReader::new(plain?.take(most)).finish());
    let plain = plain.map_err(LayerError::Archive);
    let blob = verify_blob(expected, blob.into_inner().finish().map(Some), plain.as_ref().err())?;
    let (actual, _) = plain?;
    if *expected.form == Form::Tar {
        check_digest("decompressed tar", expected.diff_id, actual)?;
    }
    Ok(blob)
}

/// Reads the tar that the blob holds, or is made into.
fn read_plain<T>(
    blob: &RefCell<Blob<'_>>,
    expected: &Expected<'_>,
    read: impl FnOnce(io::Result<Box<dyn Read + '_>>) -> T,
) -> T {
    let fetch = || blob.borrow_mut().fetch();
    let fetch: Option<&Fetch<'_>> = if blob.borrow().is_coming() { Some(&fetch) } else { None };
    read(plain_tar(Shared(blob), fetch, expected))
}

fn plain_tar<'a>(
    blob: Shared<'a, '_>,
    fetch: Option<&'a Fetch<'a>>,
    expected: &Expected<'_>,
) -> io::Result<Box<dyn Read + 'a>> {
    let size = expected.blob.map_or(0, |(_, size)| *size);
    match expected.form.wrapping(size)? {
        Some((before, behind)) => {
            Ok(Box::new(io::Cursor::new(before).chain(blob).chain(io::Cursor::new(behind))))
        }
        None => decompress(io::BufReader::with_capacity(CHUNK, blob), fetch),
    }
}

/// Bytes that are read, or written, at a time.
const CHUNK: usize = 1 << 17;

/// The blob as it comes: hashed, counted, and written to a file of its own.
struct Blob<'a> {
    inner: HashingReader<&'a mut (dyn Read + Send)>,
    keep: Option<Keep>,
    /// Bytes that may still come; one more is enough to see that it is too long.
    left: u64,
    /// Bytes that were handed out.
    position: u64,
    /// All of it has come, and is read from here.
    fetched: Option<File>,
    failure: Option<LayerError>,
}

/// Lets the reader of a blob have it fetched between two reads.
struct Shared<'a, 'b>(&'a RefCell<Blob<'b>>);

impl Read for Shared<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl<'a> Blob<'a> {
    fn new(inner: &'a mut (dyn Read + Send), keep: Option<Keep>, size: Option<u64>) -> Blob<'a> {
        let left = size.map_or(u64::MAX, |size| size.saturating_add(1));
        Blob { inner: HashingReader::new(inner), keep, left, position: 0, fetched: None, failure: None }
    }

    /// Whether it comes from far away.
    fn is_coming(&self) -> bool {
        self.keep.as_ref().is_some_and(|keep| keep.reader.is_some())
    }

    /// Lets all of it come into the file that keeps it, from where what follows is read then.
    fn fetch(&mut self) -> io::Result<()> {
        let Some(mut file) = self.keep.as_mut().and_then(|keep| keep.reader.take()) else { return Ok(()) };
        let position = self.position;
        io::copy(self, &mut io::sink())?;
        file.seek(SeekFrom::Start(position)).map_err(|error| self.fail(LayerError::Keep(error)))?;
        self.fetched = Some(file);
        Ok(())
    }

    /// Reads what nobody asked for yet: it belongs to the digest too.
    fn finish(mut self) -> Result<(Digest, u64), LayerError> {
        self.fetched = None;
        let rest = io::copy(&mut self, &mut io::sink());
        match (self.failure, rest) {
            (Some(failure), _) => Err(failure),
            (None, rest) => rest.map(|_| ()).and(self.inner.finish()).map_err(LayerError::Blob),
        }
    }

    fn fail(&mut self, failure: LayerError) -> io::Error {
        self.failure = Some(failure);
        io::Error::other("the blob could not be read")
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the blob could not be read"));
        }
        if let Some(file) = &mut self.fetched {
            return file.read(buffer).map_err(|error| self.fail(LayerError::Keep(error)));
        }
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = match self.inner.read(&mut buffer[..wanted]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(LayerError::Blob(error))),
            Ok(read) => read,
        };
        self.left -= read as u64;
        self.position += read as u64;
        let kept = self.keep.as_mut().map_or(Ok(()), |keep| keep.write(&buffer[..read]));
        kept.map_err(|error| self.fail(LayerError::Keep(error)))?;
        Ok(read)
    }
}

/// A blob that is another one is the cause of what went wrong after it, if that was in the bytes.
fn verify_blob(
    expected: &Expected<'_>,
    read: Result<Option<(Digest, u64)>, LayerError>,
    failure: Option<&LayerError>,
) -> Result<(Digest, u64), LayerError> {
    // Nobody wanted the rest of it: the failure says why.
    let Some((digest, length)) = read? else { return Ok((Digest::of(b""), 0)) };
    let Some((wanted, size)) = expected.blob.filter(|_| failure.is_none_or(LayerError::is_in_the_bytes))
    else {
        return Ok((digest, length));
    };
    if length != *size {
        return Err(LayerError::WrongSize { expected: *size, actual: length });
    }
    check_digest("blob", wanted, digest.clone())?;
    Ok((digest, length))
}

/// Returns how many bytes the layer's files have, and whether it inherits folders' attributes. `most`: bytes of the tar.
fn unpack_plain(
    plain: ReadAhead,
    diff_id: Option<&Digest>,
    target: Target<'_>,
    limits: &Limits,
    most: u64,
) -> Result<(u64, bool), LayerError> {
    let tap = Tap::new(most, limits.header_bytes);
    let mut plain = tap.read(HashingReader::new(plain));
    let of_root = |source| LayerError::Entry { entry: ".".to_owned(), source };
    let mut tree = Tree::new(target.root).map_err(of_root)?;
    let unpacked = unpack_tar(&mut plain, &tap, &mut tree, limits);
    let error = |error| match tap.is_too_large() {
        true if most < limits.bytes => LayerError::Bomb { limit: most, expansion: limits.expansion },
        true => LayerError::TooLarge { limit: most },
        false => error,
    };
    let size = unpacked.map_err(error)?;
    tap.end_header(0);
    // What follows the end of the archive belongs to the digest, and within the limit too.
    io::copy(&mut plain, &mut io::sink()).map_err(|cause| error(LayerError::Archive(cause)))?;
    let (actual, _) = plain.into_inner().finish().map_err(LayerError::Archive)?;
    if let Some(diff_id) = diff_id {
        check_digest("decompressed tar", diff_id, actual)?;
    }
    let (root, made) = tree.finish();
    let summary = listing::write(&root, &made, target.listing).map_err(|(path, source)| {
        let source = EntryError::Io { action: "set the time and list it", source };
        LayerError::Entry { entry: path.display().to_string(), source }
    })?;
    Ok((size, summary.inherits))
}

fn check_digest(what: &'static str, expected: &Digest, actual: Digest) -> Result<(), LayerError> {
    if actual == *expected {
        return Ok(());
    }
    Err(LayerError::WrongDigest { what, expected: expected.clone(), actual })
}

fn unpack_tar(plain: &mut impl Read, tap: &Tap, tree: &mut Tree, limits: &Limits) -> Result<u64, LayerError> {
    let mut archive = tar::Archive::new(plain);
    let mut entries = archive.entries().map_err(LayerError::Archive)?;
    let (mut count, mut bytes) = (0, 0u64);
    loop {
        tap.begin_header();
        let Some(mut raw) = entries.next().transpose().map_err(LayerError::Archive)? else { break };
        let headers = tap.end_header(raw.raw_header_position());
        count += 1;
        if count > limits.entries {
            return Err(LayerError::TooManyEntries { limit: limits.entries });
        }
        let shown = String::from_utf8_lossy(&raw.path_bytes()).into_owned();
        let in_entry = |source| LayerError::Entry { entry: shown.clone(), source };
        let extended = Extended::read(&headers).map_err(in_entry)?;
        let with_holes = extended.sparse.as_ref().map_or(0, SparseRecords::size);
        bytes = bytes.saturating_add(raw.size().max(with_holes));
        if bytes > limits.bytes {
            return Err(LayerError::TooLarge { limit: limits.bytes });
        }
        add(tree, &mut raw, extended, limits).map_err(in_entry)?;
        // What is left of the content must not count as the next entry's header.
        io::copy(&mut raw, &mut io::sink()).map_err(LayerError::Archive)?;
    }
    Ok(bytes)
}

fn add<R: Read>(
    tree: &mut Tree,
    raw: &mut tar::Entry<'_, R>,
    mut extended: Extended,
    limits: &Limits,
) -> Result<(), EntryError> {
    let sparse = extended.take_sparse();
    let entry = Entry::read(raw, extended, limits)?;
    let stored = raw.size();
    match sparse {
        None => tree.add(entry, raw, stored),
        Some(sparse) if entry.kind == Kind::File => {
            let size = sparse.size();
            tree.add(entry, &mut sparse.expand(raw, stored)?, size)
        }
        Some(_) => Err(EntryError::InvalidSparse),
    }
}

#[cfg(test)]
mod tests;
