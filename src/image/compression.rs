//! Decompression, told apart by the first bytes: media types are wrong too often.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Read};
use std::os::unix::fs::FileExt;

use super::frames::{self, Frames};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = frames::MAGIC;

/// The content of `reader` without gzip or zstd around it. Several frames after one another are one content.
pub(super) fn decompress<'a, R: BufRead + 'a>(mut reader: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    reader.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let (is_gzip, is_zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let whole = Cursor::new(head).chain(reader);
    if is_gzip {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(whole)));
    }
    if is_zstd {
        return Ok(Box::new(Frames::new(whole)));
    }
    Ok(Box::new(whole))
}

/// How the file is compressed, as media types name it; `None` if it is not. Does not move its position.
pub(super) fn name_of_file(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; ZSTD.len()];
    let read = file.read_at(&mut head, 0)?;
    Ok(match &head[..read] {
        head if head.starts_with(&GZIP) => Some("gzip"),
        head if head.starts_with(&ZSTD) => Some("zstd"),
        _ => None,
    })
}
