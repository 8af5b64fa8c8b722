//! age's keys of the kind X25519: what a file is encrypted to, and what opens it.

use std::fmt;
use std::io;

use curve25519_dalek::MontgomeryPoint;

use super::bech32;
use super::cipher::{Cipher, derived, random};
use super::header::Stanza;

const BASE: [u8; 32] = {
    let mut nine = [0; 32];
    nine[0] = 9;
    nine
};
const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// Each key that it is used with is used once.
const NO_NONCE: [u8; 12] = [0; 12];

/// Whom a file is for: `age1…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

/// What is no [`Recipient`]; where it is an [`Identity`], it is not shown.
#[derive(Debug, thiserror::Error)]
pub enum BadRecipient {
    #[error(
        "{0:?} is no recipient of age's own kind: age1 and 58 letters, as `age-keygen` and `podkeep seal --public-key` print it"
    )]
    Other(String),
    #[error("that is a private key, which is nobody's but its node's: `age-keygen -y` tells the recipient")]
    Identity,
}

/// A private key: `AGE-SECRET-KEY-1…`. Not shown by `Debug`.
pub struct Identity {
    secret: [u8; 32],
    recipient: Recipient,
}

impl Recipient {
    pub fn parse(text: &str) -> Result<Recipient, BadRecipient> {
        match bech32::decode(text) {
            // A point of small order would agree on a secret that everybody knows.
            Some((prefix, data)) if prefix == RECIPIENT && text.starts_with(RECIPIENT) => {
                let point = data.try_into().ok().filter(|point| agreed(&BASE, point).is_some());
                point.map(Recipient).ok_or_else(|| BadRecipient::Other(text.to_owned()))
            }
            _ if text.get(..IDENTITY.len()).is_some_and(|start| start.eq_ignore_ascii_case(IDENTITY)) => {
                Err(BadRecipient::Identity)
            }
            _ => Err(BadRecipient::Other(text.to_owned())),
        }
    }

    /// The key of a file, for this recipient alone.
    pub fn wrapped(&self, key: &[u8; 16]) -> io::Result<Stanza> {
        let ours = random()?;
        let share = multiplied(&ours, &BASE);
        let agreed = multiplied(&ours, &self.0);
        let mut body = Vec::new();
        wrapping(&agreed, &share, self).seal(NO_NONCE, key, &mut body);
        Ok(Stanza { share, body: body.try_into().expect("a key and its tag") })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(RECIPIENT, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Identity {
    pub fn generate() -> io::Result<Identity> {
        Ok(Identity::new(random()?))
    }

    fn new(secret: [u8; 32]) -> Identity {
        Identity { secret, recipient: Recipient(multiplied(&secret, &BASE)) }
    }

    /// `None` if it is none, or of another kind.
    pub fn parse(text: &str) -> Option<Identity> {
        let (prefix, data) = bech32::decode(text)?;
        (prefix == IDENTITY && text.starts_with('A')).then(|| data.try_into().ok().map(Identity::new))?
    }

    /// The only place where it is shown.
    pub fn to_text(&self) -> String {
        bech32::encode(IDENTITY, &self.secret).to_ascii_uppercase()
    }

    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// The key of a file; `None` if the stanza is for somebody else.
    pub fn unwrapped(&self, stanza: &Stanza) -> Result<Option<[u8; 16]>, SmallOrder> {
        let agreed = agreed(&self.secret, &stanza.share).ok_or(SmallOrder)?;
        let mut body = stanza.body;
        let cipher = wrapping(&agreed, &stanza.share, &self.recipient);
        let key = cipher.open(NO_NONCE, &mut body);
        Ok(key.and_then(|key| key.try_into().ok()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// A share that makes the agreement no secret: nobody's by accident.
pub struct SmallOrder;

/// X25519 of RFC 7748.
fn multiplied(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint(*point).mul_clamped(*scalar).to_bytes()
}

/// `None` if it is all zeros.
fn agreed(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
    Some(multiplied(scalar, point)).filter(|agreed| *agreed != [0; 32])
}

fn wrapping(agreed: &[u8; 32], share: &[u8; 32], recipient: &Recipient) -> Cipher {
    Cipher::new(&derived(agreed, &[*share, recipient.0].concat(), INFO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// RFC 7748, section 5.2.
    #[test]
    fn it_is_x25519_as_the_rfc_has_it() {
        for (scalar, point, product) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ] {
            assert_eq!(multiplied(&bytes(scalar), &bytes(point)), bytes(product));
        }
    }

    /// Those of age's description, and some that are none.
    #[test]
    fn keys_are_written_as_age_does() {
        let text = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        let identity = Identity::parse(text).unwrap();
        assert_eq!(identity.to_text(), text);
        let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        assert_eq!(identity.recipient().to_string(), recipient);
        assert_eq!(Recipient::parse(recipient).unwrap(), identity.recipient());
        for wrong in [&text.to_lowercase(), recipient, "", "AGE-SECRET-KEY-1"] {
            assert!(Identity::parse(wrong).is_none(), "{wrong}");
        }
        let misspelt = recipient.replace("zvk", "zwk");
        let hybrid = bech32::encode("age1pq", &[9; 32]);
        let (short, zero) = (bech32::encode("age", &[9; 31]), bech32::encode("age", &[0; 32]));
        for wrong in [&misspelt, &hybrid, &short, &zero, "ssh-ed25519 AAAA", &recipient.to_uppercase(), "é"]
        {
            let error = Recipient::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{wrong:?} is no recipient")), "{error}");
        }
        for private in [text, &text.to_lowercase(), &format!("{text}X")] {
            let error = Recipient::parse(private).unwrap_err().to_string();
            assert!(error.starts_with("that is a private key"), "{error}");
        }
        assert_eq!(format!("{identity:?}"), "Identity");
    }
}
