//! One layer: blob → decompressed tar → folder, read once, every digest checked in the same pass.

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;

use super::compression::decompress;
use super::digest::{Digest, HashingReader};
use super::entry::Entry;
use super::error::{EntryError, LayerError};
use super::limits::Limits;
use super::pax::Extended;
use super::tap::Tap;
use super::tree::Tree;

/// What a layer's bytes must turn out to be.
pub(super) struct Expected<'a> {
    /// Digest and size of the blob, where they are known.
    pub(super) blob: Option<&'a (Digest, u64)>,
    /// Digest of the decompressed tar.
    pub(super) diff_id: &'a Digest,
}

/// Unpacks `blob` into the empty folder `root` and returns how many bytes its files have.
///
/// On an error the folder holds a part of the layer, which nobody may use.
pub(super) fn unpack<R: BufRead>(
    mut blob: HashingReader<R>,
    expected: &Expected<'_>,
    root: OwnedFd,
    limits: &Limits,
) -> Result<u64, LayerError> {
    let tap = Tap::new(limits.bytes, limits.header_bytes);
    let plain = decompress(io::BufReader::new(&mut blob)).map_err(LayerError::Archive)?;
    let mut plain = tap.read(HashingReader::new(plain));
    let unpacked = unpack_tar(&mut plain, &tap, root, limits);
    let error = |error| if tap.is_too_large() { LayerError::TooLarge { limit: limits.bytes } } else { error };
    let size = unpacked.map_err(error)?;
    tap.end_header(0);
    // What follows the end of the archive belongs to the digest, and within the limit too.
    io::copy(&mut plain, &mut io::sink()).map_err(|cause| error(LayerError::Archive(cause)))?;
    let (diff_id, _) = plain.into_inner().finish().map_err(LayerError::Archive)?;
    check_digest("decompressed tar", expected.diff_id, diff_id)?;
    let (digest, length) = blob.finish().map_err(LayerError::Archive)?;
    if let Some((wanted, size)) = expected.blob {
        if length != *size {
            return Err(LayerError::WrongSize { expected: *size, actual: length });
        }
        check_digest("blob", wanted, digest)?;
    }
    Ok(size)
}

fn check_digest(what: &'static str, expected: &Digest, actual: Digest) -> Result<(), LayerError> {
    if actual == *expected {
        return Ok(());
    }
    Err(LayerError::WrongDigest { what, expected: expected.clone(), actual })
}

fn unpack_tar(plain: &mut impl Read, tap: &Tap, root: OwnedFd, limits: &Limits) -> Result<u64, LayerError> {
    let mut tree = Tree::new(root);
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
        bytes = bytes.saturating_add(raw.size());
        if bytes > limits.bytes {
            return Err(LayerError::TooLarge { limit: limits.bytes });
        }
        let shown = String::from_utf8_lossy(&raw.path_bytes()).into_owned();
        add(&mut tree, &mut raw, &headers, limits)
            .map_err(|source| LayerError::Entry { entry: shown, source })?;
        // What is left of the content must not count as the next entry's header.
        io::copy(&mut raw, &mut io::sink()).map_err(LayerError::Archive)?;
    }
    tree.finish()
        .map_err(|(path, source)| LayerError::Entry { entry: path.display().to_string(), source })?;
    Ok(bytes)
}

fn add<R: Read>(
    tree: &mut Tree,
    raw: &mut tar::Entry<'_, R>,
    headers: &[u8],
    limits: &Limits,
) -> Result<(), EntryError> {
    let entry = Entry::read(raw, Extended::read(headers)?, limits)?;
    let size = raw.size();
    tree.add(entry, raw, size)
}
