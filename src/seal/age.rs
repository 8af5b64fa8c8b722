//! A whole age file: what is one, making it, opening it.

use std::io;

use super::cipher::random;
use super::header::{Header, Malformed, written};
use super::payload::{self, NONCE};
use super::x25519::{Identity, Recipient};
use super::{armor, x25519};

/// Why a file stays closed. No message holds anything of its content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it is for others than {0}")]
    ForOthers(String),
    #[error("somebody changed its header")]
    Header,
    #[error("it is damaged, or cut off")]
    Payload,
}

impl From<x25519::SmallOrder> for NotOpened {
    fn from(_: x25519::SmallOrder) -> NotOpened {
        NotOpened::Malformed(Malformed::Header)
    }
}

/// The file of these bytes, which may be in ASCII armor. It is well-formed, and there is a recipient whose key podkeep could have.
pub fn file(bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    let is_armored = bytes.trim_ascii_start().starts_with(armor::BEGIN.as_bytes());
    let file = if is_armored { armor::dearmored(&bytes)? } else { bytes };
    let header = Header::parse(&file)?;
    if file.len() < header.length + payload::SHORTEST {
        return Err(Malformed::Short);
    }
    Ok(file)
}

/// A file that each of `recipients` can open.
///
/// # Errors
/// The system has no random bytes.
pub fn encrypt(plain: &[u8], recipients: &[Recipient]) -> io::Result<Vec<u8>> {
    let random = random()?;
    let (key, nonce) = random.split_at(NONCE);
    let (key, nonce) = (key.try_into().expect("half of it"), nonce.try_into().expect("half of it"));
    let stanzas =
        recipients.iter().map(|recipient| recipient.wrapped(&key)).collect::<io::Result<Vec<_>>>()?;
    let mut file = written(&stanzas, &key);
    payload::seal(&key, &nonce, plain, &mut file);
    Ok(file)
}

/// What a file, not in armor, holds, if one of these may know it.
pub fn decrypt(file: &[u8], identities: &[Identity]) -> Result<Vec<u8>, NotOpened> {
    let header = Header::parse(file)?;
    let key = unwrapped(&header, identities)?;
    if !header.is_genuine(file, &key) {
        return Err(NotOpened::Header);
    }
    payload::open(&key, &file[header.length..]).ok_or(NotOpened::Payload)
}

fn unwrapped(header: &Header, identities: &[Identity]) -> Result<[u8; 16], NotOpened> {
    for identity in identities {
        for stanza in &header.stanzas {
            if let Some(key) = identity.unwrapped(stanza)? {
                return Ok(key);
            }
        }
    }
    let ours: Vec<String> = identities.iter().map(|identity| identity.recipient().to_string()).collect();
    Err(NotOpened::ForOthers(ours.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Read;
    use std::path::Path;

    use sha2::{Digest, Sha256};

    use super::*;

    /// Opens it as a Secret's value is: first looked at, then decrypted.
    fn opened(bytes: &[u8], identities: &[Identity]) -> Result<Vec<u8>, NotOpened> {
        decrypt(&file(bytes.to_vec())?, identities)
    }

    /// One test vector of age's authors.
    struct Vector {
        name: String,
        /// Its lines by their key; `identity` may be there twice.
        says: BTreeMap<String, String>,
        identities: Vec<Identity>,
        file: Vec<u8>,
    }

    fn vectors() -> Vec<Vector> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age");
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                all.push(vector(&path));
            }
        }
        all
    }

    fn vector(path: &Path) -> Vector {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let (mut says, mut identities) = (BTreeMap::new(), Vec::new());
        for line in std::str::from_utf8(&bytes[..end]).unwrap().lines() {
            let (key, value) = line.split_once(": ").unwrap();
            if key == "identity" {
                identities.push(Identity::parse(value).unwrap());
            }
            says.insert(key.to_owned(), value.to_owned());
        }
        let mut file = bytes[end + 2..].to_vec();
        if says.contains_key("compressed") {
            let packed = std::mem::take(&mut file);
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut file).unwrap();
        }
        Vector { name: path.file_name().unwrap().to_str().unwrap().to_owned(), says, identities, file }
    }

    /// How the vectors call it, where there is more than one name for it as they `expect` it.
    fn outcome(opened: &Result<Vec<u8>, NotOpened>, expected: &str) -> &'static str {
        match opened {
            // What does not begin as armor does is nothing to us.
            Err(NotOpened::Malformed(Malformed::NotAge)) if expected == "armor failure" => "armor failure",
            // To them the payload's nonce belongs to the header.
            Err(NotOpened::Malformed(Malformed::Short)) if expected == "payload failure" => "payload failure",
            Ok(_) => "success",
            // Nothing in it is for a key such as ours, which is said before there is one.
            Err(NotOpened::ForOthers(_) | NotOpened::Malformed(Malformed::NoRecipient)) => "no match",
            Err(NotOpened::Header) => "HMAC failure",
            Err(NotOpened::Payload) => "payload failure",
            Err(NotOpened::Malformed(Malformed::Armor)) => "armor failure",
            Err(NotOpened::Malformed(_)) => "header failure",
        }
    }

    #[test]
    fn every_test_vector_of_ages_authors_is_opened_or_refused_as_it_says() {
        let all = vectors();
        assert_eq!(all.len(), 123);
        for Vector { name, says, identities, file } in all {
            let opened = opened(&file, &identities);
            if says.contains_key("passphrase") {
                // There is nobody to be asked for it.
                assert!(matches!(opened, Err(NotOpened::Malformed(_))), "{name}: {opened:?}");
                continue;
            }
            let expected = &says["expect"];
            assert_eq!(outcome(&opened, expected), expected, "{name}: {opened:?}");
            if let Ok(plain) = opened {
                let hash: String = Sha256::digest(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hash, says["payload"], "{name}");
            }
        }
    }

    #[test]
    fn what_is_sealed_is_opened_by_each_recipient_and_by_nobody_else() {
        let [a, b, other] = [(); 3].map(|()| Identity::generate().unwrap());
        for length in [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 200_000] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let sealed = encrypt(&plain, &[a.recipient(), b.recipient()]).unwrap();
            let armored = armor::armored(&sealed).replace('\n', "\r\n");
            for file in [&sealed, armored.as_bytes(), format!(" \n{armored}\n\n").as_bytes()] {
                for identity in [&a, &b] {
                    let identities = std::slice::from_ref(identity);
                    assert_eq!(opened(file, identities).as_deref(), Ok(&plain[..]), "{length}");
                }
                let refused = opened(file, std::slice::from_ref(&other)).unwrap_err();
                assert_eq!(refused.to_string(), format!("it is for others than {}", other.recipient()));
            }
        }
    }

    #[test]
    fn no_byte_can_be_changed_or_left_out() {
        let identities = [Identity::generate().unwrap()];
        let sealed = encrypt(b"sesame", &[identities[0].recipient()]).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &identities).is_err(), "{at}");
            assert!(opened(&sealed[..at], &identities).is_err(), "{at}");
        }
    }

    #[test]
    fn no_two_files_are_alike() {
        let recipient = [Identity::generate().unwrap().recipient()];
        let [a, b] = [(); 2].map(|()| encrypt(b"sesame", &recipient).unwrap());
        let alike = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!(alike < a.len() / 2, "{alike} of {}", a.len());
    }

    #[test]
    fn a_header_without_end_is_not_read_to_its_end() {
        let stanza = format!("-> X25519 {}\n{}\n", "A".repeat(43), "A".repeat(43));
        let bytes = format!("age-encryption.org/v1\n{}", stanza.repeat(1000)).into_bytes();
        assert_eq!(file(bytes), Err(Malformed::TooLong));
    }
}
