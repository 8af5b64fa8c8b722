//! Sparse files in PAX archives, as GNU tar writes them (versions 0.0, 0.1 and 1.0): a map of what has content, and that after one another.
//!
//! The formats stand in GNU tar's manual, "Sparse Formats". The old one, `GNUSparse` entries, is the tar crate's.

use std::io::{self, Read};
use std::vec::IntoIter;

use super::error::EntryError;

const BLOCK: usize = 512;
/// Digits of a number with its line feed.
const MAX_LINE: usize = 21;
/// Pieces of one file. A map is held in memory, and of one that stands in the content each piece takes four bytes of a layer at
/// least, which compress to nothing: without a bound a small layer takes all memory. 16 MiB hold them.
const MAX_PIECES: u64 = 1 << 20;

/// The `GNU.sparse.…` records of an extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    /// Of version 1.0, whose map stands before the content.
    is_inline: bool,
    /// The entry's own name is another one since version 0.1, for those who do not know that it is sparse.
    pub(super) name: Option<Vec<u8>>,
    /// Of the file with its holes.
    size: Option<u64>,
    count: Option<u64>,
    /// Offset and length of each piece.
    map: Vec<u64>,
}

impl SparseRecords {
    /// `key` is what follows `GNU.sparse.`
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_owned()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"numblocks" => self.count = Some(number(value)?),
            b"offset" | b"numbytes" => {
                let is_offset = key == b"offset";
                (is_offset == self.map.len().is_multiple_of(2)).then_some(())?;
                self.map.push(number(value)?);
            }
            b"map" if value.is_empty() => {}
            b"map" => self.map = value.split(|byte| *byte == b',').map(number).collect::<Option<_>>()?,
            b"major" => self.is_inline = number(value).filter(|major| *major < 2)? == 1,
            b"minor" => drop(number(value).filter(|minor| *minor < 2)?),
            _ => return None,
        }
        Some(())
    }

    /// Of the file with its holes; no less than its content has, which is found out when it is read.
    pub(super) fn size(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    /// The file with its holes. `stored`: bytes of the entry's content.
    pub(super) fn expand<R: Read>(self, mut content: R, stored: u64) -> Result<Expanded<R>, EntryError> {
        let (map, head) = match self.is_inline {
            true => read_map(&mut content).map_err(EntryError::Content)?.ok_or(EntryError::InvalidSparse)?,
            false => (self.map, 0),
        };
        let is_counted = self.is_inline || self.count.is_none_or(|count| count == (map.len() / 2) as u64);
        let size = self.size.filter(|_| is_counted).ok_or(EntryError::InvalidSparse)?;
        let pieces = pieces(&map, size, stored.saturating_sub(head)).ok_or(EntryError::InvalidSparse)?;
        Ok(Expanded { content, position: 0, size, pieces: pieces.into_iter(), piece: (0, 0) })
    }
}

/// Begin and end of each piece: in order, within the file, and all of what is stored.
fn pieces(map: &[u64], size: u64, stored: u64) -> Option<Vec<(u64, u64)>> {
    let (pairs, []) = map.as_chunks::<2>() else { return None };
    let (mut pieces, mut position, mut left) = (Vec::with_capacity(pairs.len()), 0, stored);
    for &[offset, length] in pairs {
        let end = offset.checked_add(length).filter(|end| offset >= position && *end <= size)?;
        left = left.checked_sub(length)?;
        pieces.push((offset, end));
        position = end;
    }
    (left == 0).then_some(pieces)
}

/// The map of version 1.0: lines with how many pieces there are, and offset and length of each, filled up to a whole block. Returns how many
/// bytes it has, too.
fn read_map(content: &mut impl Read) -> io::Result<Option<(Vec<u64>, u64)>> {
    let (mut map, mut length, mut wanted) = (Vec::new(), 0, None);
    let mut line = Vec::new();
    while wanted.is_none_or(|wanted| (map.len() as u64) < wanted) {
        let mut block = [0; BLOCK];
        content.read_exact(&mut block)?;
        length += BLOCK as u64;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let Some(number) = number(&line) else { return Ok(None) };
            line.clear();
            match wanted {
                None if number > MAX_PIECES => return Ok(None),
                None => wanted = Some(2 * number),
                Some(_) => map.push(number),
            }
            if wanted == Some(map.len() as u64) {
                return Ok(Some((map, length)));
            }
        }
        if line.len() > MAX_LINE {
            return Ok(None);
        }
    }
    Ok(Some((map, length)))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A sparse file's bytes, those of its holes too.
pub(super) struct Expanded<R> {
    content: R,
    position: u64,
    size: u64,
    pieces: IntoIter<(u64, u64)>,
    /// The piece that is read, or comes next.
    piece: (u64, u64),
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position >= self.piece.1 && self.position < self.size {
            self.piece = self.pieces.next().unwrap_or((self.size, u64::MAX));
        }
        let (begin, end) = self.piece;
        let is_hole = self.position < begin;
        let left = if is_hole { begin - self.position } else { end.min(self.size) - self.position };
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = match is_hole {
            true => {
                buffer[..wanted].fill(0);
                wanted
            }
            false => self.content.read(&mut buffer[..wanted])?,
        };
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(records: &[(&str, &str)]) -> Option<SparseRecords> {
        let mut sparse = SparseRecords::default();
        records.iter().try_for_each(|(key, value)| sparse.add(key.as_bytes(), value.as_bytes()))?;
        Some(sparse)
    }

    fn expand(sparse: SparseRecords, content: &[u8]) -> Result<Vec<u8>, EntryError> {
        let mut bytes = Vec::new();
        let mut expanded = sparse.expand(content, content.len() as u64)?;
        expanded.read_to_end(&mut bytes).map_err(EntryError::Content).map(|_| bytes)
    }

    #[test]
    fn a_map_in_the_content_is_bounded() {
        let inline = || records(&[("major", "1"), ("minor", "0"), ("name", "x"), ("realsize", "0")]).unwrap();
        let mut content = format!("{MAX_PIECES}\n").into_bytes();
        content.resize(content.len() + 4 * MAX_PIECES as usize, b'\n');
        for pair in content[8..].as_chunks_mut::<2>().0 {
            *pair = *b"0\n";
        }
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        assert_eq!(expand(inline(), &content).unwrap(), b"");
        let endless = format!("{}\n", MAX_PIECES + 1).into_bytes().into_iter().chain(b"0\n".repeat(BLOCK));
        let endless: Vec<u8> = endless.collect();
        assert!(matches!(expand(inline(), &endless), Err(EntryError::InvalidSparse)));
    }

    #[test]
    fn every_version_gives_the_same_file() {
        let file = b"\0\0abc\0\0\0de\0";
        let zero = [
            ("size", "11"),
            ("numblocks", "2"),
            ("offset", "2"),
            ("numbytes", "3"),
            ("offset", "8"),
            ("numbytes", "2"),
        ];
        assert_eq!(expand(records(&zero).unwrap(), b"abcde").unwrap(), file);
        let one = [
            ("major", "0"),
            ("minor", "1"),
            ("name", "x"),
            ("size", "11"),
            ("numblocks", "2"),
            ("map", "2,3,8,2"),
        ];
        assert_eq!(expand(records(&one).unwrap(), b"abcde").unwrap(), file);
        let inline = [("major", "1"), ("minor", "0"), ("name", "x"), ("realsize", "11")];
        let mut content = b"2\n2\n3\n8\n2\n".to_vec();
        content.resize(512, 0);
        content.extend(b"abcde");
        assert_eq!(expand(records(&inline).unwrap(), &content).unwrap(), file);
        assert_eq!(expand(records(&[("size", "4"), ("map", "")]).unwrap(), b"").unwrap(), [0; 4]);
    }

    #[test]
    fn a_map_of_a_hundred_pieces_has_several_blocks() {
        let lines: String = (0..100u64).map(|piece| format!("{}\n1\n", piece * 1_000_000)).collect();
        let mut content = format!("100\n{lines}").into_bytes();
        content.resize(content.len().next_multiple_of(512), 0);
        content.extend([7; 100]);
        let inline = [("major", "1"), ("realsize", "99000001")];
        let file = expand(records(&inline).unwrap(), &content).unwrap();
        assert_eq!((file.len(), file.iter().filter(|byte| **byte == 7).count()), (99_000_001, 100));
    }

    #[test]
    fn maps_that_are_none_are_refused() {
        assert_eq!(records(&[("offset", "1"), ("offset", "2")]), None);
        assert_eq!(records(&[("major", "2")]), None);
        assert_eq!(records(&[("map", "1,x")]), None);
        assert_eq!(records(&[("else", "1")]), None);
        for map in ["2,3,1,2", "0,3,2,2", "0,12", "0,4", "0,6", "0", "18446744073709551615,5"] {
            let sparse = records(&[("size", "11"), ("map", map)]).unwrap();
            assert!(matches!(expand(sparse, b"abcde"), Err(EntryError::InvalidSparse)), "{map}");
        }
        let counted = records(&[("size", "11"), ("numblocks", "2"), ("map", "0,5")]).unwrap();
        assert!(matches!(expand(counted, b"abcde"), Err(EntryError::InvalidSparse)));
        assert!(matches!(
            expand(records(&[("map", "0,5")]).unwrap(), b"abcde"),
            Err(EntryError::InvalidSparse)
        ));
    }

    proptest! {
        #[test]
        fn no_map_panics(map in proptest::collection::vec(any::<u64>(), 0..6), size: u64, content in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let of = |is_inline| SparseRecords { is_inline, size: Some(size), map: map.clone(), ..SparseRecords::default() };
            for is_inline in [true, false] {
                if let Ok(mut expanded) = of(is_inline).expand(&content[..], content.len() as u64) {
                    let _ = io::copy(&mut (&mut expanded).take(5000), &mut io::sink());
                }
            }
        }
    }
}
