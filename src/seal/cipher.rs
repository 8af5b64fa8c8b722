//! The primitives as age puts them together: HKDF-SHA256 for one key, ChaCha20-Poly1305 without further data, random bytes.

use std::io;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use rustix::rand::GetRandomFlags;

/// Bytes of the tag behind what is encrypted.
pub const TAG: usize = 16;

/// A key of 32 bytes.
pub fn derived(secret: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let info = [info];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    // It fails for more than 255 times the hash's length only.
    let filled = prk.expand(&info, hmac::HMAC_SHA256).and_then(|okm| okm.fill(&mut key));
    filled.expect("one hash's length is not too much");
    key
}

/// A key that is used with a nonce once.
pub struct Cipher(LessSafeKey);

impl Cipher {
    pub fn new(key: &[u8; 32]) -> Cipher {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes");
        Cipher(LessSafeKey::new(key))
    }

    /// Adds `plain`, encrypted, to `out`.
    pub fn seal(&self, nonce: [u8; 12], plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..]);
        out.extend(tag.expect("far less than the 256 GiB that one nonce is good for").as_ref());
    }

    /// `None` if it was not sealed with this key and nonce, or changed since.
    pub fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::empty(), sealed).ok().map(|plain| &*plain)
    }
}

pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // Up to 256 bytes are never given in part.
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}
