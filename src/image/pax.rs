//! Extended headers of tar entries (POSIX.1-2001 `pax`), read by their lengths: values are bytes and may hold line feeds.

use rustix::fs::Timespec;

use super::error::EntryError;
use super::sparse::SparseRecords;

/// Name and value.
pub(super) type ExtendedAttribute = (Vec<u8>, Vec<u8>);

/// What the extended header of one entry says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) size: Option<u64>,
    /// Seconds and nanoseconds.
    pub(super) modified: Option<(i64, i64)>,
    /// From `SCHILY.xattr.*`, in the archive's order.
    pub(super) attributes: Vec<ExtendedAttribute>,
    /// Set if the content is that of a sparse file without its holes.
    pub(super) sparse: Option<SparseRecords>,
}

const BLOCK: usize = 512;

impl Extended {
    /// Reads the header blocks that stand before an entry's own.
    pub(super) fn read(mut blocks: &[u8]) -> Result<Extended, EntryError> {
        let mut extended = Extended::default();
        while let Some((block, rest)) = blocks.split_at_checked(BLOCK) {
            let header = tar::Header::from_byte_slice(block);
            let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
            let content = size.and_then(|size| rest.get(..size)).ok_or(invalid("extended size"))?;
            if header.entry_type().is_pax_local_extensions() {
                extended.add_records(content)?;
            }
            blocks = rest.get(content.len().next_multiple_of(BLOCK)..).unwrap_or_default();
        }
        Ok(extended)
    }

    /// What it says of a sparse file, whose path stands there.
    pub(super) fn take_sparse(&mut self) -> Option<SparseRecords> {
        let mut sparse = self.sparse.take()?;
        self.path = sparse.name.take().or_else(|| self.path.take());
        Some(sparse)
    }

    fn add_records(&mut self, mut records: &[u8]) -> Result<(), EntryError> {
        // Some writers fill the last block with zeros and count them.
        while !records.is_empty() && records[0] != 0 {
            let (key, value, rest) = record(records).ok_or(invalid("extended record"))?;
            self.add(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        match key {
            b"path" => self.path = Some(value.to_owned()),
            b"linkpath" => self.link = Some(value.to_owned()),
            b"uid" => self.uid = Some(number(value).ok_or(invalid("uid"))?),
            b"gid" => self.gid = Some(number(value).ok_or(invalid("gid"))?),
            b"size" => self.size = Some(number(value).ok_or(invalid("size"))?),
            b"mtime" => self.modified = Some(time(value).ok_or(invalid("mtime"))?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    let sparse = self.sparse.get_or_insert_default();
                    sparse.add(key, value).ok_or(EntryError::InvalidSparse)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(())
    }
}

fn invalid(field: &'static str) -> EntryError {
    EntryError::InvalidHeader { field }
}

/// `length key=value\n`, where `length` counts all of it, itself too. Returns key, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let length = usize::try_from(number(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|b| *b == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Decimal seconds since 1970, perhaps negative, perhaps with a fraction; digits beyond nanoseconds are cut.
fn time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((seconds, nanoseconds)),
    }
}

/// As the kernel takes it.
pub(super) fn timespec((seconds, nanoseconds): (i64, i64)) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_may_hold_line_feeds_and_equals_signs() {
        let mut extended = Extended::default();
        extended.add_records(b"28 SCHILY.xattr.user.a=\n=\n1\n13 path=a=b\n\n").unwrap();
        assert_eq!(extended.attributes, [(b"user.a".to_vec(), b"\n=\n1".to_vec())]);
        assert_eq!(extended.path.unwrap(), b"a=b\n");
    }

    #[test]
    fn times_are_read_to_the_nanosecond() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some((12, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!([time(b""), time(b"1.x"), time(b"x"), time("1.ä".as_bytes())], [None; 4]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Extended::read(&bytes);
            let _ = Extended::default().add_records(&bytes);
        }
    }
}
