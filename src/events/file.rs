//! The file of records: a line of JSON for each change, the latest line of a record standing for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Record;

/// Messages may quote what concerns nobody else.
const MODE: u32 = 0o600;

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {cause}")]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    cause: io::Error,
}

/// What a file has; nothing, if it is not there.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(Error { doing: "read", path: path.to_owned(), cause }),
    }
}

/// A line that is cut off or damaged, as a power cut leaves it, is passed over: nothing depends on it.
pub fn parse(bytes: &[u8]) -> Vec<Record> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Adds lines at the end; not to one that was cut off there.
pub fn append(path: &Path, lines: &str) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        let mut last = [b'\n'];
        if let Some(end) = file.metadata()?.len().checked_sub(1) {
            file.read_exact_at(&mut last, end)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
        file.write_all(lines.as_bytes())
    };
    write().map_err(|cause| Error { doing: "write", path: path.to_owned(), cause })
}

/// Puts these lines in the place of all others.
pub fn replace(path: &Path, lines: &str) -> Result<(), Error> {
    let aside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&aside)?;
        file.write_all(lines.as_bytes())?;
        fs::rename(&aside, path)
    };
    write().map_err(|cause| Error { doing: "write", path: path.to_owned(), cause })
}

/// The file in memory (a tmpfs) of what the one on disk may lack.
#[derive(Debug)]
pub struct Fresh {
    path: PathBuf,
    file: File,
}

impl Fresh {
    /// Opens it, and says what an earlier worker has left there.
    pub fn open(path: PathBuf) -> Result<(Fresh, Vec<Record>), Error> {
        let records = read(&path)?;
        match OpenOptions::new().append(true).create(true).mode(MODE).open(&path) {
            Ok(file) => Ok((Fresh { path, file }, records)),
            Err(cause) => Err(Error { doing: "open", path, cause }),
        }
    }

    pub fn add(&mut self, lines: &str) -> Result<(), Error> {
        self.file.write_all(lines.as_bytes()).map_err(|cause| self.failed("write", cause))
    }

    /// The disk has all of it.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|cause| self.failed("shorten", cause))
    }

    fn failed(&self, doing: &'static str, cause: io::Error) -> Error {
        Error { doing, path: self.path.clone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_added_to_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        append(&path, "one\n").unwrap();
        append(&path, "two").unwrap();
        append(&path, "three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        replace(&path, "four\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        assert!(read(&folder.path().join("none")).unwrap().is_empty());
    }
}
