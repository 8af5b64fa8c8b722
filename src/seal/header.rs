//! The head of an age file: for whom it is, and the key of its payload, encrypted for each of them.
//!
//! As strict as the format's description wants readers to be: what one reader takes and another one refuses is where attacks begin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

use super::cipher::derived;

const VERSION: &str = "age-encryption.org/v1";
const X25519: &[u8] = b"X25519";
const SCRYPT: &[u8] = b"scrypt";
/// Letters of every line of a stanza's body but the last one.
const COLUMNS: usize = 64;
/// Bytes: room for more than 300 recipients. Each costs the node a multiplication, in its loop.
const LONGEST: usize = 32 << 10;

/// Why something is no age file that podkeep could ever read, whatever the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("not an age file: `podkeep seal`, or `age -r RECIPIENT -a`, makes one of a value")]
    NotAge,
    #[error("an age file in ASCII armor that is damaged")]
    Armor,
    #[error("an age file of another version than {VERSION}")]
    Version,
    #[error("an age file with a damaged header")]
    Header,
    #[error("an age file with a header of more than {LONGEST} bytes")]
    TooLong,
    #[error(
        "an age file for a passphrase, and nobody is there to be asked for it: make it for a recipient (age1…)"
    )]
    Passphrase,
    #[error("an age file for no recipient of the kind age1…: podkeep has no other keys")]
    NoRecipient,
    #[error("an age file that is cut off")]
    Short,
}

/// The key of the payload, as one recipient can get at it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stanza {
    /// The sender's share of the agreement.
    pub share: [u8; 32],
    pub body: [u8; 32],
}

/// A header that is well-formed. Whether it is as its maker left it is known only with the file's key.
#[derive(Debug)]
pub struct Header {
    /// Those for X25519 recipients, one at least.
    pub stanzas: Vec<Stanza>,
    mac: [u8; 32],
    /// Bytes that `mac` is of.
    covered: usize,
    /// Bytes of the whole header.
    pub length: usize,
}

impl Header {
    pub fn parse(file: &[u8]) -> Result<Header, Malformed> {
        let mut lines = Lines { file, at: 0 };
        match lines.next() {
            Ok(line) if line == VERSION.as_bytes() => {}
            _ if file.starts_with(b"age-encryption.org/") => return Err(Malformed::Version),
            _ => return Err(Malformed::NotAge),
        }
        let mut stanzas = Vec::new();
        loop {
            let covered = lines.at + 3;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix(b"--- ") {
                let mac = base64(mac)?;
                return match stanzas.is_empty() {
                    true => Err(Malformed::NoRecipient),
                    false => Ok(Header { stanzas, mac, covered, length: lines.at }),
                };
            }
            stanzas.extend(stanza(line, &mut lines)?);
        }
    }

    /// Whether nobody without the file's key has changed it.
    pub fn is_genuine(&self, file: &[u8], key: &[u8; 16]) -> bool {
        hmac::verify(&mac_key(key), &file[..self.covered], &self.mac).is_ok()
    }
}

/// The header of a file with this key.
pub fn written(stanzas: &[Stanza], key: &[u8; 16]) -> Vec<u8> {
    let encoded = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    let mut text = format!("{VERSION}\n");
    for Stanza { share, body } in stanzas {
        text.push_str(&format!("-> X25519 {}\n{}\n", encoded(share), encoded(body)));
    }
    text.push_str("---");
    let mac = hmac::sign(&mac_key(key), text.as_bytes());
    text.push_str(&format!(" {}\n", encoded(mac.as_ref())));
    text.into_bytes()
}

fn mac_key(key: &[u8; 16]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derived(key, b"", b"header"))
}

struct Lines<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = &self.file[self.at..self.file.len().min(LONGEST)];
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                self.at += length + 1;
                Ok(&rest[..length])
            }
            None if self.file.len() > LONGEST => Err(Malformed::TooLong),
            None => Err(Malformed::Header),
        }
    }
}

/// What begins with `line`; `None` if it is for another kind of recipient.
fn stanza(line: &[u8], lines: &mut Lines<'_>) -> Result<Option<Stanza>, Malformed> {
    let arguments = line.strip_prefix(b"-> ").ok_or(Malformed::Header)?;
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == b' ').collect();
    if arguments.iter().any(|argument| argument.is_empty() || !argument.iter().all(u8::is_ascii_graphic)) {
        return Err(Malformed::Header);
    }
    let mut letters = Vec::new();
    loop {
        let line = lines.next()?;
        letters.extend(line);
        match line.len() {
            0..COLUMNS => break,
            COLUMNS => {}
            _ => return Err(Malformed::Header),
        }
    }
    let body = STANDARD_NO_PAD.decode(&letters).map_err(|_| Malformed::Header)?;
    match arguments[..] {
        [X25519, share] => {
            // The length is looked at before anything is decrypted: no partitioning oracle.
            let body = body.try_into().map_err(|_| Malformed::Header)?;
            Ok(Some(Stanza { share: base64(share)?, body }))
        }
        [X25519, ..] => Err(Malformed::Header),
        [SCRYPT, ..] => Err(Malformed::Passphrase),
        _ => Ok(None),
    }
}

fn base64(letters: &[u8]) -> Result<[u8; 32], Malformed> {
    let bytes = STANDARD_NO_PAD.decode(letters).map_err(|_| Malformed::Header)?;
    bytes.try_into().map_err(|_| Malformed::Header)
}
