//! Content digests as OCI writes them, and hashing while reading.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// `sha256:<64 lower-case hex digits>`. SHA-256 is the only algorithm that image tools write; OCI allows SHA-512 beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    hex: String,
}

/// Text that is not a digest podkeep can check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is {}", reason(.text))]
pub struct InvalidDigest {
    pub text: String,
}

fn reason(text: &str) -> &'static str {
    match text.starts_with("sha512:") {
        true => {
            "a SHA-512 digest, and podkeep knows SHA-256 only: have the image written with sha256 digests"
        }
        false => "not a digest of the form sha256:<64 hex digits>",
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// The 64 digits without the algorithm, as file names use them.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    fn from_hash(hash: Sha256) -> Digest {
        Digest { hex: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_hex) => Ok(Digest { hex: hex.to_owned() }),
            _ => Err(InvalidDigest { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// Hashes and counts what is read through it, so that content is checked in the same pass that uses it.
pub(super) struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(inner: R) -> HashingReader<R> {
        HashingReader { inner, hash: Sha256::new(), count: 0 }
    }

    /// Reads to the end, so that bytes after what a parser needed count too, and returns the digest and the number of bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest::from_hash(self.hash), self.count))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_whole_lower_case_sha256_digests_are_accepted() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        for bad in
            ["", "sha256:", &EMPTY[..70], &EMPTY.to_uppercase(), "sha512:00", "sha256:../../etc/passwd"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let other = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().unwrap_err();
        assert!(other.to_string().contains("SHA-512 digest, and podkeep knows SHA-256 only"), "{other}");
    }

    #[test]
    fn a_reader_hashes_also_what_nobody_asked_for() {
        let mut reader = HashingReader::new(&b"abcdef"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap(), (Digest::of(b"abcdef"), 6));
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }
}
