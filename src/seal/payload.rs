//! What an age file holds: chunks of 64 KiB, each encrypted with its number, and with whether it is the last one.

use super::cipher::{Cipher, TAG, derived};

/// Bytes before the first chunk.
pub const NONCE: usize = 16;
/// Bytes of each chunk but the last one.
const CHUNK: usize = 64 << 10;

/// The shortest there is: a nonce and an empty chunk.
pub const SHORTEST: usize = NONCE + TAG;

/// Adds `plain`, encrypted, to `out`. No file but this one has the key.
pub fn seal(key: &[u8; 16], nonce: &[u8; NONCE], plain: &[u8], out: &mut Vec<u8>) {
    let cipher = cipher(key, nonce);
    out.extend(nonce);
    let (mut number, mut rest) = (0, plain);
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        cipher.seal(nonce_of(number, after.is_empty()), chunk, out);
        if after.is_empty() {
            return;
        }
        (number, rest) = (number + 1, after);
    }
}

/// All of it; `None` if anything is not as its maker left it.
pub fn open(key: &[u8; 16], payload: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = payload.split_first_chunk::<NONCE>()?;
    let cipher = cipher(key, nonce);
    let mut plain = Vec::with_capacity(sealed.len());
    let (mut number, mut rest) = (0, sealed);
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK + TAG));
        let mut chunk = chunk.to_vec();
        let opened = cipher.open(nonce_of(number, after.is_empty()), &mut chunk)?;
        // An empty one behind a full one: the same content in two ways.
        if opened.is_empty() && number > 0 {
            return None;
        }
        plain.extend(opened);
        if after.is_empty() {
            return Some(plain);
        }
        (number, rest) = (number + 1, after);
    }
}

fn cipher(key: &[u8; 16], nonce: &[u8; NONCE]) -> Cipher {
    Cipher::new(&derived(key, nonce, b"payload"))
}

/// Eleven bytes of the chunk's number, and one that marks the last.
fn nonce_of(number: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    nonce
}
