//! Decompression, told apart by the first bytes: media types are wrong too often.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Read};
use std::os::unix::fs::FileExt;

use super::frames::{Fetch, Frames, is_zstd};

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes by which both are told.
const HEAD: usize = 4;

/// The content of `reader` without gzip or zstd around it. Several frames after one another are one content. `fetch`: for what comes
/// from far away.
pub(super) fn decompress<'a, R: BufRead + 'a>(
    mut reader: R,
    fetch: Option<&'a Fetch<'a>>,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let (is_gzip, is_zstd) = (head.starts_with(&GZIP), is_zstd(&head));
    let whole = Cursor::new(head).chain(reader);
    if is_gzip {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(whole)));
    }
    if is_zstd {
        return Ok(Box::new(Frames::new(whole, fetch)));
    }
    Ok(Box::new(whole))
}

/// How the file is compressed, as media types name it; `None` if it is not. Does not move its position.
pub(super) fn name_of_file(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; HEAD];
    let read = file.read_at(&mut head, 0)?;
    Ok(match &head[..read] {
        head if head.starts_with(&GZIP) => Some("gzip"),
        head if is_zstd(head) => Some("zstd"),
        _ => None,
    })
}
